"""2-D convolution at stride 1 in which b neighbouring output pixels of a row become b K channels of one.

The b windows lie in one window b - 1 wider, which moves in steps of b:

    wide[i, j, c, (r, k)] = w[i, j - r, c, k], or 0 outside        y[n, p, q b + r, k] = wide y[n, p, q, (r, k)]

It multiplies (f + b - 1) / f times as many numbers, but few output channels leave most of a core's vectors empty.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from fnn.core.dtypes import widen
from fnn.core.placement import whole_batch
from fnn.ops.convolution import direct
from fnn.ops.convolution.direct import mirrored
from fnn.ops.convolution.spec import ConvSpec


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """2-D, dense, stride and dilation 1; a row may be cut into twos or fours (an odd one is computed directly)."""
    return spec.slides_in_plane(w)


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve with the wide kernel and unfold its channels into pixels."""
    (low, high), width = spec.padding[1], w.shape[1]
    outputs = x.shape[2] + low + high - width + 1
    b = _neighbours(outputs, w)
    if b == 1:
        return direct.forward(spec, x, w)
    y = direct.forward(replace(spec, stride=(1, b)), x, _widen(w, b))
    y = y.reshape(*y.shape[:-1], b, w.shape[-1])  # in two steps: all that a sharded reshape allows
    return y.reshape(*y.shape[:2], outputs, w.shape[-1])


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """At stride 1 this is a convolution of dy, too."""
    return forward(*mirrored(spec, dy, w))


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Fold dy's pixels into channels; the adjoint of the widening adds the b copies of each tap.

    Directly where devices may hold parts of the batch: they would add all the copies up before they are merged.
    """
    b = _neighbours(dy.shape[2], w)
    if b == 1 or not whole_batch(x, dy):
        return direct.kernel_gradient(spec, x, dy, w)
    fh, fw, c, k = w.shape
    folded = dy.reshape(*dy.shape[:2], dy.shape[2] // b, b, k).reshape(*dy.shape[:2], dy.shape[2] // b, b * k)
    like = jax.eval_shape(lambda w: widen(_widen(w, b)), w)
    dw = direct.kernel_gradient(replace(spec, stride=(1, b)), widen(x), widen(folded), like)
    dw = dw.reshape(fh, fw + b - 1, c, b, k)
    return sum((dw[:, r : r + fw, :, r] for r in range(1, b)), dw[:, :fw, :, 0]).astype(w.dtype)


def _neighbours(outputs: int, w: jax.Array) -> int:
    """Four pixels for few channels, else two; one where the row cannot be cut so."""
    *_, c, k = w.shape
    return next((b for b in ((4, 2) if c <= 4 or k <= 8 else (2,)) if outputs % b == 0), 1)


def _widen(w: jax.Array, b: int) -> jax.Array:
    fh, fw, c, k = w.shape
    shifted = [jnp.pad(w, ((0, 0), (r, b - 1 - r), (0, 0), (0, 0))) for r in range(b)]
    return jnp.stack(shifted, axis=3).reshape(fh, fw + b - 1, c, b * k)
