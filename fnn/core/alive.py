"""Arrays that were donated to a compiled program are gone: one sentence says so wherever they come back."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax

from fnn.core.errors import InputError
from fnn.core.placement import placement, placement_of

P = ParamSpec("P")
R = TypeVar("R")


def alive(tree: Any) -> bool:
    """Whether no array of the tree was donated or deleted."""
    return not any(_gone(leaf) for leaf in jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Iterator)))


def require_alive(where: str, tree: Any, what: str = "arguments") -> None:
    """Refuse trees with arrays that were donated.

    >>> import jax.numpy as jnp
    >>> require_alive("f", {"w": jnp.ones(3)})
    """
    if not alive(tree):
        raise _donated(where, what)


def of_live_arrays(f: Callable[P, R]) -> Callable[P, R]:
    """f, which refuses donated arrays among its arguments, and runs as for arrays where these live."""

    @functools.wraps(f)
    def checked(*args: P.args, **options: P.kwargs) -> R:
        require_alive(f.__name__, (args, options))
        with placement(placement_of(args, options)):
            return f(*args, **options)

    return checked


def explained(where: str, tree: Any, error: Exception) -> Exception:
    """The error of a call with these arrays: that they were donated if they were, else `error`.

    Within `jax.grad` arrays cannot be asked: there JAX's words tell.
    """
    if isinstance(error, InputError) or (alive(tree) and "has been deleted" not in str(error)):
        return error
    return _donated(where, "arguments")


def _donated(where: str, what: str) -> InputError:
    got = "one that was donated to an earlier step, or deleted"
    return InputError(where, f"{what} with live arrays", got, "pass the one that the last step returned")


def _gone(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted()
