"""2-D convolution at stride 1 whose window is one row high, for all rows of the kernel at once; then shifted sums.

    z[n, p, q, (i, k)] = Σ_j,c x[n, p, q + j, c] w[i, j, c, k]        y[n, p, q, k] = Σ_i z[n, p + i, q, (i, k)]

The convolution has as many products as the usual one and fh K outputs instead of K, so few of them fill a core's
vectors all the same. Padding in front of the rows is never multiplied: its part of the sums is left out.
"""

from dataclasses import replace

import jax
from jax import lax

from fnn.core.dtypes import widen
from fnn.ops.convolution import direct
from fnn.ops.convolution.direct import mirrored, pad_axis
from fnn.ops.convolution.spec import ConvSpec


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """2-D, dense, stride and dilation 1."""
    return spec.slides_in_plane(w)


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve along the columns and add the rows where they belong."""
    fh, fw, c, k = w.shape
    (top, bottom), columns = spec.padding
    rows = x.shape[1]
    outputs = rows + top + bottom - fh + 1
    along = replace(spec, sizes=x.shape[1:-1], padding=((0, 0), columns))
    z = direct.forward(along, widen(x), widen(w).transpose(1, 2, 0, 3).reshape(1, fw, c, fh * k))
    parts = (lax.slice_in_dim(z, i * k, (i + 1) * k, axis=-1) for i in range(fh))
    placed = [pad_axis(part, 1, top - i, outputs - rows - top + i) for i, part in enumerate(parts)]
    return sum(placed[1:], placed[0]).astype(x.dtype)


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """At stride 1 this is a convolution of dy, too."""
    return forward(*mirrored(spec, dy, w))
