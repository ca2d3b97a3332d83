"""Arrays that were donated to a compiled program are gone: one sentence says so wherever they come back."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from fnn.core.errors import InputError


def alive(tree: Any) -> bool:
    """Whether no array of the tree was donated or deleted."""
    return not any(_gone(leaf) for leaf in jax.tree.leaves(tree))


def require_alive(where: str, tree: Any, what: str = "arrays") -> None:
    """Refuse trees with arrays that were donated.

    >>> import jax.numpy as jnp
    >>> require_alive("f", {"w": jnp.ones(3)})
    """
    if not alive(tree):
        got = "one that was donated to an earlier step"
        raise InputError(where, f"{what} with live arrays", got, "pass the one that the last step returned")


def of_live_arrays(f: Callable) -> Callable:
    """f, which refuses donated arrays among its arguments before it begins."""

    @functools.wraps(f)
    def checked(*args: Any, **options: Any) -> Any:
        require_alive(f.__name__, (args, options))
        return f(*args, **options)

    return checked


def explained(where: str, tree: Any, error: Exception) -> Exception:
    """The error of a call with these arrays: that they were donated if they were, else `error`."""
    try:
        require_alive(where, tree)
    except InputError as donated:
        return donated
    return error


def _gone(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted()
