"""Attention in blocks of queries: no array of T x S is ever held, only one of a block's queries by S.

A block needs nothing of the others but, in the backward pass, to add to the cotangents of keys and values. Queries are
padded to whole blocks; what is padded has a cotangent of zero.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.dtypes import wide_dtype
from fnn.core.sharding import align
from fnn.core.sizes import fixed
from fnn.ops.attention.block import AttentionSpec, Keys, Queries, backward, forward

BLOCK = 128  # queries; of 64 to 512 the fastest on a CPU, or within its noise
LONG, LARGE = 512, 1 << 22  # queries, and scores of all heads: with fewer the plain form is as fast or faster


def fits(spec: AttentionSpec, queries: Queries, *rest: Any) -> bool:
    """Sizes known, and queries enough for two blocks."""
    return fixed(*queries.q.shape) and queries.q.shape[3] > 1


def pays(spec: AttentionSpec, queries: Queries, keys: Keys, *rest: Any) -> bool:
    """Long sequences and many scores."""
    *heads, t, _ = queries.q.shape
    return fixed(*heads, t, *keys.k.shape) and t >= LONG and math.prod(heads) * t * keys.k.shape[2] >= LARGE


def _block(queries: int) -> int:
    """How many of so many queries make a block: at least two blocks."""
    return min(BLOCK, -(-queries // 2))


def _cut(a: jax.Array, block: int, axis: int = 3, fill: float = 0) -> jax.Array:
    """An axis of queries in blocks, which come first; the last is filled."""
    count = -(-a.shape[axis] // block)
    pads = [(0, 0)] * a.ndim
    pads[axis] = (0, count * block - a.shape[axis])
    a = jnp.pad(a, pads, constant_values=fill)
    return jnp.moveaxis(a.reshape(*a.shape[:axis], count, block, *a.shape[axis + 1 :]), axis, 0)


def _joined(a: jax.Array, queries: int, axis: int = 3) -> jax.Array:
    """`_cut` undone."""
    a = jnp.moveaxis(a, 0, axis)
    return lax.slice_in_dim(a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :]), 0, queries, axis=axis)


def _cut_queries(queries: Queries, block: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts that differ from block to block, cut, and those that do not."""
    parts = queries._asdict()
    cut = {name: _cut(parts.pop(name), block) for name in ("q", "bias", "mask") if _differs(parts[name])}
    return cut | {"at": _cut(parts.pop("at"), block, 0)}, parts


def _differs(a: jax.Array | None) -> bool:
    return a is not None and a.shape[3] > 1


def chunked_forward(spec: AttentionSpec, queries: Queries, keys: Keys) -> tuple[jax.Array, ...]:
    """As `forward`, one block after another."""
    many = queries.q.shape[3]
    cut, same = _cut_queries(queries, _block(many))
    results = lax.map(lambda each: forward(spec, Queries(**each, **same), keys), cut)
    return tuple(_joined(a, many) for a in results)


def chunked_backward(
    spec: AttentionSpec,
    queries: Queries,
    keys: Keys,
    y: jax.Array,
    peak: jax.Array,
    total: jax.Array,
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """dq, dk, dv and the cotangent of the bias, wide."""
    many, block = queries.q.shape[3], _block(queries.q.shape[3])
    cut, same = _cut_queries(queries, block)
    bias = same.get("bias")  # one for all blocks, which add up its cotangent

    def one(sums: Any, each: Any) -> Any:
        some, *rest = each
        some = Queries(**some, **same)
        dq, dk, dv, dbias = backward(spec, some, keys, *rest)
        shared, own = (None, dbias) if bias is None else (dbias, None)
        return jax.tree.map(jnp.add, sums, (dk, dv, shared)), (dq, own)

    wide = wide_dtype(queries.q)
    zeros = align(jax.tree.map(lambda a: jnp.zeros_like(a, wide), (keys.k, keys.v, bias)), dy)[0]
    # The padding's scores may be anything; below the highest peak they count nothing.
    highest = float(jnp.finfo(peak.dtype).max)
    rest = (_cut(y, block), _cut(peak, block, fill=highest), _cut(total, block, fill=1), _cut(dy, block))
    (dk, dv, dbias), (dq, own) = lax.scan(one, zeros, (cut, *rest))
    return _joined(dq, many), dk, dv, dbias if own is None else _joined(own, many)
