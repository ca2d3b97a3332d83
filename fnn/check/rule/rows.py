"""The row of each array in a report, and what its checks may have missed."""

import contextlib
import dataclasses

import numpy as np

from fnn.check.finding import Leaf
from fnn.check.rule.by_differences import ALWAYS
from fnn.check.rule.numeric import Numeric, OutOfTimeError
from fnn.check.rule.subject import GIVEN, Subject
from fnn.check.tolerance import gap, largest, largest_gap
from fnn.check.verdict import NOTHING, Difference, leaf_of, verdict_on


def rows_of(numeric: Numeric) -> tuple[Leaf, ...]:
    """The row of every array; none where a function under test raises, which the findings say."""
    try:
        seen = [_look(numeric, i) for i in range(len(numeric.subject.paths))]
    except Exception:
        return ()
    return tuple(_row(numeric.subject, i, *one) for i, one in enumerate(seen))


def _look(numeric: Numeric, i: int) -> tuple[np.ndarray, np.ndarray, float, str, Difference]:
    """One array by hand and in truth, with its limit, in the given precision, unless only float64 shows an error.

    With the difference at the entry where they are furthest apart.
    """
    subject = numeric.subject
    candidates = [_difference(subject, dtype, i) for dtype in dict.fromkeys((GIVEN, subject.fine))]
    hand, true, limit, dtype = next((c for c in candidates if not largest_gap(c[0], c[1]) <= c[2]), candidates[0])
    seen = NOTHING
    if hand.size:
        with contextlib.suppress(OutOfTimeError):
            seen = numeric.at(i, [int(np.argmax(gap(hand, true)))])[0]
    return hand, true, limit, dtype, seen


def _row(
    subject: Subject, i: int, hand: np.ndarray, true: np.ndarray, limit: float, dtype: str, seen: Difference
) -> Leaf:
    leaf = leaf_of(subject.paths[i], dtype, hand, true if subject.has_auto else None, true)
    if not hand.size:
        return leaf
    # A registered rule follows the convention of its plain form.
    beyond, free = not leaf.absolute <= limit, not subject.strict
    verdict, culprit = verdict_on(float(hand[leaf.worst]), leaf.auto, seen, limit, beyond=beyond, free=free)
    if beyond and verdict == "DIFFER" and not seen.known:
        culprit = "hand"  # JAX's derivative of the plain form is presumed right
    numeric = seen.value if seen.known or seen.kink else None
    return dataclasses.replace(leaf, verdict=verdict, culprit=culprit, numeric=numeric)


def _difference(subject: Subject, dtype: str, i: int) -> tuple[np.ndarray, np.ndarray, float, str]:
    hand, true = (grads[i] for _, grads in (subject.gradients("hand", dtype), subject.truth(dtype)))
    name = hand.dtype.name
    limit = subject.limit(hand, largest(true), subject.noise(dtype)[1][i])
    return hand.astype(np.float64), true.astype(np.float64), limit, name


def what_may_be_missed(numeric: Numeric) -> tuple[str, ...]:
    """What could have got past, from what was sampled."""
    lines = []
    for i, (path, g) in enumerate(zip(numeric.subject.paths, numeric.subject.given, strict=True)):
        judged = numeric.judged[path]
        visible = numeric.visible.get(path)
        seen = f"above {visible:.0e} of the leaf's rms" if visible and np.isfinite(visible) else "above rounding"
        if g.size == 0:
            continue
        kinked = len(numeric.kinks(i)) if g.size <= ALWAYS else 0
        if kinked == g.size:
            lines.append(f"{path}: every entry lies at a kink; what passes is anything between the one-sided slopes")
        elif judged & {"automatic", "jacobian", "all"}:
            how = ", ".join(sorted({"automatic": "every entry against JAX"}.get(j, j) for j in judged))
            lines.append(f"{path}: a single wrong entry {seen} is missed with chance 0 ({how})")
        elif "directions" in judged:
            pair = 0.5**numeric.directions
            lines.append(f"{path}: a single wrong entry {seen} is missed with chance 0, two equal ones with {pair:.2g}")
        elif judged:
            share = max(int(j.split()[0]) / g.size for j in judged)
            lines.append(f"{path}: a single wrong entry {seen} is missed with chance {1 - share:.3g}")
        else:
            lines.append(f"{path}: not judged; a wrong entry is missed with chance 1")
    return tuple(lines)
