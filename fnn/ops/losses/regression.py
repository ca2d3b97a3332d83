"""Losses of predictions p under targets t, number by number: their mean is that of each example.

    name             loss, d = p - t                              dp                    dt
    absolute_error   |d|                                          sign d                -sign d
    huber            d² / 2 if |d| <= δ else δ (|d| - δ / 2)      d between -δ and δ    -dp
    log_cosh         log cosh d                                   tanh d                -tanh d
    poisson          e^p - t p                                    e^p - t               -p

Sources: Huber, 1964, https://doi.org/10.1214/aoms/1177703732; Girshick, 2015, https://arxiv.org/abs/1504.08083, for
smooth L1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn.core.cases import case, normal
from fnn.core.dtypes import widen
from fnn.core.errors import real, require, require_floats
from fnn.core.rule import Rule
from fnn.ops.losses.labels import per_example, weighted


def absolute_error(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """predictions, targets: (N, ...) -> (N,), or () -> (): the mean of |p - t| over each example; its slope at 0 is 0.

    Args:
      predictions: (N, ...).
      targets: the same shape and dtype; shapes are never broadcast.

    Raises:
      InputError: shapes that differ, integer or mixed dtypes (so do all functions of this file).

    >>> absolute_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0])).tolist()
    [0.0, 3.0]
    """
    return _measured("absolute_error", _absolute, None, predictions, targets)


def huber(predictions: jax.Array, targets: jax.Array, delta: float = 1.0) -> jax.Array:
    """predictions, targets: (N, ...) -> (N,), or () -> (): half the squared error up to `delta`, then straight on.

    Args:
      predictions, targets: as in `absolute_error`.
      delta: > 0, where the parabola becomes a line.

    >>> huber(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0])).tolist()
    [0.0, 2.5]
    """
    return _measured("huber", _huber, _positive("huber", "delta", delta), predictions, targets)


def smooth_l1(predictions: jax.Array, targets: jax.Array, beta: float = 1.0) -> jax.Array:
    """predictions, targets: (N, ...) -> (N,), or () -> (): `huber(predictions, targets, beta) / beta`.

    Args:
      predictions, targets: as in `absolute_error`.
      beta: > 0; far away the loss is |p - t| - beta / 2.

    >>> smooth_l1(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0]), beta=0.5).tolist()
    [0.0, 2.75]
    """
    beta = _positive("smooth_l1", "beta", beta)
    return _measured("smooth_l1", _huber, beta, predictions, targets) / beta


def log_cosh(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """predictions, targets: (N, ...) -> (N,), or () -> (): the mean of log cosh (p - t) over each example.

    Args:
      predictions, targets: as in `absolute_error`.

    >>> log_cosh(jnp.array([1.0, 2e4]), jnp.array([1.0, 0.0])).round().tolist()  # |d| - log 2 far away
    [0.0, 19999.0]
    """
    return _measured("log_cosh", _log_cosh, None, predictions, targets)


def poisson(log_rates: jax.Array, targets: jax.Array) -> jax.Array:
    """log_rates, targets: (N, ...) -> (N,), or () -> (): the mean of e^p - t p, for counts t that e^p predicts.

    That is -log of the Poisson distribution without log t!, which no prediction changes.

    Args:
      log_rates: (N, ...), the logarithms of the predicted counts.
      targets: the same shape and dtype.

    >>> poisson(jnp.array([0.0]), jnp.array([3.0])).tolist()
    [1.0]
    """
    return _measured("poisson", _poisson, None, log_rates, targets, "log_rates")


def _positive(where: str, name: str, value: float) -> float:
    return real(where, f"a number {name} > 0", value, lambda v: v > 0, f"use {name}=1.0")


def _measured(
    where: str, rule: Rule, option: float | None, p: jax.Array, t: jax.Array, name: str = "predictions"
) -> jax.Array:
    require_floats(where, **{name: p}, targets=t)
    require(
        t.shape == p.shape, where, f"targets of the predictions' shape {p.shape}", t.shape, "reshape one of the two"
    )
    return per_example(where, rule(option, p, t))


def _error(name: str, f: Callable, slopes: Callable, textbook: Callable, options: tuple = (None,), **more) -> Rule:
    """A rule from f(option, p, t) and slopes(option, p, t) -> dp, dt, all wide."""

    def forward(option, p, t):
        return f(option, widen(p), widen(t)).astype(p.dtype)

    def fwd(option, p, t):
        return forward(option, p, t), (p, t)

    def bwd(option, residuals, dl):
        p, t = residuals
        dp, dt = (weighted(widen(dl), slope) for slope in slopes(option, widen(p), widen(t)))
        return dp.astype(p.dtype), dt.astype(t.dtype)

    return Rule(
        name=name,
        forward=forward,
        fwd=fwd,
        bwd=bwd,
        reference=textbook,
        refuses=((lambda: globals()[name](jnp.ones((2, 3)), jnp.ones((3, 2))), "targets of the predictions' shape"),),
        cases=(
            *(case(option, normal((8, 3), 2.0), (8, 3)) for option in options),
            case(options[0], (), (), batched=False),
            case(options[0], (0, 2), (0, 2), batched=False),
        ),
        **more,
    )


def _both(slope):
    return slope, -slope


def _absolute_of(_, p, t):
    d = p - t
    return jnp.where(d > 0, d, jnp.where(d < 0, -d, 0 * d))  # not |d|, whose slope JAX takes for 1 at 0


_absolute = _error(
    "absolute_error",
    _absolute_of,
    lambda _, p, t: _both(jnp.sign(p - t)),
    lambda _, p, t: jnp.maximum(p - t, t - p),
    kinks=True,
)


def _huber_of(delta, p, t):
    size = jnp.abs(p - t)
    inner = jnp.minimum(size, delta)
    return inner * (size - 0.5 * inner)


def _huber_textbook(delta, p, t):
    d = p - t
    return jnp.where(jnp.abs(d) <= delta, d * d / 2, delta * (jnp.abs(d) - delta / 2))


_huber = _error(
    "huber",
    _huber_of,
    lambda delta, p, t: _both(jnp.clip(p - t, -delta, delta)),
    _huber_textbook,
    options=(1.0, 0.5),
)


def _log_cosh_of(_, p, t):
    d = p - t
    size = jnp.where(d >= 0, d, -d)  # not |d|: its slope at 0 is that of this side
    return size + jnp.log1p(jnp.exp(-2 * size)) - jnp.log(2.0).astype(size.dtype)


_log_cosh = _error(
    "log_cosh",
    _log_cosh_of,
    lambda _, p, t: _both(jnp.tanh(p - t)),
    lambda _, p, t: jnp.log((jnp.exp(p - t) + jnp.exp(t - p)) / 2),
)
_poisson = _error(
    "poisson",
    lambda _, p, t: jnp.exp(p) - t * p,
    lambda _, p, t: (jnp.exp(p) - t, -p),
    lambda _, p, t: jnp.exp(p) - t * p,
)
