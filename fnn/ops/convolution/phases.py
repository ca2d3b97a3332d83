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


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Dense and without dilation, in any rank."""
    return spec.groups == 1 and set(spec.dilation) == {1}


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """One dense convolution for all phases, then depth to space."""
    *window, c, k = w.shape
    rank, stride, fronts = len(window), spec.stride, [low for low, _ in spec.padding]
    taps = [-(-f // s) for f, s in zip(window, stride, strict=True)]
    for i, (f, s, t) in enumerate(zip(window, stride, taps, strict=True)):
        w = pad_axis(w, i, 0, t * s - f)
    w = w.reshape(*[a for pair in zip(taps, stride, strict=True) for a in pair], c, k)
    w = lax.rev(w, range(0, 2 * rank, 2))
    w = w.transpose(*range(0, 2 * rank, 2), 2 * rank + 1, *range(1, 2 * rank, 2), 2 * rank)
    w = w.reshape(*taps, k, math.prod(stride) * c)

    first = [low // s for low, s in zip(fronts, stride, strict=True)]
    counts = [(n - 1 + low) // s - a + 1 for n, low, s, a in zip(spec.sizes, fronts, stride, first, strict=True)]
    padding = tuple(
        (t - 1 - a, q - 1 + a - (o - 1)) for t, a, q, o in zip(taps, first, counts, dy.shape[1:-1], strict=True)
    )
    z = direct.forward(replace(spec, stride=(1,) * rank, padding=padding), dy, w)
    z = z.reshape(dy.shape[0], *counts, *stride, c)
    z = z.transpose(0, *[a for i in range(rank) for a in (1 + i, 1 + rank + i)], 1 + 2 * rank)
    for i, (s, low, a, n) in enumerate(zip(stride, fronts, first, spec.sizes, strict=True)):
        z = z.reshape(*z.shape[: 1 + i], z.shape[1 + i] * s, *z.shape[3 + i :])
        z = lax.slice_in_dim(z, low - a * s, low - a * s + n, axis=1 + i)
    return z
