"""Leaky relu with a learned slope: y = x where x > 0, else a x.

    dx = dy where x > 0, else a dy        da = Σ x dy over all entries with x <= 0, for each channel or all at once

Source: He et al., 2015, https://arxiv.org/abs/1502.01852, section 2.1.
"""

import jax
import jax.numpy as jnp

from fnn.core.broadcast import beside
from fnn.core.cases import case, normal
from fnn.core.dtypes import widen
from fnn.core.errors import require, require_floats
from fnn.core.rule import Rule
from fnn.core.storage import Storage


def prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    """x: (..., C) -> same: x where x > 0, else slope x. The derivative at 0 is the slope.

    Args:
      x: any floating-point array with at least one axis.
      slope: (C,), or () for one that all channels share.

    Raises:
      InputError: a slope of another shape, integers.

    >>> prelu(jnp.array([-2.0, 4.0]), jnp.array(0.5)).tolist()
    [-1.0, 4.0]
    """
    require_floats("prelu", x=x, slope=slope)
    ok = x.ndim > 0 and slope.shape in ((), x.shape[-1:])
    require(ok, "prelu", f"a slope of shape () or {x.shape[-1:]}", slope.shape, "one a channel, or one in all")
    return rule(None, x, slope)


def _forward(spec, x, slope):
    return jnp.where(x > 0, x, x * beside(slope, x))


def _fwd(spec, x, slope):
    return _forward(spec, x, slope), (x, slope)


def _bwd(spec, residuals, dy):
    x, slope = residuals
    dx = jnp.where(x > 0, dy, dy * beside(slope, x))
    below = jnp.where(x > 0, 0, widen(x) * widen(dy))
    return dx, below.sum(tuple(range(x.ndim - slope.ndim))).astype(slope.dtype)


def _reference(spec, x, slope):
    return jnp.maximum(x, 0) + slope * jnp.minimum(x, 0)


rule = Rule(
    name="prelu",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    storage=Storage(output="as its input", kept=True),
    kinks=True,
    refuses=((lambda: prelu(jnp.ones((2, 3)), jnp.ones(2)), r"a slope of shape \(\) or \(3,\)"),),
    cases=(
        case(None, (8, 2, 3), normal((3,), 0.2, 0.25)),
        case(None, (8, 3), normal((), 0.2, 0.25)),
        case(None, (5,), (5,), batched=False),
        case(None, (0, 2), (2,), batched=False),
    ),
)
