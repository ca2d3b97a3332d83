"""Units that take channels together: one half gates the other, or the largest of a few counts.

    glu      y = a σ(b)    da = dy σ(b)    db = dy a σ(b) (1 - σ(b))        a, b: first and second half of the channels
    maxout   y = max of k neighbouring channels; the first of the largest receives dy

Sources: Dauphin et al., 2016, https://arxiv.org/abs/1612.08083; Goodfellow et al., 2013,
https://arxiv.org/abs/1302.4389.
"""

import jax
import jax.numpy as jnp

from fnn.core.cases import case
from fnn.core.dtypes import widen
from fnn.core.errors import integer, require, require_floats
from fnn.core.rule import Rule


def glu(x: jax.Array) -> jax.Array:
    """x: (..., 2 C) -> (..., C): the first half of the channels times the sigmoid of the second.

    Raises:
      InputError: an odd number of channels, integers.

    >>> glu(jnp.array([6.0, 0.0])).tolist()
    [3.0]
    """
    require_floats("glu", x=x)
    ok = x.ndim > 0 and x.shape[-1] % 2 == 0
    require(ok, "glu", "x (..., 2 C)", x.shape, "make twice the channels that are wanted")
    return _glu_rule(None, x)


def maxout(x: jax.Array, pieces: int) -> jax.Array:
    """x: (..., k C) -> (..., C): the largest of each k neighbouring channels.

    Args:
      x: at least one axis, k C channels.
      pieces: k.

    Raises:
      InputError: pieces that do not divide the channels, integers.

    >>> maxout(jnp.array([1.0, 3.0, 5.0, 2.0]), 2).tolist()
    [3.0, 5.0]
    """
    require_floats("maxout", x=x)
    return _maxout_rule(check_pieces(pieces, x.shape), x)


def check_pieces(pieces: int, shape: tuple[int, ...]) -> int:
    """The number of pieces as a Python int; one that does not divide the channels is refused."""
    pieces = integer("maxout", "pieces", pieces)
    ok = len(shape) > 0 and shape[-1] % pieces == 0
    require(ok, "maxout", f"pieces that divide the channels of x {shape}", pieces, "make pieces times the channels")
    return pieces


def _halves(x):
    return jnp.split(x, 2, -1)


def _glu_forward(spec, x):
    a, b = _halves(x)
    return a * jax.nn.sigmoid(b)


def _glu_fwd(spec, x):
    return _glu_forward(spec, x), (x,)


def _glu_bwd(spec, residuals, dy):
    (x,), wide = residuals, widen(dy)
    a, b = _halves(widen(x))
    s = jax.nn.sigmoid(b)
    return (jnp.concatenate([wide * s, wide * a * s * (1 - s)], -1).astype(dy.dtype),)


def _glu_reference(spec, x):
    half = x.shape[-1] // 2
    return jnp.stack([x[..., i] / (1 + jnp.exp(-x[..., half + i])) for i in range(half)], -1)


def _pieces(k, x):
    return x.reshape(*x.shape[:-1], x.shape[-1] // k, k)


def _first_of_largest(k, x):
    """Booleans (..., C, k), true once in k; a NaN is the largest."""
    parts = _pieces(k, x)
    return jnp.argmax(parts, -1)[..., None] == jnp.arange(k).reshape(*[1] * (parts.ndim - 1), k)


def _maxout_forward(k, x):
    return jnp.where(_first_of_largest(k, x), _pieces(k, x), 0).sum(-1)


def _maxout_fwd(k, x):
    parts = _pieces(k, x)
    return parts.max(-1), (x,)


def _maxout_bwd(k, residuals, dy):
    (x,) = residuals
    return (jnp.where(_first_of_largest(k, x), dy[..., None], 0).reshape(x.shape),)


def _maxout_reference(k, x):
    y = x[..., ::k]
    for i in range(1, k):
        y = jnp.maximum(y, x[..., i::k])
    return y


_glu_rule = Rule(
    name="glu",
    forward=_glu_forward,
    fwd=_glu_fwd,
    bwd=_glu_bwd,
    reference=_glu_reference,
    refuses=((lambda: glu(jnp.ones((2, 3))), r"x \(\.\.\., 2 C\)"),),
    cases=(
        case(None, (8, 6)),
        case(None, (2, 3, 4), batched=False),
        case(None, (0, 2), batched=False),
    ),
)
_maxout_rule = Rule(
    name="maxout",
    forward=_maxout_forward,
    fwd=_maxout_fwd,
    bwd=_maxout_bwd,
    reference=_maxout_reference,
    kinks=True,
    refuses=((lambda: maxout(jnp.ones((2, 3)), 2), "pieces that divide the channels"),),
    cases=(
        case(2, (8, 6)),
        case(3, (2, 3, 6), batched=False),
        case(1, (4,), batched=False),
        case(2, (0, 4), batched=False),
    ),
)
