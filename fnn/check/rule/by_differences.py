"""The gradient from function values alone: along random signs, one coordinate at a time, and the whole Jacobian.

For a cotangent dy, an argument x and a direction v of +1 and -1 in x alone, the rule's gradient g must satisfy

    <g, v> = <dy, (f(x + h v) - f(x - h v)) / (2 h)>    as h goes to 0, within the error that the differences estimate.

Every sign weighs an entry of g by 1, so that a single wrong entry always shows in full; two wrong entries of one size
cancel in one direction out of two. At a kink the one-sided limits differ. There the gradient must lie between them, and
the convention that the rule follows is listed; directions are then taken around the kinks.
"""

from collections.abc import Iterator

import numpy as np

from fnn.check.finding import Finding, Verdict
from fnn.check.rule.numeric import Measure, Numeric
from fnn.check.rule.subject import Arrays, Subject
from fnn.check.tolerance import Row, conclude, largest

# Two kinks may cancel along a direction; so few coordinates are each looked at.
ALWAYS = 32
_WHOLE_JACOBIAN = 48  # entries of a leaf and of the outputs, at most


def check_differences(numeric: Numeric) -> Iterator[Finding]:
    """Random signs in each leaf alone."""
    subject = numeric.subject
    _, grads = subject.gradients("hand", subject.fine)
    rows, unjudged = [], []
    for i, (path, g) in enumerate(zip(subject.paths, grads, strict=True)):
        if g.size == 0:
            continue
        vs = [subject.signs(number, i)[i] for number in range(numeric.directions)]
        measures, searched = numeric.measure(i, vs), True
        if any(m.kink for m in measures) or (g.size <= ALWAYS and numeric.kinks(i)):
            # What ties moves together along ones, without a kink: the gradients of a tie must sum up right.
            vs.append(np.ones(g.shape))
            measures += numeric.measure(i, vs[-1:])
            smooth = [(v, m) for v, m in zip(vs, measures, strict=True) if not m.kink]
            free = np.ones(g.size, bool)
            free[list(numeric.kinks(i))] = False
            searched = None not in numeric.kinks(i).values()
            around = [v * free.reshape(g.shape) for v in vs] if free.any() else []
            vs = [v for v, _ in smooth] + around
            measures = [m for _, m in smooth] + numeric.measure(i, around)
        for v, m in zip(vs, measures, strict=True):
            if not np.isfinite(m.error):
                unjudged.append(path)
                continue
            terms = g.astype(np.float64) * v
            floor = subject.limit(g, max(float(np.abs(terms).sum()), abs(m.value)))
            limit = m.error + floor + 8 * subject.noise(subject.fine)[1][i]
            rows.append(Row(path, abs(float(terms.sum()) - m.value), limit, "along random signs"))
            numeric.judged[path].add("directions" if searched else "directions around kinks")
            rms = float(np.sqrt(np.mean(g.astype(np.float64) ** 2)))
            numeric.visible[path] = max(numeric.visible.get(path, 0.0), limit / rms if rms else np.inf)
    yield from conclude("differences", rows, "every leaf lies at kinks, or is empty")
    yield from _unjudged(subject, "differences", unjudged)


def check_coordinates(numeric: Numeric) -> Iterator[Finding]:
    """A few entries of each leaf, one at a time."""
    subject = numeric.subject
    _, grads = subject.gradients("hand", subject.fine)
    rows, unjudged, lost = [], [], []
    for i, (path, g) in enumerate(zip(subject.paths, grads, strict=True)):
        rng = np.random.default_rng([subject.seed, i, 4])
        indices = rng.choice(g.size, min(numeric.coordinates, g.size), replace=False).tolist()
        for k, m in zip(indices, numeric.at(i, indices) if indices else [], strict=True):
            row = entry(subject, i, k, m)
            if m.kink and arbitrary(subject, i, k, row):
                lost.append(path)
            elif np.isfinite(row.limit):
                rows.append(row)
                numeric.judged[path].add("all" if len(indices) == g.size else f"{len(indices)} of {g.size} entries")
            else:
                unjudged.append(path)
    yield from conclude("coordinates", rows, "every leaf is empty") if rows or not lost else ()
    yield from _unjudged(subject, "coordinates", unjudged)
    yield from no_slope("coordinates", lost)


