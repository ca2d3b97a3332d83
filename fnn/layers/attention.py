"""Multi-head attention: `ops.attention` between projections, of a sequence to itself, to another, or step by step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import initializers

from fnn import ops
from fnn.core.combinators import Children, compose
from fnn.core.errors import ARRAYS, integer, require, require_flag, require_float_spec, require_floats
from fnn.core.layer import Layer, Params, State, require_layer, shown
from fnn.core.spec import Spec
from fnn.core.words import described
from fnn.layers.dense import dense
from fnn.layers.initial import full
from fnn.ops.attention.arguments import check_window
from fnn.ops.dropout import check_rate
from fnn.ops.rotary import check_base

_WHERE = "multi_head_attention"
_PARTS = ("x", "context", "mask", "lengths", "context_lengths")


@shown
def multi_head_attention(
    features: int,
    heads: int,
    *,
    head_features: int | None = None,
    key_heads: int | None = None,
    bias: bool = True,
    causal: bool = False,
    window: int | tuple[int, int] | None = None,
    dropout_rate: float = 0.0,
    norm: Layer | None = None,
    rotary: float | None = None,
    cache: int | None = None,
    kernel_init: jax.nn.initializers.Initializer = initializers.xavier_uniform(),  # noqa: B008
    bias_init: jax.nn.initializers.Initializer = initializers.zeros,
) -> Layer:
    """x: (N, T, C) -> (N, T, features): each position takes from the others what its query finds among their keys.

    x may be a dict of "x" and of what else there is: "context" (N, S, B), from which keys and values are taken instead
    (cross-attention); "mask", booleans (N, heads, T, S) of which each axis may be 1; "lengths" and "context_lengths",
    integers (N,), behind which a sequence is padding.

    params: "query", "key", "value" and "out", each with kernel and bias.

    Args:
      features: of the output.
      heads: H.
      head_features: D of each head, features / heads by default.
      key_heads: K, a divisor of heads, which share keys and values; as many as heads by default.
      bias: whether the projections add one.
      causal: whether a position sees itself and earlier ones alone.
      window: how many positions it sees before and after itself: one integer, or two.
      dropout_rate: the fraction of the weights dropped in training.
      norm: a layer without state for queries and for keys, of each head: "query_norm" and "key_norm" in params.
      rotary: the base of `ops.rotary` for queries and keys, 10,000 for example; None for none.
      cache: for decoding, of a causal layer: how many positions its state holds, keys and values (N, cache, K, D). Each
        call adds its x behind those before, and sees them all; params are those of a layer without a cache.
      kernel_init, bias_init: initialisers from `jax.nn.initializers`.

    Raises:
      InputError: heads that do not divide features, or key_heads heads; a cache without causal, in training, or full;
        and what `ops.attention` raises. Inside jit, where nothing can be raised, a full cache gives NaN.

    >>> import jax, fnn
    >>> layer, x = fnn.multi_head_attention(8, heads=2), jax.numpy.ones((1, 5, 6))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> layer.apply(params, state, {"x": x, "lengths": jax.numpy.array([3])})[0].shape
    (1, 5, 8)
    """
    features, heads = integer(_WHERE, "features", features), integer(_WHERE, "heads", heads)
    if head_features is None:
        ok = features % heads == 0
        require(ok, _WHERE, f"heads that divide {features} features", heads, "or say head_features")
    size = features // heads if head_features is None else integer(_WHERE, "head_features", head_features)
    shared = heads if key_heads is None else integer(_WHERE, "key_heads", key_heads)
    require(heads % shared == 0, _WHERE, f"key_heads that divide {heads} heads", shared, "use heads, or half as many")
    require_flag(_WHERE, "causal", causal)
    if cache is not None:
        cache = integer(_WHERE, "cache", cache)
        require(causal, _WHERE, "a causal layer for a cache", "causal=False", "pass causal=True")
    rotary = None if rotary is None else check_base(rotary, _WHERE, "rotary")
    rate = check_rate(dropout_rate, _WHERE, "dropout_rate")
    options: dict[str, Any] = {"bias": bias, "kernel_init": kernel_init, "bias_init": bias_init}
    children: list[tuple[str, Layer]] = [
        ("query", dense(heads * size, **options)),
        ("key", dense(shared * size, **options)),
        ("value", dense(shared * size, **options)),
        ("attention", _between(causal, check_window(window), rate, rotary, cache)),
        ("out", dense(features, **options)),
    ]
    if norm is not None:
        require_layer(_WHERE, "norm", norm)
        children += [("query_norm", norm), ("key_norm", norm)]
    return _wired(tuple(children), heads, shared)


def _wired(children: Children, heads: int, shared: int) -> Layer:
    names = [name for name, _ in children]

    def run(call: Callable[..., Any], join: Callable[..., Any], x: Any) -> Any:
        given = _parts(x)
        context = given.pop("context", given["x"])

        def projected(name: str, a: Any, heads: int) -> Any:
            y = join(lambda y: y.reshape(*y.shape[:-1], heads, -1), call(names.index(name), a))
            return call(names.index(f"{name}_norm"), y) if f"{name}_norm" in names else y

        x = given.pop("x")
        q, k, v = projected("query", x, heads), projected("key", context, shared), projected("value", context, shared)
        y = call(names.index("attention"), {"query": q, "key": k, "value": v, **given})
        return call(names.index("out"), join(lambda y: y.reshape(*y.shape[:-2], -1), y))

    def rebuild(kids: Sequence[Layer]) -> Layer:
        return _wired(tuple(zip(names, kids, strict=True)), heads, shared)

    return compose(_WHERE, children, run, rebuild)


def _parts(x: Any) -> dict[str, Any]:
    """x as a dict whose parts are known, for attention by its own names."""
    given = dict(x) if isinstance(x, Mapping) else {"x": x}
    unknown = [name for name in given if name not in _PARTS]
    ok = "x" in given and not unknown
    require(ok, _WHERE, f"x, or a dict of x and any of {', '.join(_PARTS[1:])}", [*given], "name the parts like this")
    for name in ("x", "context"):
        if name in given:
            require_sequence(_WHERE, name, given[name])
    lengths, others = given.pop("lengths", None), given.pop("context_lengths", None)
    if "context" not in given:
        require(others is None, _WHERE, "context_lengths beside a context", "no context", "pass lengths for x")
        others = lengths
    return given | {"query_lengths": lengths, "key_lengths": others}


def require_sequence(where: str, name: str, a: Any, features: int | None = None) -> None:
    """Refuse what is no array of floats, or shape of one, with three axes and so many channels."""
    if isinstance(a, jax.ShapeDtypeStruct):
        require_float_spec(where, a)
    elif isinstance(a, ARRAYS):
        require_floats(where, **{name: a})
    ok = isinstance(a, (*ARRAYS, jax.ShapeDtypeStruct)) and len(a.shape) == 3
    ok = ok and features in (None, a.shape[-1])
    got = a.shape if isinstance(a, (*ARRAYS, jax.ShapeDtypeStruct)) else described(a)
    channels = "C" if features is None else features
    require(ok, where, f"{name} of shape (N, T, {channels})", got, "give it the missing axes, for example x[None]")


def _between(
    causal: bool, window: tuple[int, int] | None, rate: float, rotary: float | None, cache: int | None
) -> Layer:
    """Attention itself, as a layer: what it drops in training, and what it remembers."""

    def init(key: jax.Array, x: Spec) -> tuple[Params, State]:
        if cache is None:
            return {}, {}
        k, v = ((a.shape[0], cache, *a.shape[2:]) for a in (x["key"], x["value"]))
        return {}, {
            "key": full(k, 0, x["key"].dtype),
            "value": full(v, 0, x["value"].dtype),
            "length": full((), 0, jnp.int32),
        }

    def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        if cache is not None:
            require(not train, _WHERE, "evaluation of a layer with a cache", "train=True", "train one without a cache")
            return _step(cache, window, state, _turned(rotary, x, state["length"]))
        rest: dict[str, Any] = {"causal": causal, "window": window}
        if train and rate:
            require(key is not None, _WHERE, "a key in training", "key=None", "pass key=jax.random.key(seed) to apply")
            rest |= {"dropout_rate": rate, "dropout_key": key}
        return ops.attention(**_turned(rotary, x, 0), **rest), state

    return Layer(init, apply, "attention")


def _turned(base: float | None, x: Any, start: Any) -> Any:
    """Queries and keys turned by their positions, counted from `start`."""
    if base is None:
        return x
    q, k = (ops.rotary(x[name], start + jnp.arange(x[name].shape[1]), base=base) for name in ("query", "key"))
    return x | {"query": q, "key": k}


def _step(cache: int, window: tuple[int, int] | None, state: State, x: Any) -> tuple[jax.Array, State]:
    """Put keys and values behind those of earlier steps; attend to all of them."""
    ok = all(x.get(name) is None for name in ("mask", "query_lengths", "key_lengths"))
    require(ok, _WHERE, "no mask and no lengths beside a cache", "one of them", "decode sequences of one length")
    for name in ("key", "value"):
        ok = x[name].shape[0] == state[name].shape[0]
        expected = f"a batch of {state[name].shape[0]}, as init was given"
        require(ok, _WHERE, expected, x[name].shape[0], "make a state with init for this batch")
    start, t = state["length"], x["query"].shape[1]
    ok = x["key"].shape[1] == t
    require(ok, _WHERE, "no context beside a cache", "one of another length", "attend to it by a layer without a cache")
    end = start + t
    least = t if isinstance(end, jax.core.Tracer) else int(end)
    require(least <= cache, _WHERE, f"at most {cache} positions, the cache", least, "make a larger cache")
    k, v = (
        lax.dynamic_update_slice(state[name], x[name].astype(state[name].dtype), (0, start, 0, 0))
        for name in ("key", "value")
    )
    at, place = start + jnp.arange(t)[:, None], jnp.arange(cache)[None]
    mask = place <= at
    if window is not None:
        mask &= place >= at - window[0]
    y = ops.attention(x["query"], k, v, mask=mask[None, None])
    return jnp.where(end <= cache, y, jnp.nan), {"key": k, "value": v, "length": end}
