"""Which formulation of a convolution runs: one table for each of its three products.

Every formulation is exact. The first row of a table whose condition is known to hold is taken, at trace time. Where
`jax.export` leaves the batch symbolic, conditions on it are not; spatial sizes must be numbers for all but rows for
every platform.
Rows for "cpu" count on that platform alone, through `lax.platform_dependent`; elsewhere the next row for all platforms
does. `measured` names the row of benchmarks/results/operations.json that shows what the choice is worth against
automatic gradients; `python -m benchmarks.layers` times the other formulations beside it.
"""

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import NamedTuple

import jax
from jax import lax

from fnn.core.mapped import unless_mapped
from fnn.core.sharding import result_sharding, whole_batch
from fnn.core.sizes import fixed, known
from fnn.ops.convolution import blocks, direct, patches, phases, planes, rows, separable, shifted, wide, winograd
from fnn.ops.convolution import disjoint as matmul
from fnn.ops.convolution.direct import ConvSpec

MOST_TAPS = 64  # of a depthwise window: beyond this, unrolled shifts make the program long; blocks are taken
MOST_BLOCKS = 64  # of a grouped convolution: where it cannot loop, each is a convolution of its own in the program
FEW = 20  # channels that leave most of a core's vectors empty
MUCH = 1 << 26  # multiply-adds a tap: with fewer, Winograd wins under a millisecond a layer and compiles longer
TALL = 5  # rows of a window: at 3, the wide form is faster within a network, if not alone


class Row(NamedTuple):
    """A formulation, the condition under which it is taken, the platforms on which ("" for all), the measurement."""

    formulation: ModuleType
    when: Callable[[ConvSpec, jax.Array, jax.Array], bool]  # of spec, the array that is not the kernel, and the kernel
    platform: str
    measured: str


