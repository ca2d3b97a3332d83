"""Whole numbers as callers bring them: Python's, NumPy's and JAX's, never a bool or a float."""

import operator
from typing import Any

from fnn.core.errors import InputError


def whole(where: str, expected: str, value: Any, fix: str, low: int = 0, high: float = float("inf")) -> int:
    """`value` as an int.

    Raises:
      InputError: not a whole number, or outside low..high (both included).

    >>> import numpy as np
    >>> whole("digits", "size >= 1", np.int64(3), "use size=32", low=1)
    3
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        dtype = getattr(value, "dtype", None)  # an array's text takes lines, and a key's says nothing
        got = f"{type(value).__name__} of dtype {dtype}" if dtype is not None and number is None else repr(value)
        raise InputError(where, expected, got, fix)
    return number
