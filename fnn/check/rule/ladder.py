"""The precision ladder: bfloat16, float32, float64 at one point. Rounding shrinks from step to step, a bug does not."""

import itertools
from collections.abc import Iterator

import numpy as np

from fnn.check.finding import Finding, first_line
from fnn.check.rule.numeric import Numeric
from fnn.check.rule.oracles import gradient_row
from fnn.check.rule.subject import GIVEN, LADDER, Subject
from fnn.check.tolerance import Row, conclude, gap, largest

# From one precision to the next rounding falls by 2^-16 or more; what falls by less than this is no rounding.
_FALLS = 2.0**-8
# Sums in half precision lose this share of the largest entry easily; a larger one is more than rounding.
_COARSE = 0.25
_NOTHING = 1e-12  # a relative error so small needs not fall any further


def check_precision(numeric: Numeric) -> Iterator[Finding]:
    """Outputs and gradients in each precision against float64 at the same rounded point."""
    subject, errors = numeric.subject, dict[str, dict[str, float]]()
    rows: list[tuple[str, Row]] = []
    more = [GIVEN] if _unusual(subject) else []
    if subject.strict and not numeric.quick:
        more.append("float16")  # fnn promises it; with numbers of other sizes it overflows
    ladder = [*LADDER, *more]
    if subject.loops and not subject.strict:
        ladder = [dtype for dtype in (GIVEN, *ladder) if dtype in (GIVEN, "float64")]
        detail = "it loops until something holds, which in less than the given precision may never be: not tried there"
        yield Finding("precision", "note", detail=detail)
    for dtype in dict.fromkeys(ladder):
        try:
            got, want, noise = subject.gradients("hand", dtype), subject.truth(dtype), subject.noise(dtype)
        except Exception as error:
            if subject.strict:
                raise
            yield Finding("precision", "note", detail=f"does not run in {dtype}: {first_line(error)}")
            continue
        for part, kind in ((0, "output"), (1, "gradient")):
            for i, (h, t) in enumerate(zip(got[part], want[part], strict=True)):
                path = subject.paths[i] if part else f"output {i}"
                row = _precision_row(numeric, part, i, h, t, noise[part][i], dtype, f"{kind} in {dtype}")
                errors.setdefault(path, {})[dtype] = row.error / (largest(t) or 1.0)
                rows.append((dtype, Row(path, row.error, row.limit, row.detail)))
    for path in dict.fromkeys(row.leaf for _, row in rows if not row.ok):
        yield from _ladder_verdict(subject, path, errors[path], [row for _, row in rows if row.leaf == path])
    if rows and all(row.ok for _, row in rows):
        yield from conclude("precision", [row for _, row in rows], "")


def _unusual(subject: Subject) -> bool:
    names = set(subject.names(GIVEN))
    return len(names) > 1 or not names <= set(LADDER)


def _automatic(subject: Subject, dtype: str) -> tuple | None:
    if not subject.has_auto:
        return None
    try:
        return subject.gradients("auto", dtype)
    except Exception:  # JAX's form need not run in every precision; it only excuses what it shares
        return None


def _precision_row(
    numeric: Numeric, part: int, i: int, h: np.ndarray, t: np.ndarray, noise: float, dtype: str, detail: str
) -> Row:
    limit = numeric.subject.limit(h, largest(t), noise)
    distance = gap(h, t)
    other = None if np.max(distance, initial=0.0) <= limit else _automatic(numeric.subject, dtype)
    if other is not None:
        # Rounding on the way may tip a branch; where JAX tips the same, or rounds as badly, it is not the rule.
        same = gap(h, other[part][i]) <= limit
        distance = np.where(same, 0.0, distance)
        auto_error = gap(other[part][i], t)
        limit = max(limit, 4 * float(np.max(auto_error, initial=0.0, where=np.isfinite(auto_error))))
    if part == 1:
        return gradient_row(numeric, i, distance, np.zeros_like(distance), limit, detail)
    return Row("", float(np.max(distance, initial=0.0)), limit, detail)


def _ladder_verdict(subject: Subject, path: str, errors: dict[str, float], rows: list[Row]) -> Iterator[Finding]:
    shown = ", ".join(f"{e:.1e} in {dtype}" for dtype, e in errors.items())
    wrong = [row for row in rows if not row.ok]
    steps = [errors[d] for d in ("float16", GIVEN, *LADDER) if d in errors and (d in LADDER or errors[d] > _NOTHING)]
    shrinks = len(steps) > 1 and all(b <= max(a * _FALLS, _NOTHING) for a, b in itertools.pairwise(steps))
    worst = wrong[0]
    if (
        shrinks
        and not subject.strict
        and max(steps) <= _COARSE
        and all(row.leaf and np.isfinite(row.error) for row in wrong)
    ):
        yield Finding(
            "precision", "note", path, f"{shown}: shrinks with precision, so it is rounding", worst.error, worst.limit
        )
        return
    if shrinks:
        reason = "shrinks with precision: rounding, more than the inputs explain"
    elif len(wrong) < len(rows):
        reason = f"wrong only as {', '.join(row.detail for row in wrong)}"
    else:
        reason = "does not shrink with precision: a bug, not rounding"
    yield Finding("precision", "FAIL", path, f"{shown}: {reason}", worst.error, worst.limit)
