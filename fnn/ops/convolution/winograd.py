"""3x3 convolution at stride 1 by Winograd's minimal filtering: 16 products for the four outputs of a tile, not 36.

Along one axis, two outputs of three taps w from four inputs d are y = Aᵀ (G w * Bᵀ d), with * entry by entry:

    Bᵀ d = (d0 - d2, d1 + d2, d2 - d1, d1 - d3)        G w = (w0, (w0 + w1 + w2) / 2, (w0 - w1 + w2) / 2, w2)
    Aᵀ m = (m0 + m1 + m2, m1 - m2 - m3)

and in 2-D the same along both. Summed over channels, each of the 16 entries is one matrix product of tiles by C with
C by K; four at a time are one batched product, which compiles sooner. Halves and sums are all that rounding adds:
float32 keeps its accuracy. For dw the same 16 products are of tiles of x and tiles of dy, and summed over all tiles:

    dw = Gᵀ sum (Bᵀ d * A e)        A e = (e0, e0 + e1, e0 - e1, -e1)

An infinity in a tile may become a NaN in all that the tile takes part in.

Tiles are made for a few examples at a time: they are four times as large as x, and beyond the caches cost more than
they save. Source: Lavin and Gray, Fast algorithms for convolutional neural networks (2016), section 4.1,
https://arxiv.org/abs/1509.09308.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.dtypes import wide_dtype
from fnn.core.placement import whole_batch
from fnn.core.sharding import align
from fnn.core.sizes import fixed
from fnn.ops.convolution import direct
from fnn.ops.convolution.direct import mirrored, pad_axis
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.window import interleave

ENTRIES = 8 << 20  # of transformed inputs and products at a time: 32 MiB in float32; 6 and 12 Mi measured alike


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """2-D, dense, 3x3, stride and dilation 1."""
    return w.shape[:-2] == (3, 3) and spec.slides_in_plane(w)


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Transform, multiply, transform back."""
    height, width = (a.outputs for a in spec.axes(w))
    kernels = _kernels(w.astype(wide_dtype(w)))

    def tiles(x: jax.Array) -> jax.Array:
        columns = []
        for row, kernel in zip(_input_tiles(spec, x, height, width), kernels, strict=True):
            products = lax.dot_general(_flat(row), kernel, (((2,), (1,)), ((0,), (0,))))
            columns.append(_outputs(products.reshape(4, *row[0].shape[:-1], w.shape[-1])))
        rows = [_outputs([column[j] for column in columns]) for j in range(2)]
        y = interleave(jnp.stack([jnp.stack([row[i] for row in rows], 3) for i in range(2)], 2))
        return y[:, :height, :width].astype(x.dtype)

    parts = _parts(x, height, width, w)
    if parts == 1:
        return tiles(x)
    return lax.map(tiles, _split(x, parts)).reshape(x.shape[0], height, width, w.shape[-1])


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """At stride 1 this is a convolution of dy, too."""
    return forward(*mirrored(spec, dy, w))


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Transform both, multiply, transform back; directly where devices may hold parts of the batch."""
    if not whole_batch(x, dy):
        return direct.kernel_gradient(spec, x, dy, w)
    wide = wide_dtype(w)
    *_, c, k = w.shape
    _, height, width, _ = dy.shape

    def add(totals: list[jax.Array], part: tuple[jax.Array, jax.Array]) -> tuple[list[jax.Array], None]:
        some_x, some_dy = part
        rows = zip(totals, _input_tiles(spec, some_x, height, width), _output_tiles(some_dy), strict=True)
        axes = (((1,), (1,)), ((0,), (0,)))
        return [total + lax.dot_general(_flat(d), _flat(e), axes) for total, d, e in rows], None

    parts = _parts(x, height, width, w)
    zeros = [align(jnp.zeros((4, c, k), wide), x, dy)[0] for _ in range(4)]
    totals, _ = lax.scan(add, zeros, (_split(x, parts), _split(dy, parts)))
    dw = jnp.matmul(_taps(wide).T, jnp.stack(totals).reshape(16, -1), precision=lax.Precision.HIGHEST)
    return dw.reshape(w.shape).astype(w.dtype)


def _flat(row: list[jax.Array]) -> jax.Array:
    """Four arrays (N, tiles, tiles, C) as the batch of one product: (4, all tiles, C)."""
    return jnp.stack(row).reshape(4, -1, row[0].shape[-1])


def _input_tiles(spec: ConvSpec, x: jax.Array, height: int, width: int) -> list[list[jax.Array]]:
    """Bᵀ d along both axes: [row][column] of 16 arrays (N, tiles, tiles, C)."""
    (top, _), (left, _) = spec.padding
    return [_inputs(row, 2) for row in _inputs(_even(x.astype(wide_dtype(x)), top, left, height, width), 1)]


def _output_tiles(dy: jax.Array) -> list[list[jax.Array]]:
    """A e along both axes: [row][column] of 16 arrays (N, tiles, tiles, K)."""
    dy = dy.astype(wide_dtype(dy))
    for axis in (1, 2):
        dy = pad_axis(dy, axis, 0, dy.shape[axis] % 2)
    return [_spread(row, 2) for row in _spread(dy, 1)]


def _spread(dy: jax.Array, axis: int) -> list[jax.Array]:
    e0, e1 = (lax.slice_in_dim(dy, i, None, 2, axis) for i in range(2))
    return [e0, e0 + e1, e0 - e1, -e1]


def _even(x: jax.Array, top: int, left: int, height: int, width: int) -> jax.Array:
    """x from `top` zeros above and `left` before it on, so large that tiles of two outputs fill it."""
    for axis, (low, n) in enumerate(((top, height), (left, width)), start=1):
        x = pad_axis(x, axis, low, n + n % 2 + 2 - low - x.shape[axis])
    return x


def _inputs(x: jax.Array, axis: int) -> list[jax.Array]:
    tiles = x.shape[axis] // 2 - 1
    d0, d1, d2, d3 = (lax.slice_in_dim(x, i, i + 2 * tiles - 1, 2, axis) for i in range(4))
    return [d0 - d2, d1 + d2, d2 - d1, d1 - d3]


def _outputs(m: Sequence[jax.Array] | jax.Array) -> tuple[jax.Array, jax.Array]:
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


def _kernels(w: jax.Array) -> jax.Array:
    """G w along both axes, one product with all coefficients: (4, 4, C, K). Exact: every product uses it."""
    flat = jnp.matmul(_taps(w.dtype), w.reshape(9, -1), precision=lax.Precision.HIGHEST)
    return flat.reshape(4, 4, *w.shape[2:])


def _taps(dtype: jax.typing.DTypeLike) -> jax.Array:
    """G along both axes: (16, 9)."""
    along = jnp.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype)
    return jnp.kron(along, along)


def _parts(x: jax.Array, height: int, width: int, w: jax.Array) -> int:
    """The fewest equal parts of the batch whose tiles fill at most `ENTRIES`, or single examples.

    One part where its size is symbolic, or it may be split among devices: the tables do not choose this form there.
    """
    batch = x.shape[0]
    if not (whole_batch(x) and fixed(batch)):
        return 1
    each = 4 * (height + 1) * (width + 1) * (w.shape[-2] + w.shape[-1])
    equal = (p for p in range(1, batch + 1) if batch % p == 0)
    return next((p for p in equal if batch // p * each <= ENTRIES), max(batch, 1))


def _split(x: jax.Array, parts: int) -> jax.Array:
    return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])
