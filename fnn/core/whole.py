"""Whole numbers as callers bring them: Python's, NumPy's and JAX's, never a bool or a float."""

import operator
from typing import Any

from fnn.core.errors import InputError

LARGEST = 2**31 - 1


def integer(where: str, name: str, value: Any, least: int = 1, most: int = LARGEST, *, fix: str = "") -> int:
    """`value` as an int.

    Raises:
      InputError: not a whole number, or outside least..most (both included).

    >>> import numpy as np
    >>> integer("digits", "size", np.int64(3))
    3
    """
    try:
        n = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        n = None
    if n is None or not least <= n <= most:
        bounds = (
            f"{name} >= {least}" if most == LARGEST and (n is None or n < least) else f"{name} from {least} to {most}"
        )
        got = " ".join(repr(value).split())
        raise InputError(where, bounds if n is not None else f"an integer {bounds}", got, fix)
    return n
