"""Shapes and dtypes of what a layer is made for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import ARRAYS, LARGEST, InputError, require, require_array
from fnn.core.words import described

Spec = Any  # a jax.ShapeDtypeStruct, or a pytree of them


def spec_of(x: Any) -> Spec:
    """Shape and dtype of x: an array, a ShapeDtypeStruct, a shape tuple, which means float32, or a pytree of these.

    >>> spec_of({"image": (1, 8, 8, 3), "size": ()})["size"]
    ShapeDtypeStruct(shape=(), dtype=float32)
    >>> len(spec_of(((1, 3), (1, 4))))
    2
    """
    if x is None:
        raise _no_example(x)

    def leaf(a: Any) -> jax.ShapeDtypeStruct:
        if _is_shape(a):
            return _spec(a)
        if isinstance(a, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(a.shape, a.dtype)
        if not isinstance(a, ARRAYS):
            raise _no_example(x)
        require_array("init", "x", a)
        return jax.ShapeDtypeStruct(a.shape, a.dtype)

    return jax.tree.map(leaf, x, is_leaf=_is_shape)


def _is_shape(x: Any) -> bool:
    """A tuple of integers; one with named fields is a container."""
    return isinstance(x, tuple) and not hasattr(x, "_fields") and all(_is_size(n) for n in x)


def _is_size(n: Any) -> bool:
    return isinstance(n, int | np.integer) and not isinstance(n, bool)


def _spec(shape: tuple[Any, ...]) -> jax.ShapeDtypeStruct:
    ok = all(0 <= n <= LARGEST for n in shape)
    require(ok, "init", "a shape of sizes >= 0", described(shape), "use 0 or more in every place")
    return jax.ShapeDtypeStruct(tuple(int(n) for n in shape), jnp.float32)


def _no_example(x: Any) -> InputError:
    expected = "an array, a jax.ShapeDtypeStruct, a shape tuple of integers, or a tree of these for x"
    return InputError("init", expected, described(x), "pass an example input or its shape, such as (1, 28, 28, 1)")
