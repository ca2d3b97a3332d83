"""What windowed pooling shares: which inputs a window covers, and how cotangents travel back to them.

With window f, stride s and l padded elements before, tap t of output p is input i = p s + t - l. Seen from the input,
i + l = b s + r is tap r of output b, tap s + r of output b - 1, and so on. With m[p, t] = 1 where output p takes its
tap t, else 0,

    dx[b s + r - l] = sum over q = 0 ... ceil(f / s) - 1 of m[b - q, q s + r] dy[b - q]

where p, t, i, b, r and q have one entry a spatial axis. Every term fills whole blocks of s inputs, so the sum is
elementwise, and a single term where windows do not overlap.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge, lt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.core.errors import InputError, require, require_floats
from fnn.core.sizes import fixed, possible, require_room
from fnn.ops.window import (
    Axis,
    Ints,
    Padding,
    Pairs,
    Sizes,
    axes_of,
    interleave,
    missing_axis,
    output_sizes,
    pad_pairs,
    padded_sizes,
    require_same_rank,
    sizes_given,
    sizes_of,
    useful_stride,
)

# Above this, f_1 + f_2 taps in two passes beat f_1 f_2 taps in one: max pooling is 1.4 times as fast in one pass over
# 3 x 3 and 4 x 4 windows, in two over 5 x 5, and nearly 3 times in two over 7 x 7. It also keeps programs short.
MANY_TAPS = 16


@dataclass(frozen=True)
class Pool:
    """One entry a spatial axis: input sizes, window, stride, padding (before, after) and output sizes."""

    sizes: Sizes
    window: Sizes
    stride: Sizes
    pads: Pairs
    outputs: Sizes

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Its spatial axes."""
        return axes_of(self.sizes, self.window, self.stride, (1,) * len(self.sizes), self.pads)

    def reduce(self, x: jax.Array, start: float, combine: Callable) -> jax.Array:
        """`lax.reduce_window` over the spatial axes, padded with `start`."""
        first = np.array(start, x.dtype)
        pads: Any = ((0, 0), *self.pads, (0, 0))
        if not fixed(*itertools.chain(*pads)):  # which XLA's windows refuse
            x, pads = lax.pad(x, first, [(low, high, 0) for low, high in pads]), "VALID"
        return lax.reduce_window(x, first, combine, (1, *self.window, 1), (1, *self.stride, 1), pads)

    def spread(self, dy: jax.Array, index: jax.Array | None = None) -> jax.Array:
        """The module's formula: every output takes the tap whose row-major number is `index`, or all of its taps."""
        rank = len(self.sizes)
        overlap = [-(-f // s) for f, s in zip(self.window, self.stride, strict=True)]
        blocks = [o + c - 1 for o, c in zip(self.outputs, overlap, strict=True)]
        around = [(c - 1, c - 1, 0) for c in overlap]
        dy, index = _pad(dy, around), None if index is None else _pad(index, around)

        def delay(a: jax.Array, q: Sizes) -> jax.Array:
            """a[b - q] for all blocks b, zero outside, with an axis for the residues after every spatial axis."""
            starts = [c - 1 - i for c, i in zip(overlap, q, strict=True)]
            a = a[:, *(slice(i, i + n) for i, n in zip(starts, blocks, strict=True))]
            return jnp.expand_dims(a, tuple(range(2, 2 * rank + 1, 2)))

        dx: Any = 0
        for q in np.ndindex(*overlap):
            number = self._tap_numbers(q)
            taken = number >= 0 if index is None else delay(index, q) == number.astype(index.dtype)
            dx = dx + jnp.where(taken, delay(dy, q), 0)
        dx = interleave(dx)
        return _pad(dx, [(-a.low, a.low + a.size - n, 0) for a, n in zip(self.axes, dx.shape[1:-1], strict=True)])

    def _tap_numbers(self, q: Sizes) -> np.ndarray:
        """Row-major number of tap q s + r for every residue r, -1 outside the window; (1, 1, s_1, 1, s_2, 1, ...)."""
        taps = [i * s + np.arange(s) for i, s in zip(q, self.stride, strict=True)]
        numbers = np.arange(math.prod(self.window)).reshape(self.window)
        numbers = np.pad(numbers, [(0, int(t[-1]) + 1) for t in taps], constant_values=-1)[np.ix_(*taps)]
        return np.expand_dims(numbers, (0, 1, *range(3, 2 * len(taps) + 2, 2)))

    def split(self) -> tuple["Pool", ...]:
        """The same pooling one axis after the other, last axis first, where a window has many taps."""
        if math.prod(self.window) <= MANY_TAPS:
            return (self,)
        return tuple(self._along(a) for a in reversed(range(len(self.sizes))))

    def _along(self, a: int) -> "Pool":
        """The pass over spatial axis `a`, after those over all later axes."""

        def only(ours: tuple, theirs: tuple) -> tuple:
            return theirs[:a] + ours[a : a + 1] + theirs[a + 1 :]

        rank = len(self.sizes)
        return Pool(
            self.sizes[: a + 1] + self.outputs[a + 1 :],
            only(self.window, (1,) * rank),
            only(self.stride, (1,) * rank),
            only(self.pads, ((0, 0),) * rank),
            self.sizes[:a] + self.outputs[a:],
        )


def geometry(where: str, x: jax.Array, window: Ints, stride: Ints | None, padding: Padding) -> Pool:
    """Check x and the options of a pooling function."""
    window = sizes_given(where, "window", window)
    stride = window if stride is None else sizes_given(where, "stride", stride)
    sizes = spatial_sizes(where, x, require_same_rank(where, window=window, stride=stride))
    window = sizes_of(where, "window", window, len(sizes))
    stride = sizes_of(where, "stride", stride, len(sizes))
    ones = (1,) * len(sizes)
    pads = pad_pairs(where, padding, sizes, window, stride, ones)
    require(
        all(possible(lt, p, f) for pair, f in zip(pads, window, strict=True) for p in pair),
        where,
        f"padding smaller than the window {window}: a window of nothing but padding has no value",
        pads,
        "pad less, or use a larger window",
    )
    require_room(where, (x.shape[0], *padded_sizes(sizes, pads), x.shape[-1]), x.dtype)
    outputs = output_sizes(where, sizes, window, stride, ones, pads)
    return Pool(sizes, window, useful_stride(stride, sizes, pads, outputs), pads, outputs)


def spatial_sizes(where: str, x: jax.Array, rank: int | None = None) -> Sizes:
    """The spatial sizes of x: (N, *spatial, C), one to three of them, `rank` if that is known, none empty."""
    require_floats(where, x=x)
    if rank is not None and x.ndim != rank + 2 and 1 <= rank <= 3:
        expected = f"x of shape (N, *spatial, C) with {rank} spatial axes, one for each entry of its options"
        raise InputError(where, expected, f"x of shape {x.shape}", missing_axis(x.shape, rank))
    require(
        3 <= x.ndim <= 5,
        where,
        "x of shape (N, *spatial, C) with 1 to 3 spatial axes",
        x.shape,
        "add the missing axis: x[None] for a batch of one, x[..., None] for one channel",
    )
    sizes = x.shape[1:-1]
    filled = all(possible(ge, n, 1) for n in sizes)
    require(filled, where, "spatial sizes >= 1", f"x of shape {x.shape}", "pool a non-empty input")
    return sizes


def _pad(x: jax.Array, pads: Sequence[tuple[int, int, int]]) -> jax.Array:
    """Zeros around the spatial axes; a negative number crops."""
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
