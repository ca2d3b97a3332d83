"""Elementwise activations: y = f(x), dx = f'(x) dy.

    name         f(x)                                      f'(x)                           saved
    relu         max(x, 0)                                 [y > 0]                         y
    leaky_relu   x if x > 0 else s x                       1 if y > 0 else s               y
    sigmoid      σ(x) = 1 / (1 + e^-x)                     y (1 - y)                       y
    tanh         tanh(x)                                   (1 - y)(1 + y)                  y
    elu          x if x > 0 else a (e^x - 1)               1 if y > 0 else y + a           y
    softplus     log(1 + e^x)                              σ(x) = 1 - e^-y                 y
    silu         x σ(x)                                    σ (1 + x (1 - σ))               x
    gelu         x Φ(x)                                    Φ(x) + x φ(x)                   x
    gelu, tanh   x (1 + t) / 2, t = tanh(u),               (1 + t) (1 + x (1 - t) u') / 2  x
                 u = √(2/π) (x + c x³)

Φ and φ are the normal distribution function and density, c = 0.044715. Where f' is a function of y, y is saved: it
lives anyway, the input of the next layer; but for relu and leaky relu after a norm, which XLA's fusions on CPU compute
again from the norm's input. Derivatives are taken in float32 at least and returned in the dtype of x. At infinity they
and the values are the limits, where `jax.nn.silu` and `jax.nn.gelu` multiply 0 and infinity to NaN.

Sources: Goodfellow, Bengio and Courville, Deep Learning (2016), section 6.3; elu: Clevert et al.,
https://arxiv.org/abs/1511.07289; gelu: Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415; silu: Elfwing et al.,
https://arxiv.org/abs/1702.03118.
"""

import math

import jax
import jax.numpy as jnp

from fnn.core.errors import require_flag, require_floats
from fnn.ops.activation_rule import COMPARISON, activation_rule, not_negative, saturated
from fnn.ops.ramp import plain_relu, plain_softplus

_relu = activation_rule(
    "relu",
    f=lambda _, x: plain_relu(x),
    dx=lambda _, y, dy: jnp.where(y > 0, dy, 0),
    saves="y",
    textbook=lambda _, x: jnp.where(x > 0, x, 0.0),
    storage=COMPARISON,
    kinks=True,
)


def relu(x: jax.Array) -> jax.Array:
    """x: any shape -> same: max(x, 0). The derivative at 0 is 0.

    Raises:
      InputError: x is not floating-point (so do all functions of this file).

    >>> relu(jnp.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """
    require_floats("relu", x=x)
    return _relu(None, x)


def _leaky(s, x):
    below = s * x if s else jnp.where(jnp.isneginf(x), -0.0, 0 * x)
    return jnp.where(x > 0, x, below)


_leaky_relu = activation_rule(
    "leaky_relu",
    f=_leaky,
    dx=lambda s, y, dy: jnp.where(y > 0, dy, s * dy),
    saves="y",
    textbook=lambda s, x: jnp.where(x > 0, x, s * x),
    options=(0.01, 0.0, 1.5),
    storage=COMPARISON,
    kinks=True,
    refuses=((lambda: leaky_relu(jnp.ones(3), -1.0), "a number slope >= 0"),),
)


def leaky_relu(x: jax.Array, slope: float = 0.01) -> jax.Array:
    """x: any shape -> same: x where x > 0, else slope x. The derivative at 0 is `slope`.

    Args:
      x: any floating-point array.
      slope: a Python number >= 0.

    >>> leaky_relu(jnp.array([-2.0, 4.0]), slope=0.5).tolist()
    [-1.0, 4.0]
    """
    require_floats("leaky_relu", x=x)
    return _leaky_relu(not_negative("leaky_relu", "slope", slope), x)


_sigmoid = activation_rule(
    "sigmoid",
    f=lambda _, x: jax.nn.sigmoid(x),
    dx=lambda _, y, dy: dy * y * (1 - y),
    saves="y",
    textbook=lambda _, x: 1 / (1 + jnp.exp(-x)),
)


def sigmoid(x: jax.Array) -> jax.Array:
    """x: any shape -> same: 1 / (1 + e^-x).

    >>> sigmoid(jnp.array([0.0, 1e4])).tolist()
    [0.5, 1.0]
    """
    require_floats("sigmoid", x=x)
    return _sigmoid(None, x)


_tanh = activation_rule(
    "tanh",
    f=lambda _, x: jnp.tanh(x),
    dx=lambda _, y, dy: dy * (1 - y) * (1 + y),
    saves="y",
    textbook=lambda _, x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)),
)


def tanh(x: jax.Array) -> jax.Array:
    """x: any shape -> same: the hyperbolic tangent.

    >>> tanh(jnp.array([0.0, 1e4])).tolist()
    [0.0, 1.0]
    """
    require_floats("tanh", x=x)
    return _tanh(None, x)


