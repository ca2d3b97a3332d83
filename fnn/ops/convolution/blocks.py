"""Grouped convolution as a few dense ones: neighbouring groups merged into blocks with block-diagonal kernels.

A block of m groups multiplies m times too many numbers, but XLA's CPU backend runs dense convolutions 3 to 200 times
faster than grouped ones. Zeros outside the diagonal change no finite value; an infinity or NaN reaches its whole block.
Each block is computed as the tables say for a dense convolution of its size.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.broadcast import beside
from fnn.core.implementation import Product, forced
from fnn.core.placement import whole_batch
from fnn.core.sharding import align
from fnn.ops.convolution.spec import ConvSpec

MANY = 8  # blocks are worth a loop; fewer compile soon enough
BLOCK = 16  # channels of a block: beat 32 and 64 in 4 and 32 groups of 8x28x28x128 and of ResNeXt's layers


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Several groups."""
    return spec.groups > 1


def forward(dense: Product, spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve each block of x with its block-diagonal kernel, by `dense`, which convolves without groups."""
    return _each(count(spec, w), partial(dense, replace(spec, groups=1)), x, _kernels(spec, w))


def input_gradient(dense: Product, spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the adjoint of each block's convolution."""
    return _each(count(spec, w), partial(dense, replace(spec, groups=1)), dy, _kernels(spec, w))


def kernel_gradient(dense: Product, spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Keep the diagonal of each block's kernel gradient."""
    *window, c, k = w.shape
    m, blocks = _merged(spec, w), count(spec, w)
    like = jax.eval_shape(lambda w: _part(_kernels(spec, w), blocks, 0), w)

    def block(x: jax.Array, dy: jax.Array) -> jax.Array:
        dw = dense(replace(spec, groups=1), x, dy, asks=(x, like), w=like)
        dw = dw.reshape(*window, m, c, m, k // spec.groups)
        return jnp.stack([dw[..., i, :, i, :] for i in range(m)], axis=-2).reshape(*window, c, -1)

    return _each(blocks, block, x, dy)


def _each(blocks: int, product: Callable[..., jax.Array], a: jax.Array, b: jax.Array) -> jax.Array:
    """`product` of each pair of blocks of the last axes, results side by side: many in a loop, which is compiled once.

    Not where the batch may be split among devices. Inside, no implementation is forced: that was this one.
    """

    def run(x: jax.Array, y: jax.Array) -> jax.Array:
        with forced(""):
            return product(x, y)

    if blocks < MANY or not whole_batch(a):
        return jnp.concatenate([run(_part(a, blocks, i), _part(b, blocks, i)) for i in range(blocks)], axis=-1)
    block = jax.eval_shape(run, *(jax.eval_shape(lambda x: _part(x, blocks, 0), x) for x in (a, b)))

    def put(i: jax.Array, y: jax.Array) -> jax.Array:
        new = run(_part(a, blocks, i), _part(b, blocks, i))
        return lax.dynamic_update_slice_in_dim(y, new, i * block.shape[-1], y.ndim - 1)

    zero, *_ = align(jnp.zeros((*block.shape[:-1], blocks * block.shape[-1]), block.dtype), a, b)
    return lax.fori_loop(0, blocks, put, zero)


def _part(x: jax.Array, blocks: int, i: int | jax.Array) -> jax.Array:
    """Block i of the last axis."""
    size = x.shape[-1] // blocks
    if isinstance(i, int):
        return lax.slice_in_dim(x, i * size, (i + 1) * size, axis=x.ndim - 1)
    return lax.dynamic_slice_in_dim(x, i * size, size, axis=x.ndim - 1)


def count(spec: ConvSpec, w: jax.Array) -> int:
    """Number of blocks."""
    return spec.groups // _merged(spec, w)


def _merged(spec: ConvSpec, w: jax.Array) -> int:
    """Most groups that divide evenly and fill no more than `BLOCK` channels."""
    widest = max(w.shape[-2], w.shape[-1] // spec.groups)
    return max(m for m in range(1, spec.groups + 1) if spec.groups % m == 0 and (m == 1 or m * widest <= BLOCK))


def _kernels(spec: ConvSpec, w: jax.Array) -> jax.Array:
    """The blocks' block-diagonal kernels side by side: (*window, m c, K)."""
    *window, c, k = w.shape
    m = _merged(spec, w)
    blocks, each = spec.groups // m, k // spec.groups
    w = w.reshape(*window, 1, c, blocks, m, each)
    eye = jnp.eye(m, dtype=w.dtype)[:, None, None, :, None]  # (row group, c, block, column group, k)
    return (w * beside(eye, w)).reshape(*window, m * c, k)
