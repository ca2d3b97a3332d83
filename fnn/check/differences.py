"""Derivatives from function values alone: central differences at many step sizes, extrapolated, with an error estimate.

For one direction v, values f(x + h v) and f(x - h v) at K steps h_1 > h_2 > ... with one ratio r = h_k / h_(k+1):

    C_k = (f(x + h_k v) - f(x - h_k v)) / (2 h_k)                  error O(h^2)
    R_k = (r^2 C_(k+1) - C_k) / (r^2 - 1)                          error O(h^4): Richardson's extrapolation
    E_k = max(|R_k - R_(k-1)|, |R_k - R_(k+1)|)                    how far the neighbours are away

and the answer is the R_k with the smallest E_k + rounding, for every output on its own: large steps suffer from
curvature, small ones from rounding, and the estimate sees both. Ridders (1982), Advances in Engineering Software 4;
Press et al., Numerical Recipes (2007), section 5.7.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

STEPS = 16
# The largest step, over the leaf's scale: further out functions bend. The smallest: below it rounding rules float64.
_LARGEST, _SMALLEST = 0.03, 1e-9
# Neighbouring estimates agree by luck now and then: the error is taken this many times larger than they say.
_SAFETY = 16.0
# One-sided limits belong to two branches if they are this many times further apart than their own errors.
_KINK = 8.0
# Smaller jumps of the slope, relative to it, are taken for curvature.
_BEND = 1e-5
# An error estimate this large beside the slope itself says that nothing was found.
_LOST = 0.1
# From one step to the next, three times smaller, curvature falls to a third; what stays above this share is no curve.
_FLATTENS = 0.7
# The smallest steps may lie within a kink's distance: what is so near counts as a kink.
_NEAREST = 5


@dataclasses.dataclass(frozen=True)
class Slope:
    """Directional derivatives of every output, with error bounds.

    Attributes:
      value, error: the two-sided derivative and a bound of its error; error is inf where nothing converged.
      left, right: the one-sided derivatives, looking from below and from above.
      kink: where these two have different limits.
    """

    value: np.ndarray
    error: np.ndarray
    left: np.ndarray
    right: np.ndarray
    kink: np.ndarray


def steps_for(leaf: np.ndarray, count: int = STEPS) -> np.ndarray:
    """Step sizes for one array, in float64, from large to small with one ratio.

    They span the array's own scale and 1: log(x) at 1e-6 needs the first, sin(x) at 1e3 the second.
    """
    finite = leaf[np.isfinite(leaf)].astype(np.float64)
    scale = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    scale = scale or 1.0
    return np.geomspace(_LARGEST * max(scale, 1.0), _SMALLEST * min(scale, 1.0), count)


def points_of(steps: np.ndarray) -> np.ndarray:
    """Where values are needed on a line: at 0, at every step, and at every step backwards."""
    return np.concatenate([[0.0], steps, -steps])


def slope_of(values: np.ndarray, steps: np.ndarray, eps: float) -> "Slope":
    """`slope` of the values at `points_of(steps)`, in float64."""
    k = len(steps)
    return slope(values[0], values[1 : k + 1], values[k + 1 :], steps, eps)


def sweeper(f: Callable) -> Callable:
    """`(floats, directions, steps, *rest) -> f(x + h v, *rest)`, compiled: of each direction v along its steps h."""

    def sweep(floats: tuple, vs: tuple, hs: jax.Array, *rest: Any) -> Any:
        def line(item: tuple) -> Any:
            v, row = item
            return lax.map(lambda h: f(_step(floats, v, h), *rest), row)

        return lax.map(line, (vs, hs))

    return jax.jit(sweep)


def sweep_eagerly(f: Callable, floats: tuple, vs: tuple, hs: np.ndarray) -> tuple:
    """The same for a function that cannot be compiled."""
    lines = [[f(_step(floats, v, h)) for h in row] for v, row in zip(zip(*vs, strict=True), hs, strict=True)]
    return tuple(np.array([[np.asarray(y[i]) for y in line] for line in lines]) for i in range(len(lines[0][0])))


def _step(floats: tuple, v: tuple, h: Any) -> tuple:
    return tuple((x + h * d).astype(x.dtype) for x, d in zip(floats, v, strict=True))


def slope(center: np.ndarray, plus: np.ndarray, minus: np.ndarray, steps: np.ndarray, eps: float) -> Slope:
    """Derivatives along one direction.

    Args:
      center: (...) f(x).
      plus, minus: (K, ...) f(x + h_k v) and f(x - h_k v).
      steps: (K,) the h_k, descending, with one ratio.
      eps: relative precision of the values, such as 2.2e-16.

    >>> h = steps_for(np.ones(1))
    >>> s = slope(np.sin(1.0), np.sin(1 + h), np.sin(1 - h), h, 2.2e-16)
    >>> bool(abs(s.value - np.cos(1.0)) <= s.error < 1e-10), bool(s.kink)
    (True, False)
    """
    with np.errstate(all="ignore"):
        h = steps.reshape(-1, *[1] * center.ndim)
        # A small entry is often what cancellation left of numbers as large as its neighbours.
        finite = center[np.isfinite(center)]
        usual = np.sqrt(np.mean(np.square(finite))) if finite.size else 0.0
        rounding = 4 * eps * np.maximum(np.maximum(np.abs(plus), np.abs(minus)), usual) / h
        # Curvature falls with the step. A bend that does not is a kink nearby: steps beyond it see both sides.
        bends = (plus - 2 * center + minus) / h
        beyond = np.abs(bends[1:]) - _FLATTENS * np.abs(bends[:-1]) - 2 * rounding[1:]
        beyond = np.where(beyond > 0, beyond, 0.0)
        value, error = _extrapolate((plus - minus) / (2 * h), rounding, steps, order=2, more=beyond)
        right, right_error = _extrapolate((plus - center) / h, rounding, steps, order=1)
        left, left_error = _extrapolate((center - minus) / h, rounding, steps, order=1)
        # A jump or a staircase has no one-sided limits, so that its errors are as large as its differences.
        jump = right - left
        kink = np.abs(jump) > _KINK * (right_error + left_error) + _BEND * np.maximum(np.abs(right), np.abs(left))
        # A kink is there at every small step; rounding comes and goes.
        small = slice(steps.size // 2, -_NEAREST)
        kink &= np.all(np.abs(bends[small] - jump) < 0.5 * np.abs(jump), axis=0)
        # What does not converge is no derivative: an error as large as the slope over the largest step.
        secant = np.maximum(np.abs(plus[0] - center), np.abs(minus[0] - center)) / steps[0]
        widest = np.maximum(error, np.where(kink, 0.0, np.maximum(right_error, left_error)))
        lost = widest > _LOST * np.maximum(np.abs(value), secant) + _SAFETY * rounding[-1]
        # Across a kink central differences converge too, to the mean of both sides.
        error = np.where(kink | lost, np.inf, error)
    return Slope(value, error, left, right, kink)


def _extrapolate(
    c: np.ndarray, rounding: np.ndarray, steps: np.ndarray, order: int, more: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    power = (steps[0] / steps[1]) ** order
    r = (power * c[1:] - c[:-1]) / (power - 1)
    noise = (power * rounding[1:] + rounding[:-1]) / (power - 1)
    gaps = np.abs(np.diff(r, axis=0))
    errors = np.maximum(gaps[1:], gaps[:-1]) + (noise + more)[1:-1]
    errors = np.where(np.isfinite(errors), errors, np.inf)
    best = np.argmin(errors, axis=0)[None]
    value = np.take_along_axis(r[1:-1], best, axis=0)[0]
    error = np.take_along_axis(errors, best, axis=0)[0]
    return value, _SAFETY * error
