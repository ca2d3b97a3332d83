"""Elementwise activations that scale x or bend it: y = f(x), dx = f'(x) dy.

    name         f(x)                                 f'(x)                              saved
    selu         λ x if x > 0 else λ α (e^x - 1)      λ if x > 0 else λ α e^x            x
    celu         x if x > 0 else a (e^(x/a) - 1)      1 if y > 0 else y / a + 1          y
    softsign     x / (1 + |x|)                        (1 - |y|)²                         y
    mish         x t, t = tanh(log(1 + e^x))          t + x (1 - t²) σ(x)                x
    quick_gelu   x σ(c x), c = 1.702                  σ (1 + c x (1 - σ))                x

λ = 1.0507009873554805 and α = 1.6732632423543772 keep mean 0 and variance 1 over deep networks. Values and slopes at
infinity are the limits.

Sources: Klambauer et al., 2017, https://arxiv.org/abs/1706.02515; Barron, 2017, https://arxiv.org/abs/1704.07483;
Misra, 2019, https://arxiv.org/abs/1908.08681; Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415.
"""

import jax
import jax.numpy as jnp

from fnn.core.dtypes import widen
from fnn.core.errors import real, require_floats
from fnn.ops.activation_rule import activation_rule, saturated
from fnn.ops.ramp import plain_softplus

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772
_SATURATES = 800.0  # beyond this |x|, mish and quick_gelu are x or 0 exactly, even in float64


def _bent(scale, alpha, rate, x):
    """scale x above 0, else alpha (e^(x / rate) - 1)."""
    below = jnp.where(x > 0, 0, x)  # no exponential of a large number, whose slope JAX would multiply by 0
    return jnp.where(x > 0, scale * x, alpha * jnp.expm1(below / rate)).astype(x.dtype)


_selu = activation_rule(
    "selu",
    f=lambda _, x: _bent(SCALE, SCALE * ALPHA, 1.0, x),
    dx=lambda _, x, dy: dy * jnp.where(x > 0, SCALE, SCALE * ALPHA * jnp.exp(jnp.minimum(x, 0))),
    saves="x",
    textbook=lambda _, x: SCALE * jnp.where(x > 0, x, ALPHA * (jnp.exp(x) - 1)),
    kinks=True,
)


def selu(x: jax.Array) -> jax.Array:
    """x: any shape -> same: λ x where x > 0, else λ α (e^x - 1). The derivative at 0 is λ α.

    Raises:
      InputError: x is not floating-point (so do all functions of this file).

    >>> selu(jnp.array([0.0, 1.0])).round(4).tolist()
    [0.0, 1.0506999492645264]
    """
    require_floats("selu", x=x)
    return _selu(None, x)


_celu = activation_rule(
    "celu",
    f=lambda a, x: _bent(1.0, a, a, x),
    dx=lambda a, y, dy: dy * jnp.where(y > 0, 1, y / a + 1),
    saves="y",
    textbook=lambda a, x: jnp.where(x > 0, x, a * (jnp.exp(x / a) - 1)),
    options=(1.0, 0.5),
    refuses=((lambda: celu(jnp.ones(3), 0.0), "a number alpha > 0"),),
)


def celu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    """x: any shape -> same: x where x > 0, else alpha (e^(x / alpha) - 1); its slope is continuous.

    Args:
      x: any floating-point array.
      alpha: a Python number > 0; the value at minus infinity is -alpha.

    >>> celu(jnp.array([-1e4, 3.0]), alpha=2.0).tolist()
    [-2.0, 3.0]
    """
    require_floats("celu", x=x)
    return _celu(positive_alpha("celu", alpha), x)


def positive_alpha(where: str, alpha: float) -> float:
    """alpha as a Python float; what is no finite number > 0 is refused."""
    return real(where, "a number alpha > 0", alpha, lambda a: a > 0, "pass alpha=1.0 or another number")


def _softsign_of(x):
    finite = jnp.where(jnp.isinf(x), 1, x)
    return jnp.where(jnp.isinf(x), jnp.sign(x), finite / (1 + jnp.abs(finite)))


_softsign = activation_rule(
    "softsign",
    f=lambda _, x: _softsign_of(widen(x)).astype(x.dtype),
    dx=lambda _, y, dy: dy * (1 - jnp.abs(y)) ** 2,
    saves="y",
    textbook=lambda _, x: x / (1 + jnp.abs(x)),
)


def softsign(x: jax.Array) -> jax.Array:
    """x: any shape -> same: x / (1 + |x|).

    >>> softsign(jnp.array([-1.0, 0.0, 3.0])).tolist()
    [-0.5, 0.0, 0.75]
    """
    require_floats("softsign", x=x)
    return _softsign(None, x)


def _mish_slope(x):
    x = jnp.clip(x, -_SATURATES, _SATURATES)
    t = jnp.tanh(plain_softplus(x))
    return t + x * (1 - t * t) * jax.nn.sigmoid(x)


_mish = activation_rule(
    "mish",
    f=lambda _, x: saturated(lambda x: x * jnp.tanh(plain_softplus(x)), _SATURATES, x),
    dx=lambda _, x, dy: dy * _mish_slope(x),
    saves="x",
    textbook=lambda _, x: x * jnp.tanh(jnp.log(1 + jnp.exp(x))),
)


def mish(x: jax.Array) -> jax.Array:
    """x: any shape -> same: x tanh(log(1 + e^x)).

    >>> mish(jnp.array([-1e4, 0.0, 1e4])).tolist()
    [-0.0, 0.0, 10000.0]
    """
    require_floats("mish", x=x)
    return _mish(None, x)


_QUICK = 1.702


def _quick_gelu_slope(x):
    x = jnp.clip(x, -_SATURATES, _SATURATES)
    s = jax.nn.sigmoid(_QUICK * x)
    return s * (1 + _QUICK * x * (1 - s))


_quick_gelu = activation_rule(
    "quick_gelu",
    f=lambda _, x: saturated(lambda x: x * jax.nn.sigmoid(_QUICK * x), _SATURATES, x),
    dx=lambda _, x, dy: dy * _quick_gelu_slope(x),
    saves="x",
    textbook=lambda _, x: x / (1 + jnp.exp(-_QUICK * x)),
)


def quick_gelu(x: jax.Array) -> jax.Array:
    """x: any shape -> same: x sigmoid(1.702 x), close to `gelu`; as in CLIP.

    >>> quick_gelu(jnp.array([-1e4, 0.0, 1e4])).tolist()
    [-0.0, 0.0, 10000.0]
    """
    require_floats("quick_gelu", x=x)
    return _quick_gelu(None, x)
