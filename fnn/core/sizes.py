"""Comparisons of sizes, of which some have no answer: `jax.export` traces with sizes that are symbols ("b", "2*h").

`b >= 1` holds for every symbol, `h >= 3` for some alone, and JAX raises. A table that chooses between equal forms takes
a row only if its condition is `known` to hold, so the plain last one where nothing is; a check of arguments lets pass
what is `possible`, and JAX states the rest as constraints of the exported function, or XLA refuses the sizes that come.
An equation of sizes that may or may not hold is simply False.
"""

import math
from collections.abc import Callable
from operator import le
from typing import Any

import jax
import numpy as np

from fnn.core.errors import LARGEST, require

MOST_BYTES = 2**40  # of one array: more than machines hold, and far below where XLA's own arithmetic overflows


def known(condition: Callable[..., bool], *args: Any) -> bool:
    """Whether `condition(*args)` is true whatever the symbols among its sizes stand for.

    >>> from operator import ge
    >>> b, h = jax.export.symbolic_shape("b, h")
    >>> known(ge, 3, 2), known(ge, 2 * b, 2), known(ge, h, 2)
    (True, True, False)
    """
    return _decide(condition, args, otherwise=False)


def possible(condition: Callable[..., bool], *args: Any) -> bool:
    """Whether `condition(*args)` is true for some of the sizes that the symbols may stand for.

    >>> from operator import ge
    >>> (h,) = jax.export.symbolic_shape("h")
    >>> possible(ge, h, 2), possible(ge, 2, 3)
    (True, False)
    """
    return _decide(condition, args, otherwise=True)


def fixed(*sizes: Any) -> bool:
    """Whether all sizes are numbers, none of them symbolic."""
    return all(isinstance(n, int) for n in sizes)


def divisor(*sizes: Any) -> Any:
    """How many entries there are, to divide by: a float, since an int of 2^31 or more does not fit JAX's int32.

    >>> divisor(2**20, 2**20)
    1099511627776.0
    """
    n = math.prod(sizes)
    return float(n) if fixed(n) else n


def require_room(where: str, shape: tuple[Any, ...], dtype: np.dtype) -> None:
    """Refuse a shape that no machine holds, before XLA is asked: there it may end the process."""
    ok = all(possible(le, n, LARGEST) for n in shape)
    ok = ok and possible(le, math.prod(shape) * np.dtype(dtype).itemsize, MOST_BYTES)
    wanted = f"arrays of at most {LARGEST} along an axis and {MOST_BYTES // 2**30} GiB"
    require(ok, where, wanted, f"{np.dtype(dtype)} of shape {shape}", "use smaller sizes, less padding or stride")


def _decide(condition: Callable[..., bool], args: tuple[Any, ...], otherwise: bool) -> bool:
    try:
        return bool(condition(*args))
    except jax.errors.InconclusiveDimensionOperation:
        return otherwise
