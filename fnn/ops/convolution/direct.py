"""The three products of a convolution, each as one XLA convolution.

They are sums over the same triples (output position p, tap t, input position q = p s + t d - l), for stride s, dilation
d and padding l in front:

    y[n,p,k]  = sum_t,c  x[n,q,c]  w[t,c,k]
    dx[n,q,c] = sum_t,k  dy[n,p,k] w[t,c,k]
    dw[t,c,k] = sum_n,p  x[n,q,c]  dy[n,p,k]
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from fnn.core.sharding import result_sharding
from fnn.core.sizes import fixed
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.window import Pairs, Sizes

AXES = "DHW"


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """XLA's own convolution."""
    axes = AXES[-len(spec.sizes) :]
    return _convolve(
        x,
        w,
        spec.stride,
        spec.padding,
        rhs_dilation=spec.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=spec.groups,
    )


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Spread dy by the stride and convolve it with the flipped kernel, inputs and outputs of each group exchanged."""
    dy = _filled(dy)
    axes = AXES[-len(spec.sizes) :]
    rank = len(spec.sizes)
    flipped = lax.rev(exchange(spec.groups, w), range(rank))
    padding = []
    for a, o in zip(spec.axes(w), dy.shape[1:-1], strict=True):
        front = a.extent - 1 - a.low
        padding.append((front, a.size + a.extent - 2 - (o - 1) * a.stride - front))
    return _convolve(
        dy,
        flipped,
        (1,) * rank,
        padding,
        lhs_dilation=spec.stride,
        rhs_dilation=spec.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=spec.groups,
    )


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve x with dy as the kernel: channels play the batch, the batch the channels; stride and dilation swap.

    XLA's CPU backend runs a convolution fast in one layout alone, batch first and channels last. It turns others into
    it in a program's entry, but not in bodies of loops and branches of conditionals, where they take 20 to 50 times as
    long: so x and dy are transposed here. Elsewhere XLA chooses layouts itself, and on GPUs it knows a kernel gradient
    by the exchanged dimensions.
    """
    dy = _filled(dy)
    canonical, other = (partial(form, spec, w=w) for form in (_canonical, _elsewhere(x)))
    return lax.platform_dependent(x, dy, cpu=canonical, default=other)


def _elsewhere(x: jax.Array) -> Callable[..., jax.Array]:
    """XLA's own form, unless it could be wrong.

    Per-example gradients (vmap, a batch of one example inside) become one convolution with a group for each example.
    Where these groups are split among devices, XLA's partitioner (JAX 0.10.2) computes another sum if the groups have
    one channel and the dimensions are exchanged: so does `jax.grad` of a convolution. In canonical form it is right.
    """
    return _canonical if x.shape[0] == 1 else _exchanged


def _exchanged(spec: ConvSpec, x: jax.Array, dy: jax.Array, *, w: jax.Array) -> jax.Array:
    axes = AXES[-len(spec.sizes) :]
    dw = _convolve(
        x,
        dy,
        spec.dilation,
        _kernel_padding(spec, dy, w),
        rhs_dilation=spec.stride,
        dimension_numbers=(f"C{axes}N", f"I{axes}O", f"{axes}NC"),
        batch_group_count=spec.groups,
        out_sharding=result_sharding(w),
    )
    return dw.astype(w.dtype)


def _canonical(spec: ConvSpec, x: jax.Array, dy: jax.Array, *, w: jax.Array) -> jax.Array:
    axes = AXES[-len(spec.sizes) :]
    places = range(1, x.ndim - 1)
    sharding = result_sharding(w)
    if sharding is not None:
        names: list[Any] = [*sharding.spec, *[None] * (w.ndim - len(sharding.spec))]
        *window, c, k = names
        sharding = sharding.update(spec=PartitionSpec(c, *window, k))
    dw = _convolve(
        x.transpose(x.ndim - 1, *places, 0),
        dy.transpose(*places, 0, x.ndim - 1),
        spec.dilation,
        _kernel_padding(spec, dy, w),
        rhs_dilation=spec.stride,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        batch_group_count=spec.groups,
        out_sharding=sharding,
    )
    return dw.transpose(*places, 0, x.ndim - 1).astype(w.dtype)


