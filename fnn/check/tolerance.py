"""How large a difference may be: from the precision and from what one rounding of the inputs does, not from a size."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.check.finding import Finding
from fnn.core.errors import require

# Two orders of summation differ by ten to a few dozen roundings of the largest entry. Half precision rounds every
# operation, so that fewer are allowed: 16 of bfloat16 are already an eighth of the entry.
_ROUNDINGS = {"bfloat16": 16, "float16": 16}
_ROUNDINGS_WIDE = 64
# Each of several roundings on the way may do what one rounding of the inputs does.
_AMPLIFIED = 8


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


def limit_of(dtype: str, peak: float, noise: float = 0.0) -> float:
    """The largest difference that rounding explains.

    Args:
      dtype: of the leaf.
      peak: its largest entry.
      noise: its largest change when the inputs move by one rounding.
    """
    info = jnp.finfo(dtype)
    roundings = _ROUNDINGS.get(dtype, _ROUNDINGS_WIDE)
    return float(roundings * float(info.eps) * peak + _AMPLIFIED * noise + 4 * float(info.smallest_subnormal))


def gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b| in float64; infinite where either is NaN or they are different infinities.

    >>> gap(np.array([1.0, np.nan, np.inf]), np.array([3.0, np.nan, np.inf])).tolist()
    [2.0, inf, 0.0]
    """
    a, b = np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.where(a == b, 0.0, np.abs(a - b))
    return np.where(np.isnan(distance), np.inf, distance)


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


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between two arrays; nan where one is zero or not finite."""
    a, b = (np.asarray(v).astype(np.float64).ravel() for v in (a, b))
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / lengths) if lengths > 0 else np.nan


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
