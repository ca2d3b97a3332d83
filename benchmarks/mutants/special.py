"""Bugs that hide: wrong for one option or dtype, under one transformation, stale, random, or in the forward pass."""

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from benchmarks.mutants.mutant import (
    Back,
    Mutant,
    answering,
    chosen,
    has_entries,
    is_float,
    map_floats,
    number_of,
    saving,
)
from fnn.core.rule import Rule, rules


def _any(field: str, holds: Callable) -> Callable:
    """Whether one entry of a field of the spec has a property."""
    return lambda spec, args: any(holds(v) for v in getattr(spec, field))


def _pool(condition: Callable) -> Callable:
    """A condition on the geometry inside an average pooling's spec."""
    return lambda spec, args: condition(spec.pool, args)


_STRIDED = _any("stride", lambda s: s > 1)
_LOPSIDED = _any("padding", lambda pair: pair[0] != pair[1])
_PADDED_LOPSIDED = _any("pads", lambda pair: pair[0] != pair[1])


def _rank(n: int) -> Callable:
    return lambda spec, args: args[0].ndim == n


def _absent(leaf: int) -> Callable:
    return lambda spec, args: args[leaf] is None


def _overlap(spec, args):
    return any(f > s for f, s in zip(spec.window, spec.stride, strict=True))


# rule, what the option is, when it holds: of (spec, args)
OPTIONS = [
    ("conv", "stride 2", _any("stride", lambda s: s == 2)),
    ("conv", "stride 3", _any("stride", lambda s: s == 3)),
    ("conv", "groups above 1", lambda spec, args: spec.groups > 1),
    ("conv", "three groups", lambda spec, args: spec.groups == 3),
    ("conv", "dilation", _any("dilation", lambda d: d > 1)),
    ("conv", "lopsided padding", _LOPSIDED),
    ("conv", "even windows", lambda spec, args: any(f % 2 == 0 for f in args[1].shape[:-2])),
    ("conv", "one axis", _rank(3)),
    ("conv", "three axes", _rank(5)),
    ("conv", "no bias", _absent(2)),
    ("conv", "a batch of one", lambda spec, args: args[0].shape[0] == 1),
    ("conv_transpose", "groups above 1", lambda spec, args: spec.groups > 1),
    ("conv_transpose", "stride 1", lambda spec, args: not _STRIDED(spec, args)),
    ("conv_transpose", "lopsided padding", _LOPSIDED),
    ("dense", "no bias", _absent(2)),
    ("dense", "a vector", _rank(1)),
    ("dense", "many axes", _rank(4)),
    ("max_pool", "overlapping windows", _overlap),
    ("max_pool", "lopsided padding", _PADDED_LOPSIDED),
    ("max_pool", "gaps between windows", lambda spec, args: spec.window[0] < spec.stride[0]),
    ("avg_pool", "padding counted", lambda spec, args: spec.count_padding),
    ("avg_pool", "overlapping windows", _pool(_overlap)),
    ("avg_pool", "three axes", _rank(5)),
    ("adaptive_avg_pool", "more bins than entries", lambda spec, args: spec.outputs[0] > spec.sizes[0]),
    ("pad", "circular", lambda spec, args: spec.mode == "CIRCULAR"),
    ("pad", "replicate", lambda spec, args: spec.mode == "REPLICATE"),
    ("pad", "one axis", _rank(3)),
    ("global_avg_pool", "one axis", _rank(3)),
    ("global_max_pool", "three axes", _rank(5)),
    ("batch_norm", "no scale", _absent(1)),
    ("batch_norm", "no offset", _absent(2)),
    ("batch_norm", "large epsilon", lambda spec, args: spec.epsilon == 0.1),
    ("batch_norm_inference", "no scale", _absent(1)),
    ("layer_norm", "no scale", _absent(1)),
    ("layer_norm", "a vector", _rank(1)),
    ("group_norm", "one group", lambda spec, args: spec.groups == 1),
    ("group_norm", "three groups", lambda spec, args: spec.groups == 3),
    ("softmax", "the first axis", lambda spec, args: spec == 0),
    ("log_softmax", "a middle axis", lambda spec, args: spec == 1),
    ("leaky_relu", "slope above 1", lambda spec, args: spec > 1),
    ("elu", "alpha 0", lambda spec, args: spec == 0),
    ("gelu", "the exact form", lambda spec, args: not spec),
    ("dropout", "rate 0.9", lambda spec, args: spec == 0.9),
    ("hinge", "scalars", _rank(0)),
    ("multiclass_hinge", "margin 0.5", lambda spec, args: spec == 0.5),
    ("softmax_cross_entropy", "smoothing", lambda spec, args: spec > 0),
    ("softmax_cross_entropy", "soft labels", lambda spec, args: is_float(args[1])),
    ("sigmoid_binary_cross_entropy", "a batch of one", lambda spec, args: args[0].shape == (1,)),
]
_HOW = [
    ("sign", lambda g: -g),
    ("10 %", lambda g: (1.1 * g).astype(g.dtype)),
    ("zero", jnp.zeros_like),
    ("transposed", lambda g: g.T.reshape(g.shape)),
]


def generic() -> Iterator[Mutant]:
    """The tables of this file over the rules."""
    for name, option, condition in OPTIONS:
        rule, flat = rules()[name], option in ("a vector", "scalars", "a batch of one", "large epsilon")
        how, change = _HOW[number_of(rule, option) % (3 if flat else 4)]
        yield _if_option(rule, option, condition, how, change)
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
    return Mutant(name=name, rule=rule.name, kind=kind, what=what, fwd=fwd, bwd=back, applies=has_entries(0))


def _if_option(rule: Rule, option: str, condition: Callable, how: str, change: Callable) -> Mutant:
    def broken(back: Back) -> tuple:
        if condition(back.spec, back.args):
            return back.replaced(0, change)
        return back.grads()

    filled = has_entries(0)
    return Mutant(
        name=f"{rule.name}/only {option}",
        rule=rule.name,
        kind="option",
        what=f"{how}, for {option} only",
        fwd=saving(rule),
        bwd=answering(rule, broken),
        applies=lambda spec, args: filled(spec, args) and condition(spec, args),
    )


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
