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

import jax.numpy as jnp
import numpy as np

from fnn.core.broadcast import beside
from fnn.core.cases import case
from fnn.core.dtypes import wide_dtype
from fnn.core.rule import Rule
from fnn.core.storage import Storage
from fnn.ops.convolution import direct, tables
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.window import (
    inputs_of,
    sizes_of,
)


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
    for t in np.ndindex(*window):
        for p in np.ndindex(*outputs):
            q = inputs_of(spec.axes(w), p, t)
            if q is not None:
                for g in range(spec.groups):
                    yield p, t, q, slice(g * c, (g + 1) * c), slice(g * k // spec.groups, (g + 1) * k // spec.groups)


def _reference(spec, x, w, bias):
    outputs = [a.outputs for a in spec.axes(w)]
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
        case(_spec((6, 5), padding=2), (8, 6, 5, 1), (5, 5, 1, 2), None, implementation="wide"),
        case(_spec((7, 6), (2, 3), ((0, 1), (2, 0)), (2, 1)), (1, 7, 6, 2), (3, 4, 2, 3), (3,), batched=False),
        case(_spec((7, 8), 2, ((3, 2), (0, 3))), (1, 7, 8, 2), (2, 2, 2, 3), None, batched=False),  # windows = stride
        case(_spec((8, 5), (3, 2)), (8, 8, 5, 3), (2, 1, 3, 4), (4,), implementation="matmul"),  # windows apart
        case(_spec((6, 5), groups=2, padding=1), (8, 6, 5, 4), (3, 3, 2, 6), (6,), implementation="blocks"),
        # Depthwise, two outputs an input.
        case(
            _spec((7, 5), 2, ((1, 2), (1, 1)), (1, 2), groups=3),
            (8, 7, 5, 3),
            (3, 2, 1, 6),
            None,
            implementation="shifted",
        ),
        case(
            _spec((5, 5), padding=((3, 0), (0, 4))), (1, 5, 5, 2), (2, 2, 2, 2), None, batched=False
        ),  # beyond windows
        case(_spec((4, 4), 1, 1), (0, 4, 4, 2), (3, 3, 2, 2), (2,), batched=False),
        case(_spec((9,), 2, ((4, 0),), 2), (8, 9, 2), (3, 2, 3), (3,)),
        case(
            _spec((4, 3, 5), (1, 2, 1), 1),
            (1, 4, 3, 5, 2),
            (2, 3, 2, 2, 2),
            (2,),
            batched=False,
            implementation="planes",
        ),
        case(_spec((3, 4, 2), padding=1), (0, 3, 4, 2, 2), (2, 2, 2, 2, 2), None, batched=False),
        # What the tables choose for larger shapes alone.
        *[
            case(_spec((5, 4), padding=1), (8, 5, 4, 2), (3, 3, 2, 3), None, implementation=name)
            for name in ("onednn", "rows", "separable", "winograd", "patches")
        ],
        case(
            _spec((7, 6), (2, 3), ((0, 1), (2, 0)), (2, 1), 2),
            (8, 7, 6, 4),
            (3, 2, 2, 6),
            (6,),
            implementation="onednn",
        ),
        case(_spec((6, 5), 2, 1), (8, 6, 5, 2), (3, 3, 2, 3), None, implementation="phases"),
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
        case(_spec((9, 10), 2), (8, 4, 4, 3), (3, 4, 3, 2), (2,), implementation="phases"),
        case(_spec((7, 9), (3, 2), ((1, 0), (0, -1)), (2, 1), 2), (8, 2, 4, 4), (3, 2, 2, 6), None),
        case(_spec((6, 6), 2), (1, 3, 3, 2), (2, 2, 2, 3), (3,), batched=False, implementation="matmul"),
        case(_spec((8,), 2, ((1, 0),), groups=2), (8, 4, 2), (3, 1, 4), (4,), implementation="blocks"),
        case(_spec((3, 4, 3)), (1, 2, 3, 2, 2), (2, 2, 2, 2, 3), None, batched=False, implementation="planes"),
        case(_spec((5, 5), groups=3), (8, 4, 3, 3), (2, 3, 1, 3), None, implementation="shifted"),
        *[
            case(_spec((5, 4), padding=1), (8, 5, 4, 2), (3, 3, 2, 3), None, implementation=name)
            for name in ("onednn", "rows", "wide", "separable", "winograd", "patches")
        ],
        # Windows below the stride, with the gap at the end.
        case(_spec((6, 6), (3, 2), ((0, -2), (0, -1))), (8, 2, 3, 3), (1, 1, 3, 2), None),
    ),
)
