"""Sums and statistics are computed in float32 at least, whatever the dtype of the arrays."""

from typing import Any

import jax
import jax.numpy as jnp


def wide_dtype(a: Any) -> jnp.dtype:
    """float32 for half precision and integers, the dtype of `a` otherwise."""
    wide = jnp.issubdtype(a.dtype, jnp.inexact) and a.dtype.itemsize >= 4
    return jnp.dtype(a.dtype if wide else jnp.float32)  # promote_types refuses two dtypes where promotion is strict


def widen(a: jax.Array) -> jax.Array:
    """`a` in float32 at least."""
    return a.astype(wide_dtype(a))
