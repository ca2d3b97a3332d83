"""Which classic mistake a wrong gradient looks like: each is tried on the true gradient until one fits.

h is the gradient by hand, t the true one. First come mistakes that turn t into h entry by entry; then those that leave
most entries right; then sums that forget a term, h - t = a + b x; last, true gradients at another point ("for a
kernel that is flipped").
"""

import itertools
from collections.abc import Iterator

import numpy as np

from fnn.check.finding import Leaf
from fnn.check.rule.numeric import Numeric
from fnn.check.rule.subject import GIVEN
from fnn.check.tolerance import gap, largest, largest_gap

# Two arrays are the same mistake if they agree to this share of the largest entry; float32 noise is far below.
_SAME = 1e-4
# So few wrong entries need no pattern, and so small a share of them is worth saying where none is found.
_HANDFUL = 2
# Without an automatic gradient, one of at most so many entries is had from differences.
_BY_DIFFERENCES = 512
_FEW = 0.05


def diagnose(numeric: Numeric, leaves: tuple[Leaf, ...]) -> tuple[str, ...]:
    """A sentence for every leaf that differs, where one of the classic mistakes explains it."""
    lines = []
    for i, leaf in enumerate(leaves):
        if leaf.verdict != "DIFFER" or leaf.culprit == "auto":
            continue
        subject = numeric.subject
        dtype = subject.fine if leaf.dtype == "float64" else GIVEN
        h, t = (grads[i].astype(np.float64) for _, grads in (subject.gradients("hand", dtype), subject.truth(dtype)))
        if not subject.has_auto and h.size <= _BY_DIFFERENCES:
            t = np.array([m.value for m in numeric.at(i, list(range(h.size)))]).reshape(h.shape)
        elif not subject.has_auto:
            lines.append(
                f"{leaf.path}: differences disagree, entry {leaf.worst} is {leaf.hand:.6g}, not {leaf.numeric:.6g}."
            )
            continue
        guesses = itertools.chain(_wholesale(numeric, h, t), _partly(numeric, i, h, t), _terms(numeric, i, h, t))
        elsewhere = _elsewhere(numeric, i, h) if subject.has_auto else ()
        guess = next(itertools.chain(guesses, elsewhere), None)
        if guess is not None:
            lines.append(f"{leaf.path}: {guess}.")
    return tuple(lines)


def _wholesale(numeric: Numeric, h: np.ndarray, t: np.ndarray) -> Iterator[str]:
    if np.isnan(h).any():
        yield f"{int(np.isnan(h).sum())} of {h.size} entries of the gradient are NaN"
        return
    if not h.any():
        yield "the gradient is all zeros"
    if _same(h, -t):
        yield "the gradient has the wrong sign"
    square = float(np.sum(t * t))
    factor = float(np.sum(h * t)) / square if square else 0.0
    if factor and abs(factor - 1) > _SAME and _same(h, factor * t):
        yield f"the gradient is {factor:.4g} times the true one{_meaning(numeric, factor)}"
    axes = [a for a in range(t.ndim) if t.shape[a] > 1]
    for order in itertools.permutations(range(t.ndim)) if t.ndim <= 5 else ():
        moved = t.transpose(order)
        if list(order) != list(range(t.ndim)) and moved.shape == t.shape and _same(h, moved):
            yield f"the gradient is transposed: axes {order} of the true one"
    for some in _subsets(axes):
        if _same(h, np.flip(t, some)):
            yield f"the gradient is flipped along {_axes(some)}"
    for axis in axes:
        for shift in (1, -1):
            if _same(h, np.roll(t, shift, axis)) or _same(h, _shifted(t, shift, axis)):
                yield f"the gradient is shifted by {shift:+d} along axis {axis}"


def _partly(numeric: Numeric, i: int, h: np.ndarray, t: np.ndarray) -> Iterator[str]:
    wrong = gap(h, t) > _SAME * largest(t) if largest(t) else h != 0
    count = int(wrong.sum())
    if not count or wrong.all():
        return
    if t.size <= _BY_DIFFERENCES and set(np.flatnonzero(wrong)) <= set(numeric.kinks(i)):
        yield f"only ties and kinks are wrong, {count} of {t.size} entries"
    where = tuple(int(k) for k in np.argwhere(wrong)[0])
    ratio = f", {h[where] / t[where]:.4g} times the true value" if t[where] else ""
    few = f"only {count} of {t.size} entries are wrong, the first at {where}{ratio}"
    if count <= _HANDFUL:
        yield few
    inner = tuple(slice(None) if a in (0, t.ndim - 1) or n < 3 else slice(1, -1) for a, n in enumerate(t.shape))
    spatial = any(part != slice(None) for part in inner)
    if t.ndim >= 3 and spatial and not wrong[inner].any():
        yield f"only the borders are wrong, {count} of {t.size} entries: look at the padding"
    for axis, n in enumerate(t.shape):
        bad = np.flatnonzero(wrong.any(tuple(a for a in range(t.ndim) if a != axis)))
        if len(bad) == 1 < n and count > 1:
            yield f"only index {bad[0]} of axis {axis} is wrong"
        for step in (2, 3):
            if n > 2 * step and len(bad) > 1 and len(set(bad % step)) == 1:
                which = "second" if step == 2 else "third"
                yield f"only every {which} index of axis {axis} is wrong: look at the stride"
    if count <= _FEW * t.size:
        yield few


