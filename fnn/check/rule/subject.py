"""What is examined: a function and a point, flattened to the arrays that are differentiated.

A flat function takes and returns tuples of float arrays; integers, keys, strings and None on either side are held
fixed. What several checks need is computed here once and kept: values and gradients, by hand and by JAX, in every
precision.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.check.arrays import argument_names, is_float, kind_of, nudge, path_of, pull, split
from fnn.check.automatic import automatic, run_on
from fnn.check.differences import sweep_eagerly, sweeper
from fnn.check.tolerance import EPS64, eps_of, largest, largest_gap, limit_of, movement
from fnn.core.program import equations, float_names, narrowest
from fnn.core.rule import kept_by_hand

Arrays = tuple[np.ndarray, ...]
Pair = tuple[Arrays, Arrays]  # outputs and gradients
Noise = tuple[tuple[float, ...], tuple[float, ...]]  # a number for each array of these

LADDER = ("bfloat16", "float32", "float64")
GIVEN = "given"
# Values at many points come back at once; more than this many numbers are computed a direction at a time.
_ROOM = 4_000_000
# A loop that is run on and changes a result by less, of its largest entry, was converging; by more, it was counting.
_CONVERGING = 1e-3


class Subject:
    """A function of pytrees at one point.

    Args:
      hand: the function whose rule is in question.
      auto: the same function as JAX differentiates it; None if there is no such form.
      reference: the textbook formula, or None.
      args: the point: positional pytrees.
      seed: of all random directions.
      strict: whether what `auto` does at kinks is binding.
      dissolve: whether custom rules in `auto` have to be dissolved first.
      tolerance: how far results may be off, relative to their largest entries, whatever rounding explains.
    """

    def __init__(
        self,
        hand: Callable,
        auto: Callable | None,
        reference: Callable | None,
        args: tuple,
        seed: int,
        strict: bool,
        dissolve: bool = False,
        tolerance: float = 0.0,
    ):
        self.seed, self.strict, self.args, self.tolerance = seed, strict, args, tolerance
        names = argument_names(hand) or argument_names(auto)
        leaves = [(path_of(place, names), leaf) for place, leaf in jax.tree_util.tree_leaves_with_path(args)]
        self.paths = tuple(path for path, leaf in leaves if is_float(leaf))
        self.held = tuple((path, kind_of(leaf)) for path, leaf in leaves if not is_float(leaf))
        floats, self.put = split(args)
        self.given: Arrays = tuple(map(np.asarray, floats))
        self.functions = {"hand": self._flat(hand, "hand")}
        if auto is not None:
            plain = self._flat(auto, "auto")
            self.functions["auto"] = automatic(plain) if dissolve else plain
        if reference is not None:
            self.functions["reference"] = self._flat(reference, "auto")
        self.reason = "no form that JAX can differentiate was given"
        self.compiled = True  # a function that branches on values runs op by op
        self.fine = "float64"  # the precision of truth and of differences
        self.output_dtypes = functools.cache(self._output_dtypes)
        self.gradients = functools.cache(self._gradients)
        self.truth = functools.cache(self._truth)
        self.noise = functools.cache(self._noise)
        self._sweepers = functools.cache(self._sweeper)

    def _flat(self, f: Callable, mode: str) -> Callable:
        def flat(floats: tuple) -> tuple:
            with kept_by_hand(mode):
                out = f(*self.put(floats))
            parts = [part for leaf in jax.tree.leaves(out) for part in _real_parts(leaf)]
            return tuple(jnp.asarray(part) for part in parts if is_float(part))

        return flat

    @property
    def has_auto(self) -> bool:
        """Whether JAX can differentiate the function without its rule."""
        return "auto" in self.functions

    def drop_auto(self, reason: str) -> None:
        """Forget the automatic form: it cannot be run, and this is why."""
        self.functions.pop("auto", None)
        self.reason = reason

    def give_up_compiling(self) -> None:
        """Run everything op by op from here on."""
        self.compiled = False
        self.__dict__.pop("pullers", None)

    def jit(self, f: Callable) -> Callable:
        """`jax.jit`, unless the function cannot be compiled."""
        return jax.jit(f) if self.compiled else f

    def run(self, dtype: str, f: Callable, *args: Any) -> Any:
        """Call f in one precision and bring the results to NumPy."""
        return jax.tree.map(np.asarray, self.in_precision(dtype, f, *args))

    @functools.cached_property
    def eps(self) -> float:
        """The relative precision of results in float64: more than float64's own where the function rounds inside."""
        if self.fine != "float64":
            return max(map(eps_of, self.names(GIVEN)), default=EPS64)
        if not self.compiled:
            return EPS64
        # A registered rule has the precision of its plain form, whatever it does.
        point, f = self.at(self.fine), self.functions["auto" if self.strict and self.has_auto else "hand"]
        forward = narrowest(self.in_precision(self.fine, jax.make_jaxpr(f), point))
        # A user's rule may fall back to the float32 it was written for, not below.
        return forward if self.strict else max(forward, min(narrowest(self.program), eps_of("float32")))

    @functools.cached_property
    def program(self) -> Any:
        """The traced forward and backward pass, in the precision of the truth."""
        point, dy = self.at(self.fine), self.cotangents(0, self.fine)
        return self.in_precision(self.fine, jax.make_jaxpr(pull(self.functions["hand"])), point, dy)

    @functools.cached_property
    def dtypes(self) -> set[str]:
        """Every floating-point dtype that the function computes in."""
        return {*self.names(self.fine), *(float_names(self.program) if self.compiled else ())}

    @functools.cached_property
    def loops(self) -> bool:
        """Whether it runs a loop until something holds."""
        return self.compiled and any(eqn.primitive.name == "while" for eqn in equations(self.program.jaxpr))

    @functools.cached_property
    def unsolved(self) -> Noise | None:
        """How far a user's iterative solver is from its limit: what a few more iterations do to each result.

        None where no loop is, and where loops do not converge: they count.
        """
        if self.strict or not self.loops:
            return None
        f = jax.jit(run_on(pull(self.functions["hand"])))
        here = self.gradients("hand", self.fine)
        on = self.run(self.fine, f, self.at(self.fine), self.cotangents(0, self.fine))
        moved = jax.tree.map(largest_gap, here, on)
        steady = jax.tree.map(lambda a, m: m <= _CONVERGING * largest(a), here, moved)
        return moved if all(jax.tree.leaves(steady)) else None

    def limit(self, a: np.ndarray, peak: float, noise: float = 0.0) -> float:
        """The largest error of a result that rounding explains, or that the user allows; see `limit_of`."""
        return max(limit_of(self.rounds_as(a), peak, noise), self.tolerance * peak)

    def rounds_as(self, a: np.ndarray) -> str:
        """The dtype whose precision a result has, given that it may have been computed in less."""
        coarser = [name for name in ("float32", "float16", "bfloat16") if eps_of(name) <= self.eps]
        return coarser[-1] if coarser and a.dtype == np.float64 else a.dtype.name

    def in_precision(self, dtype: str, f: Callable, *args: Any) -> Any:
        """Call f with 64-bit types enabled exactly for float64."""
        with jax.enable_x64(dtype == "float64" or (dtype == GIVEN and any(a.dtype == np.float64 for a in self.given))):
            # Outside jit a NumPy array would bring NumPy's arithmetic along.
            return f(*jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, args))

    def at(self, dtype: str) -> Arrays:
        """The point in one precision."""
        return self.given if dtype == GIVEN else tuple(a.astype(jnp.dtype(dtype)) for a in self.given)

    def refined(self, floats: Arrays) -> Arrays:
        """The same values in the precision of the truth."""
        return floats if self.fine == GIVEN else tuple(a.astype(np.float64) for a in floats)

    def names(self, dtype: str) -> tuple[str, ...]:
        """The dtype of every leaf of the point in one precision."""
        return tuple(a.dtype.name for a in self.at(dtype))

    @functools.cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the float outputs."""
        return tuple(tuple(y.shape) for y in self._outputs(GIVEN))

    def cotangents(self, number: int, dtype: str = "float64") -> Arrays:
        """One cotangent for each output: between 1/2 and 3/2 with random signs.

        None is small: a wrong row of the Jacobian always shows. Number 0 has multiples of 1/8, exact in every
        precision; the others have all their digits, so that a sum that is rounded on the way shows too.
        """
        rng = np.random.default_rng([self.seed, number, 1])
        draws = [rng.integers(4, 13, shape) / 8 * rng.choice([-1.0, 1.0], shape) for shape in self.shapes]
        if number:
            draws = [d + rng.uniform(0, 1 / 16, d.shape) for d in draws]
        return tuple(d.astype(t) for d, t in zip(draws, self.output_dtypes(dtype), strict=True))

    def _output_dtypes(self, dtype: str) -> tuple[np.dtype, ...]:
        return tuple(np.dtype(y.dtype) for y in self._outputs(dtype))

    def _outputs(self, dtype: str) -> tuple:
        run = functools.partial(jax.eval_shape, self.functions["hand"]) if self.compiled else self.functions["hand"]
        return self.in_precision(dtype, run, self.at(dtype))

    def signs(self, number: int, leaf: int) -> Arrays:
        """A direction of random +1 and -1 in one leaf, zero in all others."""
        rng = np.random.default_rng([self.seed, number, leaf, 2])
        return tuple(
            rng.choice([-1.0, 1.0], a.shape) if i == leaf else np.zeros(a.shape) for i, a in enumerate(self.given)
        )

    @functools.cached_property
    def pullers(self) -> dict[str, Callable]:
        """The compiled `(floats, cotangents) -> outputs, gradients`, by hand and by JAX."""
        return {mode: self.jit(pull(f)) for mode, f in self.functions.items() if mode != "reference"}

    def _gradients(self, mode: str, dtype: str, number: int = 0) -> Pair:
        """Outputs and gradients of the function at the point, in one precision, for cotangent `number`."""
        return self.pull(mode, dtype, self.at(dtype), self.cotangents(number, dtype))

    def pull(self, mode: str, dtype: str, floats: Arrays, dy: Arrays) -> Pair:
        """Outputs and gradients anywhere, in one precision."""
        return self.run(dtype, self.pullers[mode], floats, dy)

    def _truth(self, dtype: str) -> Pair:
        """Outputs and gradients in float64 at the point as rounded to `dtype`: by JAX, or by hand where it cannot."""
        mode = "auto" if self.has_auto else "hand"
        return self.pull(mode, self.fine, self.refined(self.at(dtype)), self.cotangents(0, self.fine))

    def _noise(self, dtype: str) -> Noise:
        """How far outputs and gradients move when every input moves by one rounding: largest change of each leaf."""
        mode = "auto" if self.has_auto else "hand"
        floats = self.refined(self.at(dtype))
        epsilons = [max(eps_of(name), self.eps) for name in self.names(dtype)]
        center, moved = self.truth(dtype), []
        for number in range(2):
            rng = np.random.default_rng([self.seed, number, 3])
            there = tuple(nudge(rng, a, e) for a, e in zip(floats, epsilons, strict=True))
            dy = tuple(nudge(rng, d, max(epsilons, default=0.0)) for d in self.cotangents(0, self.fine))
            moved.append(self.pull(mode, self.fine, there, dy))
        # A jump across a kink is no rounding: what moves further than the worst conditioned code is cut off.
        most = np.sqrt(max(epsilons, default=0.0)) * max(map(largest, (*center[0], *center[1], *dy)), default=0.0)
        unsolved = self.unsolved or tuple((0.0,) * len(part) for part in center)
        outputs, slopes = (
            tuple(
                max(min(most, largest(movement(c, [m[part][i] for m in moved]))), unsolved[part][i])
                for i, c in enumerate(center[part])
            )
            for part in (0, 1)
        )
        return outputs, slopes

    def _sweeper(self, further: bool) -> Callable:
        f = self.functions["hand"]
        return sweeper(run_on(f) if further else f) if self.compiled else functools.partial(sweep_eagerly, f)

    def sweep(self, directions: list[Arrays], steps: np.ndarray, further: bool = False) -> Arrays:
        """Outputs at x + h v: (directions, steps, *shape) for each output; steps (directions, K).

        `further` runs every loop on.
        """
        floats = self.at(self.fine)
        numbers = sum(map(np.size, floats)) + steps.shape[1] * sum(int(np.prod(shape)) for shape in self.shapes)
        chunk = 1 if numbers * 8 > _ROOM else 8
        parts = []
        for i in range(0, len(directions), chunk):
            some, rows = directions[i : i + chunk], steps[i : i + chunk]
            short = chunk - len(some)  # one shape, so that one program serves
            some, rows = some + some[:1] * short, np.concatenate([rows, rows[:1].repeat(short, 0)])
            stacked = tuple(np.stack(vs) for vs in zip(*some, strict=True))
            parts.append(
                [y[: chunk - short] for y in self.run(self.fine, self._sweepers(further), floats, stacked, rows)]
            )
        return tuple(np.concatenate(ys) for ys in zip(*parts, strict=True))


def _real_parts(leaf: Any) -> tuple:
    """A complex array of the output as two real ones, so that no part of a gradient goes unseen."""
    complex_one = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.complexfloating)
    return (leaf.real, leaf.imag) if complex_one else (leaf,)