def check_jacobian(numeric: Numeric) -> Iterator[Finding]:
    """Every entry of the Jacobian, where it is small."""
    subject = numeric.subject
    outputs = sum(int(np.prod(shape)) for shape in subject.shapes)
    small = [i for i, a in enumerate(subject.given) if 0 < a.size <= _WHOLE_JACOBIAN]
    if not small or not 0 < outputs <= _WHOLE_JACOBIAN:
        yield Finding("jacobian", "skip", detail=f"more than {_WHOLE_JACOBIAN} entries; differences sample it")
        return
    rows_by_hand, bases = [], list(_basis(subject, outputs))
    for dy in bases:
        numeric.stay_in_time()
        rows_by_hand.append(subject.pull("hand", subject.fine, subject.at(subject.fine), dy)[1])
    rows, lost = [], []
    for i in small:
        hand = np.stack([grads[i].astype(np.float64).ravel() for grads in rows_by_hand])  # (outputs, entries)
        peak, noise = largest(hand), subject.noise(subject.fine)[1][i]
        floor = subject.limit(rows_by_hand[0][i], peak, noise)
        for k, m in enumerate(numeric.at(i, list(range(subject.given[i].size)))):
            flat = [np.concatenate([getattr(s, name).ravel() for s in m.slopes]) for name in _PARTS]
            value, error, left, right, kink = flat
            low, high = (np.where(kink, f(left, right), value) for f in (np.minimum, np.maximum))
            gap = np.maximum(low - hand[:, k], hand[:, k] - high)
            gap = np.where(np.isnan(hand[:, k]), np.inf, np.maximum(gap, 0))
            limit = np.where(kink, 0, error) + floor
            judged = np.isfinite(limit)
            while judged.any():
                worst = np.argmax(np.where(judged, gap - limit, -np.inf))
                where = f"output {worst}, entry {k}"
                row = Row(subject.paths[i], float(gap[worst]), float(limit[worst]), where)
                if not (m.kink and arbitrary(subject, i, k, row, bases[worst])):
                    rows.append(row)
                    break
                judged[worst] = False  # the others may be wrong all the same
                lost.append(subject.paths[i])
        numeric.judged[subject.paths[i]].add("jacobian")
    yield from conclude("jacobian", rows, "no entry converges") if rows or not lost else ()
    yield from no_slope("jacobian", lost)


_PARTS = ("value", "error", "left", "right", "kink")


def entry(subject: Subject, leaf: int, k: int, m: Measure) -> Row:
    """How far one entry of the gradient is from its differences, and how far it may be."""
    g = subject.gradients("hand", subject.fine)[1][leaf]
    taken, noise = float(g.ravel()[k]), subject.noise(subject.fine)[1][leaf]
    sizes = sum(float(np.sum(np.abs(s.value[np.isfinite(s.value)]))) for s in m.slopes)
    limit = subject.limit(g, max(largest(np.array(taken)), sizes), noise)
    error = max(m.low - taken, taken - m.high, 0.0) if m.kink else abs(taken - m.value)
    where = f"entry {tuple(int(j) for j in np.unravel_index(k, g.shape))}"
    return Row(subject.paths[leaf], np.inf if np.isnan(taken) else error, limit if m.kink else limit + m.error, where)


def arbitrary(subject: Subject, leaf: int, k: int, row: Row, dy: Arrays | None = None) -> bool:
    """Whether JAX's own derivative at a kink is the rule's, outside the slopes: where eigenvalues meet, say."""
    if row.error <= row.limit or subject.strict or not subject.has_auto:
        return False
    point = subject.at(subject.fine)
    hand, auto = (
        (subject.gradients(mode, subject.fine) if dy is None else subject.pull(mode, subject.fine, point, dy))[1][leaf]
        for mode in ("hand", "auto")
    )
    return bool(abs(float(hand.ravel()[k]) - float(auto.ravel()[k])) <= row.limit)


def no_slope(check: str, paths: list[str]) -> Iterator[Finding]:
    """What is said of leaves where JAX's own derivative is arbitrary."""
    if paths:
        why = "slopes meet here, and the automatic derivative is none of them; choose another point"
        yield Finding(check, "CANNOT", ", ".join(dict.fromkeys(paths)), why)


def _unjudged(subject: Subject, check: str, paths: list[str]) -> Iterator[Finding]:
    if paths:
        verdict: Verdict = "note" if subject.has_auto else "CANNOT"
        where = ", ".join(dict.fromkeys(paths))
        yield Finding(check, verdict, where, "the differences have no limit: not differentiable here")


def _basis(subject: Subject, outputs: int) -> Iterator[Arrays]:
    bounds = np.cumsum([int(np.prod(shape)) for shape in subject.shapes])[:-1]
    dtypes = [d.dtype for d in subject.cotangents(0, subject.fine)]
    for row in np.eye(outputs):
        parts = zip(np.split(row, bounds), subject.shapes, dtypes, strict=True)
        yield tuple(part.reshape(shape).astype(dtype) for part, shape, dtype in parts)


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
