"""Attention: for each query the mean of the values, weighted by how well the query and their keys agree.

    s = scale q k^T + bias, -inf where not allowed        p_ij = e^s_ij / Σ_j e^s_ij        y = p v

    dv = p^T dy        dp = dy v^T        ds_ij = p_ij (dp_ij - Σ_e dy_ie y_ie)
    dq = scale ds k        dk = scale ds^T q        dbias = ds, summed where it was broadcast

Σ_e dy_ie y_ie is Σ_j p_ij dp_ij, without p. No array of T x S is a residual: of each query there are the largest score
and Σ_j e^(s_ij - largest), of which p is computed again. A query that may see no key has y = 0 and no slope. Dropout
acts on p.

Sources: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; Rabe and Staats, 2021, https://arxiv.org/abs/2112.05682,
for blocks; Dao et al., 2022, https://arxiv.org/abs/2205.14135, for the backward pass; Ainslie et al., 2023,
https://arxiv.org/abs/2305.13245, for grouped queries.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.cases import booleans, case, integers, random_key
from fnn.core.errors import given, require, require_flag, require_floats
from fnn.core.implementation import Implementation, Product
from fnn.core.rule import Rule
from fnn.ops.attention import block
from fnn.ops.attention.arguments import (
    check_broadcast,
    check_lengths,
    check_random,
    check_scale,
    check_shapes,
    check_window,
)
from fnn.ops.attention.block import AttentionSpec, Keys, Queries
from fnn.ops.attention.chunked import chunked_backward, chunked_forward, fits, pays
from fnn.ops.dropout import check_rate


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    causal: bool = False,
    window: int | tuple[int, int] | None = None,
    query_lengths: jax.Array | None = None,
    key_lengths: jax.Array | None = None,
    scale: float | None = None,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """query (N, T, H, D), key (N, S, K, D), value (N, S, K, E) -> (N, T, H, E): scaled dot-product attention.

    Arguments are as in `jax.nn.dot_product_attention`, without an axis N too; of H query heads, H / K neighbouring ones
    share a key head.

    Args:
      query, key, value: of one floating dtype; K divides H.
      bias: added to the scores; (N, H, T, S), each axis may be 1.
      mask: booleans, True where a query may see a key; (N, H, T, S), each axis may be 1.
      causal: whether a query sees the keys up to its own place alone, both counted from the first.
      window: how many keys a query sees before and after its own place: one integer, or two.
      query_lengths, key_lengths: integers (N,): what comes later is padding, which is not seen and sees nothing.
      scale: of the products, 1 / sqrt(D) by default.
      dropout_rate: the fraction of the weights dropped, in [0, 1).
      dropout_key: a random key, for a rate above 0.

    Raises:
      InputError: shapes that do not fit, empty sequences, integers or mixed dtypes, a mask that is not boolean, lengths
        outside 0 to T or S, a negative window, a rate outside [0, 1) or without a key.

    >>> import jax.numpy as jnp
    >>> q, k = jnp.zeros((1, 2, 4, 8)), jnp.zeros((1, 3, 2, 8))
    >>> v = jnp.arange(3.0)[None, :, None, None] * jnp.ones((1, 3, 2, 5))
    >>> attention(q, k, v).shape
    (1, 2, 4, 5)
    >>> attention(q, k, v, causal=True)[0, :, 0, 0].tolist()
    [0.0, 0.5]
    """
    where = "attention"
    require_floats(where, query=query, key=key, value=value, **given(bias=bias))
    single = query.ndim == 3
    if single:
        query, key, value = (a[None] if a.ndim == 3 else a for a in (query, key, value))
    heads = check_shapes(query, key, value)
    scores = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
    for name, a in {"bias": bias, "mask": mask}.items():
        check_broadcast(name, a, scores)
    if mask is not None:
        require(mask.dtype == bool, where, "a mask of booleans", mask.dtype, "compare: mask != 0; numbers are a bias")
    for name, lengths, most in (
        ("query_lengths", query_lengths, scores[2]),
        ("key_lengths", key_lengths, scores[3]),
    ):
        check_lengths(name, lengths, scores[0], most)
    require_flag(where, "causal", causal)
    rate = check_rate(dropout_rate, where, "dropout_rate")
    spec = AttentionSpec(check_scale(scale, query.shape[-1]), bool(causal), check_window(window), rate)
    bias, mask = (a if a is None else _split(a, heads) for a in (bias, mask))
    y = rule(spec, query, key, value, bias, mask, query_lengths, key_lengths, check_random(rate, query, dropout_key))
    return y[0] if single else y


def _split(a: jax.Array, heads: int) -> jax.Array:
    """(N, H, T, S) -> (N, K, G, T, S)."""
    n, h, t, s = a.shape
    return a.reshape(n, *((heads, h // heads) if h > 1 else (1, 1)), t, s)


def _heads_first(a: jax.Array, heads: int) -> jax.Array:
    """(N, T, H, D) -> (N, K, G, T, D)."""
    n, t, h, d = a.shape
    return a.reshape(n, t, heads, h // heads, d).transpose(0, 2, 3, 1, 4)


def _heads_last(a: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """(N, K, G, T, D) -> (N, T, H, D), narrowed."""
    n, heads, groups, t, d = a.shape
    return a.astype(dtype).transpose(0, 3, 1, 2, 4).reshape(n, t, heads * groups, d)


def _parts(query, key, value, bias, mask, query_lengths, key_lengths, random) -> tuple[Queries, Keys]:
    places = jnp.arange(query.shape[1])
    queries = Queries(_heads_first(query, key.shape[2]), bias, mask, places)
    return queries, Keys(key.swapaxes(1, 2), value.swapaxes(1, 2), query_lengths, key_lengths, random)


def _forward(spec, query, *rest):
    y, _, _ = block.forward(spec, *_parts(query, *rest))
    return _heads_last(y, query.dtype)


def _fwd(spec, query, *rest):
    y, peak, total = FORWARD(spec, *_parts(query, *rest))
    y = _heads_last(y, query.dtype)
    return y, (query, *rest, y, peak, total)


def _bwd(spec, residuals, dy):
    query, key, value, bias, mask, query_lengths, key_lengths, random, y, peak, total = residuals
    random = None if random is None else jax.random.clone(random)
    parts = _parts(query, key, value, bias, mask, query_lengths, key_lengths, random)
    y, dy = (_heads_first(a, key.shape[2]) for a in (y, dy))
    dq, dk, dv, dbias = BACKWARD(spec, *parts, y, peak, total, dy)
    dk, dv = (a.astype(key.dtype).swapaxes(1, 2) for a in (dk, dv))
    dbias = None if bias is None else dbias.astype(bias.dtype)
    return _heads_last(dq, query.dtype), dk, dv, dbias, None, None, None, None


FORWARD = Product(
    "forward",
    Implementation(name="chunked", run=chunked_forward, when=pays, fits=fits),
    Implementation(name="plain", run=block.forward),
)
BACKWARD = Product(
    "backward",
    Implementation(name="chunked", run=chunked_backward, when=pays, fits=fits),
    Implementation(name="plain", run=block.backward),
)


def _reference(spec, query, key, value, bias, mask, query_lengths, key_lengths, random):
    (n, t, h, _), (_, s, k, _) = query.shape, key.shape
    groups = h // k
    y = jnp.zeros((n, t, h, value.shape[-1]), query.dtype)
    for i in range(t):
        keep = (
            None
            if random is None
            else jax.random.bernoulli(jax.random.fold_in(random, i), jnp.float32(1 - spec.rate), (n, k, groups, s))
        )
        for a in range(h):
            place, total, mean = (a // groups, a % groups), 0.0, 0.0
            for j in range(s):
                score = spec.scale * (query[:, i, a] * key[:, j, place[0]]).sum(-1)
                near = spec.window is None or i - spec.window[0] <= j <= i + spec.window[1]
                ok = jnp.full(n, near and (j <= i or not spec.causal))
                for lengths, at in ((query_lengths, i), (key_lengths, j)):
                    ok = ok if lengths is None else ok & (at < lengths)
                if bias is not None:
                    score = score + _at(bias, place, i, j)
                if mask is not None:
                    ok = ok & _at(mask, place, i, j)
                e = jnp.where(ok, jnp.exp(score), 0)
                total = total + e
                e = e if keep is None else jnp.where(keep[:, *place, j], e / (1 - spec.rate), 0)
                mean = mean + e[:, None] * value[:, j, place[0]]
            y = y.at[:, i, a].set(mean / jnp.where(total == 0, 1, total)[:, None])
    return y


def _at(a, place, i, j):
    """One entry of each example, of what may have axes of 1."""
    return a[:, *(x if n > 1 else 0 for x, n in zip((*place, i, j), a.shape[1:], strict=True))]


def _case(spec, bias=None, mask=None, lengths=False, random=False, implementation=""):
    """Two examples of four queries and five keys, in two groups of two heads."""
    return case(
        spec,
        (2, 4, 4, 3),
        (2, 5, 2, 3),
        (2, 5, 2, 2),
        bias,
        mask and booleans(mask),
        integers((2,), 0, 5) if lengths else None,
        integers((2,), 0, 6) if lengths else None,
        random_key() if random else None,
        batched=False,
        implementation=implementation,
    )


_ONES: Any = np.ones((1, 3, 2, 4), np.float32)

rule = Rule(
    name="attention",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    products=(FORWARD, BACKWARD),
    refuses=(
        (lambda: attention(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.ones((2, 3))), "query, key and value"),
        (lambda: attention(_ONES, _ONES, _ONES, mask=jnp.ones((3, 3), bool)), "mask of shape"),
        (lambda: attention(_ONES, _ONES, _ONES, mask=jnp.ones((1, 1, 3, 3))), "a mask of booleans"),
        (lambda: attention(_ONES, _ONES, jnp.ones((1, 4, 2, 4))), "of the key's N, S and K"),
        (lambda: attention(_ONES, jnp.ones((1, 3, 3, 4)), jnp.ones((1, 3, 3, 4))), "key heads that divide 2"),
        (lambda: attention(_ONES[:, :0], _ONES, _ONES), "at least one query"),
        (lambda: attention(_ONES, _ONES, _ONES, key_lengths=jnp.array([4])), "key_lengths from 0 to 3"),
        (lambda: attention(_ONES, _ONES, _ONES, key_lengths=jnp.array([1.0])), "key_lengths, integers"),
        (lambda: attention(_ONES, _ONES, _ONES, window=-1), "window >= 0"),
        (lambda: attention(_ONES, _ONES, _ONES, dropout_rate=0.5), "a dropout_key"),
        (lambda: attention(_ONES, _ONES, _ONES, dropout_rate=1.5), r"a dropout_rate in \[0, 1\)"),
    ),
    cases=(
        case(AttentionSpec(0.5), (8, 3, 2, 4), (8, 5, 2, 4), (8, 5, 2, 3), *[None] * 5),
        _case(AttentionSpec(1.0, causal=True), bias=(1, 2, 2, 4, 5)),
        _case(AttentionSpec(0.7, window=(1, 0)), mask=(2, 1, 1, 4, 5)),
        _case(AttentionSpec(0.7, window=(0, 2)), lengths=True, implementation="chunked"),
        _case(AttentionSpec(0.5, rate=0.3), bias=(2, 1, 1, 1, 5), random=True),
        _case(AttentionSpec(0.5, causal=True, rate=0.5), bias=(2, 2, 2, 4, 5), random=True, implementation="chunked"),
        _case(AttentionSpec(0.5), bias=(1, 1, 1, 1, 5), mask=(1, 2, 2, 1, 5), implementation="chunked"),
        case(AttentionSpec(0.5), (0, 3, 2, 4), (0, 5, 1, 4), (0, 5, 1, 3), *[None] * 5, batched=False),
    ),
)
