"""The input gradient of a strided convolution (and so the transposed convolution) without multiplying zeros.

With stride s, the inputs u s + r - l of phase r = 0, ..., s - 1 receive from the taps v s + r alone: T = ceil(f / s) of
them. All phases are the channels of one dense convolution of dy with a T-tap kernel, interleaved afterwards:

    z[n, u, (r, c)] = sum_v,k dy[n, u - v, k] w[v s + r, c, k]                dx[n, u s + r - l, c] = z[n, u, (r, c)]
"""

import math
from dataclasses import replace

import jax
from jax import lax

from fnn.ops.convolution import direct
from fnn.ops.convolution.direct import pad_axis
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.window import interleave


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Dense and without dilation, in any rank."""
    return spec.groups == 1 and set(spec.dilation) == {1}


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """One dense convolution for all phases, then depth to space."""
    axes, rank, (c, k) = spec.axes(w), len(spec.sizes), w.shape[-2:]
    taps = [-(-a.window // a.stride) for a in axes]
    for i, (a, t) in enumerate(zip(axes, taps, strict=True)):
        w = pad_axis(w, i, 0, t * a.stride - a.window)
    w = w.reshape(*[n for a, t in zip(axes, taps, strict=True) for n in (t, a.stride)], c, k)
    w = lax.rev(w, range(0, 2 * rank, 2))
    w = w.transpose(*range(0, 2 * rank, 2), 2 * rank + 1, *range(1, 2 * rank, 2), 2 * rank)
    w = w.reshape(*taps, k, math.prod(spec.stride) * c)

    first = [a.low // a.stride for a in axes]
    counts = [(a.size - 1 + a.low) // a.stride - u + 1 for a, u in zip(axes, first, strict=True)]
    padding = tuple(
        (t - 1 - u, q - 1 + u - (o - 1)) for t, u, q, o in zip(taps, first, counts, dy.shape[1:-1], strict=True)
    )
    z = direct.forward(replace(spec, stride=(1,) * rank, padding=padding), dy, w)
    z = z.reshape(dy.shape[0], *counts, *spec.stride, c)
    z = interleave(z.transpose(0, *[n for i in range(rank) for n in (1 + i, 1 + rank + i)], 1 + 2 * rank))
    for axis, (a, u) in enumerate(zip(axes, first, strict=True), start=1):
        start = a.low - u * a.stride
        z = lax.slice_in_dim(z, start, start + a.size, axis=axis)
    return z
