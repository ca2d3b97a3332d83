"""Sums and statistics are computed in float32 at least, whatever the dtype of the arrays."""

from typing import Any

import jax
import jax.numpy as jnp


def wide_dtype(a: Any) -> jnp.dtype:
    """float32 for half precision, the dtype of `a` otherwise."""
    return jnp.promote_types(a.dtype, jnp.float32)


def widen(a: jax.Array) -> jax.Array:
    """`a` in float32 at least."""
    return a.astype(wide_dtype(a))
