"""Broadcasting said in words, as `jax_numpy_rank_promotion="raise"` asks."""

import jax
from jax import lax


def beside(a: jax.Array, x: jax.Array) -> jax.Array:
    """a: (..., C) -> (1, ..., 1, ..., C), of the rank of x: the axes that NumPy adds by itself.

    >>> import jax.numpy as jnp
    >>> beside(jnp.ones(3), jnp.ones((2, 5, 3))).shape
    (1, 1, 3)
    """
    return lax.expand_dims(a, range(x.ndim - a.ndim))
