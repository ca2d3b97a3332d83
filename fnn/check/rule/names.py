"""What reports call the leaves of a call, and why some were left alone."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def argument_names(f: Callable | None) -> tuple[str, ...]:
    """Names of the positional parameters of a function, as far as Python knows them."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def path_of(place: tuple, names: tuple[str, ...]) -> str:
    """The place of a leaf among the arguments: "params/kernel", or "0/kernel" where names are not known."""
    text = jax.tree_util.keystr(place, simple=True, separator="/")
    first, _, rest = text.partition("/")
    named = names[int(first)] if int(first) < len(names) else first
    return f"{named}/{rest}" if rest else named


def kind_of(leaf: Any) -> str:
    """What a leaf is, for the sentence that says why it was left alone."""
    if hasattr(leaf, "dtype"):
        return "a random key" if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else f"{leaf.dtype}"
    return type(leaf).__name__
