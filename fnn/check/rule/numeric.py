"""Differences of a function at a point, computed when a check asks for them."""

import dataclasses
import functools
import math
import time
from typing import Any

import numpy as np

from fnn.check.differences import STEPS, Slope, points_of, slope_of, steps_for
from fnn.check.rule.subject import Arrays, Subject
from fnn.check.tolerance import EPS64, eps_of
from fnn.check.verdict import Difference

# Coordinates are tried one by one up to this many; a larger leaf is halved until the kinks are found.
_ONE_BY_ONE = 512
_MOST_LOOKS = 2048
# Directions and coordinates tried in each leaf.
_LOOKS, _QUICK_LOOKS = (3, 8), (1, 2)


class OutOfTimeError(Exception):
    """The time for a check is over."""


@dataclasses.dataclass(frozen=True)
class Measure(Difference):
    """dy . f' v along one direction, with the slopes of every output."""

    slopes: tuple[Slope, ...] = ()


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
        directions = [_alone(subject.given, leaf, v) for v in vs]
        rows, cotangents = np.tile(points_of(steps), (len(vs), 1)), subject.cotangents(0, subject.fine)
        measures = self._slopes(subject.sweep(directions, rows), steps)
        if subject.unsolved is not None:
            # A solver that stops early has a derivative of its own, far from that of the solution.
            solved = self._slopes(subject.sweep(directions, rows, further=True), steps)
            measures = [tuple(map(_unsure, *both)) for both in zip(solved, measures, strict=True)]
        return [_contract(slopes, cotangents) for slopes in measures]

    def _slopes(self, outputs: Arrays, steps: np.ndarray) -> list[tuple[Slope, ...]]:
        """Those of every output along each direction."""
        wide = [(y.astype(np.float64), max(self.subject.eps, eps_of(y.dtype))) for y in outputs]
        return [tuple(slope_of(y[d], steps, eps) for y, eps in wide) for d in range(len(outputs[0]))]

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
        return self.measure(leaf, [_subset(shape, np.ones(math.prod(shape)), [i]) for i in indices])

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
            for some, m in zip(now, self.measure(leaf, [_subset(shape, signs, some) for some in now]), strict=True):
                if m.kink and len(some) == 1:
                    found[int(some[0])] = self.at(leaf, [int(some[0])])[0]
                elif m.kink:
                    sets += list(np.array_split(some, 2))
        return found | {int(i): None for some in sets for i in some}


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


def _alone(given: Arrays, leaf: int, v: np.ndarray) -> Arrays:
    """A direction in one array alone."""
    return tuple(v if i == leaf else np.zeros(a.shape) for i, a in enumerate(given))


def _subset(shape: tuple[int, ...], signs: np.ndarray, some: Any) -> np.ndarray:
    """The signs at some flat indices, 0 elsewhere."""
    v = np.zeros(signs.shape)
    v[some] = signs[some]
    return v.reshape(shape)