def _terms(numeric: Numeric, i: int, h: np.ndarray, t: np.ndarray) -> Iterator[str]:
    d, x = h - t, numeric.subject.at(numeric.subject.fine)[i].astype(np.float64)
    axes = [a for a in range(t.ndim) if t.shape[a] > 1]
    for some in _subsets(axes):
        count = int(np.prod([t.shape[a] for a in some]))
        mean = d.mean(some, keepdims=True)
        if count > 2 and _same(np.broadcast_to(mean, d.shape), d):
            yield f"it is off by a constant along {_axes(some)}: a mean term is missing"
    for some in _subsets(axes):
        count = int(np.prod([t.shape[a] for a in some]))
        centered = x - x.mean(some, keepdims=True)
        power = np.sum(centered**2, some, keepdims=True)
        slope = np.sum(d * centered, some, keepdims=True) / np.where(power, power, 1.0)
        if count > 3 and _same(d.mean(some, keepdims=True) + slope * centered, d):
            where = f"it is off by a + b x along {_axes(some)}"
            yield f"{where}: statistics were detached, their mean or variance term is missing"
    for y in numeric.subject.gradients("hand", numeric.subject.fine)[0]:
        for axis in axes if y.shape == d.shape else ():
            y64 = y.astype(np.float64)
            power = np.sum(y64**2, axis, keepdims=True)
            share = np.sum(d * y64, axis, keepdims=True) / np.where(power, power, 1.0)
            if t.shape[axis] > 2 and _same(share * y64, d):
                yield f"it is off by a multiple of the output along axis {axis}: a sum term is missing"
    for axis in axes:
        if _same(np.broadcast_to(h.mean(axis, keepdims=True), h.shape), h) and h.any():
            yield f"it does not vary along axis {axis}, and should: a sum over the wrong axis"


def _elsewhere(numeric: Numeric, i: int, h: np.ndarray) -> Iterator[str]:
    subject = numeric.subject
    point, dy = subject.at(subject.fine), subject.cotangents(0, subject.fine)

    def truth(floats: tuple, dy: tuple) -> np.ndarray:
        return subject.pull("auto", subject.fine, floats, dy)[1][i].astype(np.float64)

    for j, (path, a) in enumerate(zip(subject.paths, point, strict=True)):
        for what, changed in _variants(a):
            if _same(h, truth((*point[:j], changed, *point[j + 1 :]), dy)):
                yield f"it looks like {path} was not {what}" if j != i else f"it is the gradient for {path} {what}"
    if _same(h, truth(point, tuple(np.ones_like(d) for d in dy))):
        yield "it ignores the cotangent"
    for j, d in enumerate(dy):
        for what, changed in _variants(d):
            if _same(h, truth(point, (*dy[:j], changed, *dy[j + 1 :]))):
                yield f"it is the gradient for a cotangent {what}"


def _variants(a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    axes = [k for k in range(a.ndim) if a.shape[k] > 1]
    window = [k for k in axes if k < a.ndim - 2] or axes  # of a kernel; else every axis
    for some in [tuple(window), *((k,) for k in axes)]:
        if some:
            yield f"flipped along {_axes(some)}", np.flip(a, some).copy()
    if a.ndim >= 2 and a.shape[-1] == a.shape[-2]:
        yield "transposed in its last two axes", np.swapaxes(a, -1, -2).copy()
    for axis in axes:
        for shift in (1, -1):
            yield f"shifted by {shift:+d} along axis {axis}", np.roll(a, shift, axis)


def _meaning(numeric: Numeric, factor: float) -> str:
    for path, shape in zip(numeric.subject.paths, (a.shape for a in numeric.subject.given), strict=True):
        for axis, n in enumerate(shape):
            for f, what in ((n, "a sum where a mean belongs"), (1 / max(n, 1), "a mean where a sum belongs")):
                if n > 2 and abs(factor - f) < _SAME * f:
                    return f": {what}, over axis {axis} of {path}"
    return ""


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(largest_gap(a, b) <= _SAME * largest(b)) and largest(b) > 0


def _subsets(axes: list[int]) -> Iterator[tuple[int, ...]]:
    for n in range(1, len(axes) + 1):
        yield from itertools.combinations(axes, n)


def _shifted(t: np.ndarray, shift: int, axis: int) -> np.ndarray:
    moved = np.roll(t, shift, axis)
    edge = [slice(None)] * t.ndim
    edge[axis] = slice(0, 1) if shift > 0 else slice(-1, None)
    moved[tuple(edge)] = 0
    return moved


def _axes(some: tuple[int, ...]) -> str:
    return f"axis {some[0]}" if len(some) == 1 else f"axes {', '.join(map(str, some))}"
