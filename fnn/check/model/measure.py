"""A gradient four ways: by hand and automatic, in the dtype given and in float64 from the same rounded values.

How far they may be apart is a matter of rounding (`fnn.check.tolerance`). In float64 a wrong formula is some ten orders
of magnitude above its tolerance, so that the verdict is as sharp for a model in bfloat16 as for one in float32; the
gradient in the given dtype is judged too, for a rule may be wrong in one dtype alone.

Data may move entries that tie (a maximum over equal pixels) across a jump, where no rounding takes the computation
itself. Entries that jump even after a rounding of float64 count only what parameters and cotangents do to them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.check.arrays import is_float, nudge, path_of, wide_types, widen
from fnn.check.finding import Finding, Leaf, first_line
from fnn.check.tolerance import EPS64, MODEL, eps_of, gap, largest, largest_gap, movement, rounding
from fnn.check.verdict import leaf_of
from fnn.core.program import narrowest
from fnn.core.rule import gradients, kept_by_hand

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
      cancelled: whether they are.
    """

    leaf: Leaf
    wrong: str
    hand: np.ndarray | None
    truth: np.ndarray
    error: float
    tolerance: float
    rounding: float
    size: float
    cancelled: bool

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
    """`f(free, data) -> tree of arrays`, automatic and in float64, ready to judge any other mode of gradients.

    Args:
      f: what computes the gradients (and values); compiled here, once a mode and precision.
      auto: the same without any rule of anyone; f in "auto" mode if None.
      free: the inputs that move freely: parameters, cotangents.
      data: the inputs that may tie: examples and state.
      seed: of the movements.
      allowed: relative error that is right whatever rounding explains.

    Attributes:
      paths, tree: of the arrays of the result.
      auto: the automatic ones in the given dtype, in the order of the tree.
      notes: what could not be done, in sentences.
      wide: whether float64 was possible.
    """

    def __init__(
        self, f: Callable, free: Any, data: Any, seed: int = 0, auto: Callable | None = None, allowed: float = 0.0
    ):
        self._f, self._seed, self._allowed, self.notes = jax.jit(f), seed, allowed, []
        self._auto = jax.jit(auto) if auto is not None else self._f
        self._given = free, data
        result = jax.eval_shape(f, free, data)
        places, self.tree = jax.tree_util.tree_flatten_with_path(result)
        self.paths = [path_of(place) for place, _ in places]
        self.dtypes = [leaf.dtype for _, leaf in places]
        self.auto = self._run({}, free, data)
        floats = [leaf for leaf in jax.tree.leaves((free, data)) if is_float(leaf)]
        self._coarse = max((eps_of(np.asarray(leaf).dtype) for leaf in floats), default=EPS64)
        self._wide_inputs = widen(free), widen(data)
        self.fine_eps, self.wide = EPS64, True
        try:
            with jax.enable_x64(True), gradients("auto"):
                traced = self._f.trace(*self._wide_inputs)
            self.truth = self._run({}, *self._wide_inputs, wide=True)
        except Exception as error:
            self.wide, self.truth, self.fine_eps = False, self.auto, self._coarse
            self.notes.append(f"no float64: {first_line(error)}; judged in the given dtype alone")
        else:
            inner = narrowest(traced.jaxpr)
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
        dtype, peak, finite = self.dtypes[i], largest(t), bool(np.isfinite(t).all())
        room = self._allowed * peak
        sharp = max(rounding(max(self.fine_eps, eps_of(truth.dtype)), peak, fine, MODEL), room)
        eps = max(eps_of(dtype), self._coarse)
        coarse = max(rounding(eps, peak, noise, MODEL) + float(jnp.finfo(dtype).tiny), room)
        error, bad = (largest_gap(v, t) if finite else np.inf for v in (h, a))
        fine64 = t if hand64 is None else hand64
        error64 = largest_gap(fine64, t) if finite or hand64 is None else np.inf
        if not error64 <= sharp:
            wrong, seen, limit, who = "float64", error64, sharp, fine64
        else:
            is_wrong = not (error <= max(coarse, _AS_BAD * bad) and np.isfinite(bad))
            wrong, seen, limit, who = ("dtype" if is_wrong else ""), error, coarse, h
        vanishes = not wrong and 0 < peak <= MODEL.amplified * fine
        verdict = "DIFFER" if wrong else "vanish" if vanishes else "agree"
        worst = np.unravel_index(np.argmax(gap(who, t)), t.shape) if t.size else ()
        known = {"worst": tuple(map(int, worst)), "verdict": verdict, "culprit": "hand" if wrong else ""}
        leaf = leaf_of(self.paths[i], dtype, h, a, t, **known)
        cancelled = not wrong and noise > np.sqrt(eps) * peak
        return Judged(leaf, wrong, hand64, t, seen, limit, sharp, noise / eps if cancelled else peak, cancelled)

    def _measure_noise(self) -> list[tuple[float, float]]:
        fine = [[self._moved(self.fine_eps, n, both) for n in range(_DRAWS)] for both in (False, True)]
        coarse = [[self._moved(self._coarse, n, both) for n in range(_DRAWS)] for both in (False, True)]
        noises = []
        for i, t in enumerate(self.truth):
            free, both = (movement(t, [m[i] for m in moved]) for moved in fine)
            far, far_both = (movement(t, [m[i] for m in moved]) for moved in coarse)
            base = largest(free)
            steady = both <= _JUMP * max(base, self.fine_eps * largest(t))
            small = max(base, largest(both[steady]))
            large = max(largest(far), largest(far_both[steady]), small * self._coarse / self.fine_eps)
            noises.append((small, large))
        return noises

    def _moved(self, eps: float, number: int, both: bool) -> list[np.ndarray]:
        rng = np.random.default_rng([self._seed, number, both])

        def move(leaf: Any) -> Any:
            return nudge(rng, np.asarray(leaf), eps) if is_float(leaf) else leaf

        free, data = self._wide_inputs if self.wide else self._given
        there = jax.tree.map(move, free), jax.tree.map(move, data) if both else data
        return [np.asarray(leaf, np.float64) for leaf in self._run({}, *there, wide=self.wide)]

    def _run(self, mode: Mapping[str, str] | str, free: Any, data: Any, wide: bool = False) -> list[np.ndarray]:
        others = nullcontext() if mode == "hand" else gradients("auto")
        with wide_types(wide), others, kept_by_hand(mode):
            f = self._f if mode else self._auto
            return [np.asarray(leaf) for leaf in jax.tree.leaves(f(free, data))]
