"""Grouped convolution as a few dense ones: neighbouring groups merged into blocks with block-diagonal kernels.

A block of m groups multiplies m times too many numbers, but XLA's CPU backend runs dense convolutions 3 to 200 times
faster than grouped ones. Zeros outside the diagonal change no finite value; an infinity or NaN reaches its whole block.
Each block is computed as the tables of `conv_forms` say for a dense convolution of its size.
"""

from dataclasses import replace
from types import ModuleType

import jax
import jax.numpy as jnp

from fnn.ops.conv_direct import ConvSpec

BLOCK = 16  # channels of a block: beat 32 and 64 in 4 and 32 groups of 8x28x28x128 and of ResNeXt's layers


def fits(spec: ConvSpec, w: jax.Array) -> bool:
    """Several groups."""
    return spec.groups > 1


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve each block of x with its block-diagonal kernel."""
    kernels = _kernels(spec, w)
    dense, parts = replace(spec, groups=1), jnp.split(x, len(kernels), axis=-1)
    return jnp.concatenate([_forms().forward(dense, a, b) for a, b in zip(parts, kernels, strict=True)], axis=-1)


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the adjoint of each block's convolution."""
    kernels = _kernels(spec, w)
    dense, parts = replace(spec, groups=1), jnp.split(dy, len(kernels), axis=-1)
    return jnp.concatenate([_forms().input_gradient(dense, a, b) for a, b in zip(parts, kernels, strict=True)], axis=-1)


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Keep the diagonal of each block's kernel gradient."""
    *window, c, k = w.shape
    merged, blocks = _merged(spec, w), count(spec, w)
    like, *_ = jax.eval_shape(lambda w: _kernels(spec, w), w)
    dense, diagonal = replace(spec, groups=1), []
    for a, b in zip(jnp.split(x, blocks, axis=-1), jnp.split(dy, blocks, axis=-1), strict=True):
        dw = _forms().kernel_gradient(dense, a, b, like).reshape(*window, merged, c, merged, k // spec.groups)
        diagonal += [dw[..., i, :, i, :] for i in range(merged)]
    return jnp.concatenate(diagonal, axis=-1)


def _forms() -> ModuleType:
    from fnn.ops import conv_forms  # its tables have this module among their rows

    return conv_forms


def count(spec: ConvSpec, w: jax.Array) -> int:
    """Number of blocks."""
    return spec.groups // _merged(spec, w)


def _merged(spec: ConvSpec, w: jax.Array) -> int:
    """Most groups that divide evenly and fill no more than `BLOCK` channels."""
    widest = max(w.shape[-2], w.shape[-1] // spec.groups)
    return max(m for m in range(1, spec.groups + 1) if spec.groups % m == 0 and (m == 1 or m * widest <= BLOCK))


def _kernels(spec: ConvSpec, w: jax.Array) -> list[jax.Array]:
    *window, c, k = w.shape
    m = _merged(spec, w)
    blocks, each = spec.groups // m, k // spec.groups
    eye = jnp.eye(m, dtype=w.dtype)[:, None, None, :, None]  # (row group, c, block, column group, k)
    wide = w.reshape(*window, 1, c, blocks, m, each) * eye
    wide = wide.reshape(*window, m * c, blocks, m * each)
    return [wide[..., b, :] for b in range(blocks)]
