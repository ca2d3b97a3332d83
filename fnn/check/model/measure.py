"""One gradient four ways, and how large a difference rounding explains.

By hand and automatic, in the dtype that was given and in float64 from the same rounded values. With t the automatic
gradient in float64, t' the same after every input moved by one rounding of a dtype with distance e from 1 to the next
number, and max over the entries of one array:

    noise(e) = max |t' - t|        tolerance(e) = n (noise(e) + e max |t|),  n = 1024, or 16 in half precision

It follows what cancels, and knows nothing of the array's size. In float64 a wrong formula is some ten orders of
magnitude above its tolerance, so that the verdict is as sharp for a model in bfloat16 as for one in float32; the
gradient in the given dtype is judged too, for a rule may be wrong in one dtype alone.

Data may move entries that tie (a maximum over equal pixels) across a jump, where no rounding takes the computation
itself. Entries that jump even after a rounding of float64 count only what parameters and cotangents do to them.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.check.program import EPS64, eps_of, first_line, narrowest
from fnn.check.report import Finding, Leaf
from fnn.check.rule.subject import is_float
from fnn.check.tolerance import ulp
from fnn.core.rule import gradients

# Long float32 sums that cancel were seen 6 noises off, growing with the square root of their length; in float64 so wide
# a margin costs nothing. Half precision has no room for it, and sums in float32: 1.4 noises were seen.
_MARGIN, _MARGIN_HALF = 1024, 16
_HALF = 1e-4  # epsilons above this are half precision
# A gradient in the given dtype that is not this many times worse than JAX's own is no fault of the rule: sums in half
# precision, underflow.
_AS_BAD = 4
# Noise grows in proportion to the rounding, by conditions up to this; what moves further has jumped.
_JUMP = 2.0**20
_DRAWS = 2


@dataclasses.dataclass(frozen=True)
class Judged:
    """One array of the result: its row, and the gradients in float64.

    Attributes:
      leaf: the row.
      wrong: where the hand-written gradient is wrong: "float64", "dtype" (in the given dtype alone) or "".
      hand, truth: the hand-written (None where it cannot be had) and the automatic gradient in float64.
      error, tolerance: what was judged, and its limit.
      rounding: the tolerance in float64.
      size: of the entries: the largest true one, or of the terms that cancel in it, if half of the digits are lost.
      drowned: whether they are.
    """

    leaf: Leaf
    wrong: str
    hand: np.ndarray | None
    truth: np.ndarray
    error: float
    tolerance: float
    rounding: float
    size: float
    drowned: bool

    @property
    def relative(self) -> float:
        """The error that was judged, over the size of the entries; what is not finite is infinitely wrong."""
        if not np.isfinite(self.error):
            return np.inf
        return self.error / self.size if self.size else np.inf if self.error else 0.0

    def finding(self) -> Finding:
        """The sentence on what is wrong, or right."""
        where, leaf = "float64" if self.wrong == "float64" else self.leaf.dtype, self.leaf
        if not self.wrong:
            return Finding("automatic", "pass", leaf.path, "", self.error, self.tolerance)
        only = "" if self.wrong == "float64" else f", and only there: a matter of {where}"
        if not np.isfinite(self.error):
            detail = f"not finite in {where}"
        else:
            detail = f"by hand differs from automatic in {where}{only}; rounding explains {self.tolerance:.1e}"
        return Finding("automatic", "FAIL", leaf.path, detail, self.error, self.tolerance)


class Measured:
    """`f(firm, loose) -> tree of arrays`, automatic and in float64, ready to judge any other mode of gradients.

    Args:
      f: what computes the gradients (and values); compiled here, once a mode and precision.
      auto: the same without any rule of anyone; f in "auto" mode if None.
      firm: the inputs that move freely: parameters, cotangents.
      loose: the inputs that may tie: data and state.
      seed: of the movements.
      allowed: relative error that is right whatever rounding explains.

    Attributes:
      paths, tree: of the arrays of the result.
      auto: the automatic ones in the given dtype, in the order of the tree.
      notes: what could not be done, in sentences.
      wide: whether float64 was possible.
    """

    def __init__(
        self, f: Callable, firm: Any, loose: Any, seed: int = 0, auto: Callable | None = None, allowed: float = 0.0
    ):
        self._f, self._seed, self._allowed, self.notes = jax.jit(f), seed, allowed, []
        self._auto = jax.jit(auto) if auto is not None else self._f
        self._given = firm, loose
        result = jax.eval_shape(f, firm, loose)
        places, self.tree = jax.tree_util.tree_flatten_with_path(result)
        self.paths = [jax.tree_util.keystr(place, simple=True, separator="/") for place, _ in places]
        self.dtypes = [leaf.dtype for _, leaf in places]
        self.auto = self._run({}, firm, loose)
        floats = [leaf for leaf in jax.tree.leaves((firm, loose)) if is_float(leaf)]
        self._coarse = max((eps_of(np.asarray(leaf).dtype.name) for leaf in floats), default=EPS64)
        self._wide_inputs = widen(firm), widen(loose)
        self.fine_eps, self.wide = EPS64, True
        try:
            with wide_types(), gradients("auto"):
                inner = narrowest(self._f.trace(*self._wide_inputs).jaxpr)
            self.truth = self._run({}, *self._wide_inputs, wide=True)
        except Exception as error:
            self.wide, self.truth, self.fine_eps = False, self.auto, self._coarse
            self.notes.append(f"no float64: {first_line(error)}; judged in the given dtype alone")
        else:
            if inner > EPS64:
                self.fine_eps = inner
                self.notes.append(f"the model rounds to an epsilon of {inner:.1e} inside, whatever its dtype")
        with np.errstate(all="ignore"):
            self._noises = self._measure_noise()

    def judge(self, mode: Mapping[str, str] | str = "hand") -> list[Judged]:
        """Every array of the result under a mode of `fnn.gradients`; rules that it does not name are automatic."""
        given = self._run(mode, *self._given)
        try:
            wide = self._run(mode, *self._wide_inputs, wide=True) if self.wide else [None] * len(given)
        except Exception as error:
            wide = [None] * len(given)
            self.notes.append(f"no hand-written gradient in float64: {first_line(error)}")
        with np.errstate(all="ignore"):
            return [self._judge(i, g, w) for i, (g, w) in enumerate(zip(given, wide, strict=True))]

    def _judge(self, i: int, hand: np.ndarray, hand64: np.ndarray | None) -> Judged:
        auto, truth, (fine, noise) = self.auto[i], self.truth[i], self._noises[i]
        h, a, t = (np.asarray(v).astype(np.float64) for v in (hand, auto, truth))
        dtype, peak = self.dtypes[i], peak_of(t)
        fine_eps = max(self.fine_eps, eps_of(truth.dtype.name))
        sharp = max(_MARGIN * (fine + fine_eps * peak), self._allowed * peak)
        eps = max(eps_of(dtype.name), self._coarse)
        coarse = (_MARGIN if eps < _HALF else _MARGIN_HALF) * (noise + eps * peak) + float(jnp.finfo(dtype).tiny)
        coarse = max(coarse, self._allowed * peak)
        error, bad = largest(h, t), largest(a, t)
        error64 = 0.0 if hand64 is None else largest(hand64, t)
        if not error64 <= sharp:
            wrong, seen, limit, who = "float64", error64, sharp, hand64
        else:
            is_wrong = not (error <= max(coarse, _AS_BAD * bad) and np.isfinite(bad))
            wrong, seen, limit, who = ("dtype" if is_wrong else ""), error, coarse, h
        vanishes = not wrong and 0 < peak <= _MARGIN * fine
        verdict = "DIFFER" if wrong else "vanish" if vanishes else "agree"
        gap = np.abs(np.asarray(who, np.float64) - t)
        worst = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), t.shape) if t.size else ()
        leaf = row(self.paths[i], dtype, h, a, t, tuple(map(int, worst)), verdict, "hand" if wrong else "")
        drowned = not wrong and noise > np.sqrt(eps) * peak
        return Judged(leaf, wrong, hand64, t, seen, limit, sharp, noise / eps if drowned else peak, drowned)

    def _measure_noise(self) -> list[tuple[float, float]]:
        fine = [[self._moved(self.fine_eps, n, both) for n in range(_DRAWS)] for both in (False, True)]
        coarse = [[self._moved(self._coarse, n, both) for n in range(_DRAWS)] for both in (False, True)]
        noises = []
        for i, t in enumerate(self.truth):
            firm, both = (np.max([np.abs(m[i] - t) for m in moved], axis=0) for moved in fine)
            far, far_both = (np.max([np.abs(m[i] - t) for m in moved], axis=0) for moved in coarse)
            base = peak_of(firm)
            calm = both <= _JUMP * max(base, self.fine_eps * peak_of(t))
            small = max(base, peak_of(both[calm]))
            large = max(peak_of(far), peak_of(far_both[calm]), small * self._coarse / self.fine_eps)
            noises.append((small, large))
        return noises

    def _moved(self, eps: float, number: int, both: bool) -> list[np.ndarray]:
        rng = np.random.default_rng([self._seed, number, both])

        def move(leaf: Any) -> Any:
            if not is_float(leaf):
                return leaf
            there = np.asarray(leaf, np.float64) * (1 + eps * rng.choice([-1.0, 1.0], np.shape(leaf)))
            return there if self.wide else jnp.asarray(there).astype(leaf.dtype)

        firm, loose = self._wide_inputs if self.wide else self._given
        there = jax.tree.map(move, firm), jax.tree.map(move, loose) if both else loose
        moved = self._run({}, *there, wide=self.wide)
        return [np.asarray(leaf, np.float64) for leaf in moved]

    def _run(self, mode: Mapping[str, str] | str, firm: Any, loose: Any, wide: bool = False) -> list[np.ndarray]:
        with wide_types() if wide else contextlib.nullcontext(), gradients("auto"), gradients(mode):
            f = self._f if mode else self._auto
            return [np.asarray(leaf) for leaf in jax.tree.leaves(f(firm, loose))]


def row(
    path: str,
    dtype: Any,
    h: np.ndarray,
    a: np.ndarray,
    t: np.ndarray,
    worst: tuple[int, ...],
    verdict: str,
    culprit: str,
) -> Leaf:
    """The row of one array: the hand-written, the automatic and the true gradient, all in float64."""
    at = [float(v[worst]) if v.size else None for v in (h, a)]
    gap, peak = np.abs(h - t), peak_of(t)
    absolute = float(np.max(gap, initial=0.0))
    relative = absolute / peak if peak else np.inf if absolute else 0.0
    rms = np.sqrt(np.mean(t**2)) if t.size else 0.0
    ulps = float(np.max(gap / ulp(np.maximum(np.abs(t), rms), dtype), initial=0.0))
    norms = float(np.linalg.norm(h) * np.linalg.norm(t))
    cosine = float(np.vdot(h, t)) / norms if norms else float("nan")
    finite = np.isfinite(absolute)
    ulps = ulps if finite else float("inf")
    relative = float(relative) if finite else float("nan")
    shape = tuple(map(int, t.shape))
    return Leaf(path, shape, dtype.name, absolute, relative, ulps, cosine, worst, *at, None, verdict, culprit)


def widen(tree: Any) -> Any:
    """The tree with its real numbers in float64, as NumPy arrays."""
    return jax.tree.map(lambda a: np.asarray(a).astype(np.float64) if is_float(a) else a, tree)


def wide_types() -> contextlib.AbstractContextManager:
    """64-bit types for everything traced and run inside."""
    return jax.enable_x64(True)


def largest(a: np.ndarray, t: np.ndarray) -> float:
    """max |a - t|, nan if anything is."""
    return float(np.max(np.abs(a - t), initial=0.0))


def peak_of(a: np.ndarray) -> float:
    """max |a|, 0 for no entries."""
    return float(np.max(np.abs(a), initial=0.0))
