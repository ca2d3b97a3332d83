"""Broken formulas of batch, layer and group norm, and of dropout; rows as in `spatial`."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.mutants.mutant import Back, Break
from benchmarks.mutants.spatial import swap
from fnn.core.dtypes import widen
from fnn.ops.normalisation.normalise import all_but_last


def _dx(x, scale, dy, axes, epsilon, *, mean=True, xhat=True, minus=0, power=1, forgotten=False) -> jax.Array:
    """dx = inv^power (g - mean of g - xhat mean of (g xhat)), with terms left out.

    Args:
      x, scale, dy, axes, epsilon: as in `fnn.ops.normalisation.normalise`.
      mean, xhat: whether the two terms are there.
      minus: taken from n.
      power: of inv.
      forgotten: whether epsilon is.
    """
    n = math.prod(x.shape[a] for a in axes) - minus
    centred = x - x.mean(axes, keepdims=True)
    var = (centred**2).mean(axes, keepdims=True)
    inv = 1 / jnp.sqrt(var + (1e-30 if forgotten else epsilon))
    g, normal = dy * (1 if scale is None else scale), centred * inv
    dx = g - (g.sum(axes, keepdims=True) / n if mean else 0)
    return inv**power * (dx - (normal * (g * normal).sum(axes, keepdims=True) / n if xhat else 0))


def _batch(**options) -> Break:
    """Batch norm; the cotangents of mean and variance arrive as they should."""

    def broken(b: Back) -> tuple:
        x, (dy, dmean, dvar), axes = widen(b.args[0]), map(widen, b.dy), all_but_last(b.args[0])
        scale = None if b.args[1] is None else widen(b.args[1])
        n = math.prod(x.shape[:-1])
        statistics = (dmean + 2 * (x - x.mean(axes)) * dvar) / n
        return swap(b, 0, _dx(x, scale, dy, axes, b.spec.epsilon, **options) + statistics)

    return broken


def _layer(axes: Callable = lambda x: (x.ndim - 1,), **options) -> Break:
    def broken(b: Back) -> tuple:
        x, scale = widen(b.args[0]), None if b.args[1] is None else widen(b.args[1])
        return swap(b, 0, _dx(x, scale, widen(b.dy), axes(x), b.spec, **options))

    return broken


def _group(groups: Callable = lambda spec: spec.groups, batch: bool = False, **options) -> Break:
    def broken(b: Back) -> tuple:
        def split(a):
            return a.reshape(*a.shape[:-1], groups(b.spec), a.shape[-1] // groups(b.spec))

        x, dy, scale = (None if a is None else split(widen(a)) for a in (b.args[0], b.dy, b.args[1]))
        axes = (*((0,) if batch else ()), *range(1, x.ndim - 2), x.ndim - 1)
        return swap(b, 0, _dx(x, scale, dy, axes, b.spec.epsilon, **options))

    return broken


def _many(entries: Callable) -> Callable:
    """Where statistics are of more than two entries: of one or two the broken formula may be right."""
    return lambda spec, args: entries(spec, args[0].shape) > 2


_TERMS = [
    ("no mean term", "the term of the mean left out", {"mean": False}),
    ("no xhat term", "the term of the variance left out", {"xhat": False}),
    ("detached statistics", "mean and variance taken as constants", {"mean": False, "xhat": False}),
    ("unbiased", "n - 1 for n", {"minus": 1}),
    ("no epsilon", "epsilon forgotten in the backward", {"forgotten": True}),
    ("inv squared", "1 / (var + epsilon) for its root", {"power": 2}),
]
_FAMILIES = [
    ("batch_norm", _batch, _many(lambda spec, shape: math.prod(shape[:-1]))),
    ("layer_norm", _layer, _many(lambda spec, shape: shape[-1])),
    ("group_norm", _group, _many(lambda spec, shape: math.prod(shape[1:]) // spec.groups)),
]


def _without_statistics(b: Back) -> tuple:
    dy, dmean, dvar = b.dy
    return b.grads(dy=(dy, jnp.zeros_like(dmean), jnp.zeros_like(dvar)))


def _half_dvar(b: Back) -> tuple:
    dy, dmean, dvar = b.dy
    return b.grads(dy=(dy, dmean, dvar / 2))


def _dscale(power: int, centred: bool = True) -> Break:
    """The sum of dy x inv^power, centred or not, for dy xhat: batch norm."""

    def broken(b: Back) -> tuple:
        if b.args[1] is None:
            return b.grads()
        x, dy, axes = widen(b.args[0]), widen(b.dy[0]), all_but_last(b.args[0])
        inv = 1 / jnp.sqrt(x.var(axes) + b.spec.epsilon)
        return swap(b, 1, (dy * (x - (x.mean(axes) if centred else 0)) * inv**power).sum(axes))

    return broken


def _offset_mean(b: Back) -> tuple:
    return b.grads() if b.args[2] is None else swap(b, 2, widen(b.dy).mean(all_but_last(b.dy)))


def _has(leaf: int, least: int = 1) -> Callable:
    return lambda spec, args: args[leaf] is not None and math.prod(args[0].shape[:-1]) > least


def _dropped(b: Back, change: Callable) -> tuple:
    """Dropout's dx with (rate, x, key, dx) changed."""
    return b.replaced(0, lambda dx: change(b.spec, b.args[0], b.args[1], dx).astype(dx.dtype))