def always(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """The last row's condition."""
    return True


def depthwise(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """One input channel a group."""
    return shifted.fits(spec, w) and math.prod(w.shape[:-2]) <= MOST_TAPS


def depthwise_back(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """The same, with strides that do not make the program long either."""
    return depthwise(spec, dy, w) and math.prod(spec.stride) <= MOST_TAPS


def grouped(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Several groups, in a reasonable number of blocks."""
    return blocks.fits(spec, w) and blocks.count(spec, w) <= MOST_BLOCKS


def disjoint(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Windows that do not overlap."""
    return matmul.fits(spec, w)


def deep(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """3-D and dense."""
    return planes.fits(spec, w)


def beyond(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """A window larger than the image it reads."""
    extents = [(f - 1) * d + 1 for f, d in zip(w.shape[:-2], spec.dilation, strict=True)]
    return patches.fits(spec, w) and any(e > n for e, n in zip(extents, x.shape[1:-1], strict=True))


def thin(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """At stride 1, few outputs."""
    return wide.fits(spec, w) and _few(*w.shape[-2:])


def thin_back(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """The same for the convolution that takes dy to dx."""
    return wide.fits(spec, w) and _few(*w.shape[:-3:-1])


def _few(inputs: int, outputs: int) -> bool:
    return outputs <= FEW or (inputs <= 4 and outputs <= 32)


def thin_and_tall(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """At stride 1, few outputs of many more numbers a row of the window."""
    return _tall(spec, w, *w.shape[-2:])


def thin_and_tall_back(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """The same for the convolution that takes dy to dx."""
    return _tall(spec, w, *w.shape[:-3:-1])


def _tall(spec: ConvSpec, w: jax.Array, inputs: int, outputs: int) -> bool:
    return rows.fits(spec, w) and outputs <= FEW and inputs >= 12 and w.shape[0] >= TALL


def thin_kernel(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """At stride 1, few outputs of very few inputs, or in a large window; on a batch that is not split."""
    *window, c, k = w.shape
    few = (c <= 2 and k <= 8) or (c >= 12 and k <= FEW and min(window) >= 5)
    return wide.fits(spec, w) and whole_batch(x) and few


def broad(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """3x3 at stride 1, many channels on both sides, and positions enough to repay the transformed kernel."""
    many = min(w.shape[-2:]) >= 64 and math.prod(x.shape[:-1]) >= 4096
    return winograd.fits(spec, w) and many and whole_batch(x)


def broad_kernel(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """The same, and so much work that it repays compiling the transforms of dy, too."""
    return broad(spec, x, w) and math.prod(x.shape[:-1]) * math.prod(w.shape[-2:]) >= MUCH


def single(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """One example under explicit axes: within vmap over a split axis, JAX refuses the convolution of all gradients."""
    return patches.fits(spec, w) and x.shape[0] == 1 and result_sharding(x) is not None


def balanced(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """At stride 1, 12 to 32 channels on both sides, in parts that fit the caches."""
    *window, c, k = w.shape
    some = max(window) <= 7 and min(c, k) >= 12 and max(c, k) <= 32
    return separable.fits(spec, w) and some and separable.parts_of(spec, x, w) > 0


def strided(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """Windows of two strides and more, or few inputs to receive the gradient."""
    pairs = [*zip(w.shape[:-2], spec.stride, strict=True)]
    long = all(f >= 2 * s for f, s in pairs) or w.shape[-2] <= 16
    return phases.fits(spec, w) and max(spec.stride) > 1 and long


FORWARD = (
    Row(matmul, disjoint, "", "conv 1x1, 8x56x56x64 to 256"),
    Row(shifted, depthwise, "cpu", "conv depthwise 3x3, 8x56x56x96"),
    Row(blocks, grouped, "cpu", "conv 3x3 groups 32, 8x28x28x128"),
    Row(planes, deep, "cpu", "conv 3-D 3x3x3, 2x16x32x32x8 to 16"),
    Row(patches, beyond, "cpu", "conv 3x3, 32x2x2x512 to 512"),
    Row(rows, thin_and_tall, "cpu", "conv 5x5, 128x16x16x16 to 20"),
    Row(wide, thin, "cpu", "conv 5x5, 64x32x32x1 to 6"),
    Row(winograd, broad, "cpu", "conv 3x3, 8x28x28x128 to 128"),
    Row(direct, always, "", ""),
)
INPUT_GRADIENT = (
    Row(matmul, disjoint, "", "conv 1x1, 8x56x56x64 to 256"),
    Row(shifted, depthwise_back, "cpu", "conv depthwise 3x3, 8x56x56x96"),
    Row(blocks, grouped, "cpu", "conv 3x3 groups 32, 8x28x28x128"),
    Row(planes, deep, "cpu", "conv 3-D 3x3x3, 2x16x32x32x8 to 16"),
    Row(patches, beyond, "cpu", "conv 3x3, 32x2x2x512 to 512"),
    Row(rows, thin_and_tall_back, "cpu", "conv 5x5, 64x14x14x6 to 16"),
    Row(wide, thin_back, "cpu", "conv 5x5, 64x14x14x6 to 16"),
    Row(winograd, broad, "cpu", "conv 3x3, 8x28x28x128 to 128"),
    Row(phases, strided, "cpu", "conv 7x7 stride 2, 8x224x224x3 to 64"),
    Row(direct, always, "", ""),
)
KERNEL_GRADIENT = (
    Row(matmul, disjoint, "", "conv 1x1, 8x56x56x64 to 256"),
    Row(patches, single, "", ""),
    Row(shifted, depthwise, "cpu", "conv depthwise 3x3, 8x56x56x96"),
    Row(blocks, grouped, "cpu", "conv 3x3 groups 32, 8x28x28x128"),
    Row(planes, deep, "cpu", "conv 3-D 3x3x3, 2x16x32x32x8 to 16"),
    Row(wide, thin_kernel, "cpu", "conv 5x5, 64x32x32x1 to 6"),
    Row(separable, balanced, "cpu", "conv 3x3, 128x32x32x16 to 16"),
    Row(winograd, broad_kernel, "cpu", "conv 3x3, 8x28x28x128 to 128"),
    Row(direct, always, "", ""),
)
ALONE = (separable, winograd)  # slower than direct where one array meets several kernels by vmap: benchmarks/loops
FORMULATIONS = {
    "matmul": matmul,
    "shifted": shifted,
    "blocks": blocks,
    "planes": planes,
    "patches": patches,
    "wide": wide,
    "rows": rows,
    "phases": phases,
    "separable": separable,
    "winograd": winograd,
    "direct": direct,
}
NAMES = tuple(FORMULATIONS)


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve x with w."""
    return _run(FORWARD, "forward", spec, x, w, x, w)


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the adjoint of `forward` in x to dy."""
    return _run(INPUT_GRADIENT, "input_gradient", spec, dy, w, dy, w)


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the adjoint of `forward` in w to dy; of w only shape, dtype and sharding count."""
    return _run(KERNEL_GRADIENT, "kernel_gradient", spec, x, w, x, dy, w=w)


def chosen(table: tuple[Row, ...], spec: ConvSpec, x: jax.Array, w: jax.Array) -> Row:
    """The row that counts on CPU."""
    return next(row for row in table if known(row.when, spec, x, w))


def _run(
    table: tuple[Row, ...],
    product: str,
    spec: ConvSpec,
    x: jax.Array,
    kernel: jax.Array,
    *args: jax.Array,
    **shape: jax.Array | jax.ShapeDtypeStruct,
) -> jax.Array:
    """`x` and `kernel` for the choice, the rest for the product. What `shape` has may come from `eval_shape`: no array.

    A forced formulation runs wherever it has this product.
    """
    if spec.formulation is not None:
        forced = FORMULATIONS[spec.formulation]
        fits = hasattr(forced, product) and forced.fits(spec, kernel)
        return getattr(forced if fits else direct, product)(spec, *args, **shape)
    there = next(row for row in table if not row.platform and known(row.when, spec, x, kernel))
    here = chosen(table, spec, x, kernel) if fixed(*x.shape[1:-1], *spec.sizes) else there
    shape = jax.eval_shape(lambda **shape: shape, **shape)  # a program must not hold arrays of which it reads the shape
    run, other, plain = (
        partial(getattr(form, product), spec, **shape) for form in (here.formulation, there.formulation, direct)
    )
    if here.formulation in ALONE:
        run = partial(unless_mapped, run, plain)
    return run(*args) if here is there else lax.platform_dependent(*args, default=other, **{here.platform: run})
