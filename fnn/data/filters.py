"""Hand-made filters: float32 kernels that were designed, not learned.

They are written as convolution in neural networks applies them, which is cross-correlation: y[t] = sum_i x[t + i] f[i],
the filter is not flipped. To run one on every channel of an image:

    ops.conv(x, filters.depthwise_kernel(filters.sharpen(), 3), padding=1, groups=3)        # x: (N, H, W, 3)

Source: Gonzalez and Woods, Digital Image Processing (4th ed., 2018), sections 3.5 (smoothing), 3.6 (Laplacian and
sharpening) and 10.2 (Prewitt's and Sobel's operators).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import LARGEST, index_of, integer, real, require, require_real_array
from fnn.core.sizes import require_room
from fnn.core.words import described
from fnn.ops.window import integers_of


def vertical_edge() -> jax.Array:
    """(3, 3): positive where a bright left side meets a dark right side (Prewitt, 1970; the lectures' example).

    >>> print(vertical_edge())
    [[ 1.  0. -1.]
     [ 1.  0. -1.]
     [ 1.  0. -1.]]
    """
    return _table((1, 0, -1), (1, 0, -1), (1, 0, -1))


def horizontal_edge() -> jax.Array:
    """(3, 3): positive where a bright top meets a dark bottom; `vertical_edge` transposed.

    >>> print(horizontal_edge())
    [[ 1.  1.  1.]
     [ 0.  0.  0.]
     [-1. -1. -1.]]
    """
    return vertical_edge().T


def sobel_x() -> jax.Array:
    """(3, 3): 8 times the slope to the right, smoothed across it (Sobel and Feldman, 1968).

    Positive where brightness rises with x: the opposite sign of `vertical_edge`.

    >>> print(sobel_x())
    [[-1.  0.  1.]
     [-2.  0.  2.]
     [-1.  0.  1.]]
    """
    return _table((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))


def sobel_y() -> jax.Array:
    """(3, 3): 8 times the slope downwards; `sobel_x` transposed.

    >>> print(sobel_y())
    [[-1. -2. -1.]
     [ 0.  0.  0.]
     [ 1.  2.  1.]]
    """
    return sobel_x().T


def laplacian() -> jax.Array:
    """(3, 3): the sum of both second differences, d2/dx2 + d2/dy2; zero on every slope, loud at corners and spots.

    >>> print(laplacian())
    [[ 0.  1.  0.]
     [ 1. -4.  1.]
     [ 0.  1.  0.]]
    """
    return _table((0, 1, 0), (1, -4, 1), (0, 1, 0))


def sharpen() -> jax.Array:
    """(3, 3): the image minus its Laplacian; entries sum to 1, so flat regions keep their brightness.

    >>> print(sharpen())
    [[ 0. -1.  0.]
     [-1.  5. -1.]
     [ 0. -1.  0.]]
    """
    return _table((0, -1, 0), (-1, 5, -1), (0, -1, 0))


def box(size: int | Sequence[int]) -> jax.Array:
    """(h, w): the mean of a window.

    Args:
      size: one integer for a square, or one for each axis, in any number of axes.

    Raises:
      InputError: a size below 1.

    >>> print(box(2))
    [[0.25 0.25]
     [0.25 0.25]]
    """
    sizes = _sizes("box", size)
    return jnp.full(sizes, 1 / math.prod(sizes), jnp.float32)


def gaussian(size: int | Sequence[int], sigma: float) -> jax.Array:
    """(h, w): e^(-|i|^2 / 2 sigma^2), i from the window's centre, divided by its sum: a blur that keeps the brightness.

    Separable: the outer product of one such row for each axis.

    Args:
      size: one integer for a square, or one for each axis, in any number of axes; 6 sigma holds 99.7 % of the curve.
      sigma: standard deviation in pixels, > 0.

    Raises:
      InputError: a size below 1, or sigma not above 0.

    >>> print(np.round(np.asarray(gaussian(3, sigma=1.0), float), 3))
    [[0.075 0.124 0.075]
     [0.124 0.204 0.124]
     [0.075 0.124 0.075]]
    """
    sizes = _sizes("gaussian", size)
    sigma = real("gaussian", "a finite sigma > 0, in pixels", sigma, lambda s: s > 0, "use sigma=1.0, or size / 6")
    out = np.ones(())
    for n in sizes:
        i = np.arange(n) - (n - 1) / 2
        # Shifted by the smallest i^2: an even window has no pixel at its centre, and a tiny sigma would leave 0 / 0.
        row = np.exp(((i**2).min() - i**2) / (2 * sigma**2))
        out = np.multiply.outer(out, row / row.sum())
    return jnp.asarray(out, jnp.float32)


def depthwise_kernel(filter: jax.Array, channels: int) -> jax.Array:
    """filter: (h, w) -> (h, w, 1, channels): the kernel of `ops.conv` with groups=channels that filters each channel.

    Args:
      filter: any number of spatial axes.
      channels: of the images to filter, at least 1.

    Raises:
      InputError: channels below 1, or a filter without axes.

    >>> depthwise_kernel(box(3), 4).shape
    (3, 3, 1, 4)
    """
    require_real_array("depthwise_kernel", "filter", filter)
    filter = jnp.asarray(filter)
    require(filter.ndim >= 1, "depthwise_kernel", "a filter such as (h, w)", filter.shape, "give it spatial axes")
    channels = integer("depthwise_kernel", "channels", channels, fix="pass the image's last axis, x.shape[-1]")
    require_room("depthwise_kernel", (*filter.shape, 1, channels), filter.dtype)
    return jnp.broadcast_to(filter[..., None, None], (*filter.shape, 1, channels))


def _table(*rows: tuple[Any, ...]) -> jax.Array:
    return jnp.array(rows, jnp.float32)


def _sizes(where: str, size: int | Sequence[int]) -> tuple[int, ...]:
    n = index_of(size)
    sizes = (integers_of(size) or ()) if n is None else (n, n)
    ok = len(sizes) > 0 and all(1 <= n <= LARGEST for n in sizes)
    require(ok, where, "a size >= 1, one integer or one for each axis", described(size), "use size=3 or size=(3, 5)")
    require_room(where, sizes, jnp.float32)
    return sizes
