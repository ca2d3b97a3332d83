"""Sums and statistics are computed in float32 at least, whatever the dtype of the arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding


def wide_dtype(a: Any) -> np.dtype:
    """float32 for half precision and integers, the dtype of `a` otherwise."""
    wide = jnp.issubdtype(a.dtype, jnp.inexact) and a.dtype.itemsize >= 4
    return np.dtype(a.dtype if wide else np.float32)  # promote_types refuses two dtypes where promotion is strict


def widen(a: jax.Array) -> jax.Array:
    """`a` in float32 at least."""
    return a.astype(wide_dtype(a))


def product(
    a: jax.Array,
    b: jax.Array,
    axes: tuple[Any, ...],
    batch: tuple[Any, ...] = ((), ()),
    *,
    out_sharding: NamedSharding | None = None,
) -> jax.Array:
    """`lax.dot_general` in the dtype of its arguments: every backend sums in float32 at least, and rounds once.

    Asked for that (`preferred_element_type=float32`, rounded after), XLA's CPU backend fails on some bfloat16 products
    when they run: on those, among others, that `vmap` over one argument makes of a kernel gradient.
    """
    return lax.dot_general(a, b, (axes, batch), out_sharding=out_sharding)


def wide_product(a: jax.Array, b: jax.Array, axes: tuple[Any, ...], batch: tuple[Any, ...] = ((), ())) -> jax.Array:
    """`lax.dot_general` with its result in float32 at least: for sums that go on.

    On CPU bfloat16 is widened before, for the reason that `product` gives; other platforms multiply it as it is.
    """
    dimensions, wide = (axes, batch), wide_dtype(a)

    def native(a: jax.Array, b: jax.Array) -> jax.Array:
        return lax.dot_general(a, b, dimensions, preferred_element_type=wide)

    if a.dtype != jnp.bfloat16:
        return native(a, b)
    y: jax.Array = lax.platform_dependent(a, b, cpu=lambda a, b: native(widen(a), widen(b)), default=native)
    return y
