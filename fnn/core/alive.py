"""Arrays that were donated to a compiled program are gone: one sentence says so wherever they come back."""

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


def _gone(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted()
