"""Evaluation: the mean of each metric over all examples, however they are cut into batches."""

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax

from fnn.core.alive import require_alive
from fnn.core.errors import require, require_leaves
from fnn.core.layer import Layer, Pair, Params, State, params_and_state, require_layer
from fnn.core.placement import placement, placement_of
from fnn.train.arguments import require_batches
from fnn.train.batch import named_functions, split_batch
from fnn.train.measure import Measure, measure
from fnn.train.step import TrainState
from fnn.train.tracing import at_once


def evaluate(
    layer: Layer, train_state: TrainState | Pair, batches: Iterable[tuple[Any, ...]], metrics: Mapping[str, Measure]
) -> dict[str, float]:
    """Mean of each metric over all examples of `batches`, the layer in evaluation mode.

    Compiled once a layer, set of metrics and batch shape: define the metrics once and hand in the same functions each
    time, since a new lambda is a new function.

    Args:
      layer: what to evaluate; it is applied with `train=False` and no key.
      train_state: its parameters and model state: a TrainState, or a pair (params, state) such as `layer.init` returns.
      batches: pairs (x, labels); a smaller last batch counts by its size.
      metrics: `{name: f(outputs, labels)}`, each (N,), one number an example, or their mean as ().

    Raises:
      InputError: no batch, a batch that is no pair (x, labels) of equal length, a metric of another shape; arrays that
        were donated, or that a transformation of JAX traces.

    >>> import jax.numpy as jnp, fnn
    >>> batches = [(jnp.ones((3, 1)), jnp.zeros(3)), (jnp.ones((1, 1)), jnp.ones(1))]
    >>> evaluate(fnn.identity(), ({}, {}), batches, {"error": lambda y, label: y[:, 0] != label})
    {'error': 0.75}
    """
    require_layer("evaluate", "layer", layer)
    params, state = params_and_state("evaluate", train_state)
    require_leaves("evaluate", params=params, state=state)
    require_batches("evaluate", batches)
    functions = named_functions("evaluate", metrics)
    require_alive("evaluate", (params, state), "params and state")
    means, sizes = [], []
    for batch in batches:
        x, labels, n = split_batch("evaluate", batch)
        with at_once("evaluate", params, state, batch), placement(placement_of(params, state, batch)):
            means.append(_measure(layer, functions, n, params, state, x, labels))
        sizes.append(n)
    require(len(sizes) > 0, "evaluate", "at least one batch", "none", "pass a list, not a generator already used up")
    # One fetch at the end, so that the device never waits for the host between batches.
    means, total = jax.device_get(means), sum(sizes)
    return {
        name: math.fsum(n * float(m[name]) for n, m in zip(sizes, means, strict=True)) / total for name, _ in functions
    }


@partial(jax.jit, static_argnums=(0, 1, 2))
def _measure(
    layer: Layer, functions: tuple[Any, ...], n: int, params: Params, state: State, x: Any, labels: Any
) -> dict[str, jax.Array]:
    outputs, _ = layer.apply(params, state, x)
    return {name: measure("evaluate", name, f, outputs, labels, n) for name, f in functions}
