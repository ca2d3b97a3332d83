"""RMS norm: each vector of channels divided by its root mean square.

    inv = 1 / sqrt(Σ x² / n + epsilon)        xhat = x inv        y = scale xhat

    g = scale dy        dx = inv (g - xhat Σ (g xhat) / n)        dscale = Σ dy xhat, over all axes but the last

Source: Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.broadcast import beside
from fnn.core.cases import case, normal
from fnn.core.dtypes import widen
from fnn.core.rule import Rule
from fnn.core.storage import Storage
from fnn.ops.normalisation.normalise import all_but_last, check, like


def rms_norm(x: jax.Array, scale: jax.Array | None, *, epsilon: float = 1e-6) -> jax.Array:
    """x: (..., C) -> same: each vector of channels divided by its root mean square.

    Args:
      x: at least one axis.
      scale: (C,), any floating dtype; None for 1.
      epsilon: > 0, added to the mean square.

    Raises:
      InputError: shapes that do not fit, integers, epsilon <= 0.

    >>> rms_norm(jnp.array([3.0, -3.0]), None, epsilon=1e-12).tolist()
    [1.0, -1.0]
    """
    epsilon = check("rms_norm", "(..., C)", 1, epsilon, x, scale, None)
    return rule(epsilon, x, scale)


def _fwd(epsilon, x, scale):
    wide = widen(x)
    inv = lax.rsqrt((wide * wide).mean(-1, keepdims=True) + epsilon)
    y = wide * inv
    y = y if scale is None else y * beside(scale.astype(y.dtype), y)
    return y.astype(x.dtype), (x, inv, scale)


def _forward(epsilon, x, scale):
    return _fwd(epsilon, x, scale)[0]


def _bwd(epsilon, residuals, dy):
    x, inv, scale = residuals
    xhat, dy = widen(x) * inv, widen(dy)
    g = dy if scale is None else dy * beside(scale.astype(dy.dtype), dy)
    dx = inv * (g - xhat * (g * xhat).mean(-1, keepdims=True))
    return dx.astype(x.dtype), None if scale is None else like(scale, (dy * xhat).sum(all_but_last(x)))


def _reference(epsilon, x, scale):
    square = sum(x[..., i] * x[..., i] for i in range(x.shape[-1])) / x.shape[-1]
    y = x / jnp.sqrt(square + epsilon)[..., None]
    return y if scale is None else y * scale


rule = Rule(
    name="rms_norm",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    storage=Storage(output="recomputable"),
    refuses=((lambda: rms_norm(jnp.ones((2, 3)), jnp.ones(2)), r"scale of shape \(3,\)"),),
    cases=(
        case(1e-6, normal((8, 3, 4), 2.0, 1.0), (4,)),
        case(1e-2, (8, 5), None),
        case(1e-6, (4,), (4,), batched=False),
        case(1e-1, (0, 3), (3,), batched=False),
    ),
)
