"""Broken formulas of losses; rows as in `spatial`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.mutants.mutant import Back, Break
from benchmarks.mutants.pointwise import dsigmoid, keep_sum
from benchmarks.mutants.spatial import swap
from fnn.check.arrays import is_float
from fnn.core.dtypes import widen
from fnn.ops.losses.labels import is_integer, one_hot


def _entropy(change: Callable) -> Break:
    """dlogits = dl change(smoothing, p, q, sum q), p the probabilities and q the smoothed targets."""

    def broken(b: Back) -> tuple:
        logits, labels, smoothing = widen(b.args[0]), b.args[1], b.spec
        p, k = jax.nn.softmax(logits), logits.shape[-1]
        q = one_hot(labels, k).astype(p.dtype) if is_integer(labels) else widen(labels)
        dl = widen(b.dy)[..., None]
        return swap(b, 0, dl * change(smoothing, p, q, logits))

    return broken


def _smoothed(s, q):
    return (1 - s) * q + s / q.shape[-1]


def _right_entropy(s, p, q, x):
    return p * keep_sum(_smoothed(s, q), -1) - _smoothed(s, q)


def _labels_only(change: Callable) -> Break:
    """The gradient of soft labels changed."""
    return lambda b: b.replaced(1, lambda g: change(b, g).astype(g.dtype))


def _soft_labels(spec, args):
    return is_float(args[1])


def _rows(spec, args):
    return args[0].ndim > 1 and args[0].shape[0] > 1


def _binary(change: Callable) -> Break:
    """dlogits = dl change(x, labels)."""
    return lambda b: swap(b, 0, widen(b.dy) * change(widen(b.args[0]), widen(b.args[1])))


def _hinge(inside: Callable) -> Break:
    """Both cotangents with another region in which there is something to pay: inside(margin, y s)."""

    def broken(b: Back) -> tuple:
        s, y = widen(b.args[0]), widen(b.args[1])
        gap = jnp.where(inside(b.spec, y * s), widen(b.dy), 0)
        return (-gap * y).astype(b.args[0].dtype), (-gap * s).astype(b.args[1].dtype)

    return broken


def _multiclass(inside=lambda gaps: gaps > 0, own=lambda others: -keep_sum(others, -1), itself=False) -> Break:
    """The class hinge with another kink, another gradient of the right class, or the right class among the others."""

    def broken(b: Back) -> tuple:
        s, hit = widen(b.args[0]), one_hot(b.args[1], b.args[0].shape[-1])
        gaps = s - jnp.where(hit, s, 0).sum(-1, keepdims=True) + b.spec
        others = jnp.where(inside(gaps) & (True if itself else ~hit), widen(b.dy)[..., None], 0)
        return swap(b, 0, jnp.where(hit, own(others), others))

    return broken


FORMULAS = [
    ("softmax_cross_entropy", "no labels", "formula", "p for p - q", _entropy(lambda s, p, q, x: p)),
    ("softmax_cross_entropy", "q - p", "formula", "the sign", _entropy(lambda s, p, q, x: -_right_entropy(s, p, q, x))),
    (
        "softmax_cross_entropy",
        "smoothing forgotten",
        "formula",
        "labels not smoothed",
        _entropy(lambda s, p, q, x: p * keep_sum(q, -1) - q),
        lambda s, a: s > 0,
    ),
    (
        "softmax_cross_entropy",
        "rows sum to one",
        "formula",
        "p - q although sum q is not 1",
        _entropy(lambda s, p, q, x: p - _smoothed(s, q)),
        lambda s, a: s == 0.2 or a[0].shape == (1, 3),
    ),
    (
        "softmax_cross_entropy",
        "over the batch",
        "formula",
        "softmax over the first axis",
        _entropy(lambda s, p, q, x: jax.nn.softmax(x, 0) - _smoothed(s, q)),
        _rows,
    ),
    (
        "softmax_cross_entropy",
        "next class",
        "formula",
        "labels off by one",
        _entropy(lambda s, p, q, x: _right_entropy(s, p, jnp.roll(q, 1, -1), x)),
    ),
    (
        "softmax_cross_entropy",
        "divided by N",
        "formula",
        "averaged here, and by the caller again",
        _entropy(lambda s, p, q, x: _right_entropy(s, p, q, x) / p.shape[0]),
        _rows,
    ),
    (
        "softmax_cross_entropy",
        "no dlabels",
        "formula",
        "labels taken as constants",
        _labels_only(lambda b, g: jnp.zeros_like(g)),
        _soft_labels,
    ),
    (
        "softmax_cross_entropy",
        "dlabels unsmoothed",
        "formula",
        "1 - smoothing forgotten",
        _labels_only(lambda b, g: g / (1 - b.spec)),
        lambda s, a: _soft_labels(s, a) and s > 0,
    ),
    (
        "sigmoid_binary_cross_entropy",
        "no labels",
        "formula",
        "sigma for sigma - z",
        _binary(lambda x, z: jax.nn.sigmoid(x)),
    ),
    ("sigmoid_binary_cross_entropy", "step", "formula", "[x > 0] for sigma", _binary(lambda x, z: (x > 0) - z)),
    (
        "sigmoid_binary_cross_entropy",
        "sigma twice",
        "formula",
        "times sigma' once more",
        _binary(lambda x, z: (jax.nn.sigmoid(x) - z) * dsigmoid(x)),
    ),
    (
        "sigmoid_binary_cross_entropy",
        "no dlabels",
        "formula",
        "labels taken as constants",
        _labels_only(lambda b, g: jnp.zeros_like(g)),
    ),
    ("squared_error", "no 2", "formula", "the factor 2 forgotten", lambda b: tuple(g / 2 for g in b.grads())),
    (
        "squared_error",
        "sign of difference",
        "formula",
        "the absolute error's",
        lambda b: swap(b, 0, b.dy * jnp.sign(b.args[0] - b.args[1])),
    ),
    (
        "squared_error",
        "no dtargets",
        "formula",
        "targets taken as constants",
        _labels_only(lambda b, g: jnp.zeros_like(g)),
    ),
    ("hinge", "pays at the margin", "ties", "y s = margin pays", _hinge(lambda m, ys: ys <= m)),
    ("hinge", "no margin", "formula", "pays only on the wrong side", _hinge(lambda m, ys: ys < 0)),
    ("hinge", "always", "formula", "pays everywhere", _hinge(lambda m, ys: ys == ys)),
    ("hinge", "no y", "formula", "the label's sign forgotten", lambda b: b.replaced(0, lambda g: g * b.args[1])),
    ("multiclass_hinge", "pays at the margin", "ties", "gap = 0 pays", _multiclass(lambda gaps: gaps >= 0)),
    (
        "multiclass_hinge",
        "own class once",
        "formula",
        "-1 for minus the number of violations",
        _multiclass(own=lambda o: -o.max(-1, keepdims=True) - o.min(-1, keepdims=True)),
    ),
    ("multiclass_hinge", "no own class", "formula", "no gradient of the right class", _multiclass(own=jnp.zeros_like)),
    ("multiclass_hinge", "counts itself", "formula", "the right class among its violators", _multiclass(itself=True)),
    ("multiclass_hinge", "always", "formula", "all classes pay", _multiclass(lambda gaps: gaps == gaps)),
    ("l2", "no half", "formula", "2 w for w", lambda b: b.replaced(0, lambda g: 2 * g)),
    ("l2", "absolute", "formula", "sign(w), the other penalty", lambda b: swap(b, 0, b.dy * jnp.sign(b.args[0]))),
]
