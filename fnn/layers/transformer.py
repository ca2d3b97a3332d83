"""The blocks of which transformers are made: attention and a feed-forward network, each with a norm and a way around.

    norm first     x + attention(norm x), then x + feed_forward(norm x)
    norm last      norm(x + attention(x)), then norm(x + feed_forward(x))

Sources: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, with the norm last; Xiong et al., 2020,
https://arxiv.org/abs/2002.04745, with the norm first; Shazeer, 2020, https://arxiv.org/abs/2002.05202, for gates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from fnn.core.combinators import Children, compose, parallel, serial
from fnn.core.errors import integer, require, require_flag
from fnn.core.layer import Layer, require_layer, shown
from fnn.layers.activation import gelu
from fnn.layers.attention import multi_head_attention, require_sequence
from fnn.layers.dense import dense
from fnn.layers.dropout import dropout
from fnn.layers.norm import layer_norm
from fnn.ops.dropout import check_rate


@shown
def feed_forward(
    features: int,
    hidden: int,
    *,
    activation: Layer | None = None,
    gated: bool = False,
    dropout_rate: float = 0.0,
    bias: bool = True,
) -> Layer:
    """x: (..., C) -> (..., features): two dense layers with an activation between.

    params: "in" and "out", each with kernel and bias; where it is gated, "hidden" with "in" and "gate" instead of "in".

    Args:
      features: of the output.
      hidden: of the layer between.
      activation: a layer, `gelu()` by default.
      gated: whether the activated output of a dense layer multiplies that of another; with `silu()` this is SwiGLU.
      dropout_rate: the fraction dropped of what the second dense layer reads, in training.
      bias: whether the dense layers add one.

    Raises:
      InputError: numbers < 1, what is no layer, a rate outside [0, 1).

    >>> import jax, fnn
    >>> layer = fnn.feed_forward(4, 16, activation=fnn.silu(), gated=True, bias=False)
    >>> params, _ = layer.init(jax.random.key(0), (1, 4))
    >>> jax.tree.map(lambda p: p.shape, params["out"])
    {'kernel': (16, 4)}
    """
    where = "feed_forward"
    features, hidden = integer(where, "features", features), integer(where, "hidden", hidden)
    require_flag(where, "gated", gated)
    require_flag(where, "bias", bias)
    rate = check_rate(dropout_rate, where, "dropout_rate")
    activation = gelu() if activation is None else activation
    require_layer(where, "activation", activation)
    layers = {"in": dense(hidden, bias=bias), "activation": activation}
    if gated:
        gate = serial(dense=layers["in"], activation=activation)
        layers = {"hidden": parallel(**{"in": layers["in"], "gate": gate}, merge=_product)}
    if rate:
        layers["dropout"] = dropout(rate)
    return serial(**layers, out=dense(features, bias=bias))


def _product(ys: Sequence[jax.Array]) -> jax.Array:
    return ys[0] * ys[1]


@shown
def transformer_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    causal: bool = False,
    cross: bool = False,
    norm_first: bool = True,
    norm: Layer | None = None,
    activation: Layer | None = None,
    gated: bool = False,
    key_heads: int | None = None,
    rotary: float | None = None,
    dropout_rate: float = 0.0,
    bias: bool = True,
) -> Layer:
    """x: (N, T, features) -> same: a block of an encoder, with `causal` of a decoder, with `cross` of one that reads.

    x may be a dict as for `multi_head_attention`, and then so is the output, with the other parts as they came. With
    `cross` it must hold "context" (N, S, B), to which a second attention goes; "mask" and "lengths" then count for the
    first, "context_lengths" for the second.

    Args:
      features: of x.
      heads: of each attention, a divisor of features.
      hidden: of the feed-forward network.
      causal: whether a position sees itself and earlier ones alone.
      cross: whether there is an attention to "context" between the first and the feed-forward network.
      norm_first: whether norms come in front of each part, or behind each sum.
      norm: a layer, `layer_norm()` by default; each place has parameters of its own.
      activation, gated: of `feed_forward`.
      key_heads, rotary: of `multi_head_attention`.
      dropout_rate: the fraction dropped in training: of attention's weights, within the feed-forward network, and of
        what each part adds.
      bias: whether the projections and dense layers add one.

    Raises:
      InputError: what the two raise; a dict without "context" where there is cross-attention.

    >>> import jax, fnn
    >>> model = fnn.repeat(fnn.transformer_block(8, 2, 16), 3)
    >>> params, state = model.init(jax.random.key(0), (1, 5, 8))
    >>> model.apply(params, state, {"x": jax.numpy.ones((2, 5, 8)), "lengths": jax.numpy.array([5, 3])})[0]["x"].shape
    (2, 5, 8)
    """
    where = "transformer_block"
    features = integer(where, "features", features)
    for name, flag in {"cross": cross, "norm_first": norm_first}.items():
        require_flag(where, name, flag)
    rate = check_rate(dropout_rate, where, "dropout_rate")
    norm = layer_norm() if norm is None else norm
    require_layer(where, "norm", norm)
    options: dict[str, Any] = {"key_heads": key_heads, "dropout_rate": rate, "bias": bias}
    parts = {"attention": multi_head_attention(features, heads, causal=causal, rotary=rotary, **options)}
    if cross:
        parts["cross_attention"] = multi_head_attention(features, heads, **options)
    parts["feed_forward"] = feed_forward(
        features, hidden, activation=activation, gated=gated, dropout_rate=rate, bias=bias
    )
    children = [pair for name, part in parts.items() for pair in ((f"{name}_norm", norm), (name, part))]
    if rate:
        children += [(f"{name}_dropout", dropout(rate)) for name in parts]
    return _wired(tuple(children), tuple(parts), bool(norm_first), features)


def _wired(children: Children, parts: tuple[str, ...], norm_first: bool, features: int) -> Layer:
    names = [name for name, _ in children]

    def run(call: Callable[..., Any], join: Callable[..., Any], x: Any) -> Any:
        given = dict(x) if isinstance(x, Mapping) else {"x": x}
        fix = 'pass {"x": x, "context": context}'
        require("x" in given, "transformer_block", 'x, or a dict with "x"', [*given], fix)
        if "cross_attention" in parts:
            require("context" in given, "transformer_block", 'a dict with "x" and "context"', [*given], fix)
        y = given["x"]
        require_sequence("transformer_block", "x", y, features)

        def named(name: str, a: Any) -> Any:
            return call(names.index(name), a) if name in names else a

        for part in parts:
            came = named(f"{part}_norm", y) if norm_first else y
            came = named(f"{part}_dropout", named(part, _asked(part, came, given)))
            y = join(lambda a, b: a + b, y, came)
            y = y if norm_first else named(f"{part}_norm", y)
        return {**given, "x": y} if isinstance(x, Mapping) else y

    def rebuild(kids: Sequence[Layer]) -> Layer:
        return _wired(tuple(zip(names, kids, strict=True)), parts, norm_first, features)

    return compose("transformer_block", children, run, rebuild)


def _asked(part: str, x: Any, given: Mapping[str, Any]) -> Any:
    """What a part is handed."""
    wanted = {"attention": ("mask", "lengths"), "cross_attention": ("context", "lengths", "context_lengths")}
    more = {name: given[name] for name in wanted.get(part, ()) if name in given}
    return {"x": x, **more} if more else x
