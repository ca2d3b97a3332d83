"""Average pooling: y[n,p,c] = (1 / m[p]) sum over taps t of x[n, p s + t - l, c], with zeros in the padding.

m[p] is the number of elements of window p that lie in the input, or of the whole window where padding counts:

    dx[i] = sum over p, t with p s + t - l = i of dy[p] / m[p]

Source: LeCun et al., Gradient-based learning applied to document recognition (1998), section II.B.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.core.cases import case
from fnn.core.dtypes import widen
from fnn.core.errors import require_flag
from fnn.core.rule import Rule
from fnn.core.sizes import divisor
from fnn.ops.pooling.windows import Pool, geometry
from fnn.ops.window import Ints, Padding, inputs_of


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """The window's geometry, and whether padding counts as elements of it."""

    pool: Pool
    count_padding: bool


def avg_pool(
    x: jax.Array,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    count_padding: bool = False,
) -> jax.Array:
    """x: (N, *spatial, C) -> (N, *outputs, C): the mean of every window, outputs floor((n + p - f) / s) + 1.

    Args:
      x: (N, *spatial, C), one to three spatial axes.
      window: size f, one integer or one a spatial axis.
      stride: step s of the window; the window's size by default.
      padding: `"VALID"` (none), `"SAME"` (outputs ceil(n / s)), `"CAUSAL"` (1-D), an integer, or one pair (before,
        after) an axis; smaller than the window.
      count_padding: whether padding counts as zeros in the mean; by default only real elements do.

    Raises:
      InputError: integer x, wrong rank, empty spatial axes, a window larger than the padded input, a stride below 1,
        unknown or too much padding.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 3.0, 2.0, 6.0]).reshape(1, 4, 1)
    >>> avg_pool(x, 2).ravel().tolist()
    [2.0, 4.0]
    """
    require_flag("avg_pool", "count_padding", count_padding)
    return rule(AveragePool(geometry("avg_pool", x, window, stride, padding), bool(count_padding)), x)


def _forward(spec: AveragePool, x):
    total = spec.pool.reduce(widen(x), 0.0, lax.add)
    return (total / _count(spec, total.dtype)).astype(x.dtype)


def _fwd(spec: AveragePool, x):
    return _forward(spec, x), ()


def _bwd(spec: AveragePool, residuals, dy):
    dx = widen(dy)
    dx = dx / _count(spec, dx.dtype)
    for part in reversed(spec.pool.split()):
        dx = part.spread(dx)  # a window sum over a dilated dy is as fast alone, but does not fuse with its neighbours
    return (dx.astype(dy.dtype),)


def _count(spec: AveragePool, dtype):
    """m[p]: a number, or an array (1, *outputs, 1) where windows hang over the edge."""
    pool = spec.pool
    if spec.count_padding or not any(map(any, pool.pads)):
        return divisor(*pool.window)
    counts = []
    for axis, (a, out) in enumerate(zip(pool.axes, pool.outputs, strict=True), 1):
        start = a.input_of(jnp.arange(out), 0)
        real = jnp.minimum(start + a.window, a.size) - jnp.maximum(start, 0)
        counts.append(jnp.expand_dims(real.astype(dtype), [i for i in range(len(pool.sizes) + 2) if i != axis]))
    return math.prod(counts)


def _reference(spec: AveragePool, x):
    pool = spec.pool
    y = jnp.zeros((x.shape[0], *pool.outputs, x.shape[-1]), x.dtype)
    for p in np.ndindex(*pool.outputs):
        elements = []
        for t in np.ndindex(*pool.window):
            i = inputs_of(pool.axes, p, t)
            if i is not None:
                elements.append(x[:, *i])
        y = y.at[:, *p].set(sum(elements) / (math.prod(pool.window) if spec.count_padding else len(elements)))
    return y


def _case(shape, window, stride=None, padding="VALID", count_padding=False, batched=True):
    pool = geometry("avg_pool", np.empty(shape, np.float32), window, stride, padding)
    return case(AveragePool(pool, count_padding), shape, batched=batched)


rule = Rule(
    name="avg_pool",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=(
        (lambda: avg_pool(jnp.ones((2, 4, 4, 2)), 5), "at least as large as its window"),
        (lambda: avg_pool(jnp.ones((2, 3)), 2), "1 to 3 spatial axes"),
    ),
    cases=(
        _case((8, 5, 4, 2), 2),
        _case((8, 6, 5, 1), (3, 2), (2, 1), "SAME"),
        _case((1, 9, 2), 4, 3, ((1, 2),), count_padding=True, batched=False),
        _case((2, 7, 1), 2, 3, batched=False),
        _case((1, 4, 5, 3, 2), (2, 3, 2), (1, 2, 3), ((1, 0), (1, 1), (0, 1)), batched=False),
        _case((0, 5, 5, 2), 3, 2, 1, batched=False),
    ),
)
