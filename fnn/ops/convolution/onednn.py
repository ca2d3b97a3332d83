"""The three products of a convolution as oneDNN computes them, in 1-D to 3-D with groups, stride and dilation.

oneDNN counts axes (N, C, *spatial) and kernels (groups, K/groups, C/groups, *window), and is told where each lies, so
channels stay last. It asks for kernels in blocks of channels; copies into and out of them happen inside the call.
"""

from typing import Any

import jax

from fnn.core.dtypes import wide_dtype, widen
from fnn.core.placement import whole_batch
from fnn.core.sizes import fixed
from fnn.kernels import plan as p
from fnn.kernels.call import bound, call
from fnn.kernels.library import computes
from fnn.kernels.plan import Memory, Plan, dense
from fnn.ops.convolution import direct
from fnn.ops.convolution.spec import ConvSpec

_DIRECT = 1  # oneDNN's algorithm


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """A dtype that it knows, a batch that nothing splits, sizes known and none of them 0, nothing cropped."""
    sizes = (*x.shape, *w.shape, *spec.sizes)
    if not computes(x, w) or not fixed(*sizes) or min(sizes) < 1:
        return False
    if min(a.outputs for a in spec.axes(w)) < 1 or min(map(min, spec.padding)) < 0:
        return False
    return whole_batch(x)


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve x with w."""
    plan = bound(_plan, p.CONVOLUTION, spec, ("x", "w"), "y", None)
    return call(plan, bound(direct.forward, spec), bound(_fold, forward, spec), x, w)


def input_gradient(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Spread dy over what each output read."""
    plan = bound(_plan, p.CONVOLUTION_INPUT, spec, ("y", "w"), "x", None)
    return call(plan, bound(direct.input_gradient, spec), bound(_fold, input_gradient, spec), dy, w)


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, *, w: jax.Array) -> jax.Array:
    """Sum over batch and positions: each slice of the batch leaves a sum of its own, and these are added, wide."""
    like = jax.ShapeDtypeStruct(w.shape, w.dtype)
    plan = bound(_plan, p.CONVOLUTION_KERNEL, spec, ("x", "y"), "w", like)
    return call(plan, bound(_plain_kernel_gradient, spec, like), None, x, dy).astype(w.dtype)


def _plain_kernel_gradient(spec: ConvSpec, w: Any, x: jax.Array, dy: jax.Array) -> jax.Array:
    return widen(direct.kernel_gradient(spec, x, dy, w=w))


def _fold(product: Any, spec: ConvSpec, args: tuple[Any, Any], mapped: tuple[bool, bool]) -> jax.Array | None:
    """Members that share the kernel are one batch."""
    a, w = args
    if mapped != (True, False) or a.shape[0] == 0:
        return None
    many = product(spec, a.reshape(-1, *a.shape[2:]), w)
    return many.reshape(a.shape[0], -1, *many.shape[1:])


def _plan(kind: int, spec: ConvSpec, reads: tuple[str, str], makes: str, w: Any, *args: Any) -> Plan:
    w = dict(zip(reads, args, strict=True)).get("w", w)
    axes = spec.axes(w)
    batch = args[0].shape[0]
    shapes = {
        "x": (batch, *spec.sizes, w.shape[-2] * spec.groups),
        "y": (batch, *(a.outputs for a in axes), w.shape[-1]),
    }
    numbers = _NUMBERS[kind]
    memories = []
    for buffer, name in enumerate((*reads, makes)):
        dtype = args[0].dtype
        if name == "w":
            sizes, steps = _kernel_axes(spec.groups, w.shape)
            role, dtype = (p.PARTIAL, wide_dtype(w)) if makes == "w" else (p.WHOLE, dtype)
        else:
            sizes, steps = ((s[0], s[-1], *s[1:-1]) for s in (shapes[name], dense(shapes[name])))
            role = p.SLICED
        given = {"argument": numbers[name], "buffer": buffer, "role": role, "dtype": dtype.name, "free": name == "w"}
        memories.append(Memory(sizes=sizes, steps=steps, **given))
    return Plan(
        kind=kind,
        memories=tuple(memories),
        batch=batch,
        algorithm=_DIRECT,
        stride=spec.stride,
        dilation=tuple(d - 1 for d in spec.dilation),
        low=tuple(a.low for a in axes),
        high=tuple(a.high for a in axes),
    )


_NUMBERS = {
    p.CONVOLUTION: {"x": p.SOURCE, "w": p.KERNEL, "y": p.RESULT},
    p.CONVOLUTION_INPUT: {"x": p.SOURCE_GRADIENT, "w": p.KERNEL, "y": p.RESULT_GRADIENT},
    p.CONVOLUTION_KERNEL: {"x": p.SOURCE, "w": p.KERNEL_GRADIENT, "y": p.RESULT_GRADIENT},
}


def _kernel_axes(groups: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and steps of (*window, C/groups, K) as (groups, K/groups, C/groups, *window), or without groups."""
    *window, c, k = shape
    *along, between, _ = dense(shape)
    if groups == 1:
        return (k, c, *window), (1, between, *along)
    return (groups, k // groups, c, *window), (k // groups, 1, between, *along)
