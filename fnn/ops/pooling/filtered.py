"""Pooling with a fixed filter f: y[n,p,c] = sum_t x[n, p s + t - l, c] f[t], the same f for every channel.

It is the depthwise convolution with constant weights, and runs as one; f receives no gradient.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.errors import InputError, require_floats, require_real_array
from fnn.ops.convolution import conv
from fnn.ops.window import Padding, missing_axis


def filter_pool(
    x: jax.Array, filter: jax.Array, *, stride: int | Sequence[int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """x: (N, *spatial, C) -> (N, *outputs, C): blur, then keep every stride-th value.

    With `filters.gaussian` this is the anti-aliased pooling of Zhang (2019, https://arxiv.org/abs/1904.11486).

    Args:
      x: (N, *spatial, C).
      filter: (*window), weights of the taps, a constant; `fnn.data.filters` has some.
      stride: step of the window; the window's size by default.
      padding: as for `fnn.ops.conv`.

    Raises:
      InputError: a filter whose rank is not the number of spatial axes; and what `fnn.ops.conv` raises.

    >>> import jax.numpy as jnp
    >>> filter_pool(jnp.ones((1, 4, 4, 3)), jnp.full((2, 2), 0.25)).shape
    (1, 2, 2, 3)
    """
    require_floats("filter_pool", x=x)
    require_real_array("filter_pool", "filter", filter)
    if filter.ndim != x.ndim - 2:
        expected = f"x of shape (N, *spatial, C) with as many spatial axes as the filter {filter.shape}"
        raise InputError("filter_pool", expected, f"x of shape {x.shape}", missing_axis(x.shape, filter.ndim))
    c = x.shape[-1]
    kernel = jnp.broadcast_to(filter[..., None, None], (*filter.shape, 1, c)).astype(x.dtype)
    stride = filter.shape if stride is None else stride
    return conv(x, lax.stop_gradient(kernel), stride=stride, padding=padding, groups=c)
