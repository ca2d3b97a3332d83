"""Convolution and its transpose: the public face.

`rule` has the formulas, `tables` the choice among the implementations, of which each has a file.
"""

from operator import ge

import jax
import jax.numpy as jnp

from fnn.core.errors import InputError, given, integer, require, require_floats
from fnn.core.sizes import possible, require_room
from fnn.core.words import described
from fnn.ops.convolution.rule import rule as conv_rule
from fnn.ops.convolution.rule import transpose_rule
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.pad import MODES, pad
from fnn.ops.window import Ints, Padding, missing_axis, output_sizes, pad_pairs, padded_sizes, sizes_of, useful_stride


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: int = 1,
) -> jax.Array:
    """x: (N, *spatial, C) -> (N, *outputs, K): slide a kernel over 1, 2 or 3 spatial axes.

    Args:
      x: (N, *spatial, C); the rank says whether it is 1-D, 2-D or 3-D.
      kernel: (*window, C/groups, K). Each group of K/groups outputs reads its own C/groups inputs; groups = C is
        a depthwise convolution with multiplier K/C.
      bias: (K,), or None.
      stride: step of the window, one integer or one an axis.
      padding: with zeros: "VALID" (none), "SAME", an integer, a (before, after) pair an axis, or "CAUSAL" (1-D, all
        before); "REFLECT", "REPLICATE", "CIRCULAR": the amounts of SAME, filled as `fnn.ops.pad` says.
      dilation: distance between taps.
      groups: number of separate channel groups. On CPU, under hand-written gradients, small groups and neighbouring
        pixels are computed together: an infinity or NaN in one may reach the others.

    Raises:
      InputError: wrong rank, channels, groups, padding or dtypes; a window larger than the padded input.

    The 5x5 image and X-shaped filter of many lectures:

    >>> import jax.numpy as jnp
    >>> rows = [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]
    >>> image = jnp.array(rows, float)[None, :, :, None]
    >>> cross = jnp.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], float)[:, :, None, None]
    >>> print(conv(image, cross)[0, :, :, 0])
    [[4. 3. 4.]
     [2. 4. 3.]
     [2. 3. 4.]]
    """
    strides, dilations, groups = _check("conv", x, kernel, bias, stride, dilation, groups)
    window = kernel.shape[:-2]
    if isinstance(padding, str) and padding in MODES:
        pairs = pad_pairs("conv", "SAME", x.shape[1:-1], window, strides, dilations)
        x, padding = pad(x, pairs, mode=padding), "VALID"
    sizes = x.shape[1:-1]
    pairs = pad_pairs("conv", padding, sizes, window, strides, dilations)
    outputs = output_sizes("conv", sizes, window, strides, dilations, pairs)
    require_room("conv", (x.shape[0], *padded_sizes(sizes, pairs), x.shape[-1]), x.dtype)
    require_room("conv", (x.shape[0], *outputs, kernel.shape[-1]), x.dtype)
    strides = useful_stride(strides, sizes, pairs, outputs)
    return conv_rule(ConvSpec(sizes, strides, pairs, dilations, groups), x, kernel, bias)


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "VALID",
    output_padding: Ints = 0,
    output_shape: Ints | None = None,
    dilation: Ints = 1,
    groups: int = 1,
) -> jax.Array:
    """x: (N, *spatial, C) -> (N, *outputs, K): each input paints its window into the output.

        y[n,q,k] = sum of x[n,p,c] kernel[t,c,k] over all p, t, c with p s + t d - l = q,   + b[k]

    This is the input gradient of a convolution from K to C channels (Dumoulin and Visin, 2016, chapter 4).

    Args:
      x, kernel, bias, stride, dilation, groups: as for `conv`; kernel (*window, C/groups, K).
      padding: what is cropped from the full output of size (n - 1) s + (f - 1) d + 1: nothing for "VALID"; for "SAME"
        down to n s (or zeros added at the end, where windows are smaller than the stride); an integer or a (before,
        after) pair an axis.
      output_padding: entries added at the end of each axis, less than the stride or the dilation; they may receive
        nothing but the bias. A strided convolution maps several input sizes to one output size; this chooses among
        them on the way back.
      output_shape: the same choice by its result: the spatial sizes, one integer or one an axis, of an input that the
        convolution with this window, stride and padding maps to the sizes of x.

    Raises:
      InputError: as `conv`; and padding that leaves nothing, output_padding too large, an output_shape out of reach.

    >>> import jax.numpy as jnp
    >>> conv_transpose(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 5)), stride=2, padding=1, output_padding=1).shape
    (1, 8, 8, 5)
    >>> conv_transpose(jnp.ones((1, 4, 3)), jnp.ones((3, 3, 5)), stride=2, padding="SAME", output_shape=7).shape
    (1, 7, 5)
    """
    name = "conv_transpose"
    strides, dilations, groups = _check(name, x, kernel, bias, stride, dilation, groups)
    window, inputs = kernel.shape[:-2], x.shape[1:-1]
    extra = sizes_of(name, "output_padding", output_padding, len(window), least=0)
    room = tuple(max(s, d) for s, d in zip(strides, dilations, strict=True))
    require(
        all(e < r for e, r in zip(extra, room, strict=True)), name, f"output_padding below {room}", extra, "use less"
    )
    extents = [(f - 1) * d + 1 for f, d in zip(window, dilations, strict=True)]
    full = tuple((n - 1) * s + e for n, s, e in zip(inputs, strides, extents, strict=True))
    require_room(name, (x.shape[0], *full, kernel.shape[-1]), x.dtype)
    same = isinstance(padding, str) and padding == "SAME"
    if same:
        # A window below the stride leaves gaps: zeros at the end, where the convolution that this undoes reads nothing.
        crop = [e - s for e, s in zip(extents, strides, strict=True)]
        pairs = tuple((max(c, 0) // 2, c - max(c, 0) // 2) for c in crop)
    else:
        require(
            not isinstance(padding, str) or padding == "VALID",
            name,
            "padding VALID, SAME, an integer or pairs",
            described(padding),
            "use one of these",
        )
        pairs = pad_pairs(name, padding, inputs, window, strides, dilations)
    sizes = tuple(n - low - high for n, (low, high) in zip(full, pairs, strict=True))
    if output_shape is not None:
        alone = not any(extra)
        require(alone, name, "output_shape or output_padding", "both", "leave output_padding out")
        first = tuple(n - s + 1 if same else n for n, s in zip(sizes, strides, strict=True))
        wanted = sizes_of(name, "output_shape", output_shape, len(window))
        _require_reachable(wanted, first, strides, inputs)
        if same:  # as the convolution pads an input of this size
            cut = [jax.core.max_dim(f - n, 0) for f, n in zip(full, wanted, strict=True)]
            pairs = tuple((c // 2, c - c // 2) for c in cut)
            sizes = tuple(n - sum(pair) for n, pair in zip(full, pairs, strict=True))
        extra = tuple(w - n for w, n in zip(wanted, sizes, strict=True))
    sizes = tuple(n + e for n, e in zip(sizes, extra, strict=True))
    left = all(possible(ge, n, 1) for n in sizes)
    require(left, name, "padding that leaves an output", f"output {sizes}", "use less padding")
    # In the convolution from output to input, output_padding is padding that the last window does not reach.
    pairs = tuple((low, high - e) for (low, high), e in zip(pairs, extra, strict=True))
    require_room(name, (x.shape[0], *sizes, kernel.shape[-1]), x.dtype)
    return transpose_rule(ConvSpec(sizes, strides, pairs, dilations, groups), x, kernel, bias)


def _require_reachable(wanted, first, stride, inputs):
    """From `first` on, one stride of sizes comes from the same inputs."""
    last = tuple(n + s - 1 for n, s in zip(first, stride, strict=True))
    ok = all(possible(ge, n, a) and possible(ge, b, n) for n, a, b in zip(wanted, first, last, strict=True))
    expected = f"an output_shape from {first} to {last} for inputs {inputs} and stride {stride}"
    require(ok, "conv_transpose", expected, wanted, "choose one of these, or another stride, window or padding")


def _check(name, x, kernel, bias, stride, dilation, groups):
    require_floats(name, x=x, kernel=kernel, **given(bias=bias))
    rank = kernel.ndim - 2
    ok = 1 <= rank <= 3
    require(ok, name, "a kernel (*window, C/groups, K) with 1 to 3 window axes", kernel.shape, "pass init's kernel")
    groups = integer(name, "groups", groups, fix="change groups or the number of channels")
    if x.ndim != rank + 2:
        expected = f"x of shape (N, *spatial, C) with {rank} spatial axes, as many as the kernel {kernel.shape} has"
        raise InputError(
            name, expected, f"x of shape {x.shape}", missing_axis(x.shape, rank, kernel.shape[-2] * groups)
        )
    filled = all(possible(ge, n, 1) for n in x.shape[1:-1])
    require(filled, name, "spatial sizes >= 1", f"x of shape {x.shape}", "use a larger input")
    require(min(kernel.shape[:-2]) >= 1, name, "a window of sizes >= 1", kernel.shape[:-2], "use sizes of 1 or more")
    (stride, dilation) = (sizes_of(name, n, v, rank) for n, v in (("stride", stride), ("dilation", dilation)))
    c, k = x.shape[-1], kernel.shape[-1]
    require(
        k % groups == 0,
        name,
        f"groups >= 1 that divide {k} output channels",
        groups,
        "change groups or the number of channels",
    )
    require(
        kernel.shape[-2] * groups == c,
        name,
        f"x with {kernel.shape[-2] * groups} channels for a kernel {kernel.shape} and groups={groups}",
        f"{c} channels, x of shape {x.shape}",
        "put the channels last, or init the layer with an input like this one",
    )
    if bias is not None:
        require(bias.shape == (k,), name, f"a bias of shape {(k,)}", bias.shape, "one entry an output channel")
    return stride, dilation, groups


conv_rule.refuse(
    (lambda: conv(jnp.ones((2, 4, 4, 2)), jnp.ones((3, 3, 3, 4))), "x with 3 channels for a kernel"),
    (lambda: conv(jnp.ones((2, 4, 4, 2)), jnp.ones((3, 3, 2, 4)), jnp.ones(3)), r"a bias of shape \(4,\)"),
    (lambda: conv(jnp.ones((2, 4, 4, 2)), jnp.ones((5, 5, 2, 4))), "at least as large as its window"),
)
transpose_rule.refuse(
    (lambda: conv_transpose(jnp.ones((2, 4, 4, 2)), jnp.ones((3, 3, 3, 4))), "x with 3 channels for a kernel"),
    (lambda: conv_transpose(jnp.ones((2, 4, 2)), jnp.ones((3, 2, 4)), jnp.ones(3)), r"a bias of shape \(4,\)"),
)
