"""How large a difference may be: from the precision and from what one rounding of the inputs does, not from a size.

    limit = roundings eps max |t| + amplified noise

with t the true array, eps the distance from 1 to the next number, and noise the largest change of an entry when every
input moves by one rounding. It follows what cancels, and knows nothing of the array's size.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.check.finding import Finding
from fnn.core.errors import require

EPS64 = float(np.finfo(np.float64).eps)
_HALF = 1e-4  # epsilons above this are half precision


@dataclasses.dataclass(frozen=True)
class Margins:
    """How many roundings, and how many times the noise, a computation may be off; in half precision, and in others."""

    roundings: float
    amplified: float
    half_roundings: float = 16.0
    half_amplified: float = 8.0


# One operation. Two orders of summation differ by ten to a few dozen roundings of the largest entry, and each of
# several roundings on the way may do what one rounding of the inputs does. Half precision rounds every operation, so
# that fewer are allowed: 16 of bfloat16 are already an eighth of the entry.
OPERATION = Margins(64.0, 8.0)
# A whole model. Long float32 sums that cancel were seen 6 noises off, growing with the square root of their length; in
# float64 so wide a margin costs nothing. Half precision has no room for it, and sums in float32: 1.4 noises were seen.
MODEL = Margins(1024.0, 1024.0, half_amplified=16.0)


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: the largest error in a leaf and its limit, with what was compared."""

    leaf: str
    error: float
    limit: float
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within the limit; a NaN never is."""
        return bool(self.error <= self.limit)


def eps_of(name: Any) -> float:
    """The distance from 1 to the next number of a dtype."""
    return float(jnp.finfo(name).eps)


def rounding(eps: float, peak: float, noise: float, margins: Margins) -> float:
    """The largest difference that rounding explains: the formula above.

    Args:
      eps: of the precision.
      peak: the largest entry.
      noise: the largest change of an entry when the inputs move by one rounding.
      margins: `OPERATION` or `MODEL`.
    """
    if eps > _HALF:
        return margins.half_roundings * eps * peak + margins.half_amplified * noise
    return margins.roundings * eps * peak + margins.amplified * noise


def limit_of(dtype: str, peak: float, noise: float = 0.0) -> float:
    """The same for one operation in a dtype, with room for numbers below its normal ones."""
    return rounding(eps_of(dtype), peak, noise, OPERATION) + 4 * float(jnp.finfo(dtype).smallest_subnormal)


def gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b| in float64; infinite where either is NaN or they are different infinities.

    >>> gap(np.array([1.0, np.nan, np.inf]), np.array([3.0, np.nan, np.inf])).tolist()
    [2.0, inf, 0.0]
    """
    a, b = np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.where(a == b, 0.0, np.abs(a - b))
    return np.where(np.isnan(distance), np.inf, distance)


def largest_gap(a: np.ndarray, b: np.ndarray) -> float:
    """The largest `gap`, 0 for empty arrays."""
    return float(np.max(gap(a, b), initial=0.0))


def movement(center: np.ndarray, moved: Iterable[np.ndarray]) -> np.ndarray:
    """How far each entry is moved at most: the noise, for results of inputs that moved by one rounding."""
    return np.max([gap(a, center) for a in moved], axis=0)


def largest(a: np.ndarray) -> float:
    """The largest finite magnitude, 0 for an empty array."""
    a = np.abs(np.asarray(a).astype(np.float64))
    return float(np.max(a, initial=0.0, where=np.isfinite(a)))


def ulp(v: np.ndarray, dtype: Any) -> np.ndarray:
    """The distance from v >= 0, given in float64, to the next larger number of dtype.

    >>> float(ulp(np.float64(1.0), jnp.float32)) == 2.0**-23
    True
    """
    info = jnp.finfo(dtype)
    _, exponent = np.frexp(v)  # v = m 2^exponent with m in [1/2, 1)
    return np.maximum(np.ldexp(1.0, exponent - 1 - info.nmant), np.float64(info.smallest_subnormal))


def conclude(check: str, rows: Iterable[Row], nothing: str) -> Iterator[Finding]:
    """A finding for each row that is beyond its limit, or one that passes with the row nearest to it."""
    rows = list(rows)
    wrong = [row for row in rows if not row.ok]
    worst = {row.leaf: max((r for r in wrong if r.leaf == row.leaf), key=_excess) for row in wrong}
    for row in worst.values():
        yield Finding(check, "FAIL", row.leaf, row.detail, row.error, row.limit)
    if not wrong and rows:
        row = max(rows, key=_excess)
        yield Finding(check, "pass", "", "", row.error, row.limit)
    if not rows:
        yield Finding(check, "skip", detail=nothing)


def _excess(row: Row) -> float:
    return row.error / row.limit if row.limit and np.isfinite(row.error) else row.error


def allowed(where: str, tolerance: float | None) -> float:
    """The relative error that a user allows: none by default."""
    ok = tolerance is None or (is_number(tolerance) and 0 <= tolerance < 1)
    require(ok, where, "a tolerance from 0 to 1", repr(tolerance), "pass a relative error such as 1e-5, or None")
    return float(tolerance or 0)


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of Python or NumPy."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