FORMULAS = [
    *[
        (rule, name, "formula", what, family(**options), where)
        for rule, family, where in _FAMILIES
        for name, what, options in _TERMS
    ],
    ("batch_norm", "statistics ignored", "formula", "cotangents of mean and var dropped", _without_statistics),
    ("batch_norm", "half dvar", "formula", "the factor 2 of the variance forgotten", _half_dvar, _has(0)),
    ("batch_norm", "dscale of centred x", "formula", "sum dy (x - mean), not divided", _dscale(0), _has(1)),
    ("batch_norm", "dscale uncentred", "formula", "sum dy x inv, the mean forgotten", _dscale(1, False), _has(1)),
    (
        "batch_norm_inference",
        "dvar without half",
        "formula",
        "the factor 1/2 forgotten",
        lambda b: b.replaced(4, lambda g: 2 * g),
    ),
    (
        "batch_norm_inference",
        "statistics frozen",
        "formula",
        "no gradient of mean and var",
        lambda b: (*b.grads()[:3], *map(jnp.zeros_like, b.args[3:])),
    ),
    (
        "layer_norm",
        "over the first axis",
        "formula",
        "statistics over the batch",
        _layer(lambda x: (0,)),
        lambda s, a: a[0].ndim > 1,
    ),
    ("layer_norm", "doffset averaged", "formula", "the mean of dy for its sum", _offset_mean, _has(2)),
    (
        "group_norm",
        "one group",
        "formula",
        "statistics over all channels",
        _group(lambda spec: 1),
        lambda s, a: s.groups > 1,
    ),
    (
        "group_norm",
        "over the batch too",
        "formula",
        "statistics over the batch too",
        _group(batch=True),
        lambda s, a: a[0].shape[0] > 1,
    ),
    ("group_norm", "doffset averaged", "formula", "the mean of dy for its sum", _offset_mean, _has(2)),
    (
        "dropout",
        "fresh mask",
        "formula",
        "the backward draws another mask",
        lambda b: b.grads(residuals=jax.random.fold_in(b.residuals, 1)),
    ),
    (
        "dropout",
        "not rescaled",
        "formula",
        "1 / (1 - rate) forgotten",
        lambda b: _dropped(b, lambda r, x, key, dx: dx * (1 - r)),
    ),
    (
        "dropout",
        "rescaled twice",
        "formula",
        "divided by 1 - rate twice",
        lambda b: _dropped(b, lambda r, x, key, dx: dx / (1 - r)),
    ),
    ("dropout", "no mask", "formula", "the mask forgotten", lambda b: swap(b, 0, b.dy / (1 - b.spec))),
    (
        "dropout",
        "mask inverted",
        "formula",
        "what was dropped gets the gradient",
        lambda b: swap(b, 0, b.dy / (1 - b.spec) - b.grads()[0]),
    ),
    (
        "dropout",
        "divided by rate",
        "formula",
        "1 / rate for 1 / (1 - rate)",
        lambda b: _dropped(b, lambda r, x, key, dx: dx * (1 - r) / r),
        lambda s, a: s != 0.5,
    ),
]
