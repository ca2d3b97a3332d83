"""Attention of a block of queries to all keys: what both implementations are made of.

Arrays lie heads first, so that each product is one of matrices. The G queries that share a key head are rows of one:
queries (N, K, G T, D), keys and values (N, K, S, D) and (N, K, S, E), scores (N, K, G T, S). Scores that are not
allowed are -inf, of which the exponential is an exact zero, as are its slopes.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.dtypes import wide_dtype, wide_product, widen
from fnn.core.sharding import result_sharding


@dataclass(frozen=True)
class AttentionSpec:
    """Static options; `window` counts the keys allowed before and after a query's own place, None for all."""

    scale: float
    causal: bool = False
    window: tuple[int, int] | None = None
    rate: float = 0.0


class Queries(NamedTuple):
    """A block of queries (N, K, G, T, D), bias and mask (N, K, G, T, S) or None, and places in the sequence (T,)."""

    q: jax.Array
    bias: jax.Array | None
    mask: jax.Array | None
    at: jax.Array


class Keys(NamedTuple):
    """Keys, values, the lengths (N,) of queries and keys (None for all), and dropout's random key."""

    k: jax.Array
    v: jax.Array
    query_lengths: jax.Array | None
    key_lengths: jax.Array | None
    random: jax.Array | None


def rows(a: jax.Array) -> jax.Array:
    """(N, K, G, T, ...) -> (N, K, G T, ...)."""
    n, heads, groups, t, last = a.shape
    return a.reshape(n, heads, groups * t, last)


def _times(a: jax.Array, b: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """The product of two matrices for each example and key head, wide, summed over one axis of each."""
    return wide_product(a, b, ((axes[0],), (axes[1],)), ((0, 1), (0, 1)))


def _is_wide(a: jax.Array) -> bool:
    return wide_dtype(a) == a.dtype


def scores(spec: AttentionSpec, queries: Queries, keys: Keys) -> jax.Array:
    """(N, K, G T, S), wide: scale q k^T + bias, -inf where a key is not allowed."""
    s = _times(rows(queries.q), keys.k, (3, 3)) * spec.scale
    groups, t = queries.q.shape[2:4]
    if queries.bias is not None:
        s = s + _beside(widen(queries.bias), groups, t)
    ok = _allowed(spec, queries, keys)
    return s if ok is None else jnp.where(ok, s, -jnp.inf)


def _beside(a: jax.Array, groups: int, t: int) -> jax.Array:
    """(N, K, G, T, S), where axes may be 1, as rows; G and T are both as long as those of the queries, or both 1."""
    if a.shape[2:4] != (1, 1):
        a = jnp.broadcast_to(a, (*a.shape[:2], groups, t, a.shape[-1]))
    return rows(a)


def _allowed(spec: AttentionSpec, queries: Queries, keys: Keys) -> jax.Array | None:
    groups, t = queries.q.shape[2:4]
    found = None if queries.mask is None else _beside(queries.mask, groups, t)
    at, place = jnp.tile(queries.at, groups)[None, None, :, None], jnp.arange(keys.k.shape[2])[None, None, None]
    conditions = [place <= at] if spec.causal else []
    if spec.window is not None:
        before, after = spec.window
        conditions += [place >= at - before, place <= at + after]
    for lengths, places in ((keys.query_lengths, at), (keys.key_lengths, place)):
        if lengths is not None:
            conditions.append(places < lengths[:, None, None, None])
    for condition in conditions:
        found = condition if found is None else found & condition
    return found


def _peaks(s: jax.Array) -> jax.Array:
    """The largest score of each row, 0 where there is none."""
    peak = lax.stop_gradient(s.max(-1, keepdims=True))
    return jnp.where(peak == -jnp.inf, 0, peak)


# Compiled apart, so that outside jit too jax_debug_infs never sees a score that is not allowed.
@partial(jax.jit, static_argnums=0, inline=True)
def _exponentials(spec: AttentionSpec, queries: Queries, keys: Keys) -> tuple[jax.Array, jax.Array]:
    s = scores(spec, queries, keys)
    peak = _peaks(s)
    return jnp.exp(s - peak), peak


@partial(jax.jit, static_argnums=0, inline=True)
def _exponentials_below(spec: AttentionSpec, queries: Queries, keys: Keys, peak: jax.Array) -> jax.Array:
    """The same again, in the same words, so that XLA may share them."""
    return jnp.exp(scores(spec, queries, keys) - peak)


def _dropped(spec: AttentionSpec, p: jax.Array, queries: Queries, keys: Keys) -> jax.Array:
    """p (N, K, G T, S) after dropout, which draws for each place in the sequence from a key of its own."""
    random = keys.random
    if random is None:
        return p
    shape = (*queries.q.shape[:3], p.shape[-1])

    def draw(at: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(random, at), jnp.float32(1 - spec.rate), shape)

    drawn = rows(jax.vmap(draw, out_axes=3)(queries.at))
    sharding = result_sharding(p)
    if sharding is not None:
        drawn = jax.sharding.reshard(drawn, sharding)
    return jnp.where(drawn, p / (1 - spec.rate), 0)


def forward(spec: AttentionSpec, queries: Queries, keys: Keys) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y (N, K, G, T, E), and of each row of scores its peak and the sum of e = exp(s - peak), (N, K, G, T, 1); wide."""
    e, peak = _exponentials(spec, queries, keys)
    total = e.sum(-1, keepdims=True)
    total = jnp.where(total == 0, 1, total)  # of a query that sees no key
    y = _times(_dropped(spec, e, queries, keys).astype(keys.v.dtype), keys.v, (3, 2)) / total  # fewer numbers than e
    heads = queries.q.shape[:-1]
    return y.reshape(*heads, keys.v.shape[-1]), peak.reshape(*heads, 1), total.reshape(*heads, 1)


def backward(
    spec: AttentionSpec,
    queries: Queries,
    keys: Keys,
    y: jax.Array,
    peak: jax.Array,
    total: jax.Array,
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """dq, dk, dv and the cotangent of the bias, wide, by the formula in `fnn.ops.attention.rule`."""
    q, y, peak, total, dy = map(rows, (queries.q, y, peak, total, dy))
    p = _exponentials_below(spec, queries, keys, peak)
    # Every term has a factor p dy. Divided in dy there are fewer numbers, but half precision would lose small ones.
    p, dy = (p, dy / total) if _is_wide(dy) else (p / total, dy)
    dp = _dropped(spec, _times(dy, keys.v, (3, 3)), queries, keys)
    dv = _times(_dropped(spec, p, queries, keys).astype(dy.dtype), dy, (2, 2))
    ds = p * (dp - (widen(dy) * widen(y)).sum(-1, keepdims=True))
    short = ds.astype(q.dtype)
    dq, dk = _times(short, keys.k, (3, 2)) * spec.scale, _times(short, q, (2, 2)) * spec.scale
    return dq.reshape(queries.q.shape), dk, dv, _summed_like(ds, queries)


def _summed_like(ds: jax.Array, queries: Queries) -> jax.Array | None:
    """ds summed over the axes along which the bias was broadcast."""
    bias = queries.bias
    if bias is None:
        return None
    ds = ds.reshape(*queries.q.shape[:-1], ds.shape[-1])
    axes = tuple(i for i, (n, m) in enumerate(zip(bias.shape, ds.shape, strict=True)) if n == 1 != m)
    return ds.sum(axes, keepdims=True)
