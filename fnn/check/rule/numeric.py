"""The gradient from function values alone: along random signs, one coordinate at a time, and the whole Jacobian.

For a cotangent dy, an argument x and a direction v of +1 and -1 in x alone, the rule's gradient g must satisfy

    <g, v> = <dy, (f(x + h v) - f(x - h v)) / (2 h)>    as h goes to 0, within the error that the differences estimate.

Every sign weighs an entry of g by 1, so that a single wrong entry always shows in full; two wrong entries of one size
cancel in one direction out of two. At a kink the one-sided limits differ. There the gradient must lie between them, and
the convention that the rule follows is listed; directions are then taken around the kinks.
"""

import dataclasses
import functools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fnn.check.differences import STEPS, Slope, slope, steps_for
from fnn.check.program import EPS64, eps_of
from fnn.check.report import Finding
from fnn.check.rule.flat import alone, subset, unit
from fnn.check.rule.subject import Arrays, Subject
from fnn.check.tolerance import Row, conclude, largest

# Coordinates are tried one by one up to this many; a larger leaf is halved until the kinks are found.
_ONE_BY_ONE = 512
# Two kinks may cancel along a direction; so few coordinates are each looked at.
ALWAYS = 32
_MOST_LOOKS = 2048
# Directions and coordinates tried in each leaf.
_LOOKS, _QUICK_LOOKS = (3, 8), (1, 2)
_WHOLE_JACOBIAN = 48  # entries of a leaf and of the outputs, at most


class OutOfTimeError(Exception):
    """The time for a check is over."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """One direction: dy . f' v with its error; bounds of what one-sided derivatives allow; whether it meets a kink."""

    value: float
    error: float
    low: float
    high: float
    kink: bool
    slopes: tuple[Slope, ...]


