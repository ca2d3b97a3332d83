"""The row of one array in a report, and the verdict on it: pure functions of what was computed."""

import dataclasses
from typing import Any

import numpy as np

from fnn.check.finding import Leaf
from fnn.check.tolerance import gap, largest, ulp


@dataclasses.dataclass(frozen=True)
class Difference:
    """A derivative along one direction by finite differences.

    Attributes:
      value, error: the two-sided derivative and a bound of its error, infinite where nothing converges.
      low, high: what one-sided derivatives allow.
      kink: whether these differ.
    """

    value: float
    error: float
    low: float
    high: float
    kink: bool = False

    @property
    def known(self) -> bool:
        """Whether there is one derivative."""
        return bool(np.isfinite(self.error))


NOTHING = Difference(np.nan, np.inf, -np.inf, np.inf)


def verdict_on(
    hand: float, auto: float | None, seen: Difference, limit: float, *, beyond: bool, free: bool
) -> tuple[str, str]:
    """The verdict on one array and who is wrong, as `Leaf` has them.

    Args:
      hand, auto: two derivatives along one direction; auto is None where JAX has none.
      seen: the same by differences.
      limit: how far rounding may bring them from each other.
      beyond: whether hand and auto differ by more than that, anywhere in the array.
      free: whether any slope between the one-sided ones is right at a kink.
    """
    between = free and seen.kink and seen.low - limit <= hand <= seen.high + limit
    if between and (beyond or auto is None):
        return "kink", ""
    if beyond:
        return "DIFFER", _culprit(hand, auto, seen, limit)
    if seen.known and not seen.kink and abs(hand - seen.value) > seen.error + limit:
        return "DIFFER", "hand" if auto is None else "differences"
    return "agree", ""


def _culprit(hand: float, auto: float | None, seen: Difference, limit: float) -> str:
    """Which of two different values differences contradict; "" where they contradict both, or neither."""
    if not seen.known or auto is None:
        return ""
    reach = limit + seen.error
    wrong = [who for who, value in (("hand", hand), ("auto", auto)) if not abs(value - seen.value) <= reach]
    return wrong[0] if len(wrong) == 1 else ""


def leaf_of(path: str, dtype: Any, hand: np.ndarray, auto: np.ndarray | None, true: np.ndarray, **known: Any) -> Leaf:
    """The row of one array, all of it in float64.

    Args:
      path, dtype: of the array.
      hand, auto, true: the gradients by hand and by JAX, if it has one, and what both are held against.
      **known: attributes of `Leaf`; `worst` is where hand and true are furthest apart unless it is given.
    """
    distance, peak = gap(hand, true), largest(true)
    worst = known.pop("worst", None)
    if worst is None and true.size:
        worst = tuple(int(j) for j in np.unravel_index(int(np.argmax(distance)), true.shape))
    absolute = float(np.max(distance, initial=0.0))
    with np.errstate(all="ignore"):
        usual = np.sqrt(np.mean(true**2)) if true.size else 0.0
        ulps = float(np.max(distance / ulp(np.maximum(np.abs(true), usual), dtype), initial=0.0))
        lengths = float(np.linalg.norm(hand) * np.linalg.norm(true))
        cosine = float(np.vdot(hand, true)) / lengths if lengths > 0 else np.nan
    at = [float(a[worst]) if true.size and a is not None else None for a in (hand, auto)]
    row = Leaf(
        path=path,
        shape=tuple(map(int, true.shape)),
        dtype=np.dtype(dtype).name,
        absolute=absolute,
        relative=absolute / peak if peak else (np.inf if absolute else 0.0),
        ulps=ulps if np.isfinite(ulps) else np.inf,
        cosine=cosine,
        worst=worst if true.size else (),
        hand=at[0],
        auto=at[1],
        numeric=None,
        verdict="agree",
    )
    return dataclasses.replace(row, **known)
