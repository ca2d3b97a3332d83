"""Padding that copies the input: REFLECT, REPLICATE and CIRCULAR, one axis after the other.

With l entries put before x_0 ... x_{n-1} and r after, output position i holds x_{s(i - l)}, where

    REFLECT    s(j) = |j| for j < 0, 2(n-1) - j for j >= n         the edge is not repeated
    REPLICATE  s(j) = min(max(j, 0), n - 1)                        the edge is repeated
    CIRCULAR   s(j) = j mod n                                      the far end continues

    dx_j = sum of dy_i over all i with s(i - l) = j: the middle of dy, plus its borders folded back.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from functools import partial
from operator import ge, le

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.core.cases import case
from fnn.core.dtypes import wide_dtype
from fnn.core.errors import LARGEST, InputError, require, require_floats
from fnn.core.rule import Rule
from fnn.core.sizes import fixed, possible, require_room
from fnn.core.words import described
from fnn.ops.window import Pairs, padded_sizes, pairs_of

MODES = ("REFLECT", "REPLICATE", "CIRCULAR")


@dataclasses.dataclass(frozen=True)
class PadSpec:
    """Amounts (before, after) for each spatial axis, and the mode."""

    pairs: Pairs
    mode: str


def pad(x: jax.Array, pairs: Sequence[tuple[int, int]], *, mode: str) -> jax.Array:
    """x: (N, *spatial, C) -> (N, *spatial + before + after, C), filled from x itself.

    Args:
      x: (N, *spatial, C).
      pairs: (before, after) >= 0 for each spatial axis.
      mode: "REFLECT" (amounts below the axis size), "REPLICATE" (any amounts) or "CIRCULAR"
        (amounts up to the axis size).

    Raises:
      InputError: unknown mode, wrong number of pairs, amounts the mode cannot fill, integer x.

    >>> import jax.numpy as jnp
    >>> print(pad(jnp.array([1.0, 2.0, 3.0])[None, :, None], [(2, 1)], mode="REFLECT")[0, :, 0])
    [3. 2. 1. 2. 3. 2.]
    """
    require_floats("pad", x=x)
    ok = isinstance(mode, str) and mode in MODES
    require(ok, "pad", f"a mode among {MODES}", described(mode), "use one of these")
    require(x.ndim >= 3, "pad", "x of shape (N, *spatial, C)", x.shape, "add the axes that are missing")
    filled = all(possible(ge, n, 1) for n in x.shape[1:-1])
    require(filled, "pad", "spatial sizes >= 1", f"x of shape {x.shape}", "use a larger input")
    each = pairs_of(pairs, x.ndim - 2)
    if each is None:
        wanted = f"{x.ndim - 2} pairs (before, after) >= 0 for x {x.shape}"
        raise InputError("pad", wanted, described(pairs), "give one pair a spatial axis")
    for n, amounts in zip(x.shape[1:-1], each, strict=True):
        most = {"REFLECT": n - 1, "CIRCULAR": n, "REPLICATE": LARGEST}[mode]
        require(
            all(possible(le, amount, most) for amount in amounts),
            "pad",
            f"amounts from 0 to {most} to {mode} an axis of {n}",
            amounts,
            "pad less, or use a larger input",
        )
    require_room("pad", (x.shape[0], *padded_sizes(x.shape[1:-1], each), x.shape[-1]), x.dtype)
    return rule(PadSpec(each, mode), x)


def _forward(spec, x):
    for axis, (low, high) in enumerate(spec.pairs, start=1):
        extend = _EXTEND[spec.mode] if fixed(x.shape[axis], low, high) else partial(_extend_by_index, spec.mode)
        x = extend(x, axis, low, high)
    return x


def _fwd(spec, x):
    return _forward(spec, x), None


def _bwd(spec, residuals, dy):
    for axis, (low, high) in enumerate(spec.pairs, start=1):
        fold = _FOLDS[spec.mode] if fixed(dy.shape[axis], low, high) else partial(_fold_by_index, spec.mode)
        dy = fold(dy, axis, low, high)
    return (dy,)


def _cut(x, axis, start, stop):
    return lax.slice_in_dim(x, start, stop, axis=axis)


def _extend_reflect(x, axis, low, high):
    n = x.shape[axis]
    before, after = _cut(x, axis, 1, 1 + low), _cut(x, axis, n - 1 - high, n - 1)
    return jnp.concatenate([lax.rev(before, (axis,)), x, lax.rev(after, (axis,))], axis)


def _extend_replicate(x, axis, low, high):
    n = x.shape[axis]
    edges = (_cut(x, axis, 0, 1), low), (_cut(x, axis, n - 1, n), high)
    before, after = (jnp.broadcast_to(edge, (*x.shape[:axis], count, *x.shape[axis + 1 :])) for edge, count in edges)
    return jnp.concatenate([before, x, after], axis)


def _extend_circular(x, axis, low, high):
    n = x.shape[axis]
    return jnp.concatenate([_cut(x, axis, n - low, n), x, _cut(x, axis, 0, high)], axis)


_EXTEND = {"REFLECT": _extend_reflect, "REPLICATE": _extend_replicate, "CIRCULAR": _extend_circular}


def _extend_by_index(mode, x, axis, low, high):
    """Of a symbolic size: no slice is known to lie within x."""
    n = x.shape[axis]
    j = jnp.arange(low + n + high) - low
    if mode == "REFLECT":
        j = jnp.where(j >= n, 2 * (n - 1) - j, abs(j))
    else:
        j = jnp.clip(j, 0, n - 1) if mode == "REPLICATE" else j % n
    return jnp.take(x, j, axis)


def _fold_by_index(mode, dy, axis, low, high):
    shape = (*dy.shape[:axis], dy.shape[axis] - low - high, *dy.shape[axis + 1 :])
    x = jax.ShapeDtypeStruct(shape, dy.dtype)
    return jax.linear_transpose(lambda x: _extend_by_index(mode, x, axis, low, high), x)(dy)[0]


def _parts(dy, axis, low, high):
    end = dy.shape[axis] - high
    return [_cut(dy, axis, *span) for span in ((0, low), (low, end), (end, end + high))]


def _place(part, axis, start, n):
    """`part` at position `start` of an axis of n zeros."""
    config = [(0, 0, 0)] * part.ndim
    config[axis] = (start, n - start - part.shape[axis], 0)
    return lax.pad(part, jnp.zeros((), part.dtype), config)


def _fold_reflect(dy, axis, low, high):
    before, middle, after = _parts(dy, axis, low, high)
    n = middle.shape[axis]
    before, after = lax.rev(before, (axis,)), lax.rev(after, (axis,))
    return middle + _place(before, axis, 1 if low else 0, n) + _place(after, axis, n - 1 - high if high else 0, n)


def _fold_replicate(dy, axis, low, high):
    before, middle, after = _parts(dy, axis, low, high)
    n = middle.shape[axis]
    wide = wide_dtype(dy)
    first, last = (part.sum(axis, keepdims=True, dtype=wide).astype(dy.dtype) for part in (before, after))
    return middle + _place(first, axis, 0, n) + _place(last, axis, n - 1, n)


def _fold_circular(dy, axis, low, high):
    before, middle, after = _parts(dy, axis, low, high)
    n = middle.shape[axis]
    return middle + _place(before, axis, n - low, n) + _place(after, axis, 0, n)


_FOLDS = {"REFLECT": _fold_reflect, "REPLICATE": _fold_replicate, "CIRCULAR": _fold_circular}


def _source(mode, j, n):
    if mode == "REFLECT":
        return -j if j < 0 else 2 * (n - 1) - j if j >= n else j
    return min(max(j, 0), n - 1) if mode == "REPLICATE" else j % n


def _reference(spec, x):
    sizes = x.shape[1:-1]
    padded = [n + low + high for n, (low, high) in zip(sizes, spec.pairs, strict=True)]
    y = np.zeros((x.shape[0], *padded, x.shape[-1]), x.dtype)
    for p in itertools.product(*map(range, padded)):
        q = tuple(_source(spec.mode, i - low, n) for i, n, (low, _) in zip(p, sizes, spec.pairs, strict=True))
        y[:, *p] = x[:, *q]
    return jnp.asarray(y)


rule = Rule(
    name="pad",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=(
        (lambda: pad(jnp.ones((2, 4, 4, 2)), ((5, 0), (0, 0)), mode="REFLECT"), "amounts from 0 to 3"),
        (lambda: pad(jnp.ones((2, 4, 4, 2)), ((1, 0),), mode="REFLECT"), "2 pairs"),
    ),
    cases=(
        case(PadSpec(((2, 1), (0, 3)), "REFLECT"), (8, 4, 5, 2)),
        case(PadSpec(((5, 1), (0, 3)), "REPLICATE"), (8, 4, 5, 2)),
        case(PadSpec(((4, 1), (0, 3)), "CIRCULAR"), (8, 4, 5, 2)),
        case(PadSpec(((2, 3),), "REFLECT"), (1, 4, 2), batched=False),
        case(PadSpec(((1, 0), (0, 1), (2, 2)), "CIRCULAR"), (0, 2, 2, 3, 1), batched=False),
    ),
)
