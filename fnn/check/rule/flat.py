"""Flat functions, of tuples of float arrays to tuples of float arrays: their gradients and their values along lines."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax


def pull(f: Callable) -> Callable:
    """`(floats, cotangents) -> outputs, gradients` of a flat function."""

    def run(floats: tuple, dy: tuple) -> tuple:
        y, back = jax.vjp(f, floats)
        return y, back(dy)[0]

    return run


def is_float(leaf: Any) -> bool:
    """Whether a leaf can be differentiated: a real floating-point array or number."""
    if isinstance(leaf, float):
        return True
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def dtype_of(name: str) -> np.dtype:
    """The NumPy dtype of a JAX dtype name."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def _step(floats: tuple, v: tuple, h: Any) -> tuple:
    return tuple((x + h * d).astype(x.dtype) for x, d in zip(floats, v, strict=True))


def sweeper(f: Callable) -> Callable:
    """`(floats, directions, steps) -> outputs` at x + h v, compiled: of each direction v along each of its steps h."""

    def sweep(floats: tuple, vs: tuple, hs: jax.Array) -> tuple:
        def line(item: tuple) -> tuple:
            v, row = item
            return lax.map(lambda h: f(_step(floats, v, h)), row)

        return lax.map(line, (vs, hs))

    return jax.jit(sweep)


def sweep_eagerly(f: Callable, floats: tuple, vs: tuple, hs: np.ndarray) -> tuple:
    """The same for a function that cannot be compiled."""
    lines = [[f(_step(floats, v, h)) for h in row] for v, row in zip(zip(*vs, strict=True), hs, strict=True)]
    return tuple(np.array([[np.asarray(y[i]) for y in line] for line in lines]) for i in range(len(lines[0][0])))


def nudge(rng: np.random.Generator, a: np.ndarray, eps: float) -> np.ndarray:
    """Every entry up or down by a relative `eps`."""
    return (a * (1 + eps * rng.choice([-1.0, 1.0], a.shape))).astype(a.dtype)


def alone(given: tuple[np.ndarray, ...], leaf: int, v: np.ndarray) -> tuple[np.ndarray, ...]:
    """A direction in one array alone."""
    return tuple(v if i == leaf else np.zeros(a.shape) for i, a in enumerate(given))


def unit(shape: tuple[int, ...], k: int) -> np.ndarray:
    """1 at flat index k."""
    v = np.zeros(shape)
    v.flat[k] = 1.0
    return v


def subset(shape: tuple[int, ...], signs: np.ndarray, some: np.ndarray) -> np.ndarray:
    """The signs at some flat indices."""
    v = np.zeros(signs.shape)
    v[some] = signs[some]
    return v.reshape(shape)
