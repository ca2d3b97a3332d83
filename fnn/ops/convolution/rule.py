"""Convolution and its transpose in 1-D, 2-D and 3-D, channels last.

Shapes: x (N, *spatial, C), kernel w (*window, C/groups, K), bias b (K,), y (N, *outputs, K). With stride s, dilation d
and l zeros in front, tap t of output p reads input p s + t d - l, so that

    y[n,p,k] = sum_t,c x[n, p s + t d - l, c] w[t,c,k] + b[k]

    dx[n,q,c] = sum of dy[n,p,k] w[t,c,k] over all p, t, k with p s + t d - l = q
    dw[t,c,k] = sum_n,p x[n, p s + t d - l, c] dy[n,p,k]                             db[k] = sum_n,p dy[n,p,k]

and c runs over the channels of k's group. This is cross-correlation: the kernel is not flipped, as in all learning
libraries. Goodfellow, Bengio and Courville, Deep Learning (2016), equations 9.6, 9.11 and 9.13;
https://www.deeplearningbook.org.
"""

import itertools
from operator import ge

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.broadcast import beside
from fnn.core.cases import case
from fnn.core.dtypes import wide_dtype
from fnn.core.errors import InputError, described, given, integer, require, require_floats
from fnn.core.rule import Rule
from fnn.core.sizes import possible, require_room
from fnn.core.storage import Storage
from fnn.ops.convolution import direct, tables
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
    stride, dilation, groups = _check("conv", x, kernel, bias, stride, dilation, groups)
    window = kernel.shape[:-2]
    if isinstance(padding, str) and padding in MODES:
        pairs = pad_pairs("conv", "SAME", x.shape[1:-1], window, stride, dilation)
        x, padding = pad(x, pairs, mode=padding), "VALID"
    sizes = x.shape[1:-1]
    pairs = pad_pairs("conv", padding, sizes, window, stride, dilation)
    outputs = output_sizes("conv", sizes, window, stride, dilation, pairs)
    require_room("conv", (x.shape[0], *padded_sizes(sizes, pairs), x.shape[-1]), x.dtype)
    require_room("conv", (x.shape[0], *outputs, kernel.shape[-1]), x.dtype)
    stride = useful_stride(stride, sizes, pairs, outputs)
    return rule(ConvSpec(sizes, stride, pairs, dilation, groups), x, kernel, bias)


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
    stride, dilation, groups = _check(name, x, kernel, bias, stride, dilation, groups)
    window, inputs = kernel.shape[:-2], x.shape[1:-1]
    extra = sizes_of(name, "output_padding", output_padding, len(window), least=0)
    room = tuple(max(s, d) for s, d in zip(stride, dilation, strict=True))
    require(
        all(e < r for e, r in zip(extra, room, strict=True)), name, f"output_padding below {room}", extra, "use less"
    )
    extents = [(f - 1) * d + 1 for f, d in zip(window, dilation, strict=True)]
    full = tuple((n - 1) * s + e for n, s, e in zip(inputs, stride, extents, strict=True))
    require_room(name, (x.shape[0], *full, kernel.shape[-1]), x.dtype)
    same = isinstance(padding, str) and padding == "SAME"
    if same:
        # A window below the stride leaves gaps: zeros at the end, where the convolution that this undoes reads nothing.
        crop = [e - s for e, s in zip(extents, stride, strict=True)]
        pairs = tuple((max(c, 0) // 2, c - max(c, 0) // 2) for c in crop)
    else:
        require(
            not isinstance(padding, str) or padding == "VALID",
            name,
            "padding VALID, SAME, an integer or pairs",
            described(padding),
            "use one of these",
        )
        pairs = pad_pairs(name, padding, inputs, window, stride, dilation)
    sizes = tuple(n - low - high for n, (low, high) in zip(full, pairs, strict=True))
    if output_shape is not None:
        alone = not any(extra)
        require(alone, name, "output_shape or output_padding", "both", "leave output_padding out")
        first = tuple(n - s + 1 if same else n for n, s in zip(sizes, stride, strict=True))
        wanted = sizes_of(name, "output_shape", output_shape, len(window))
        _require_reachable(wanted, first, stride, inputs)
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
    return transpose_rule(ConvSpec(sizes, stride, pairs, dilation, groups), x, kernel, bias)


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


def _add(y, bias):
    return y if bias is None else y + beside(bias, y)


def _bias_gradient(bias, dy):
    wide = wide_dtype(dy)
    return None if bias is None else dy.sum(tuple(range(dy.ndim - 1)), dtype=wide).astype(bias.dtype)


def _forward(spec, x, w, bias):
    return _add(direct.forward(spec, x, w), bias)


def _fwd(spec, x, w, bias):
    return _add(tables.forward(spec, x, w), bias), (x, w, bias)


def _bwd(spec, residuals, dy):
    x, w, bias = residuals
    return tables.input_gradient(spec, dy, w), tables.kernel_gradient(spec, x, dy, w), _bias_gradient(bias, dy)


def _transpose_forward(spec, x, w, bias):
    return _add(direct.input_gradient(spec, x, direct.exchange(spec.groups, w)), bias)


def _transpose_fwd(spec, x, w, bias):
    return _add(tables.input_gradient(spec, x, direct.exchange(spec.groups, w)), bias), (x, w, bias)


def _transpose_bwd(spec, residuals, dy):
    x, w, bias = residuals
    exchanged = direct.exchange(spec.groups, w)
    dw = direct.exchange(spec.groups, tables.kernel_gradient(spec, dy, x, exchanged))
    return tables.forward(spec, dy, exchanged), dw, _bias_gradient(bias, dy)


def _triples(spec, w, outputs):
    """Every (output position p, tap t, input position q = p s + t d - l) with q inside, and the channel groups."""
    *window, c, k = w.shape
    for t in itertools.product(*map(range, window)):
        for p in itertools.product(*map(range, outputs)):
            q = tuple(
                pi * s + ti * d - low
                for pi, s, ti, d, (low, _) in zip(p, spec.stride, t, spec.dilation, spec.padding, strict=True)
            )
            if all(0 <= qi < n for qi, n in zip(q, spec.sizes, strict=True)):
                for g in range(spec.groups):
                    yield p, t, q, slice(g * c, (g + 1) * c), slice(g * k // spec.groups, (g + 1) * k // spec.groups)


def _reference(spec, x, w, bias):
    outputs = output_sizes("conv", spec.sizes, w.shape[:-2], spec.stride, spec.dilation, spec.padding)
    y = np.zeros((x.shape[0], *outputs, w.shape[-1]), x.dtype)
    x, w = np.asarray(x), np.asarray(w)
    for p, t, q, c, k in _triples(spec, w, outputs):
        y[:, *p, k] += x[:, *q, c] @ w[(*t, slice(None), k)]
    return _add(jnp.asarray(y), bias)


def _transpose_reference(spec, x, w, bias):
    y = np.zeros((x.shape[0], *spec.sizes, w.shape[-1]), x.dtype)
    x, w = np.asarray(x), np.asarray(w)
    for p, t, q, c, k in _triples(spec, w, x.shape[1:-1]):
        y[:, *q, k] += x[:, *p, c] @ w[(*t, slice(None), k)]
    return _add(jnp.asarray(y), bias)


def _spec(sizes, stride=1, padding=0, dilation=1, groups=1):
    rank = len(sizes)
    stride, dilation = (sizes_of("case", "", v, rank) for v in (stride, dilation))
    pairs = padding if isinstance(padding, tuple) else ((padding, padding),) * rank
    return ConvSpec(sizes, stride, pairs, dilation, groups)


STORAGE = Storage(residuals=(0,))  # x, which the forward product read
PRODUCTS = (tables.FORWARD, tables.INPUT_GRADIENT, tables.KERNEL_GRADIENT)

rule = Rule(
    name="conv",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    storage=STORAGE,
    products=PRODUCTS,
    cases=(
        case(_spec((6, 5)), (8, 6, 5, 3), (3, 2, 3, 4), (4,)),
        case(_spec((6, 5), padding=2), (8, 6, 5, 1), (5, 5, 1, 2), None),  # few outputs: the wide form
        case(_spec((7, 6), (2, 3), ((0, 1), (2, 0)), (2, 1)), (1, 7, 6, 2), (3, 4, 2, 3), (3,), batched=False),
        case(_spec((7, 8), 2, ((3, 2), (0, 3))), (1, 7, 8, 2), (2, 2, 2, 3), None, batched=False),  # windows = stride
        case(_spec((8, 5), (3, 2)), (8, 8, 5, 3), (2, 1, 3, 4), (4,)),  # stride larger than the window
        case(_spec((6, 5), groups=2, padding=1), (8, 6, 5, 4), (3, 3, 2, 6), (6,)),
        # Depthwise, two outputs an input.
        case(_spec((7, 5), 2, ((1, 2), (1, 1)), (1, 2), groups=3), (8, 7, 5, 3), (3, 2, 1, 6), None),
        case(
            _spec((5, 5), padding=((3, 0), (0, 4))), (1, 5, 5, 2), (2, 2, 2, 2), None, batched=False
        ),  # beyond windows
        case(_spec((4, 4), 1, 1), (0, 4, 4, 2), (3, 3, 2, 2), (2,), batched=False),
        case(_spec((9,), 2, ((4, 0),), 2), (8, 9, 2), (3, 2, 3), (3,)),
        case(_spec((4, 3, 5), (1, 2, 1), 1), (1, 4, 3, 5, 2), (2, 3, 2, 2, 2), (2,), batched=False),
        case(_spec((3, 4, 2), padding=1), (0, 3, 4, 2, 2), (2, 2, 2, 2, 2), None, batched=False),
        # What the tables choose for larger shapes alone.
        *[
            case(_spec((5, 4), padding=1), (8, 5, 4, 2), (3, 3, 2, 3), None, implementation=name)
            for name in ("rows", "separable", "winograd", "patches")
        ],
    ),
)

transpose_rule = Rule(
    name="conv_transpose",
    forward=_transpose_forward,
    fwd=_transpose_fwd,
    bwd=_transpose_bwd,
    reference=_transpose_reference,
    storage=STORAGE,
    products=PRODUCTS,
    cases=(
        case(_spec((9, 10), 2), (8, 4, 4, 3), (3, 4, 3, 2), (2,)),
        case(_spec((7, 9), (3, 2), ((1, 0), (0, -1)), (2, 1), 2), (8, 2, 4, 4), (3, 2, 2, 6), None),
        case(_spec((6, 6), 2), (1, 3, 3, 2), (2, 2, 2, 3), (3,), batched=False),
        case(_spec((8,), 2, ((1, 0),), groups=2), (8, 4, 2), (3, 1, 4), (4,)),
        case(_spec((3, 4, 3)), (1, 2, 3, 2, 2), (2, 2, 2, 2, 3), None, batched=False),
        # Windows below the stride, with the gap at the end.
        case(_spec((6, 6), (3, 2), ((0, -2), (0, -1))), (8, 2, 3, 3), (1, 1, 3, 2), None),
    ),
)