def _kernel_padding(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> list[tuple[int, int]]:
    axes = zip(spec.axes(w), dy.shape[1:-1], strict=True)
    return [(a.low, a.extent + (o - 1) * a.stride - a.size - a.low) for a, o in axes]


def _convolve(
    x: jax.Array, w: jax.Array, stride: Sizes, padding: Sequence[tuple[int, int]], **options: Any
) -> jax.Array:
    """`lax.conv_general_dilated`; symbolic padding, which it refuses, and negative goes around x first.

    XLA's CPU backend (JAX 0.10.2) computes garbage in float32 where negative padding crops x in front in one axis and
    behind in another. The spatial axes are neither first nor last in x, as in all layouts here.
    """
    amounts = [*itertools.chain(*padding)]
    if not fixed(*amounts) or min(amounts) < 0:
        between = options.pop("lhs_dilation", (1,) * len(padding))
        inner = [(low, high, s - 1) for (low, high), s in zip(padding, between, strict=True)]
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])
        padding = ((0, 0),) * len(padding)
    return lax.conv_general_dilated(x, w, stride, padding, **options)


def _filled(dy: jax.Array) -> jax.Array:
    """dy itself, its symbolic sizes now known to be 1 or more: JAX takes an axis of none for none when dilated."""
    more = [0 if isinstance(n, int) else jax.core.max_dim(n, 1) - n for n in dy.shape[1:-1]]
    return pad_spatial(dy, tuple((0, m) for m in more))


def mirrored(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> tuple[ConvSpec, jax.Array, jax.Array]:
    """At stride 1 the input gradient is itself a convolution: its (spec, x, w)."""
    axes = zip(spec.axes(w), dy.shape[1:-1], strict=True)
    padding = tuple((a.extent - 1 - a.low, a.size - o + a.low) for a, o in axes)
    flipped = lax.rev(exchange(spec.groups, w), range(len(spec.sizes)))
    return replace(spec, sizes=dy.shape[1:-1], padding=padding), dy, flipped


def exchange(groups: int, w: jax.Array) -> jax.Array:
    """The same taps with inputs and outputs exchanged group by group: (*window, C/g, K) -> (*window, K/g, C)."""
    *window, c, k = w.shape
    split = w.reshape(*window, c, groups, k // groups)
    return split.swapaxes(-3, -1).reshape(*window, k // groups, groups * c)


def pad_axis(x: jax.Array, axis: int, before: int, after: int, between: int = 0) -> jax.Array:
    """Zeros around and between the entries of one axis; negative amounts crop."""
    if before == after == between == 0:
        return x
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (before, after, between)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def pad_spatial(x: jax.Array, pairs: Pairs) -> jax.Array:
    """Zeros around all spatial axes at once, as XLA may store what each of several steps gives; negative pairs crop."""
    if not any(map(any, pairs)):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *[(low, high, 0) for low, high in pairs], (0, 0, 0)])


def each_tap(window: Sizes) -> Iterator[Sizes]:
    """All positions in a window, in row-major order."""
    return itertools.product(*map(range, window))


def tap_views(spec: ConvSpec, x: jax.Array, w: jax.Array) -> Iterator[tuple[Sizes, jax.Array]]:
    """For each tap t, the inputs x[p s + t d - l] of all outputs p."""
    x = pad_spatial(x, spec.padding)
    for tap in each_tap(w.shape[:-2]):
        view = x
        for axis, (t, a) in enumerate(zip(tap, spec.axes(w), strict=True), start=1):
            outputs = (x.shape[axis] - a.extent) // a.stride + 1
            start = t * a.dilation
            view = lax.slice_in_dim(view, start, start + (outputs - 1) * a.stride + 1, a.stride, axis=axis)
        yield tap, view
