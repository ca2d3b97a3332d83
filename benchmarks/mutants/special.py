"""Bugs that hide: wrong for one option or dtype, under one transformation, stale, random, or in the forward pass."""

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from benchmarks.mutants.mutant import Back, Mutant, answering, chosen, computes, map_floats, saving, shapes_of
from fnn.check.arrays import is_float
from fnn.core.rule import Rule, rules

_CASES = 3  # one in so many cases gets a mutant


def generic() -> Iterator[Mutant]:
    """The tables of this file over the rules."""
    for rule in rules().values():
        for i in range(len(rule.cases)):
            mutant = _of_one_case(rule, i)
            if chosen(rule, f"only case {i}", _CASES) and mutant.cases():
                yield mutant
    for kind, name, what, broken, every in HIDDEN:
        for rule in rules().values():
            if chosen(rule, name, every):
                make = broken() if kind in ("random", "stale") else broken
                yield _mutant(rule, kind, name, what, bwd=make)
    for name, what, change, every in PRIMAL:
        for rule in rules().values():
            if chosen(rule, name, every):
                yield _mutant(rule, "primal", name, what, primal=change)


def _mutant(rule: Rule, kind: str, name: str, what: str, bwd: Callable = Back.grads, primal: Callable | None = None):
    right = saving(rule)

    def fwd(spec, *args):
        y, saved = right(spec, *args)
        return map_floats(primal, y) if primal else y, saved

    name = f"{rule.name}/{name}"
    back = answering(rule, bwd)
    return Mutant(name=name, rule=rule.name, kind=kind, what=what, fwd=fwd, bwd=back, applies=computes)


def _of_one_case(rule: Rule, i: int) -> Mutant:
    """Wrong for the options and shapes of one case alone."""

    def concerns(spec, args) -> bool:
        return spec == rule.cases[i].spec and _shapes(args) == _shapes(shapes_of(rule.name, i)) and computes(spec, args)

    def broken(back: Back) -> tuple:
        if not concerns(back.spec, back.args):
            return back.grads()
        total = sum(d.astype(jnp.float32).sum() for d in jax.tree.leaves(back.dy))
        return back.replaced(0, lambda g: (g + 0.1 * total).astype(g.dtype))

    return Mutant(
        name=f"{rule.name}/only case {i}",
        rule=rule.name,
        kind="option",
        what=f"a tenth of the sum of dy added, for {rule.cases[i].spec} and these shapes alone",
        fwd=saving(rule),
        bwd=answering(rule, broken),
        applies=concerns,
    )


def _shapes(args) -> list:
    return [None if a is None else a.shape for a in args]


def _only(dtype: str) -> Callable:
    def broken(back: Back) -> tuple:
        return map_floats(lambda g: 2 * g if g.dtype == dtype else g, back.grads())

    return broken


@custom_vmap
def _batched(x):
    return jnp.zeros(())


@_batched.def_vmap
def _(size, batched, x):
    return jnp.ones(size), True


# A custom_vmap has no reverse mode of its own; the answer is constant, and so is this.
@jax.custom_jvp
def _under_vmap(x):
    return _batched(x)


_under_vmap.defjvp(lambda primals, tangents: (_under_vmap(*primals), jnp.zeros(())))


def _twice_under_vmap(back: Back) -> tuple:
    sums = [a.astype(jnp.float32).sum() for a in jax.tree.leaves((back.args, back.dy)) if is_float(a)]
    factor = 1 + _under_vmap(jax.lax.stop_gradient(sum(sums)))
    return map_floats(lambda g: (g * factor).astype(g.dtype), back.grads())


def _traced(back: Back) -> bool:
    return any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves((back.residuals, back.dy)))


def _wrong_under_jit(back: Back) -> tuple:
    return map_floats(lambda g: 2 * g, back.grads()) if _traced(back) else back.grads()


def _wrong_outside_jit(back: Back) -> tuple:
    return back.grads() if _traced(back) else map_floats(lambda g: 2 * g, back.grads())


def _needs_numbers(back: Back) -> tuple:
    """NumPy in the middle: raises under every transformation."""
    return back.grads(dy=map_floats(lambda d: jnp.asarray(np.array(d)), back.dy))


def _every_other_trace() -> Callable:
    """Python state: what is compiled depends on how often it was."""
    count = itertools.count()

    def broken(back: Back) -> tuple:
        return map_floats(lambda g: (1.1 * g).astype(g.dtype), back.grads()) if next(count) % 2 else back.grads()

    return broken


def _every_other_run() -> Callable:
    """State on the host: two runs of one program differ."""
    count = itertools.count()

    def tick() -> np.ndarray:
        return np.float32(1 + 0.1 * (next(count) % 2))

    def broken(back: Back) -> tuple:
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        factor = jax.pure_callback(tick, shape, vmap_method="sequential")
        return map_floats(lambda g: (g * factor).astype(g.dtype), back.grads())

    return broken


def _previous_call() -> Callable:
    """A closure that holds the cotangents of the call before, if they fit."""
    kept = {}

    def broken(back: Back) -> tuple:
        shapes = tuple((a.shape, a.dtype.name) for a in jax.tree.leaves((back.args, back.dy)))
        now = back.grads()
        old = kept.get(shapes, now)
        kept[shapes] = now
        return old

    return broken


# kind, name, what, break (for "random" and "stale" a maker of one), one in n rules
HIDDEN = [
    ("one dtype", "only bfloat16", "doubled in bfloat16 only", _only("bfloat16"), 7),
    ("one dtype", "only float32", "doubled in float32 only", _only("float32"), 7),
    ("one dtype", "only float64", "doubled in float64 only", _only("float64"), 7),
    ("one dtype", "only float16", "doubled in float16 only", _only("float16"), 15),
    ("transformation", "only vmap", "doubled under vmap only", _twice_under_vmap, 4),
    ("transformation", "only traced", "doubled inside jit, vmap or scan only", _wrong_under_jit, 6),
    ("transformation", "only eager", "doubled outside jit only", _wrong_outside_jit, 10),
    ("transformation", "numpy inside", "raises under jit, vmap or scan", _needs_numbers, 6),
    ("random", "every other trace", "a Python counter: every other trace is 10 % off", _every_other_trace, 10),
    ("random", "every other run", "state on the host: every other run is 10 % off", _every_other_run, 10),
    ("stale", "previous call", "a closure with the cotangents of the call before", _previous_call, 10),
]


def _one_entry_off(y):
    return y.ravel().at[y.size // 2].add(0.1).reshape(y.shape) if y.size else y


def _one_nan(y):
    return y.ravel().at[y.size // 2].set(jnp.nan).reshape(y.shape) if y.size else y


# name, what, change of every output, one in n rules
PRIMAL = [
    (
        "output off by 1e-3",
        "fwd returns y + 0.001 where forward returns y",
        lambda y: y + jnp.asarray(1e-3, y.dtype),
        6,
    ),
    ("one output off", "one entry of fwd's output 0.1 too large", _one_entry_off, 6),
    ("nan output", "one NaN in fwd's output", _one_nan, 10),
    ("output in bfloat16", "fwd rounds its output", lambda y: y.astype("bfloat16").astype(y.dtype), 7),
    ("output of wrong dtype", "fwd returns bfloat16", lambda y: y.astype("bfloat16"), 15),
]
