"""How a message calls a value that came: in a line, however large it is."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

_LONGEST = 80  # characters of a message that one value may take


class described:  # noqa: N801 - reads as the words that it becomes
    """A value in a message: what kind of thing it is, in a line however large it is.

    The words are made when the message is, so that what a step hands over is not written out each time it is right.
    """

    def __init__(self, value: Any):
        self.value = value

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, jax.core.Tracer):
            return f"a traced {value.dtype} of shape {value.shape}, whose value is not known here"
        if _is_array(value) or isinstance(value, jax.ShapeDtypeStruct):
            return f"an array, {value.dtype} of shape {value.shape}"
        if isinstance(value, type):
            return f"the class {value.__name__}"
        if callable(value) and hasattr(value, "__name__"):
            return f"the function {value.__name__}"
        try:
            text = "" if _holds_arrays(value) else " ".join(repr(value).split())
        except Exception:  # whatever the caller's own __repr__ raises must not hide our message
            text = f"something of type {type(value).__name__}"
        if text and len(text) <= _LONGEST:
            return text
        size = f" of {len(value)}" if hasattr(value, "__len__") else f", {text[:_LONGEST]}..."
        return f"a {type(value).__name__}{size}"


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray) and bool(value.ndim)


def _holds_arrays(value: Any) -> bool:
    """Whether writing value out would write arrays out, or wait for them: a state may fill a GPU."""
    try:
        return any(map(_is_array, jax.tree.leaves(value, is_leaf=lambda node: isinstance(node, Iterator))))
    except Exception:  # keys that cannot be sorted
        return False


def kind_name(value: Any) -> str:
    """The type of value in words; with its module where that is another library, so that no array is "array".

    >>> import array
    >>> kind_name([1]), kind_name(array.array("f"))
    ('list', 'array.array')
    """
    kind = type(value)
    known = kind.__module__.partition(".")[0] in ("builtins", "numpy", "jax", "jaxlib", "fnn")
    return kind.__name__ if known else f"{kind.__module__}.{kind.__qualname__}"


def outline(came: Any) -> str:
    """What came in the place of a pair."""
    return f"a tuple of {len(came)}" if isinstance(came, tuple) else str(described(came))
