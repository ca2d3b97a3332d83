"""Softmax and its logarithm along one axis, the sums over that axis.

    softmax       y_i = e^z_i / Σ_j e^z_j           dx = y (dy - Σ_j dy_j y_j)
    log_softmax   y_i = z_i - log Σ_j e^z_j         dx_i = dy_i - e^z_i (Σ_j dy_j) / Σ_j e^z_j

with z = x - max x, so that no finite input overflows. Softmax saves y. Its logarithm saves e^z, not rounded to half
precision, and the sum: e^y would be computed again.

Source: Goodfellow, Bengio and Courville, Deep Learning (2016), section 6.2.2.3.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn.core.cases import case, normal
from fnn.core.dtypes import widen
from fnn.core.errors import InputError, index_of, require_floats
from fnn.core.rule import Rule
from fnn.core.words import described

MOST_AXES = 32  # of any array that JAX takes through NumPy's interface


def softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    """x: (..., C, ...) -> same: positive numbers that sum to 1 along `axis`.

    Args:
      x: floating-point, at least one axis.
      axis: over which to normalise, negative ones from the end.

    Raises:
      InputError: an integer x, or an axis that x does not have.

    >>> softmax(jnp.array([1e4, 1e4])).tolist()
    [0.5, 0.5]
    """
    return _call("softmax", _softmax_rule, x, axis)


def log_softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    """x: (..., C, ...) -> same: the logarithm of `softmax`, exact where that underflows.

    Args:
      x: floating-point, at least one axis.
      axis: over which to normalise, negative ones from the end.

    Raises:
      InputError: an integer x, or an axis that x does not have.

    >>> log_softmax(jnp.array([0.0, 1e4])).tolist()
    [-10000.0, 0.0]
    """
    return _call("log_softmax", _log_softmax_rule, x, axis)


def _softmax_forward(axis, x):
    return jax.nn.softmax(x, axis)


def _softmax_fwd(axis, x):
    y = jax.nn.softmax(x, axis)
    return y, y


def _softmax_bwd(axis, y, dy):
    y, wide = widen(y), widen(dy)
    # y (dy - Σ y dy), multiplied out and with plus minus: XLA's CPU backend would give the difference to the library
    # that sums, and that is slow at it.
    product = y * wide
    return ((product + y * -product.sum(axis, keepdims=True)).astype(dy.dtype),)


def _log_softmax_forward(axis, x):
    return jax.nn.log_softmax(x, axis)


def _log_softmax_fwd(axis, x):
    z = widen(x)
    z = z - z.max(axis, keepdims=True, initial=-jnp.inf)
    e = jnp.exp(z)
    total = e.sum(axis, keepdims=True)
    return (z - jnp.log(total)).astype(x.dtype), (e, total)


def _log_softmax_bwd(axis, saved, dy):
    e, total = saved
    wide = widen(dy)
    return ((wide - e * (wide.sum(axis, keepdims=True) / total)).astype(dy.dtype),)


def _call(where: str, rule: Rule, x: jax.Array, axis: int) -> jax.Array:
    require_floats(where, x=x)
    axis = check_axis(where, axis, -x.ndim, x.ndim - 1, x.shape)
    return rule(axis, x)


def check_axis(
    where: str, axis: int, least: int = -MOST_AXES, most: int = MOST_AXES - 1, shape: tuple | None = None
) -> int:
    """The axis as a Python int, in the given bounds."""
    n = axis if type(axis) is int else index_of(axis)
    if n is None or not least <= n <= most:
        got = f"axis={described(axis)}" + ("" if shape is None else f" for x of shape {shape}")
        raise InputError(where, "one of the axes of x", got, "use axis=-1 for the last")
    return n


def _reference(axis, x):
    e = jnp.exp(x)
    return e / sum(jnp.take(e, jnp.array([j]), axis) for j in range(x.shape[axis]))


def _register(name: str, forward: Callable, fwd: Callable, bwd: Callable, reference: Callable) -> Rule:
    cases = (
        case(-1, (8, 5)),
        case(1, normal((2, 3, 4), 4.0), batched=False),
        case(0, (3, 2), batched=False),
        case(-1, (4, 1), batched=False),
        case(-1, (0, 3), batched=False),
    )
    refuses = ((lambda: globals()[name](jnp.ones((2, 3)), axis=2), "one of the axes of x; got axis=2"),)
    return Rule(name=name, forward=forward, fwd=fwd, bwd=bwd, reference=reference, cases=cases, refuses=refuses)


_softmax_rule = _register("softmax", _softmax_forward, _softmax_fwd, _softmax_bwd, _reference)
_log_softmax_rule = _register(
    "log_softmax",
    _log_softmax_forward,
    _log_softmax_fwd,
    _log_softmax_bwd,
    lambda axis, x: jnp.log(_reference(axis, x)),
)
