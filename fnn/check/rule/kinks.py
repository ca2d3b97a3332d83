"""Where slopes meet: which entries lie at kinks, and what a rule does there."""

from collections.abc import Iterator

import numpy as np

from fnn.check.report import Finding
from fnn.check.rule.numeric import ALWAYS, Numeric, arbitrary, entry, no_slope
from fnn.check.tolerance import conclude


def check_kinks(numeric: Numeric) -> Iterator[Finding]:
    """Entries where one-sided derivatives differ: the gradient lies between them."""
    subject = numeric.subject
    _, grads = subject.gradients("hand", subject.fine)
    rows, lost, free = [], 0, []
    for i, g in enumerate(grads):
        if g.size == 0 or not (g.size <= ALWAYS or any(m.kink for m in numeric.measure(i, [subject.signs(0, i)[i]]))):
            continue
        for k, m in numeric.kinks(i).items():
            if m is None:
                lost += 1
                continue
            row = entry(subject, i, k, m)
            if arbitrary(subject, i, k, row):
                free.append(subject.paths[i])
            else:
                rows.append(row)
    yield from conclude("kinks", rows, "none found") if rows or not free else ()
    yield from no_slope("kinks", free)
    if lost:
        yield Finding("kinks", "note", detail=f"{lost} more entries may lie at kinks and were not looked at")


def kink_lines(numeric: Numeric, most: int = 4) -> tuple[str, ...]:
    """What the rule does at each kink, a line an entry, the first few of each leaf."""
    subject, lines = numeric.subject, []
    _, grads = subject.gradients("hand", subject.fine)
    for i, g in enumerate(grads):
        if numeric.kinks.cache_info().currsize == 0 or g.size == 0:
            continue
        kinks = {k: m for k, m in numeric.kinks(i).items() if m is not None}
        for k, m in list(kinks.items())[:most]:
            taken = float(g.ravel()[k])
            where = tuple(int(j) for j in np.unravel_index(k, g.shape))
            sides = f"{m.low:.6g} and {m.high:.6g}"
            lines.append(f"{subject.paths[i]} at {where}: derivatives between {sides}; the rule takes {taken:.6g}")
        if len(kinks) > most:
            lines.append(f"{subject.paths[i]}: {len(kinks) - most} more entries")
    return tuple(lines)
