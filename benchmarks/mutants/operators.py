"""What can go wrong with any rule: small functions that break one cotangent, and a table that says where they go.

Applying all of them to all 50 arguments would give thousands of much the same mutants. Each row therefore goes to one
in n arguments that it fits, chosen by a hash of rule, bug and argument, so that all rules meet all kinds of bugs.
"""

import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.mutants.mutant import (
    Back,
    Mutant,
    answering,
    chosen,
    computes,
    has_entries,
    is_real,
    leaves_of,
    map_floats,
    returns_axes,
    saves_arguments,
    saves_floats,
    saving,
    varies_with_residuals,
)
from fnn.check.arrays import is_float
from fnn.core.rule import Rule, rules


def wrong_entry(g, arg):
    """One in a thousand entries wrong by 10 %, at the largest arguments, where few gradients are zero."""
    count = max(1, g.size // 1000)
    at = jnp.argsort(-arg.ravel())[:count]
    return g.ravel().at[at].multiply(1.1).reshape(g.shape)


def nan_entry(g, arg):
    """NaN in the middle."""
    return g.ravel().at[g.size // 2].set(jnp.nan).reshape(g.shape)


def transposed(g, arg):
    """The entries of the transposed array, in the shape of the right one."""
    return g.T.reshape(g.shape)


def without_border(g, arg):
    """Zeros at both ends of the first spatial axis."""
    return g.at[:, 0].set(0).at[:, -1].set(0)


def shifted(g, arg):
    """One place further along the first spatial axis, zero filled in."""
    return jnp.concatenate([jnp.zeros_like(g[:, :1]), g[:, :-1]], 1)


def rounded(dtype: str) -> Callable:
    """Through a narrower dtype and back."""
    return lambda g, *arg: g.astype(dtype).astype(g.dtype)


SPATIAL = ("border", "shift")  # kinds of bugs


def batch(arg) -> int:
    """The size of the first axis."""
    return arg.shape[0] if arg.ndim else 1


# kind, name, what, change of one cotangent (g, argument) -> g, one in n arguments
LEAF = [
    ("sign", "sign", "minus the gradient", lambda g, a: -g, 3),
    ("zero", "zero", "no gradient at all", lambda g, a: jnp.zeros_like(g), 4),
    ("scale", "doubled", "twice the gradient", lambda g, a: 2 * g, 10),
    ("scale", "halved", "half the gradient", lambda g, a: g / 2, 12),
    ("scale", "by 1.1", "10 % too large", lambda g, a: g * jnp.asarray(1.1, g.dtype), 12),
    ("scale", "by 1.01", "1 % too large", lambda g, a: g * jnp.asarray(1.01, g.dtype), 12),
    ("scale", "by n", "times the first axis' size", lambda g, a: g * batch(a), 12),
    ("scale", "by 1 over n", "divided by the first axis' size", lambda g, a: g / batch(a), 12),
    ("entry", "one entry", "one entry in a thousand, at least one, 10 % too large", wrong_entry, 3),
    ("nan", "nan", "NaN in one entry", nan_entry, 8),
    ("dtype", "float32", "a cotangent in float32 whatever the argument", lambda g, a: g.astype("float32"), 12),
    ("dtype", "bfloat16", "a bfloat16 cotangent", lambda g, a: g.astype("bfloat16"), 12),
    ("precision", "rounded to bfloat16", "a gradient with 8 bits", rounded("bfloat16"), 9),
    ("precision", "rounded to float32", "a float64 gradient with 24 bits", rounded("float32"), 12),
    ("place", "rolled", "rolled by one along the first axis", lambda g, a: jnp.roll(g, 1, 0), 9),
    ("place", "last axis reversed", "the last axis reversed", lambda g, a: jnp.flip(g, -1), 9),
    ("place", "transposed", "read in transposed order", transposed, 9),
    ("border", "border", "nothing at both ends of the first spatial axis", without_border, 2),
    ("shift", "shifted", "off by one place along the first spatial axis", shifted, 2),
    ("mean", "centred", "its mean over the first axis subtracted", lambda g, a: g - g.mean(0), 5),
    ("mean", "mean added", "its mean over the first axis added", lambda g, a: g + g.mean(0), 6),
    ("zero cotangent", "constant", "1e-3 too much, whatever the cotangent", lambda g, a: g + 1e-3, 12),
    ("region", "negative", "wrong by 10 % for negative arguments", lambda g, a: jnp.where(a < 0, 1.1 * g, g), 9),
    ("region", "positive", "wrong by 10 % for positive arguments", lambda g, a: jnp.where(a > 0, 1.1 * g, g), 10),
]


def generic() -> Iterator[Mutant]:
    """The table above over all rules and arguments."""
    arguments = [(rule, leaf, name) for rule in rules().values() for leaf, name in leaves_of(rule)]
    for kind, name, what, change, every in LEAF:
        for rule, leaf, argument in arguments:
            # The first axis of an argument that is no batch is as good as any other; space has the first one alone.
            fits = leaf == 0 if kind in SPATIAL else is_real(rule, leaf) or name != "negative"
            if fits and chosen(rule, f"{name} {argument}", every):
                mutant = _leaf_mutant(rule, leaf, kind, f"{name} {argument}", f"{what}: d{argument}", change)
                if mutant.cases():
                    yield mutant
    for kind, name, what, broken, every, shows in WHOLE:
        for rule in rules().values():
            if chosen(rule, name, every) and shows(rule):
                yield _whole_mutant(rule, kind, name, what, broken)


def _leaf_mutant(rule: Rule, leaf: int, kind: str, name: str, what: str, change: Callable) -> Mutant:
    def broken(back: Back) -> tuple:
        return back.replaced(leaf, lambda g: _like(change(g, back.args[leaf]), g, keep=kind == "dtype"))

    fwd, bwd = saving(rule), answering(rule, broken)
    fits, scale_n = has_entries(leaf), name.startswith(("by n", "by 1 over n", "rolled", "centred"))
    flips = change is transposed  # a vector is its own transpose

    def applies(spec, args):
        shape = args[leaf].shape if fits(spec, args) else ()
        needs_axes = kind in ("place", "mean", *SPATIAL) or scale_n
        enough = len(shape) >= (3 if kind in SPATIAL else 2 if flips else 0)
        return fits(spec, args) and (not needs_axes or math.prod(shape) > 1) and enough

    name = f"{rule.name}/{name}"
    return Mutant(name=name, rule=rule.name, kind=kind, what=what, fwd=fwd, bwd=bwd, applies=applies)


def _like(changed, g, keep: bool):
    return changed if keep or g.size == 0 else jnp.asarray(changed, g.dtype)


def _whole_mutant(rule: Rule, kind: str, name: str, what: str, broken: Callable) -> Mutant:
    fwd, bwd = saving(rule), answering(rule, broken)
    name = f"{rule.name}/{name}"
    return Mutant(name=name, rule=rule.name, kind=kind, what=what, fwd=fwd, bwd=bwd, applies=computes)


def _cotangent(change: Callable) -> Callable:
    return lambda back: back.grads(dy=map_floats(change, back.dy))


def _residuals(change: Callable) -> Callable:
    return lambda back: back.grads(residuals=map_floats(change, back.residuals))


def _of_other_arguments(change: Callable) -> Callable:
    def broken(back: Back) -> tuple:
        real = [is_float(a) and is_real(back.rule, leaf) for leaf, a in enumerate(back.args)]
        others = [change(a) if moves else a for a, moves in zip(back.args, real, strict=True)]
        return back.grads(residuals=back.rule.fwd(back.spec, *others)[1])

    return broken


def _normalised(back: Back) -> tuple:
    """Divide by the norm of dy and multiply it back: right everywhere but at 0."""
    norm = jnp.sqrt(sum((d.astype(jnp.float32) ** 2).sum() for d in jax.tree.leaves(back.dy)))
    grads = back.grads(dy=map_floats(lambda d: (d / norm).astype(d.dtype), back.dy))
    return map_floats(lambda g: (g * norm).astype(g.dtype), grads)


def _ones_for_nothing(back: Back) -> tuple:
    nothing = sum(jnp.abs(d).sum() for d in jax.tree.leaves(back.dy)) == 0
    return map_floats(lambda g: jnp.where(nothing, jnp.ones_like(g), g), back.grads())


def _clip(most: float) -> Callable:
    return lambda d: jnp.clip(d, -most, most)


def _always(rule: Rule) -> bool:
    del rule
    return True


def _rolled(a):
    return jnp.roll(a, 1, 0) if a.ndim else a


# kind, name, what, break, one in n rules, in which rules it shows
WHOLE = [
    ("cotangent", "dy|dy|", "dy |dy| for dy", _cotangent(lambda d: d * abs(d)), 5, _always),
    ("cotangent", "dy clipped at 1", "the cotangent clipped to +-1", _cotangent(_clip(1)), 6, _always),
    ("cotangent", "dy clipped at 100", "clipped to +-100", _cotangent(_clip(100)), 6, _always),
    ("cotangent", "sign of dy", "the sign of the cotangent", _cotangent(jnp.sign), 8, _always),
    ("cotangent", "no dy", "ones for the cotangent", _cotangent(jnp.ones_like), 7, _always),
    ("cotangent", "dy rolled", "the cotangent of the neighbour", _cotangent(_rolled), 6, returns_axes),
    ("zero cotangent", "nan at dy = 0", "divided by the norm of dy, times it: 0 / 0", _normalised, 5, _always),
    ("zero cotangent", "ones at dy = 0", "ones where the cotangent is zero", _ones_for_nothing, 6, _always),
    ("precision", "dy in bfloat16", "a cotangent with 8 bits", _cotangent(rounded("bfloat16")), 5, _always),
    (
        "precision",
        "residuals in bfloat16",
        "residuals saved with 8 bits",
        _residuals(rounded("bfloat16")),
        5,
        varies_with_residuals,
    ),
    ("stale", "zero residuals", "residuals of zeros", _residuals(jnp.zeros_like), 4, saves_floats),
    (
        "stale",
        "residuals of -x",
        "residuals of the negated arguments",
        _of_other_arguments(lambda a: -a),
        3,
        saves_arguments,
    ),
    ("stale", "residuals rolled", "residuals of the neighbour", _residuals(_rolled), 4, saves_floats),
    (
        "second order",
        "frozen residuals",
        "right, but its own derivative takes the residuals as constants",
        _residuals(lax.stop_gradient),
        1,
        varies_with_residuals,
    ),
    (
        "second order",
        "frozen cotangent",
        "right, but its own derivative takes the cotangent as constant",
        _cotangent(lax.stop_gradient),
        6,
        _always,
    ),
]
