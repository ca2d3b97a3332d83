"""Global pooling: one number a channel, y[n,c] = max or mean over all spatial positions i of x[n,i,c].

    max:    dx[i] = dy where i is the first position of the maximum, else 0
    mean:   dx[i] = dy / n,    n positions

Source: Lin, Chen and Yan, Network in network (2014, https://arxiv.org/abs/1312.4400), section 3.2, for the mean.
"""

import math
from operator import le

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.core.cases import case
from fnn.core.dtypes import wide_dtype, widen
from fnn.core.errors import LARGEST, require
from fnn.core.rule import Rule
from fnn.core.sizes import divisor, fixed, possible
from fnn.ops.pooling.windows import spatial_sizes


def global_max_pool(x: jax.Array) -> jax.Array:
    """x: (N, *spatial, C) -> (N, C): the largest element of every channel.

    Where several are largest, the first in row-major order receives the whole gradient. A NaN gives NaN; the first one
    receives the gradient by hand, another may automatically.

    Args:
      x: (N, *spatial, C), one to three spatial axes.

    Raises:
      InputError: integer x, wrong rank, empty spatial axes, 2^31 positions or more.

    >>> import jax.numpy as jnp
    >>> global_max_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
    [[6.0, 7.0]]
    """
    sizes = spatial_sizes("global_max_pool", x)
    ok = possible(le, math.prod(sizes), LARGEST)  # the positions are numbered in int32
    fix = "pool a part of the axes first, for example with max_pool"
    require(ok, "global_max_pool", f"at most {LARGEST} positions", f"x of shape {x.shape}", fix)
    return max_rule(sizes, x)


def global_avg_pool(x: jax.Array) -> jax.Array:
    """x: (N, *spatial, C) -> (N, C): the mean of every channel.

    Args:
      x: (N, *spatial, C), one to three spatial axes.

    Raises:
      InputError: integer x, wrong rank, empty spatial axes.

    >>> import jax.numpy as jnp
    >>> global_avg_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
    [[3.0, 4.0]]
    """
    return average_rule(spatial_sizes("global_avg_pool", x), x)


def _max_forward(sizes, x):
    if not fixed(*sizes):  # a symbolic window may be empty, for all that XLA knows
        first = _positions(sizes) == _broadcast(sizes, _first(sizes, x, x.max(_axes(sizes), initial=-jnp.inf)))
        return jnp.where(first, x, 0).sum(_axes(sizes))
    # Not x.max: its automatic gradient shares a tie out instead of giving all to the first.
    y = lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, (1, *sizes, 1), (1,) * x.ndim, "VALID")
    return y.reshape(x.shape[0], x.shape[-1])


def _max_fwd(sizes, x):
    y = _max_forward(sizes, x)
    return y, _first(sizes, x, y)


def _first(sizes, x, y):
    """The number of the first position where x is y, or NaN."""
    attained = (x == _broadcast(sizes, y)) | jnp.isnan(x)
    return jnp.where(attained, _positions(sizes), math.prod(sizes)).min(_axes(sizes), initial=math.prod(sizes))


def _max_bwd(sizes, index, dy):
    return (jnp.where(_positions(sizes) == _broadcast(sizes, index), _broadcast(sizes, dy), 0),)


def _average_forward(sizes, x):
    return x.mean(_axes(sizes), dtype=wide_dtype(x)).astype(x.dtype)


def _average_fwd(sizes, x):
    return _average_forward(sizes, x), ()


def _average_bwd(sizes, residuals, dy):
    share = (widen(dy) / divisor(*sizes)).astype(dy.dtype)
    return (jnp.broadcast_to(_broadcast(sizes, share), (dy.shape[0], *sizes, dy.shape[-1])),)


def _axes(sizes):
    return tuple(range(1, len(sizes) + 1))


def _broadcast(sizes, a):
    """(N, C) -> (N, 1, ..., 1, C)."""
    return jnp.expand_dims(a, _axes(sizes))


def _positions(sizes):
    """(1, *sizes, 1): every position's number in row-major order."""
    return jnp.arange(math.prod(sizes), dtype=jnp.int32).reshape(1, *sizes, 1)


def _max_reference(sizes, x):
    y = jnp.full((x.shape[0], x.shape[-1]), -jnp.inf, x.dtype)
    for i in np.ndindex(*sizes):
        y = jnp.maximum(y, x[:, *i])
    return y


def _average_reference(sizes, x):
    return sum(x[:, *i] for i in np.ndindex(*sizes)) / math.prod(sizes)


def _cases():
    return (
        case((3, 2), (8, 3, 2, 4)),
        case((5,), (1, 5, 2), batched=False),
        case((2, 3, 2), (2, 2, 3, 2, 2), batched=False),
        case((2, 2), (0, 2, 2, 3), batched=False),
    )


max_rule = Rule(
    name="global_max_pool",
    forward=_max_forward,
    fwd=_max_fwd,
    bwd=_max_bwd,
    reference=_max_reference,
    kinks=True,
    refuses=(
        (lambda: global_max_pool(jnp.ones((2, 3))), "1 to 3 spatial axes"),
        (lambda: global_max_pool(jnp.ones((2, 0, 3))), "spatial sizes >= 1"),
    ),
    cases=_cases(),
)

average_rule = Rule(
    name="global_avg_pool",
    forward=_average_forward,
    fwd=_average_fwd,
    bwd=_average_bwd,
    reference=_average_reference,
    refuses=((lambda: global_avg_pool(jnp.ones((2, 3))), "1 to 3 spatial axes"),),
    cases=_cases(),
)
