"""Which implementation of a convolution runs: one table for each of its three products.

Every implementation is exact. The first row whose condition is known to hold is taken, at trace time, on its platform;
the others take the next. `measured` names the row of benchmarks/results/operations.json that shows what the choice is
worth against automatic gradients; `python -m benchmarks.studies.layers` times the other implementations beside it.

Blocks of groups are dense convolutions, for which the same tables choose.
"""

import math
from collections.abc import Callable

import jax

from fnn.core.implementation import Implementation, Product, anything
from fnn.core.placement import whole_batch
from fnn.core.sharding import result_sharding
from fnn.kernels.library import lacking
from fnn.ops.convolution import (
    blocks,
    direct,
    disjoint,
    onednn,
    patches,
    phases,
    planes,
    rows,
    separable,
    shifted,
    wide,
    winograd,
)
from fnn.ops.convolution.spec import ConvSpec

MOST_TAPS = 64  # of a depthwise window: beyond this, unrolled shifts make the program long; blocks are taken
MOST_BLOCKS = 64  # of a grouped convolution: where it cannot loop, each is a convolution of its own in the program
FEW = 20  # channels that leave most of a core's vectors empty
MUCH = 1 << 26  # multiply-adds a tap: with fewer, Winograd wins under a millisecond a layer and compiles longer
COPIED = 1 << 18  # numbers of a kernel: copying more into oneDNN's layout, on one thread, takes longer than it gains
FULL = 8  # float32 in a vector of AVX2
TALL = 5  # rows of a window: at 3, the wide form is faster within a network, if not alone


