"""What attention asks of its arguments."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.errors import InputError, integer, real, require, require_array, require_key
from fnn.core.sharding import varying
from fnn.core.values import require_values
from fnn.core.words import described


def check_shapes(query: jax.Array, key: jax.Array, value: jax.Array) -> int:
    """The number K of key heads."""
    where, shapes = "attention", f"{query.shape}, {key.shape} and {value.shape}"
    fix = "give them heads: x.reshape(*x.shape[:-1], heads, -1)"
    require(query.ndim == key.ndim == value.ndim == 4, where, "query, key and value (N, T, H, D)", shapes, fix)
    (n, t, h, d), (m, s, k, c) = query.shape, key.shape
    expected = f"key ({n}, S, K, {d}) for a query {query.shape}, and value (N, S, K, E) of the key's N, S and K"
    ok = (n, d) == (m, c) and key.shape[:3] == value.shape[:3]
    require(ok, where, expected, shapes, "project all three to as many channels a head")
    require(k != 0 and h % k == 0, where, f"key heads that divide {h} query heads", k, "use H, or H / 2, ..., or 1")
    require(
        0 not in (t, s, d, h), where, "at least one query, key, head and channel", shapes, "leave empty batches out"
    )
    return k


def check_broadcast(name: str, a: jax.Array | None, scores: tuple[int, ...]) -> None:
    """Refuse what is neither None nor broadcast to the scores (N, H, T, S)."""
    if a is not None:
        require_array("attention", name, a)
        ok = a.ndim == 4 and all(n in (1, m) for n, m in zip(a.shape, scores, strict=True))
        require(
            ok, "attention", f"{name} of shape {scores}, each axis may be 1", a.shape, f"{name}[None, None] of (T, S)"
        )


def check_lengths(name: str, lengths: jax.Array | None, n: int, most: int) -> None:
    """Refuse what is neither None nor a length from 0 to `most` for each of n examples."""
    if lengths is not None:
        require_array("attention", name, lengths)
        ok = jnp.issubdtype(lengths.dtype, jnp.integer) and lengths.shape == (n,)
        got = f"{lengths.dtype} of shape {lengths.shape}"
        require(ok, "attention", f"{name}, integers of shape ({n},)", got, "one length an example")
        expected = f"{name} from 0 to {most}"
        require_values("attention", lengths, lambda a: (a >= 0) & (a <= most), expected, "count what is no padding")


def check_scale(scale: float | None, d: int) -> float:
    """The scale as a Python float."""
    if scale is None:
        return 1 / math.sqrt(d)
    return real("attention", "a finite scale", scale, lambda s: True, "leave it out for 1 / sqrt(D)")


def check_window(window: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """The keys seen before and after a place; None for all."""
    if window is None:
        return None
    if isinstance(window, Sequence) and not isinstance(window, str):
        ok = len(window) == 2
        require(ok, "attention", "one integer, or two", described(window), "window=(keys before, keys after)")
        before, after = window
    else:
        before = after = window
    return integer("attention", "window", before, 0), integer("attention", "window", after, 0)


def check_random(rate: float, query: jax.Array, key: jax.Array | None) -> jax.Array | None:
    """Dropout's key, another one on each device of a `shard_map`; None for a rate of 0."""
    if not rate:
        return None
    if key is None:
        raise InputError("attention", "a dropout_key for a rate above 0", "None", "pass jax.random.key(seed)")
    require_key("attention", key)
    for axis in sorted(varying(query) - varying(key)):  # else all parts of a batch would lose the same
        key = jax.random.fold_in(key, lax.axis_index(axis))
    return key
