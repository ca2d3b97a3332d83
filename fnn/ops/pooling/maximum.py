"""Max pooling: y[n,p,c] = max over taps t of x[n, p s + t - l, c], with -inf in the padding.

    index[p] = the first t with x[p s + t - l] = y[p]
    dx[i] = sum over all p with p s + index[p] - l = i of dy[p]

A window of many taps goes one axis after the other, last axis first: the first maximum of a row, then the first row,
is the first in row-major order.

Source: LeCun et al., Gradient-based learning applied to document recognition (1998), for subsampling; Goodfellow,
Bengio and Courville, Deep Learning (2016), section 9.3.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.core.cases import case
from fnn.core.dtypes import wide_dtype
from fnn.core.rule import Rule
from fnn.core.sizes import fixed
from fnn.core.storage import Storage
from fnn.ops.pooling.windows import Pool, geometry
from fnn.ops.window import Ints, Padding, inputs_of


def max_pool(x: jax.Array, window: Ints, *, stride: Ints | None = None, padding: Padding = "VALID") -> jax.Array:
    """x: (N, *spatial, C) -> (N, *outputs, C): the largest element of every window, outputs floor((n + p - f) / s) + 1.

    Where several elements of a window are largest, the first in row-major order receives the whole gradient. A window
    with a NaN gives NaN; the first one receives the gradient by hand, another may automatically.

    Args:
      x: (N, *spatial, C), one to three spatial axes.
      window: size f, one integer or one a spatial axis.
      stride: step s of the window; the window's size by default.
      padding: `"VALID"` (none), `"SAME"` (outputs ceil(n / s)), `"CAUSAL"` (1-D), an integer, or one pair (before,
        after) an axis; smaller than the window. Padding is never the maximum, except of elements that are all -inf.

    Raises:
      InputError: integer x, wrong rank, empty spatial axes, a window larger than the padded input, a stride below 1,
        unknown or too much padding.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 3.0, 2.0, 5.0]).reshape(1, 4, 1)
    >>> max_pool(x, 2).ravel().tolist()
    [3.0, 5.0]
    """
    for part in geometry("max_pool", x, window, stride, padding).split():
        x = rule(part, x)
    return x


def _forward(spec: Pool, x):
    return spec.reduce(x, -np.inf, lax.max)


def _fwd(spec: Pool, x):
    if not fixed(*spec.sizes):  # symbolic sizes: no tap is known to have its place
        return _forward(spec, x), (None, x)
    y, index = _search(spec, x)
    # The value by reduce_window is up to 3 times as fast along one axis, and up to 4 times slower over several.
    one_axis = max(spec.window) == math.prod(spec.window)
    y = _forward(spec, x) if one_axis else y
    return y, (index, None)


@partial(jax.jit, static_argnums=0, inline=True)  # so that, outside jit too, jax_debug_infs never sees the padding
def _search(spec: Pool, x):
    """The largest element of every window, and the number of its tap."""
    padded = jnp.pad(x, ((0, 0), *spec.pads, (0, 0)), constant_values=-jnp.inf)
    y: Any = None
    index: Any = None
    for number, t in enumerate(np.ndindex(*spec.window)):
        ends = [i + (o - 1) * s + 1 for i, o, s in zip(t, spec.outputs, spec.stride, strict=True)]
        tap = padded[:, *(slice(i, end, s) for i, end, s in zip(t, ends, spec.stride, strict=True))]
        if y is None:
            y, index = tap, jnp.zeros_like(tap, _index_dtype(math.prod(spec.window)))
            continue
        # Not `tap > y`: a NaN must win over numbers, and keep its place.
        better = ~(tap <= y) & ~jnp.isnan(y)
        y, index = jnp.where(better, tap, y), jnp.where(better, jnp.array(number, index.dtype), index)
    return y, index


def _index_dtype(taps):
    return next(t for t in (jnp.int8, jnp.int16, jnp.int32) if taps - 1 <= jnp.iinfo(t).max)


def _bwd(spec: Pool, residuals, dy):
    index, x = residuals
    if index is None:
        return jax.vjp(partial(_forward, spec), x)[1](dy)
    wide = wide_dtype(dy)
    return (spec.spread(dy.astype(wide), index).astype(dy.dtype),)


def _reference(spec: Pool, x):
    y = jnp.full((x.shape[0], *spec.outputs, x.shape[-1]), -jnp.inf, x.dtype)
    for p in np.ndindex(*spec.outputs):
        for t in np.ndindex(*spec.window):
            i = inputs_of(spec.axes, p, t)
            if i is not None:
                y = y.at[:, *p].set(jnp.maximum(y[:, *p], x[:, *i]))
    return y


def _case(shape, window, stride=None, padding="VALID", batched=True):
    spec = geometry("max_pool", np.empty(shape, np.float32), window, stride, padding)
    return case(spec, shape, batched=batched)


rule = Rule(
    name="max_pool",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    storage=Storage(kept_residuals=(0,)),  # or XLA would compute it again from x for every element of dx
    kinks=True,
    refuses=(
        (lambda: max_pool(jnp.ones((2, 4, 4, 2)), 5), "at least as large as its window"),
        (lambda: max_pool(jnp.ones((2, 3)), 2), "1 to 3 spatial axes"),
    ),
    cases=(
        _case((8, 5, 4, 2), 2),
        _case((8, 6, 5, 1), (3, 2), (2, 1), "SAME"),
        _case((1, 9, 2), 4, 3, ((1, 2),), batched=False),
        _case((2, 7, 1), 2, 3, batched=False),
        _case((1, 4, 5, 3, 2), (2, 3, 2), (1, 2, 3), ((1, 0), (1, 1), (0, 1)), batched=False),
        _case((0, 5, 5, 2), 3, 2, 1, batched=False),
    ),
)