def depthwise(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """One input channel a group."""
    return shifted.fits(spec, x, w) and math.prod(w.shape[:-2]) <= MOST_TAPS


def depthwise_back(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """The same, with strides that do not make the program long either."""
    return depthwise(spec, dy, w) and math.prod(spec.stride) <= MOST_TAPS


def grouped(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """Several groups, in a reasonable number of blocks."""
    return blocks.fits(spec, x, w) and blocks.count(spec, w) <= MOST_BLOCKS


def beyond(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """A window larger than the image it reads."""
    covered = zip(spec.axes(w), x.shape[1:-1], strict=True)
    return patches.fits(spec, x, w) and any(a.extent > n for a, n in covered)


def thin(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """At stride 1, few outputs."""
    return wide.fits(spec, x, w) and _few(*w.shape[-2:])


def thin_back(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """The same for the convolution that takes dy to dx."""
    return wide.fits(spec, dy, w) and _few(*w.shape[:-3:-1])


def _few(inputs: int, outputs: int) -> bool:
    return outputs <= FEW or (inputs <= 4 and outputs <= 32)


def thin_and_tall(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """At stride 1, few outputs of many more numbers a row of the window."""
    return _tall(spec, x, w, *w.shape[-2:])


def thin_and_tall_back(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """The same for the convolution that takes dy to dx."""
    return _tall(spec, dy, w, *w.shape[:-3:-1])


def _tall(spec: ConvSpec, x: jax.Array, w: jax.Array, inputs: int, outputs: int) -> bool:
    return rows.fits(spec, x, w) and outputs <= FEW and inputs >= 12 and w.shape[0] >= TALL


def thin_kernel(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """At stride 1, few outputs of very few inputs, or in a large window; on a batch that is not split."""
    *window, c, k = w.shape
    few = (c <= 2 and k <= 8) or (c >= 12 and k <= FEW and min(window) >= 5)
    return wide.fits(spec, x, w) and whole_batch(x) and few


def broad(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """3x3 at stride 1, many channels on both sides, and positions enough to repay the transformed kernel."""
    many = min(w.shape[-2:]) >= 64 and math.prod(x.shape[:-1]) >= 4096
    return winograd.fits(spec, x, w) and many and whole_batch(x)


def broad_kernel(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """The same, and so much work that it repays compiling the transforms of dy, too."""
    return broad(spec, x, w) and math.prod(x.shape[:-1]) * math.prod(w.shape[-2:]) >= MUCH


def single(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """One example under explicit axes: within vmap over a split axis, JAX refuses the convolution of all gradients."""
    return patches.fits(spec, x, w) and x.shape[0] == 1 and result_sharding(x) is not None


def balanced(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """At stride 1, 12 to 32 channels on both sides, in parts that fit the caches."""
    *window, c, k = w.shape
    some = max(window) <= 7 and min(c, k) >= 12 and max(c, k) <= 32
    return separable.fits(spec, x, w) and some and separable.parts_of(spec, x, w) > 0


def strided(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """Windows of two strides and more, or few inputs to receive the gradient."""
    long = all(a.window >= 2 * a.stride for a in spec.axes(w)) or w.shape[-2] <= 16
    return phases.fits(spec, dy, w) and max(spec.stride) > 1 and long


def compiled(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """By oneDNN: several examples, and a kernel that is copied in little time."""
    return compiled_kernel(spec, x, w) and x.shape[0] > 1


def compiled_back(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> bool:
    """The same, with inputs enough to fill a vector."""
    return compiled(spec, dy, w) and (spec.groups > 1 or w.shape[-2] >= FULL)


def compiled_kernel(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """The same, of one example too; oneDNN has depthwise windows over images alone."""
    slow = spec.groups > 1 and w.shape[-2] == 1 and w.ndim != 4
    return onednn.fits(spec, x, w) and math.prod(w.shape) <= COPIED and not slow


_ONE = "conv 1x1, 8x56x56x64 to 256"
_DEPTHWISE = "conv depthwise 3x3, 8x56x56x96"
_GROUPS = "conv 3x3 groups 32, 8x28x28x128"
_DEEP = "conv 3-D 3x3x3, 2x16x32x32x8 to 16"
_BEYOND = "conv 3x3, 32x2x2x512 to 512"
_THIN = "conv 5x5, 64x32x32x1 to 6"
_THIN_BACK = "conv 5x5, 64x14x14x6 to 16"
_BROAD = "conv 3x3, 8x28x28x128 to 128"


def _cpu(
    name: str, run: Callable, when: Callable, fits: Callable, measured: str, alone: bool = False
) -> Implementation:
    return Implementation(name=name, run=run, when=when, fits=fits, platform="cpu", measured=measured, alone=alone)


def _all(name: str, run: Callable, when: Callable, fits: Callable, measured: str = "") -> Implementation:
    return Implementation(name=name, run=run, when=when, fits=fits, measured=measured)


def _onednn(run: Callable, when: Callable) -> Implementation:
    return Implementation(name="onednn", run=run, when=when, fits=onednn.fits, platform="cpu", missing=lacking)


def _blocks_kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    return blocks.kernel_gradient(KERNEL_GRADIENT, spec, x, dy, w)


# alone: slower than direct where one array meets several kernels by vmap, see benchmarks/studies/loops.
FORWARD: Product = Product(
    "forward",
    _onednn(onednn.forward, compiled),
    _all("matmul", disjoint.forward, disjoint.fits, disjoint.fits, _ONE),
    _cpu("shifted", shifted.forward, depthwise, shifted.fits, _DEPTHWISE),
    _cpu("blocks", lambda *args: blocks.forward(FORWARD, *args), grouped, blocks.fits, _GROUPS),
    _cpu("planes", planes.forward, planes.fits, planes.fits, _DEEP),
    _cpu("patches", patches.forward, beyond, patches.fits, _BEYOND),
    _cpu("rows", rows.forward, thin_and_tall, rows.fits, "conv 5x5, 128x16x16x16 to 20"),
    _cpu("wide", wide.forward, thin, wide.fits, _THIN),
    _cpu("winograd", winograd.forward, broad, winograd.fits, _BROAD, alone=True),
    _all("direct", direct.forward, anything, anything),
)
INPUT_GRADIENT: Product = Product(
    "input gradient",
    _onednn(onednn.input_gradient, compiled_back),
    _all("matmul", disjoint.input_gradient, disjoint.fits, disjoint.fits, _ONE),
    _cpu("shifted", shifted.input_gradient, depthwise_back, shifted.fits, _DEPTHWISE),
    _cpu(
        "blocks", lambda spec, dy, w: blocks.input_gradient(INPUT_GRADIENT, spec, dy, w), grouped, blocks.fits, _GROUPS
    ),
    _cpu("planes", planes.input_gradient, planes.fits, planes.fits, _DEEP),
    _cpu("patches", patches.input_gradient, beyond, patches.fits, _BEYOND),
    _cpu("rows", rows.input_gradient, thin_and_tall_back, rows.fits, _THIN_BACK),
    _cpu("wide", wide.input_gradient, thin_back, wide.fits, _THIN_BACK),
    _cpu("winograd", winograd.input_gradient, broad, winograd.fits, _BROAD, alone=True),
    _cpu("phases", phases.input_gradient, strided, phases.fits, "conv 7x7 stride 2, 8x224x224x3 to 64"),
    _all("direct", direct.input_gradient, anything, anything),
)
KERNEL_GRADIENT: Product = Product(
    "kernel gradient",
    _onednn(onednn.kernel_gradient, compiled_kernel),
    _all("matmul", disjoint.kernel_gradient, disjoint.fits, disjoint.fits, _ONE),
    _all("patches", patches.kernel_gradient, single, patches.fits),
    _cpu("shifted", shifted.kernel_gradient, depthwise, shifted.fits, _DEPTHWISE),
    _cpu(
        "blocks",
        lambda spec, x, dy, w: blocks.kernel_gradient(KERNEL_GRADIENT, spec, x, dy, w),
        grouped,
        blocks.fits,
        _GROUPS,
    ),
    _cpu("planes", planes.kernel_gradient, planes.fits, planes.fits, _DEEP),
    _cpu("wide", wide.kernel_gradient, thin_kernel, wide.fits, _THIN),
    _cpu("separable", separable.kernel_gradient, balanced, separable.fits, "conv 3x3, 128x32x32x16 to 16", alone=True),
    _cpu("winograd", winograd.kernel_gradient, broad_kernel, winograd.fits, _BROAD, alone=True),
    _all("direct", direct.kernel_gradient, anything, anything),
)


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve x with w."""
    return FORWARD(spec, x, w)


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the adjoint of `forward` in x to dy."""
    return INPUT_GRADIENT(spec, dy, w)


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the adjoint of `forward` in w to dy; of w only shape, dtype and sharding count."""
    return KERNEL_GRADIENT(spec, x, dy, asks=(x, w), w=w)
