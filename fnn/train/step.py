"""One step of training: a pure function from a state and a batch to the next state.

loss(params) = mean_i loss(y_i, label_i) + penalty(params)        y, state' = apply(params, state, x, train, key)
updates, opt_state' = optimizer(d loss / d params)                params' = params + updates
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn.core.errors import require
from fnn.core.layer import Layer, Params, State
from fnn.core.sharding import varying
from fnn.train import compiler
from fnn.train.arguments import check_init, check_step
from fnn.train.batch import mean, named_functions, split_batch

Measure = Callable[[Any, Any], jax.Array]


class TrainState(NamedTuple):
    """All that a run needs to go on: saved and restored, it continues as if never interrupted.

    Attributes:
      params, state: of the layer.
      opt_state: of the optimiser.
      step: () int32, steps taken so far.
      key: the key of the run; step n draws from `fold_in(key, n)`, so nothing random lives outside this tuple.
    """

    params: Params
    state: State
    opt_state: optax.OptState
    step: jax.Array
    key: jax.Array


def init_state(layer: Layer, optimizer: optax.GradientTransformation, key: jax.Array, x: Any) -> TrainState:
    """The state before the first step.

    Args:
      layer: what to train.
      optimizer: any optax optimiser.
      key: one half initialises the layer, the other becomes the key of the run.
      x: an example batch, its `jax.ShapeDtypeStruct`, or its shape.

    Raises:
      InputError: no Layer, an optimiser that was not called (`optax.sgd`), a seed for the key, no example input.

    >>> import jax, fnn, optax
    >>> now = init_state(fnn.dense(2), optax.sgd(0.1), jax.random.key(0), (1, 3))
    >>> now.params["kernel"].shape, int(now.step)
    ((3, 2), 0)
    """
    check_init(layer, optimizer, key)
    init_key, run_key = jax.random.split(key)
    params, state = layer.init(init_key, x)
    # Some optimisers keep the parameters themselves; a buffer may be donated only once.
    opt_state = jax.tree.map(jnp.copy, optimizer.init(params))
    return TrainState(params, state, opt_state, jnp.zeros((), jnp.int32), run_key)


def make_step(
    layer: Layer,
    loss: Measure,
    optimizer: optax.GradientTransformation,
    *,
    penalty: Callable[[Params], jax.Array] | None = None,
    metrics: Mapping[str, Measure] | None = None,
    compiler_options: Mapping[str, str] | None = None,
) -> Callable[[TrainState, tuple], tuple[TrainState, dict[str, jax.Array]]]:
    """A jitted `step(train_state, (x, labels)) -> (train_state, measures)`.

    The train_state that goes in is donated: its arrays are gone after the call. Where the loss is not finite, params,
    state and opt_state stay as they were; the step counter advances all the same. A finite loss whose gradient is not
    finite is applied: the next loss then tells.
    The step obeys `fnn.gradients` at the time of the call.

    Args:
      layer: what to train; it is applied with `train=True` and the key `fold_in(key, step)`.
      loss: `(outputs, labels)` -> () or one number an example, of which the mean is taken, in float32 at least.
      optimizer: any optax optimiser.
      penalty: `params -> ()`, added to the loss: weight decay, for example.
      metrics: further numbers by name, each as `loss`; they are measured on the training outputs, before the update.
      compiler_options: options of XLA for this step alone. None: those of `fnn.train.compiler_options()`, which make
        it faster on CPU; `{}`: none. Inside another jit the outer function's options count.

    Returns:
      The step. Its measures are scalars: "loss", penalty included, and the metrics, still on the device.
      `step.lower(train_state, batch)` gives its program without running it, a `jax.stages.Lowered`.

    Raises:
      InputError: no Layer, functions that cannot be called so, an optimiser that was not called (`optax.sgd`), a metric
        called "loss", compiler_options that this compiler does not take; when called, a batch that is no pair
        (x, labels) of equal length, or empty.

    >>> import jax, jax.numpy as jnp, fnn, optax
    >>> step = make_step(fnn.dense(1), lambda y, t: (y - t) ** 2, optax.sgd(0.1))
    >>> now = init_state(fnn.dense(1), optax.sgd(0.1), jax.random.key(0), (1, 3))
    >>> now, measures = step(now, (jnp.ones((4, 3)), jnp.zeros((4, 1))))
    >>> int(now.step), sorted(measures)
    (1, ['loss'])
    """
    check_step(layer, loss, optimizer, penalty)
    functions = named_functions("make_step", {} if metrics is None else metrics)
    require(
        "loss" not in dict(functions), "make_step", "metrics with other names", "loss", "the loss is reported anyway"
    )

    compiler.validate(compiler_options)

    def objective(params: Params, state: State, x: Any, labels: Any, key: jax.Array) -> tuple[jax.Array, tuple]:
        outputs, state = layer.apply(params, state, x, train=True, key=key)
        value = mean(loss(outputs, labels)) + (0.0 if penalty is None else penalty(params))
        require(value.shape == (), "make_step", "a penalty of shape ()", value.shape, "sum the penalty to one number")
        return value, (state, {name: mean(f(outputs, labels)) for name, f in functions})

    def update(now: TrainState, x: Any, labels: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        differentiate = jax.value_and_grad(objective, has_aux=True)
        key = jax.random.fold_in(now.key, now.step)
        (value, (state, measures)), gradient = differentiate(now.params, now.state, x, labels, key)

        def advance(old: tuple, state: State, gradient: Params) -> tuple:
            updates, opt_state = optimizer.update(gradient, old[2], old[0])
            return optax.apply_updates(old[0], updates), state, opt_state

        new = _unless_broken(jnp.isfinite(value), advance, now[:3], state, gradient)
        return TrainState(*new, now.step + 1, now.key), {"loss": value, **measures}

    plain = jax.jit(update, donate_argnums=0)  # inside another jit, which refuses options

    @cache
    def tuned(options: tuple) -> Callable:
        return jax.jit(update, donate_argnums=0, compiler_options=dict(options))

    by_shape: dict[tuple, Callable] = {}

    def jitted(train_state: TrainState, *batch: Any) -> Callable:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((train_state, batch))):
            return plain
        # The batch and the layer determine the shapes of the state; what differs between modes of gradients is small.
        shapes = tuple((np.shape(leaf), str(getattr(leaf, "dtype", ""))) for leaf in jax.tree.leaves(batch))
        if shapes not in by_shape:
            own = compiler_options is None
            options = compiler.compiler_options(plain.trace(train_state, *batch)) if own else compiler_options
            by_shape[shapes] = tuned(tuple(options.items()))
        return by_shape[shapes]

    def checked(train_state: TrainState, batch: tuple) -> tuple[Callable, tuple]:
        require_state("step", train_state)
        x, labels, _ = split_batch("step", batch)
        return jitted(train_state, x, labels), (train_state, x, labels)

    def step(train_state: TrainState, batch: tuple) -> tuple[TrainState, dict[str, jax.Array]]:
        run, args = checked(train_state, batch)
        return run(*args)

    def lower(train_state: TrainState, batch: tuple) -> jax.stages.Lowered:
        run, args = checked(train_state, batch)
        return run.lower(*args)

    step.lower = lower
    return step


def require_state(where: str, train_state: Any) -> None:
    """Refuse what is no TrainState, and one whose arrays an earlier step took."""
    counter = getattr(train_state, "step", None)
    deleted = isinstance(counter, jax.Array) and not isinstance(counter, jax.core.Tracer) and counter.is_deleted()
    alive = isinstance(train_state, TrainState) and not deleted
    got = "one that was donated to an earlier step" if isinstance(train_state, TrainState) else type(train_state)
    require(alive, where, "a TrainState with live arrays", got, "pass the one that the last step returned")


def _unless_broken(ok: jax.Array, advance: Callable, old: tuple, *args: Any) -> tuple:
    """`advance(old, *args)` where ok, else `old`.

    A choice entry by entry makes XLA compute the optimiser's update once for its own state and again for the
    parameters, from copies of both, as neither may be overwritten before the other has read it. On CPU a branch updates
    them in place. On GPU and TPU a branch would wait for the loss; and where devices may disagree, inside `shard_map`,
    one that communicates would hang.
    """

    def branch(ok: jax.Array, old: tuple, *args: Any) -> tuple:
        return jax.lax.cond(ok, advance, lambda old, *_: old, old, *args)

    def choose(ok: jax.Array, old: tuple, *args: Any) -> tuple:
        return jax.tree.map(partial(jnp.where, ok), advance(old, *args), old)

    if varying(ok):
        return choose(ok, old, *args)
    return jax.lax.platform_dependent(ok, old, *args, cpu=branch, default=choose)
