"""Which formulation of a convolution runs: one table for each of its three products.

Every formulation is exact. The choice is made at trace time from static shapes; what is only good on XLA's CPU backend
is chosen there alone, and any other platform gets the direct form.
"""

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.sharding import contract
from fnn.ops import conv_blocks as blocks
from fnn.ops import conv_direct as direct
from fnn.ops import conv_disjoint as disjoint
from fnn.ops import conv_shifted as shifted
from fnn.ops.conv_direct import ConvSpec, pad_axis

MOST_TAPS = 64  # beyond this, unrolled shifts make the program long and the direct form is not far behind
MOST_COPIES = 1 << 22  # entries (16 MiB of float32): larger temporaries cost more in page faults than they save


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve x with w."""
    return _choose(_family(spec, w).forward, direct.forward, spec, x, w)


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the adjoint of `forward` in x to dy."""
    return _choose(_family(spec, w).input_gradient, direct.input_gradient, spec, dy, w)


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the adjoint of `forward` in w to dy; of w only shape, dtype and sharding count."""
    family = _family(spec, w)
    separable = family is direct and _separable(spec, w, x.shape[0])
    cpu = kernel_gradient_separable if separable else family.kernel_gradient
    return _choose(cpu, direct.kernel_gradient, spec, x, dy, w)


def _family(spec: ConvSpec, w: jax.Array) -> ModuleType:
    if _disjoint(spec, w):
        return disjoint
    if _depthwise(spec, w):
        return shifted
    return blocks if spec.groups > 1 else direct


def _choose(cpu: Callable, other: Callable, spec: ConvSpec, *args: jax.Array) -> jax.Array:
    """`cpu` on that platform and `other` elsewhere, but matrix products everywhere."""
    if cpu is other or cpu.__module__ == disjoint.__name__:
        return cpu(spec, *args)
    return lax.platform_dependent(*args, cpu=partial(cpu, spec), default=partial(other, spec))


def _disjoint(spec: ConvSpec, w: jax.Array) -> bool:
    window = w.shape[:-2]
    return spec.groups == 1 and all(
        (f - 1) * d < s and (f == 1 or d == 1) for f, s, d in zip(window, spec.stride, spec.dilation, strict=True)
    )


def _depthwise(spec: ConvSpec, w: jax.Array) -> bool:
    return spec.groups > 1 and w.shape[-2] == 1 and math.prod(w.shape[:-2]) <= MOST_TAPS


def _separable(spec: ConvSpec, w: jax.Array, batch: int) -> bool:
    if not (set(spec.stride) == set(spec.dilation) == {1} and w.ndim == 4):
        return False
    fh, fw, c, k = w.shape
    copies = batch * math.prod(spec.sizes) * max(fw * c, fh * k)
    return copies <= MOST_COPIES and max(fh, fw) <= 7 and (c == 1 or 32 <= min(c, k) <= 128)


def kernel_gradient_separable(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """2-D, stride 1: row patches of x against column copies of dy, all taps in one product (fw c) by (fh k)."""
    fh, fw, c, k = w.shape
    height, width = dy.shape[1:3]
    (top, _), (left, _) = spec.padding
    x = pad_axis(x, 1, top, height + fh - 1 - x.shape[1] - top)
    x = pad_axis(x, 2, left, width + fw - 1 - x.shape[2] - left)
    rows = jnp.concatenate([x[:, :, j : j + width] for j in range(fw)], axis=-1)
    columns = jnp.concatenate([pad_axis(dy, 1, i, fh - 1 - i) for i in range(fh)], axis=-1)
    dw = contract(rows, columns, ((0, 1, 2), (0, 1, 2)), like=w)
    return dw.reshape(fw, c, fh, k).transpose(2, 0, 1, 3)
