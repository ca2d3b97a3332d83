"""Whether JAX is tracing, asked of JAX and not guessed from the arguments: they may be concrete inside a `jit`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax
from jax.extend.core import get_opaque_trace_state

from fnn.core.errors import InputError


def nothing_is_traced() -> bool:
    """Whether operations run at once here: no `jit`, `grad`, `vmap`, `scan` or other transformation is under way.

    >>> import jax
    >>> nothing_is_traced(), bool(jax.jit(nothing_is_traced)())
    (True, False)
    """
    return bool(get_opaque_trace_state() == _at_once())


@contextmanager
def at_once(where: str, *trees: Any) -> Iterator[None]:
    """Run the block on concrete arrays, even while a transformation is under way.

    Raises:
      InputError: an array among `trees` is one of the transformation.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees)):
        got, fix = "one that a transformation of JAX traces", "call it outside jit, grad and vmap"
        raise InputError(where, "arrays with values", got, fix)
    with jax.core.eval_context():
        yield


@cache
def _at_once() -> Any:
    with jax.core.eval_context():
        return get_opaque_trace_state()
