"""Broken formulas of activations and softmax; rows as in `spatial`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.mutants.mutant import Break
from benchmarks.mutants.spatial import swap
from fnn.core.dtypes import widen


def _slope(f: Callable) -> Break:
    """dx = f(option, x) dy."""
    return lambda b: swap(b, 0, f(b.spec, widen(b.args[0])) * widen(b.dy))


def _at_zero(value: Callable) -> Break:
    """The right derivative but at 0."""
    return lambda b: swap(b, 0, jnp.where(b.args[0] == 0, value(b.spec) * b.dy, b.grads()[0]))


def _beyond(limit: float) -> Break:
    """Saturated too early: no gradient beyond +-limit."""
    return lambda b: b.replaced(0, lambda g: jnp.where(jnp.abs(b.args[0]) > limit, 0, g))


def dsigmoid(x):
    """The derivative of the sigmoid."""
    s = jax.nn.sigmoid(x)
    return s * (1 - s)


def _soft(change: Callable) -> Break:
    """dx = change(axis, y, dy) of softmax."""
    return lambda b: swap(b, 0, change(b.spec, widen(b.residuals), widen(b.dy)))


def _log_soft(change: Callable) -> Break:
    """dx = change(axis, y, dy) of log-softmax."""
    return lambda b: swap(b, 0, change(b.spec, jax.nn.log_softmax(widen(b.args[0]), b.spec), widen(b.dy)))


def keep_sum(a, axis):
    """The sum over an axis that stays."""
    return a.sum(axis, keepdims=True)


_OFF_1 = lambda spec, args: spec != 1.0  # noqa: E731

FORMULAS = [
    ("relu", "1 at 0", "ties", "relu'(0) = 1", _at_zero(lambda s: 1)),
    ("relu", "half at 0", "ties", "relu'(0) = 1/2", _at_zero(lambda s: 0.5)),
    ("relu", "leaks", "formula", "0.01 for negative inputs", _slope(lambda s, x: jnp.where(x > 0, 1, 0.01))),
    ("relu", "of the wrong sign", "formula", "lets negative inputs through", _slope(lambda s, x: x < 0)),
    ("leaky_relu", "1 at 0", "ties", "1 at 0 instead of the slope", _at_zero(lambda s: 1)),
    (
        "leaky_relu",
        "sides swapped",
        "formula",
        "the slope for positive inputs",
        _slope(lambda s, x: jnp.where(x > 0, s, 1)),
    ),
    (
        "leaky_relu",
        "slope squared",
        "formula",
        "slope^2 for slope",
        _slope(lambda s, x: jnp.where(x > 0, 1, s * s)),
        lambda s, a: s > 0,
    ),
    ("elu", "1 at 0", "ties", "1 at 0 instead of alpha", _at_zero(lambda s: 1), _OFF_1),
    ("elu", "no alpha", "formula", "e^x for alpha e^x", _slope(lambda s, x: jnp.where(x > 0, 1, jnp.exp(x))), _OFF_1),
    (
        "elu",
        "y for y + alpha",
        "formula",
        "y for y + alpha",
        _slope(lambda s, x: jnp.where(x > 0, 1, s * jnp.expm1(x))),
        lambda s, a: s > 0,
    ),
    ("sigmoid", "no 1 - y", "formula", "y for y (1 - y)", _slope(lambda s, x: jax.nn.sigmoid(x))),
    ("sigmoid", "of y", "formula", "the derivative at y, not at x", _slope(lambda s, x: dsigmoid(jax.nn.sigmoid(x)))),
    ("tanh", "no square", "formula", "1 - y for 1 - y^2", _slope(lambda s, x: 1 - jnp.tanh(x))),
    ("tanh", "of y", "formula", "the derivative at y, not at x", _slope(lambda s, x: 1 - jnp.tanh(jnp.tanh(x)) ** 2)),
    ("softplus", "of -x", "formula", "sigmoid(-x) for sigmoid(x)", _slope(lambda s, x: jax.nn.sigmoid(-x))),
    ("softplus", "step", "formula", "1 for x > 0, else 0", _slope(lambda s, x: x > 0)),
    ("silu", "no product rule", "formula", "sigmoid(x) alone", _slope(lambda s, x: jax.nn.sigmoid(x))),
    ("silu", "no x", "formula", "x forgotten", _slope(lambda s, x: jax.nn.sigmoid(x) + dsigmoid(x))),
    ("gelu", "no product rule", "formula", "Phi alone", _slope(lambda s, x: jax.scipy.stats.norm.cdf(x))),
    ("gelu", "other form", "formula", "tanh form and exact form exchanged", lambda b: b.grads(spec=not b.spec)),
    *[
        (rule, "saturates at 3", "region", "no gradient for |x| > 3", _beyond(3.0))
        for rule in ("softplus", "silu", "gelu", "log_softmax", "tanh")
    ],
    *[
        (rule, f"saturates at {limit:g}", "region", f"no gradient for |x| > {limit:g}", _beyond(limit))
        for rule, limit in (("relu", 4.0), ("sigmoid", 5.0), ("elu", 6.0), ("softmax", 3.0), ("batch_norm", 4.0))
    ],
    ("softmax", "no sum", "formula", "the sum left out", _soft(lambda axis, y, dy: y * dy)),
    (
        "softmax",
        "diagonal",
        "formula",
        "y (1 - y) dy: the diagonal of the Jacobian",
        _soft(lambda axis, y, dy: y * (1 - y) * dy),
    ),
    (
        "softmax",
        "sum not weighted",
        "formula",
        "sum dy for sum dy y",
        _soft(lambda axis, y, dy: y * (dy - keep_sum(dy, axis))),
    ),
    (
        "softmax",
        "other axis",
        "formula",
        "the sum over another axis",
        _soft(lambda axis, y, dy: y * (dy - keep_sum(dy * y, axis - 1))),
        lambda s, a: a[0].ndim > 1,
    ),
    ("log_softmax", "no softmax", "formula", "dx = dy", _log_soft(lambda axis, y, dy: dy)),
    (
        "log_softmax",
        "uniform",
        "formula",
        "1 / K for the probabilities",
        _log_soft(lambda axis, y, dy: dy - dy.mean(axis, keepdims=True)),
    ),
    (
        "log_softmax",
        "y for e^y",
        "formula",
        "the exponential forgotten",
        _log_soft(lambda axis, y, dy: dy - y * keep_sum(dy, axis)),
    ),
    (
        "log_softmax",
        "other axis",
        "formula",
        "the sum over another axis",
        _log_soft(lambda axis, y, dy: dy - jnp.exp(y) * keep_sum(dy, axis - 1)),
        lambda s, a: a[0].ndim > 1,
    ),
]