class Numeric:
    """Differences of one subject, computed when asked for, until the deadline (`time.perf_counter`) is over."""

    def __init__(self, subject: Subject, quick: bool, deadline: float = np.inf):
        self.subject, self.quick, self.deadline = subject, quick, deadline
        self.directions, self.coordinates = _QUICK_LOOKS if quick else _LOOKS
        self.kinks = functools.cache(self._kinks)
        self.judged: dict[str, set[str]] = {path: set() for path in subject.paths}
        self.visible: dict[str, float] = {}
        self.programs: dict[str, Any] = {}  # of second order, by mode

    def measure(self, leaf: int, vs: list[np.ndarray]) -> list[Measure]:
        """The directional derivatives along each v in one leaf."""
        subject = self.subject
        if not vs:
            return []
        self.stay_in_time()
        steps = steps_for(subject.at(subject.fine)[leaf])
        if subject.eps > EPS64:
            steps = steps * 1e3  # float32 has no room for small steps
        row = np.concatenate([[0.0], steps, -steps])
        directions = [alone(subject.given, leaf, v) for v in vs]
        rows, cotangents = np.tile(row, (len(vs), 1)), subject.cotangents(0, subject.fine)
        measures = self._slopes(subject.sweep(directions, rows), steps)
        if subject.unsolved is not None:
            # A solver that stops early has a derivative of its own, far from that of the solution.
            solved = self._slopes(subject.sweep(directions, rows, further=True), steps)
            measures = [tuple(map(_unsure, *both)) for both in zip(solved, measures, strict=True)]
        return [_contract(slopes, cotangents) for slopes in measures]

    def _slopes(self, outputs: Arrays, steps: np.ndarray) -> list[tuple[Slope, ...]]:
        """Those of every output along each direction."""
        k, eps = len(steps), self.subject.eps

        def one(y: np.ndarray, dtype: str) -> Slope:
            return slope(y[0], y[1 : k + 1], y[k + 1 :], steps, max(eps, eps_of(dtype)))

        wide = [(y.astype(np.float64), y.dtype.name) for y in outputs]
        return [tuple(one(y[d], dtype) for y, dtype in wide) for d in range(len(outputs[0]))]

    def stay_in_time(self) -> None:
        """Stop the check if its time is over.

        Raises:
          OutOfTimeError: it is.
        """
        if time.perf_counter() > self.deadline:
            raise OutOfTimeError

    def center(self) -> Arrays:
        """The outputs at the point, without differentiation."""
        still = tuple(np.zeros(a.shape) for a in self.subject.given)
        return tuple(y[0, 0] for y in self.subject.sweep([still], np.zeros((1, 2 * STEPS + 1))))

    def at(self, leaf: int, indices: list[int]) -> list[Measure]:
        """The derivatives along single coordinates, given as flat indices."""
        shape = self.subject.given[leaf].shape
        return self.measure(leaf, [unit(shape, i) for i in indices])

    def at_kinks(self, leaf: int, indices: np.ndarray) -> list[int]:
        """Those of some flat indices that lie at a kink; of very many, as many as are looked at."""
        some = indices[:_MOST_LOOKS].tolist()
        return [k for k, m in zip(some, self.at(leaf, some), strict=True) if m.kink]

    def meets_kink(self, leaf: int, asked: bool = True) -> bool:
        """Whether any coordinate of a leaf lies at a kink; False without looking unless asked."""
        return asked and self.subject.given[leaf].size > 0 and bool(self.kinks(leaf))

    def _kinks(self, leaf: int) -> dict[int, Measure | None]:
        """Flat indices of the coordinates at a kink; None where the search ended before it was found."""
        size, shape = self.subject.given[leaf].size, self.subject.given[leaf].shape
        if size <= _ONE_BY_ONE:
            measures = self.at(leaf, list(range(size)))
            return {i: m for i, m in enumerate(measures) if m.kink}
        signs = self.subject.signs(0, leaf)[leaf].ravel()
        found: dict[int, Measure | None] = {}
        sets, looks = [np.arange(size)], 0
        while sets and looks < _MOST_LOOKS:
            now, sets = sets[: _MOST_LOOKS - looks], sets[_MOST_LOOKS - looks :]
            looks += len(now)
            for some, m in zip(now, self.measure(leaf, [subset(shape, signs, some) for some in now]), strict=True):
                if m.kink and len(some) == 1:
                    found[int(some[0])] = self.at(leaf, [int(some[0])])[0]
                elif m.kink:
                    sets += list(np.array_split(some, 2))
        return found | {int(i): None for some in sets for i in some}


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
        verdict = "note" if subject.has_auto else "CANNOT"
        yield Finding(
            check, verdict, ", ".join(dict.fromkeys(paths)), "the differences have no limit: not differentiable here"
        )


def _unsure(solved: Slope, stopped: Slope) -> Slope:
    """The slope of a solver run on, and how far from it that of the solver itself is."""
    apart = np.abs(solved.value - stopped.value)
    return dataclasses.replace(solved, error=solved.error + np.where(np.isfinite(apart), apart, 0.0))


def _contract(slopes: tuple[Slope, ...], cotangents: Arrays) -> Measure:
    value = error = low = high = 0.0
    for s, dy in zip(slopes, cotangents, strict=True):
        two_sided = np.where(s.kink, 0.0, dy * s.value)
        sides = np.where(s.kink, dy * s.left, two_sided), np.where(s.kink, dy * s.right, two_sided)
        value += float(np.sum(np.where(s.kink, dy * (s.left + s.right) / 2, two_sided)))
        error += float(np.sum(np.abs(dy) * s.error))
        low, high = low + float(np.sum(np.minimum(*sides))), high + float(np.sum(np.maximum(*sides)))
    return Measure(value, error, low, high, any(bool(s.kink.any()) for s in slopes), slopes)


def _basis(subject: Subject, outputs: int) -> Iterator[Arrays]:
    bounds = np.cumsum([int(np.prod(shape)) for shape in subject.shapes])[:-1]
    dtypes = [d.dtype for d in subject.cotangents(0, subject.fine)]
    for row in np.eye(outputs):
        parts = zip(np.split(row, bounds), subject.shapes, dtypes, strict=True)
        yield tuple(part.reshape(shape).astype(dtype) for part, shape, dtype in parts)
