"""Broken formulas of dense, convolution, pooling and padding.

A row: rule, name, kind, what is wrong, the broken backward pass, and where it matters if not everywhere.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.mutants.mutant import Back, Break
from fnn.core.dtypes import widen
from fnn.ops.convolution import direct
from fnn.ops.pad import PadSpec
from fnn.ops.pooling.adaptive import Bins
from fnn.ops.pooling.adaptive import rule as adaptive


def swap(back: Back, leaf: int, g: jax.Array) -> tuple:
    """The right cotangents with one replaced."""
    return back.replaced(leaf, lambda right: g.reshape(right.shape).astype(right.dtype))


def _flip(w):
    return lax.rev(w, range(w.ndim - 2))


def _plain(spec, **options):
    """The spec with 1 for some options."""
    ones = (1,) * len(spec.sizes)
    return dataclasses.replace(spec, **{k: ones if v == 1 else v for k, v in options.items()})


def _moved(spec):
    pairs = tuple((low + 1, high - 1) for low, high in spec.padding)
    return dataclasses.replace(spec, padding=pairs)


def _conv_dx(change_spec=lambda s: s, change_w=lambda w: w) -> Break:
    """dx of a convolution with another spec or kernel."""
    return lambda b: swap(b, 0, direct.input_gradient(change_spec(b.spec), b.dy, change_w(b.args[1])))


def _conv_dw(change_spec=lambda s: s, after=lambda dw: dw) -> Break:
    x_and_w = lambda b: (b.args[0], b.dy, b.args[1])  # noqa: E731
    return lambda b: swap(b, 1, after(direct.kernel_gradient(change_spec(b.spec), *x_and_w(b))))


def _back_conv_dx(change_w) -> Break:
    """dx of a transposed convolution: a convolution of dy."""
    return lambda b: swap(b, 0, direct.forward(b.spec, b.dy, change_w(direct.exchange(b.spec.groups, b.args[1]))))


def _bias_first_position(b: Back) -> tuple:
    return swap(b, 2, b.dy[(slice(None), *[0] * (b.dy.ndim - 2))].sum(0)) if b.args[2] is not None else b.grads()


def _bias_mean(b: Back) -> tuple:
    return swap(b, 2, b.dy.mean(range(b.dy.ndim - 1))) if b.args[2] is not None else b.grads()


def _has_bias(spec, args):
    return args[2] is not None


def _square(spec, args):
    return spec.groups == 1 and args[1].shape[-1] == args[1].shape[-2]


def _any(field: str, holds: Callable) -> Callable:
    """Whether one entry of a field of the spec has a property."""
    return lambda spec, args: any(holds(v) for v in getattr(spec, field))


_STRIDED, _DILATED = _any("stride", lambda s: s > 1), _any("dilation", lambda d: d > 1)
_PADDED = _any("padding", lambda pair: pair[0] != 0)
_GROUPED = lambda spec, args: spec.groups > 1  # noqa: E731


def _roll_group(spec, w):
    return jnp.roll(w, w.shape[-1] // spec.groups, -1)


def _mean_outer(b: Back) -> tuple:
    """Sum of outer products taken for the outer product of sums."""
    leading = tuple(range(b.dy.ndim - 1))
    return swap(b, 1, jnp.outer(b.args[0].sum(leading), b.dy.sum(leading)))


def _taps(spec, x):
    """(taps, N, *outputs, C): what each window covers, -inf in the padding."""
    padded = jnp.pad(x, ((0, 0), *spec.pads, (0, 0)), constant_values=-jnp.inf)
    ends = lambda t: [i + (o - 1) * s + 1 for i, o, s in zip(t, spec.outputs, spec.stride, strict=True)]  # noqa: E731
    cut = lambda t: (slice(i, e, s) for i, e, s in zip(t, ends(t), spec.stride, strict=True))  # noqa: E731
    return jnp.stack([padded[:, *cut(t)] for t in np.ndindex(*spec.window)])


def _global_taps(sizes, x):
    return x.reshape(x.shape[0], -1, x.shape[-1]).swapaxes(0, 1)


def _ties(taps, choose) -> Break:
    """The gradient of a maximum that shares ties out as `choose(values)` says: weights like values, over axis 0."""

    def broken(b: Back) -> tuple:
        values, pull = jax.vjp(lambda x: taps(b.spec, x), b.args[0])
        return swap(b, 0, pull((choose(values) * b.dy).astype(values.dtype))[0])

    return broken


def _all_tied(values):
    return (values == values.max(0)).astype(values.dtype)


def _split(values):
    return _all_tied(values) / _all_tied(values).sum(0)


def _last(values):
    best = values.shape[0] - 1 - jnp.argmax(values[::-1], 0)
    return jnp.arange(values.shape[0]).reshape(-1, *[1] * best.ndim) == best


def _next_tap(b: Back) -> tuple:
    count = math.prod(b.spec.window)
    index, x = b.residuals
    return b.grads(residuals=(((index.astype(jnp.int32) + 1) % count).astype(index.dtype), x))


def _average_dx(share) -> Break:
    """dx of an average pooling whose outputs are divided by `share(spec)` instead."""
    return lambda b: swap(b, 0, b.spec.pool.spread(widen(b.dy) / share(b)))


def _window(b: Back):
    return math.prod(b.spec.pool.window)


def _coverage(b: Back):
    return jnp.maximum(b.spec.pool.spread(jnp.ones_like(widen(b.dy))), 1)


def _hangs_over(spec, args):
    return any(map(any, spec.pool.pads)) and not spec.count_padding


def _overlaps(spec, args):
    return any(f > s for f, s in zip(spec.pool.window, spec.pool.stride, strict=True))


def _cropped(b: Back) -> tuple:
    return swap(b, 0, b.dy[:, *(slice(low, low + n) for (low, _), n in zip(b.spec.pairs, b.args[0].shape[1:]))])  # noqa: B905


def _folded_as(mode) -> Break:
    return lambda b: b.grads(spec=PadSpec(b.spec.pairs, mode))


def _mode(*names):
    return lambda spec, args: spec.mode in names


def _swapped_ends(b: Back) -> tuple:
    return b.grads(spec=PadSpec(tuple((high, low) for low, high in b.spec.pairs), b.spec.mode))


_TIES = [("split", "ties share the gradient", _split), ("last", "the last of tied maxima takes all", _last)]
_TIES.append(("all", "all tied maxima take the whole gradient", _all_tied))

FORMULAS = [
    ("conv", "dx unflipped", "formula", "kernel not flipped", _conv_dx(change_w=_flip)),
    ("conv", "dx untransposed", "formula", "c, k not exchanged", _conv_dx(change_w=lambda w: w.mT), _square),
    ("conv", "dx undilated", "formula", "dilation ignored", _conv_dx(lambda s: _plain(s, dilation=1)), _DILATED),
    (
        "conv",
        "dx unstrided",
        "formula",
        "dy not spread by the stride",
        _conv_dx(lambda s: _plain(s, stride=1)),
        _STRIDED,
    ),
    ("conv", "dx off by one", "shift", "the padding off by one", _conv_dx(_moved)),
    (
        "conv",
        "dx groups rolled",
        "formula",
        "each group reads its neighbour's kernel",
        lambda b: _conv_dx(change_w=lambda w: _roll_group(b.spec, w))(b),
        _GROUPED,
    ),
    ("conv", "dw flipped", "formula", "the kernel's gradient flipped", _conv_dw(after=_flip)),
    ("conv", "dw undilated", "formula", "dilation ignored", _conv_dw(lambda s: _plain(s, dilation=1)), _DILATED),
    ("conv", "dw unstrided", "formula", "stride ignored", _conv_dw(lambda s: _plain(s, stride=1)), _STRIDED),
    ("conv", "dw off by one", "shift", "the padding off by one", _conv_dw(_moved)),
    ("conv", "db first position", "formula", "summed over the batch alone", _bias_first_position, _has_bias),
    ("conv", "db averaged", "formula", "the mean of dy for its sum", _bias_mean, _has_bias),
    ("conv_transpose", "dx flipped", "formula", "kernel flipped", _back_conv_dx(_flip)),
    ("conv_transpose", "dx off by one", "shift", "dy off by one", lambda b: b.grads(spec=_moved(b.spec))),
    (
        "conv_transpose",
        "dx groups rolled",
        "formula",
        "each group reads its neighbour's kernel",
        lambda b: _back_conv_dx(lambda w: _roll_group(b.spec, w))(b),
        _GROUPED,
    ),
    ("conv_transpose", "dw flipped", "formula", "dw flipped", lambda b: b.replaced(1, _flip)),
    ("conv_transpose", "db first position", "formula", "summed over the batch alone", _bias_first_position, _has_bias),
    ("conv_transpose", "db averaged", "formula", "the mean of dy for its sum", _bias_mean, _has_bias),
    (
        "dense",
        "dx reshaped",
        "formula",
        "W reshaped, not transposed",
        lambda b: swap(b, 0, b.dy @ b.args[1].reshape(b.args[1].shape[::-1])),
    ),
    ("dense", "dW reshaped", "formula", "dW^T read as dW", lambda b: b.replaced(1, lambda g: g.T.reshape(g.shape))),
    ("dense", "dW of sums", "formula", "(sum x)^T (sum dy) for sum x^T dy", _mean_outer, lambda s, a: a[0].ndim > 1),
    (
        "dense",
        "db averaged",
        "formula",
        "the mean of dy for its sum",
        _bias_mean,
        lambda s, a: a[2] is not None and a[0].ndim > 1,
    ),
    *[("max_pool", f"ties {n}", "ties", what, _ties(_taps, choose)) for n, what, choose in _TIES],
    *[("global_max_pool", f"ties {n}", "ties", what, _ties(_global_taps, choose)) for n, what, choose in _TIES],
    ("max_pool", "next tap", "formula", "the tap after the maximum", _next_tap),
    (
        "global_max_pool",
        "next position",
        "formula",
        "the place after the maximum",
        lambda b: b.grads(residuals=(b.residuals + 1) % math.prod(b.spec)),
    ),
    (
        "avg_pool",
        "padding counted",
        "formula",
        "padding counts in the backward only",
        _average_dx(_window),
        _hangs_over,
    ),
    ("avg_pool", "undivided", "formula", "not divided at all", _average_dx(lambda b: 1)),
    (
        "avg_pool",
        "overlaps averaged",
        "formula",
        "overlapping windows averaged, not summed",
        lambda b: b.replaced(0, lambda g: (g / _coverage(b)).astype(g.dtype)),
        lambda s, a: _overlaps(s, a),
    ),
    (
        "global_avg_pool",
        "undivided",
        "formula",
        "not divided by n",
        lambda b: b.replaced(0, lambda g: g * math.prod(b.spec)),
    ),
    (
        "global_avg_pool",
        "divided twice",
        "formula",
        "divided by n twice",
        lambda b: b.replaced(0, lambda g: g / math.prod(b.spec)),
    ),
    (
        "global_avg_pool",
        "divided by the batch",
        "formula",
        "divided by the batch size too",
        lambda b: b.replaced(0, lambda g: g / g.shape[0]),
        lambda s, a: a[0].shape[0] > 1,
    ),
    (
        "adaptive_avg_pool",
        "pooled back",
        "formula",
        "the opposite pooling for its transpose",
        lambda b: swap(b, 0, adaptive.fwd(Bins(b.spec.outputs, b.spec.sizes), b.dy)[0]),
    ),
    ("pad", "border dropped", "border", "the padding's part dropped", _cropped),
    (
        "pad",
        "folded as replicate",
        "formula",
        "all padding goes to the edge",
        _folded_as("REPLICATE"),
        _mode("REFLECT", "CIRCULAR"),
    ),
    ("pad", "ends swapped", "shift", "before and after exchanged", _swapped_ends),
]
