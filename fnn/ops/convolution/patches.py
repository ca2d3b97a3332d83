"""Convolution as one matrix product with patches: the inputs under each window, copied side by side (im2col).

The copies are as large as the window has taps times the input, so this serves small images. XLA's CPU backend needs
it where the window exceeds the image: there its own convolution takes up to 70 times as long.
"""

import jax
import jax.numpy as jnp

from fnn.core.dtypes import product, wide_product
from fnn.core.sharding import contract
from fnn.ops.convolution.direct import each_tap, pad_axis, tap_views
from fnn.ops.convolution.spec import ConvSpec


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Any dense convolution."""
    return spec.groups == 1


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Patches (N, *outputs, taps C) times kernel (taps C, K)."""
    patches, kernel = _patches(spec, x, w), w.reshape(-1, w.shape[-1])
    return product(patches, kernel, ((x.ndim - 1,), (0,)))


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """One product gives what each output sends to each tap; every tap is put back in its place and added."""
    *window, c, _ = w.shape
    sent = wide_product(dy, w, ((dy.ndim - 1,), (w.ndim - 1,)))
    dx = jnp.zeros((dy.shape[0], *spec.sizes, c), sent.dtype)
    for tap in each_tap(tuple(window)):
        part = sent[(slice(None),) * (dy.ndim - 1) + tap]
        for axis, (t, a) in enumerate(zip(tap, spec.axes(w), strict=True), start=1):
            front = a.input_of(0, t)
            part = pad_axis(part, axis, front, a.size - 1 - a.input_of(dy.shape[axis] - 1, t), a.stride - 1)
        dx += part
    return dx.astype(dy.dtype)


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Transposed patches times dy."""
    positions = tuple(range(x.ndim - 1))
    return contract(_patches(spec, x, w), dy, (positions, positions), like=w).reshape(w.shape)


def _patches(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """x -> (N, *outputs, taps C)."""
    return jnp.concatenate([view for _, view in tap_views(spec, x, w)], axis=-1)
