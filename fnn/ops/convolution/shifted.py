"""Depthwise convolution as shifted elementwise products; channel c makes the outputs c m, ..., c m + m - 1.

With one input channel a group there is no matrix product left: each tap multiplies a shifted view of x. XLA's CPU
backend runs this at the speed of memory, and its grouped convolution 10 to 900 times slower.
"""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.broadcast import beside
from fnn.core.dtypes import wide_dtype
from fnn.core.storage import kept
from fnn.ops.convolution.direct import each_tap, pad_axis, pad_spatial, tap_views
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.window import interleave

SLICES = 8  # bands of a long sum; 8 to 16 measured alike


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """One input channel a group."""
    return spec.groups > 1 and w.shape[-2] == 1


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """The sum over taps of a shifted x times the tap."""
    wide = wide_dtype(x)
    multiplier = w.shape[-1] // spec.groups
    taps = [
        jnp.repeat(view, multiplier, axis=-1).astype(wide) * beside(w[tap][0].astype(wide), view)
        for tap, view in tap_views(spec, x, w)
    ]
    return sum(taps[1:], taps[0]).astype(x.dtype)


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """For each residue r of the position mod stride, the sum of dy shifted back times the taps that reach it.

    Tap t reaches q = j s + r from p = j - m, where t d - l = m s + r. The residues are then interleaved.
    """
    wide = wide_dtype(dy)
    axes, rank, k = spec.axes(w), len(spec.sizes), w.shape[-1]
    reach = [[divmod(a.input_of(0, t), a.stride) for t in range(a.window)] for a in axes]
    counts = [-(-a.size // a.stride) for a in axes]
    fronts = [max(0, *(m for m, _ in taps)) for taps in reach]
    behind = [
        max(0, count - n - min(m for m, _ in taps))
        for taps, count, n in zip(reach, counts, dy.shape[1:-1], strict=True)
    ]
    dy = pad_spatial(dy, tuple(zip(fronts, behind, strict=True)))
    residues = []
    for residue in each_tap(spec.stride):
        total = jnp.zeros_like(_window(dy, [0] * rank, counts), wide)
        for tap in each_tap(w.shape[:-2]):
            shifts, remainders = zip(*(reach[i][t] for i, t in enumerate(tap)), strict=True)
            if remainders == residue:
                view = _window(dy, [front - m for front, m in zip(fronts, shifts, strict=True)], counts)
                total += view.astype(wide) * beside(w[tap][0].astype(wide), view)
        residues.append(total.reshape(*total.shape[:-1], spec.groups, k // spec.groups).sum(-1).astype(dy.dtype))
    dx = jnp.stack(residues, axis=1).reshape(dy.shape[0], *spec.stride, *counts, spec.groups)
    dx = interleave(dx.transpose(0, *[n for i in range(rank) for n in (1 + rank + i, 1 + i)], 1 + 2 * rank))
    return kept(_window(dx, [0] * rank, spec.sizes))  # or XLA would sum all taps again for every tap that reads dx


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """For each tap, the sum over positions of a shifted x times dy.

    XLA's CPU backend adds whole slices in vector code, but reduces leading axes one number at a time: so the rows are
    cut into `SLICES` bands that are added first, behind a barrier that keeps XLA from merging the two sums again. The
    padding has a row more than the forward pass needs, or XLA would keep that padded x from there to here.
    """
    wide = wide_dtype(x)
    multiplier = w.shape[-1] // spec.groups
    band = -(-dy.shape[1] // SLICES)
    bands = -(-dy.shape[1] // band)
    missing = bands * band - dy.shape[1]
    dy = pad_axis(dy, 1, 0, missing).astype(wide)
    (low, high), *others = spec.padding
    high += max(missing * spec.stride[0], 1)  # at least a row that no output reads
    spec = replace(spec, padding=((low, high), *others))
    partial_sums = []
    for _, view in tap_views(spec, x, w):
        view = view[:, : dy.shape[1]]
        product = jnp.repeat(view, multiplier, axis=-1).astype(wide) * dy
        partial_sums.append(sum(product[:, i * band : (i + 1) * band] for i in range(bands)))
    stacked = lax.optimization_barrier(jnp.stack(partial_sums))
    return stacked.sum(tuple(range(1, x.ndim))).reshape(w.shape).astype(w.dtype)


def _window(x: jax.Array, starts: Sequence[int], sizes: Sequence[int]) -> jax.Array:
    """The part of the spatial axes that begins at `starts`."""
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True), start=1):
        x = lax.slice_in_dim(x, start, start + size, axis=axis)
    return x
