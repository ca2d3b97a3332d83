"""What windowed pooling shares: which inputs a window covers, and how cotangents travel back to them.

Along one axis with window f, stride s and l padded elements before, tap t of output p is input i = p s + t - l. Seen
from the input, i + l = b s + r is tap r of output b, tap s + r of output b - 1, and so on. With m[p, t] = 1 where
output p takes its tap t, else 0, the cotangent of the axis is

    dx[b s + r - l] = sum over q in 0 ... ceil(f / s) - 1 of m[b - q, q s + r] dy[b - q]

All terms are whole blocks of s inputs, so the sum is elementwise: a single term where windows do not overlap. Windows
of two or three axes go axis by axis, f_1 + f_2 taps instead of f_1 f_2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.core.errors import require, require_floats
from fnn.ops.window import Pairs, Sizes, output_sizes, pad_pairs, sizes_of

Ints = int | Sequence[int]
Padding = str | int | Sequence


@dataclass(frozen=True)
class Pool:
    """One entry a spatial axis: input sizes, window, stride, padding (before, after) and output sizes."""

    sizes: Sizes
    window: Sizes
    stride: Sizes
    pads: Pairs
    outputs: Sizes

    def reduce(self, x: jax.Array, start: float, combine) -> jax.Array:
        """`lax.reduce_window` over the spatial axes, padded with `start`."""
        start = np.array(start, x.dtype)
        return lax.reduce_window(
            x, start, combine, (1, *self.window, 1), (1, *self.stride, 1), ((0, 0), *self.pads, (0, 0))
        )

    def spread(self, dy: jax.Array, axis: int, index: jax.Array | None = None) -> jax.Array:
        """The module's formula along array axis `axis`, padding included: outputs take tap `index`, or all taps."""
        f, s, padded = self.window[axis - 1], self.stride[axis - 1], self.sizes[axis - 1] + sum(self.pads[axis - 1])
        overlap = -(-f // s)
        blocks = dy.shape[axis] + overlap - 1
        dx = 0
        for q in range(overlap):
            tap = np.arange(q * s, (q + 1) * s).reshape(-1, *(1,) * (dy.ndim - axis - 1))
            taken = tap < f if index is None else _delay(index, axis, q, blocks) == tap.astype(index.dtype)
            dx = dx + jnp.where(taken, _delay(dy, axis, q, blocks), 0)
        dx = dx.reshape(*dy.shape[:axis], blocks * s, *dy.shape[axis + 1 :])
        return _pad_axis(dx, axis, 0, padded - blocks * s)

    def crop(self, dx: jax.Array) -> jax.Array:
        """Drop what fell on the padding."""
        return dx[:, *(slice(low, low + n) for n, (low, _) in zip(self.sizes, self.pads, strict=True))]


def geometry(where: str, x: jax.Array, window: Ints, stride: Ints | None, padding: Padding) -> Pool:
    """Check x and the options of a pooling function."""
    sizes = spatial_sizes(where, x)
    window = sizes_of(where, "window", window, len(sizes))
    stride = window if stride is None else sizes_of(where, "stride", stride, len(sizes))
    ones = (1,) * len(sizes)
    pads = pad_pairs(where, padding, sizes, window, stride, ones)
    require(
        all(max(pair) < f for pair, f in zip(pads, window, strict=True)),
        where,
        f"padding smaller than the window {window}: a window of nothing but padding has no value",
        pads,
        "pad less, or use a larger window",
    )
    return Pool(sizes, window, stride, pads, output_sizes(where, sizes, window, stride, ones, pads))


def spatial_sizes(where: str, x: jax.Array) -> Sizes:
    """The spatial sizes of x: (N, *spatial, C), one to three of them, none empty."""
    require_floats(where, x=x)
    require(
        3 <= x.ndim <= 5,
        where,
        "x of shape (N, *spatial, C) with 1 to 3 spatial axes",
        x.shape,
        "add the missing axis: x[None] for a batch of one, x[..., None] for one channel",
    )
    sizes = x.shape[1:-1]
    require(min(sizes) >= 1, where, "spatial sizes >= 1", f"x of shape {x.shape}", "pool a non-empty input")
    return sizes


def _delay(x: jax.Array, axis: int, q: int, blocks: int) -> jax.Array:
    """x[b - q] for b in 0 ... blocks - 1, zero outside, with a new axis of size 1 after `axis`."""
    return jnp.expand_dims(_pad_axis(x, axis, q, blocks - q - x.shape[axis]), axis + 1)


def _pad_axis(x: jax.Array, axis: int, low: int, high: int) -> jax.Array:
    """Zeros before and after one axis; a negative number crops."""
    return lax.pad(x, np.zeros((), x.dtype), [(low, high, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])
