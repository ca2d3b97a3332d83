"""The arrays of a tree: which of them are differentiated, what reports call them, and the same in other precisions."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_float(leaf: Any) -> bool:
    """Whether a leaf can be differentiated: a real floating-point array or number."""
    return isinstance(leaf, float) or (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating))


def split(tree: Any) -> tuple[list, Callable[[Any], Any]]:
    """The float leaves of a tree, and the function that puts others in their place.

    >>> floats, join = split({"x": 1.0, "n": 2})
    >>> floats, join([3.0])
    ([1.0], {'n': 2, 'x': 3.0})
    """
    leaves, kind = jax.tree.flatten(tree)
    where = [i for i, leaf in enumerate(leaves) if is_float(leaf)]

    def join(floats: Any) -> Any:
        full = list(leaves)
        for i, leaf in zip(where, floats, strict=True):
            full[i] = leaf
        return jax.tree.unflatten(kind, full)

    return [leaves[i] for i in where], join


def path_of(place: tuple, names: tuple[str, ...] = ()) -> str:
    """The place of a leaf in words, "params/kernel"; `names` stand for the numbers of the first level."""
    text = jax.tree_util.keystr(place, simple=True, separator="/")
    first, slash, rest = text.partition("/")
    return names[int(first)] + slash + rest if names and int(first) < len(names) else text


def argument_names(f: Callable | None) -> tuple[str, ...]:
    """Names of the positional parameters of a function, as far as Python knows them."""
    if f is None:
        return ()
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def kind_of(leaf: Any) -> str:
    """What a leaf is, for the sentence that says why it was left alone."""
    if hasattr(leaf, "dtype"):
        return "a random key" if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else f"{leaf.dtype}"
    return type(leaf).__name__


def widen(tree: Any) -> Any:
    """The tree with its real numbers in float64, as NumPy arrays."""
    return jax.tree.map(lambda a: np.asarray(a).astype(np.float64) if is_float(a) else a, tree)


def wide_types(wide: bool) -> AbstractContextManager:
    """64-bit types for what is traced and run inside, if `wide`; else as the process has them."""
    return jax.enable_x64(wide or jax.config.jax_enable_x64)  # type: ignore[attr-defined]


def nudge(rng: np.random.Generator, a: np.ndarray, eps: float) -> np.ndarray:
    """Every entry up or down by a relative `eps`."""
    return (a * (1 + eps * rng.choice([-1.0, 1.0], np.shape(a)))).astype(a.dtype)


def norm_of(tree: Any) -> float:
    """The Euclidean norm of all arrays together."""
    return float(np.sqrt(sum(float(np.sum(np.asarray(a, np.float64) ** 2)) for a in jax.tree.leaves(tree))))


def pull(f: Callable) -> Callable:
    """`(floats, cotangents) -> outputs, gradients` of a function of a tuple of arrays."""

    def run(floats: tuple, dy: tuple) -> tuple:
        y, back = jax.vjp(f, floats)
        return y, back(dy)[0]

    return run
