"""Adaptive average pooling: the output size is given, the bins follow from it.

Along an axis of n inputs and o outputs, bin p holds the inputs floor(p n / o) <= i < ceil((p + 1) n / o). Bins overlap
where o does not divide n, and repeat inputs where o > n. The mean of every bin is a product with a constant matrix, one
an axis, and the cotangent is the product with its transpose:

    y = A x,    A[p,i] = 1 / (size of bin p) for i in bin p, else 0,    dx = A^T dy

Source: the bins are those of `torch.nn.AdaptiveAvgPool2d`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.core.cases import case
from fnn.core.dtypes import wide_dtype, widen
from fnn.core.rule import Rule
from fnn.core.sizes import fixed, require_room
from fnn.ops.pooling.average import avg_pool
from fnn.ops.pooling.whole import global_avg_pool
from fnn.ops.pooling.windows import spatial_sizes
from fnn.ops.window import Ints, Sizes, require_same_rank, sizes_given, sizes_of


@dataclass(frozen=True)
class Bins:
    """Input and output sizes, one entry a spatial axis."""

    sizes: Sizes
    outputs: Sizes

    def matrices(self, dtype) -> list[tuple[int, jax.Array]]:
        """Every spatial axis of x and its A, (output, input)."""
        matrices = []
        for axis, (n, o) in enumerate(zip(self.sizes, self.outputs, strict=True), 1):
            start, end = _bin(jnp.arange(o)[:, None], n, o)
            i = jnp.arange(n)[None]
            matrices.append((axis, ((start <= i) & (i < end)).astype(dtype) / (end - start).astype(dtype)))
        return matrices


def adaptive_avg_pool(x: jax.Array, output_size: Ints) -> jax.Array:
    """x: (N, *spatial, C) -> (N, *output_size, C): means over bins that cover the input evenly.

    Where the output size divides the input this is `avg_pool`, or `global_avg_pool` for 1, whose rules then count.

    Args:
      x: (N, *spatial, C), one to three spatial axes; finite, as inf or NaN reaches every bin along its axes unless the
        output size divides the input.
      output_size: one integer or one a spatial axis, also larger than the input.

    Raises:
      InputError: integer x, wrong rank, empty spatial axes, an output size below 1.

    >>> import jax.numpy as jnp
    >>> adaptive_avg_pool(jnp.arange(5.0).reshape(1, 5, 1), 2).ravel().tolist()
    [1.0, 3.0]
    """
    output_size = sizes_given("adaptive_avg_pool", "output_size", output_size)
    sizes = spatial_sizes("adaptive_avg_pool", x, require_same_rank("adaptive_avg_pool", output_size=output_size))
    outputs = sizes_of("adaptive_avg_pool", "output_size", output_size, len(sizes))
    require_room("adaptive_avg_pool", (x.shape[0], *outputs, x.shape[-1]), x.dtype)
    pairs = [*zip(sizes, outputs, strict=True)]
    if set(outputs) == {1}:
        return jnp.expand_dims(global_avg_pool(x), range(1, x.ndim - 1))
    if fixed(*sizes) and all(n % o == 0 for n, o in pairs):
        return avg_pool(x, tuple(n // o for n, o in pairs))
    return rule(Bins(sizes, outputs), x)


def _bin(p, n, o):
    return p * n // o, -(-(p + 1) * n // o)


def _multiply(matrices, x):
    """A product along one axis after the other."""
    y = widen(x)
    for axis, a in matrices:
        y = jnp.moveaxis(jnp.tensordot(y, a, (axis, 1), precision=lax.Precision.HIGHEST), -1, axis)
    return y.astype(x.dtype)


def _forward(spec: Bins, x):
    return _multiply(spec.matrices(wide_dtype(x)), x)


def _fwd(spec: Bins, x):
    return _forward(spec, x), ()


def _bwd(spec: Bins, residuals, dy):
    return (_multiply([(axis, a.T) for axis, a in reversed(spec.matrices(wide_dtype(dy)))], dy),)


def _reference(spec: Bins, x):
    y = jnp.zeros((x.shape[0], *spec.outputs, x.shape[-1]), x.dtype)
    for p in np.ndindex(*spec.outputs):
        bins = [slice(*_bin(*axis)) for axis in zip(p, spec.sizes, spec.outputs, strict=True)]
        y = y.at[:, *p].set(x[:, *bins].mean(tuple(range(1, x.ndim - 1))))
    return y


rule = Rule(
    name="adaptive_avg_pool",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=(
        (lambda: adaptive_avg_pool(jnp.ones((2, 4, 4, 2)), 0), "output_size >= 1"),
        (lambda: adaptive_avg_pool(jnp.ones((2, 4, 4, 2)), (1, 2, 3)), "3 spatial axes, one for each"),
    ),
    cases=(
        case(Bins((5, 4), (2, 3)), (8, 5, 4, 2)),
        case(Bins((3,), (7,)), (1, 3, 2), batched=False),
        case(Bins((4, 3, 5), (2, 1, 3)), (2, 4, 3, 5, 1), batched=False),
        case(Bins((2, 2), (1, 2)), (0, 2, 2, 3), batched=False),
    ),
)
