"""The row of each array in a report, and what its checks may have missed."""

import numpy as np

from fnn.check.report import Leaf
from fnn.check.rule.numeric import ALWAYS, Measure, Numeric, OutOfTimeError
from fnn.check.rule.subject import GIVEN, Subject
from fnn.check.tolerance import cosine, gap, largest, ulp


def row_of(numeric: Numeric, i: int) -> Leaf:
    """The row of one array: in the given precision, unless only float64 shows the error."""
    subject = numeric.subject
    fine = subject.fine
    candidates = [_difference(subject, GIVEN, i)]
    if fine != GIVEN:
        candidates.append(_difference(subject, fine, i))
    hand, true, limit, dtype = next(
        (c for c in candidates if not np.max(gap(c[0], c[1]), initial=0.0) <= c[2]), candidates[0]
    )
    shape = subject.given[i].shape
    if hand.size == 0:
        return Leaf(subject.paths[i], shape, dtype, 0.0, 0.0, 0.0, np.nan, (), None, None, None, "agree")
    distance = gap(hand, true)
    k = int(np.argmax(distance))
    index = tuple(int(j) for j in np.unravel_index(k, shape))
    try:
        measure = numeric.at(i, [k])[0]
    except OutOfTimeError:
        measure = Measure(np.nan, np.inf, -np.inf, np.inf, False, ())
    known = np.isfinite(measure.error)
    h, a, n = (float(v) for v in (hand.flat[k], true.flat[k], measure.value))
    absolute, peak = float(distance.flat[k]), largest(true)
    verdict, culprit = "agree", ""
    allowed = not (subject.strict and absolute > limit)  # a registered rule follows the convention of its plain form
    if (
        allowed
        and measure.kink
        and measure.low - limit <= h <= measure.high + limit
        and (absolute > limit or not subject.has_auto)
    ):
        verdict = "kink"
    elif not absolute <= limit:
        verdict = "DIFFER"
        near = abs(a - n) <= limit + measure.error
        culprit = "hand" if near or not known else "auto" if abs(h - n) <= limit + measure.error else ""
    elif known and not measure.kink and abs(h - n) > measure.error + 2 * limit:
        verdict, culprit = "DIFFER", "differences" if subject.has_auto else "hand"
    return Leaf(
        path=subject.paths[i],
        shape=shape,
        dtype=dtype,
        absolute=absolute,
        relative=absolute / peak if peak else (np.inf if absolute else 0.0),
        ulps=float(np.max(distance / ulp(np.maximum(np.abs(true), np.sqrt(np.mean(true**2))), dtype))),
        cosine=cosine(hand, true),
        worst=index,
        hand=h,
        auto=a if subject.has_auto else None,
        numeric=n if known or measure.kink else None,
        verdict=verdict,
        culprit=culprit,
    )


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
