"""Elementwise activations of straight pieces, which need no exponential: y = f(x), dx = f'(x) dy.

    name           f(x)                    f'(x)                                       saved
    relu6          min(max(x, 0), 6)       [0 < y < 6]                                 y
    hard_tanh      min(max(x, -1), 1)      [-1 < y < 1]                                y
    hard_sigmoid   relu6(x + 3) / 6        1 / 6 if -3 < x < 3, else 0                 x
    hard_swish     x hard_sigmoid(x)       0 up to -3, (2 x + 3) / 6, 1 from 3 on      x

Where two pieces meet, the slope is that of the flat or outer one, as in torch.

Sources: Sandler et al., 2018, https://arxiv.org/abs/1801.04381, for relu6; Howard et al., 2019,
https://arxiv.org/abs/1905.02244, section 5.2, for the hard swish; Courbariaux et al., 2015,
https://arxiv.org/abs/1511.00363, for the others.
"""

import jax
import jax.numpy as jnp

from fnn.core.errors import require_floats
from fnn.ops.activation_rule import COMPARISON, activation_rule


def _clipped(low, high, x):
    """x between low and high, NaN as it is; JAX's clip would take the mean of both slopes where they meet."""
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x)).astype(x.dtype)


_relu6 = activation_rule(
    "relu6",
    f=lambda _, x: _clipped(0.0, 6.0, x),
    dx=lambda _, y, dy: jnp.where((y > 0) & (y < 6), dy, 0),
    saves="y",
    textbook=lambda _, x: jnp.minimum(jnp.maximum(x, 0.0), 6.0),
    storage=COMPARISON,
    kinks=True,
)


def relu6(x: jax.Array) -> jax.Array:
    """x: any shape -> same: min(max(x, 0), 6). The derivative at 0 and 6 is 0.

    Raises:
      InputError: x is not floating-point (so do all functions of this file).

    >>> relu6(jnp.array([-1.0, 2.0, 9.0])).tolist()
    [0.0, 2.0, 6.0]
    """
    require_floats("relu6", x=x)
    return _relu6(None, x)


_hard_tanh = activation_rule(
    "hard_tanh",
    f=lambda _, x: _clipped(-1.0, 1.0, x),
    dx=lambda _, y, dy: jnp.where(jnp.abs(y) < 1, dy, 0),
    saves="y",
    textbook=lambda _, x: jnp.minimum(jnp.maximum(x, -1.0), 1.0),
    storage=COMPARISON,
    kinks=True,
)


def hard_tanh(x: jax.Array) -> jax.Array:
    """x: any shape -> same: min(max(x, -1), 1). The derivative at -1 and 1 is 0.

    >>> hard_tanh(jnp.array([-3.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    require_floats("hard_tanh", x=x)
    return _hard_tanh(None, x)


def _hard_sigmoid_of(x):
    return jnp.where(x <= -3, 0.0, jnp.where(x >= 3, 1.0, (x + 3) / 6)).astype(x.dtype)


_hard_sigmoid = activation_rule(
    "hard_sigmoid",
    f=lambda _, x: _hard_sigmoid_of(x),
    dx=lambda _, x, dy: jnp.where(jnp.abs(x) < 3, dy / 6, 0),
    saves="x",
    textbook=lambda _, x: jnp.minimum(jnp.maximum(x + 3, 0.0), 6.0) / 6,
    storage=COMPARISON,
    kinks=True,
)


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """x: any shape -> same: relu6(x + 3) / 6. The derivative at -3 and 3 is 0.

    >>> hard_sigmoid(jnp.array([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    require_floats("hard_sigmoid", x=x)
    return _hard_sigmoid(None, x)


def _between(x):
    """x (x + 3) / 6, where it counts: of infinity JAX would multiply the slope by 0."""
    near = jnp.clip(x, -3, 3)
    return near * (near + 3) / 6


_hard_swish = activation_rule(
    "hard_swish",
    f=lambda _, x: jnp.where(x <= -3, 0.0, jnp.where(x >= 3, x, _between(x))).astype(x.dtype),
    dx=lambda _, x, dy: jnp.where(x <= -3, 0, jnp.where(x >= 3, dy, dy * (2 * x + 3) / 6)),
    saves="x",
    textbook=lambda _, x: x * jnp.minimum(jnp.maximum(x + 3, 0.0), 6.0) / 6,
    storage=COMPARISON,
    kinks=True,
)


def hard_swish(x: jax.Array) -> jax.Array:
    """x: any shape -> same: x relu6(x + 3) / 6. The derivative at -3 is 0, at 3 it is 1.

    >>> hard_swish(jnp.array([-4.0, 1.5, 4.0])).tolist()
    [0.0, 1.125, 4.0]
    """
    require_floats("hard_swish", x=x)
    return _hard_swish(None, x)
