"""3-D convolution as one 2-D convolution of planes: depth joins the batch, the taps along depth join the channels.

XLA's CPU backend runs 3-D convolutions 4 to 20 times slower than 2-D ones of the same size.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.dtypes import widen
from fnn.ops.convolution import direct
from fnn.ops.convolution.direct import pad_axis
from fnn.ops.convolution.spec import ConvSpec


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Any dense 3-D convolution."""
    return w.ndim == 5 and spec.groups == 1


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve the stacked planes."""
    flat, stacked = _stacked(spec, x, w)
    y = direct.forward(flat, stacked, _kernel(w))
    return y.reshape(x.shape[0], spec.axes(w)[0].outputs, *y.shape[1:])


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Each tap along depth sends its planes back; they are put in their places and added."""
    depth, c = w.shape[0], w.shape[-2]
    flat, outputs, along = _flat(spec), dy.shape[1], spec.axes(w)[0]
    planes = direct.input_gradient(flat, _merge(widen(dy)), widen(_kernel(w)))
    planes = planes.reshape(dy.shape[0], outputs, *spec.sizes[1:], depth * c)
    dx: Any = 0
    for t in range(depth):
        part = lax.slice_in_dim(planes, t * c, (t + 1) * c, axis=-1)
        behind = along.size - 1 - along.input_of(outputs - 1, t)
        dx += pad_axis(part, 1, along.input_of(0, t), behind, along.stride - 1)
    return dx.astype(dy.dtype)


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """The 2-D kernel's gradient, its channels unfolded into depth and channels."""
    depth, fh, fw, c, k = w.shape
    flat, stacked = _stacked(spec, x, w)
    dw = direct.kernel_gradient(flat, stacked, _merge(dy), jax.eval_shape(_kernel, w))
    return dw.reshape(fh, fw, depth, c, k).transpose(2, 0, 1, 3, 4)


def _flat(spec: ConvSpec) -> ConvSpec:
    """The same without depth."""
    names = ("sizes", "stride", "padding", "dilation")
    return replace(spec, **{name: getattr(spec, name)[1:] for name in names})


def _stacked(spec: ConvSpec, x: jax.Array, w: jax.Array) -> tuple[ConvSpec, jax.Array]:
    """x -> (N outputs, H, W, depth taps times C)."""
    along = spec.axes(w)[0]
    x = pad_axis(x, 1, along.low, along.high)
    reach = (along.outputs - 1) * along.stride + 1
    starts = [t * along.dilation for t in range(along.window)]
    taps = [lax.slice_in_dim(x, start, start + reach, along.stride, axis=1) for start in starts]
    stacked = jnp.concatenate(taps, axis=-1)
    return _flat(spec), _merge(stacked)


def _merge(a: jax.Array) -> jax.Array:
    """(N, depth, H, W, C) -> (N depth, H, W, C)."""
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])


def _kernel(w: jax.Array) -> jax.Array:
    """(depth, fh, fw, C, K) -> (fh, fw, depth C, K)."""
    depth, fh, fw, c, k = w.shape
    return w.transpose(1, 2, 0, 3, 4).reshape(fh, fw, depth * c, k)
