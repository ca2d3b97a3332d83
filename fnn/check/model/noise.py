"""Another run of the same mathematics, rounded otherwise: what training makes of rounding errors alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.layer import Layer, Params
from fnn.core.rule import gradients
from fnn.train.step import TrainState

# Two numbers have the same sum in either order.
_FEWEST = 3


def coarsest(params: Params) -> float:
    """The largest machine epsilon among the parameters.

    >>> coarsest({"kernel": jnp.ones(3)}) == 2.0**-23
    True
    """
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(params))


def order_is_free(layer: Layer, start: TrainState, x: Any, n: int, tolerance: float) -> bool:
    """Whether outputs belong to their examples, wherever these stand in the batch, and their order matters to sums."""
    if n < _FEWEST:
        return False

    @jax.jit
    def outputs(x: Any) -> Any:
        return layer.apply(start.params, start.model_state, x, train=True, key=start.key)[0]

    order = np.roll(np.arange(n), 1)
    with gradients("auto"):
        straight, moved = jax.tree.leaves(outputs(x)), jax.tree.leaves(outputs(rows(x, order)))
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(straight, moved, strict=True)]
    return all(a.shape[:1] == (n,) and np.linalg.norm(b - a[order]) <= tolerance * np.linalg.norm(a) for a, b in pairs)


def rows(tree: Any, order: np.ndarray) -> Any:
    """Every array of a batch with its examples in this order."""
    return jax.tree.map(lambda a: a[order] if hasattr(a, "ndim") else np.asarray(a)[order], tree)


def nudged(params: Params) -> Params:
    """Every number moved to one of its two neighbours, by the toss of a coin."""
    random = np.random.default_rng(0)

    def nudge(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        sides = jnp.where(jnp.asarray(random.random(leaf.shape) < 0.5), -jnp.inf, jnp.inf).astype(leaf.dtype)
        return jnp.nextafter(leaf, sides)

    return jax.tree.map(nudge, params)