_elu = activation_rule(
    "elu",
    f=lambda a, x: jax.nn.elu(x, a),
    dx=lambda a, y, dy: jnp.where(y > 0, dy, dy * (y + a)),
    saves="y",
    textbook=lambda a, x: jnp.where(x > 0, x, a * (jnp.exp(x) - 1)),
    options=(1.0, 0.0, 1.5),
    kinks=True,
    refuses=((lambda: elu(jnp.ones(3), -1.0), "a number alpha >= 0"),),
)


def elu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    """x: any shape -> same: x where x > 0, else alpha (e^x - 1). The derivative at 0 is `alpha`.

    Args:
      x: any floating-point array.
      alpha: a Python number >= 0; the value at minus infinity is -alpha.

    >>> elu(jnp.array([-1e4, 3.0]), alpha=2.0).tolist()
    [-2.0, 3.0]
    """
    require_floats("elu", x=x)
    return _elu(not_negative("elu", "alpha", alpha), x)


_softplus = activation_rule(
    "softplus",
    f=lambda _, x: plain_softplus(x),
    dx=lambda _, y, dy: -dy * jnp.expm1(-y),
    saves="y",
    textbook=lambda _, x: jnp.log(1 + jnp.exp(x)),
)


def softplus(x: jax.Array) -> jax.Array:
    """x: any shape -> same: log(1 + e^x).

    >>> softplus(jnp.array([-1e4, 1e4])).tolist()
    [0.0, 10000.0]
    """
    require_floats("softplus", x=x)
    return _softplus(None, x)


# Beyond this |x|, f is x or 0 and f' 1 or 0 exactly, even in float64: x³ must not overflow, nor 0 meet infinity.
_SILU_SATURATES = 800.0
_GELU_SATURATES = 40.0


def _silu_slope(x):
    x = jnp.clip(x, -_SILU_SATURATES, _SILU_SATURATES)
    s = jax.nn.sigmoid(x)
    return s * (1 + x * (1 - s))


_silu = activation_rule(
    "silu",
    f=lambda _, x: saturated(jax.nn.silu, _SILU_SATURATES, x),
    dx=lambda _, x, dy: dy * _silu_slope(x),
    saves="x",
    textbook=lambda _, x: x / (1 + jnp.exp(-x)),
)


def silu(x: jax.Array) -> jax.Array:
    """x: any shape -> same: x sigmoid(x), also called swish.

    >>> silu(jnp.array([-1e4, 0.0, 1e4])).tolist()
    [-0.0, 0.0, 10000.0]
    """
    require_floats("silu", x=x)
    return _silu(None, x)


_C = 0.044715


def _gelu_slope(approximate, x):
    x = jnp.clip(x, -_GELU_SATURATES, _GELU_SATURATES)
    if approximate:
        k = math.sqrt(2 / math.pi)
        t, du = jnp.tanh(k * (x + _C * x**3)), k * (1 + 3 * _C * x**2)
        return 0.5 * (1 + t) * (1 + x * (1 - t) * du)
    return 0.5 * jax.lax.erfc(-x * math.sqrt(0.5)) + x * jnp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _gelu_textbook(approximate, x):
    if approximate:
        return 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + _C * x**3)))
    return x * (0.5 + 0.5 * jax.lax.erf(x / math.sqrt(2)))


_gelu = activation_rule(
    "gelu",
    f=lambda approximate, x: saturated(lambda x: jax.nn.gelu(x, approximate), _GELU_SATURATES, x),
    dx=lambda approximate, x, dy: dy * _gelu_slope(approximate, x),
    saves="x",
    textbook=_gelu_textbook,
    options=(True, False),
    refuses=((lambda: gelu(jnp.ones(3), approximate="tanh"), "True or False for approximate"),),  # type: ignore[arg-type]
)


def gelu(x: jax.Array, approximate: bool = True) -> jax.Array:
    """x: any shape -> same: x Φ(x), Φ the normal distribution function.

    Args:
      x: any floating-point array.
      approximate: the tanh form, as in BERT, GPT-2 and `jax.nn.gelu`; False for Φ itself, as torch does by default.

    >>> gelu(jnp.array([-1e4, 0.0, 1e4]), approximate=False).tolist()
    [-0.0, 0.0, 10000.0]
    """
    require_approximate(approximate)
    require_floats("gelu", x=x)
    return _gelu(bool(approximate), x)


def require_approximate(value: object) -> None:
    """Refuse all but a bool, torch's strings among the rest."""
    fix = 'pass True for the tanh form (torch\'s "tanh"), False for the exact one (its "none")'
    require_flag("gelu", "approximate", value, fix)
