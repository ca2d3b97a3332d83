"""Convolution whose windows do not overlap (1x1, patches, stride at least the window): a matrix product in disguise.

Cut x into blocks of one stride and keep the window's part of each block: x -> (N, o_1, f_1, o_2, f_2, ..., C). Then the
three products are those of a dense layer from f_1 f_2 ... C to K, on every platform.
"""

import jax
from jax import lax

from fnn.core.dtypes import product
from fnn.core.sharding import contract
from fnn.ops.convolution.direct import pad_axis, pad_spatial
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.window import Sizes, interleave


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Dense, with windows no larger than the stride."""
    return spec.groups == 1 and all(a.extent <= a.stride and 1 in (a.window, a.dilation) for a in spec.axes(w))


def _blocks(spec: ConvSpec, x: jax.Array, w: jax.Array, outputs: Sizes) -> jax.Array:
    """x -> (N, o_1, f_1, o_2, f_2, ..., C): the inputs under each window."""
    for i, (a, o) in enumerate(zip(spec.axes(w), outputs, strict=True)):
        axis = 1 + 2 * i
        x = pad_axis(x, axis, a.low, o * a.stride - a.size - a.low)
        x = x.reshape(*x.shape[:axis], o, a.stride, *x.shape[axis + 1 :])
        x = lax.slice_in_dim(x, 0, a.window, axis=axis + 1)
    return x


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Blocks times kernel."""
    rank = len(spec.sizes)
    blocks = _blocks(spec, x, w, tuple(a.outputs for a in spec.axes(w)))
    taps = (*range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return product(blocks, w, (taps, tuple(range(rank + 1))))


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Multiply dy by the transposed kernel and put the products back under the windows."""
    rank, (*window, c, k) = len(spec.sizes), w.shape
    kernel = w.reshape(c, k) if set(window) == {1} else w  # of a matrix XLA's CPU backend needs no transposed copy
    dx = product(dy, kernel, ((rank + 1,), (kernel.ndim - 1,)))
    dx = dx.reshape(*dy.shape[:-1], *window, c)
    places = [a for i in range(rank) for a in (1 + i, 1 + rank + i)]
    dx = dx.transpose(0, *places, 2 * rank + 1)
    for i, a in enumerate(spec.axes(w)):
        dx = pad_axis(dx, 2 + 2 * i, 0, a.stride - a.window)
    dx = interleave(dx)
    return pad_spatial(
        dx, tuple((-a.low, a.size + a.low - n) for a, n in zip(spec.axes(w), dx.shape[1:-1], strict=True))
    )


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Transposed blocks times dy."""
    rank = len(spec.sizes)
    blocks = _blocks(spec, x, w, dy.shape[1:-1])
    blocks = blocks.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    positions = tuple(range(rank + 1))
    return contract(blocks, dy, (positions, positions), like=w)
