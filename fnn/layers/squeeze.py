"""Squeeze and excitation: each channel scaled by what all positions say together.

    s = mean of x over the positions        y = x gate(W2 activation(W1 s + b1) + b2)

Source: Hu et al., 2017, https://arxiv.org/abs/1709.01507, section 3.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from fnn.core.combinators import Children, compose
from fnn.core.errors import ARRAYS, integer, require
from fnn.core.layer import Layer, require_layer, shown
from fnn.core.words import described
from fnn.layers.activation import relu, sigmoid
from fnn.layers.dense import dense
from fnn.layers.pool import global_avg_pool


@shown
def squeeze_excite(features: int, hidden: int, *, activation: Layer | None = None, gate: Layer | None = None) -> Layer:
    """x: (N, *spatial, features) -> same: each channel times a number between 0 and 1 that depends on all of them.

    params: "reduce" and "expand", each with kernel and bias.

    Args:
      features: channels of x.
      hidden: of the layer between; a quarter or a sixteenth of the features.
      activation: a layer behind the first product, `relu()` by default.
      gate: a layer behind the second, `sigmoid()` by default.

    Raises:
      InputError: numbers < 1, no layers, x of other channels.

    >>> import jax, fnn
    >>> layer, x = fnn.squeeze_excite(8, 2), jax.numpy.ones((1, 4, 4, 8))
    >>> layer.apply(*layer.init(jax.random.key(0), x), x)[0].shape
    (1, 4, 4, 8)
    """
    where = "squeeze_excite"
    features, hidden = integer(where, "features", features), integer(where, "hidden", hidden)
    activation, gate = relu() if activation is None else activation, sigmoid() if gate is None else gate
    for name, layer in {"activation": activation, "gate": gate}.items():
        require_layer(where, name, layer)
    parts = {"squeeze": global_avg_pool(), "reduce": dense(hidden), "activation": activation}
    return _wired(tuple({**parts, "expand": dense(features), "gate": gate}.items()), features)


def _wired(children: Children, features: int) -> Layer:
    def run(call: Callable[..., Any], join: Callable[..., Any], x: Any) -> Any:
        ok = isinstance(x, (*ARRAYS, jax.ShapeDtypeStruct)) and x.ndim >= 3 and x.shape[-1] == features
        fix = "say how many channels x has"
        require(
            ok,
            "squeeze_excite",
            f"x of shape (N, *spatial, {features})",
            getattr(x, "shape", None) or described(x),
            fix,
        )
        s = x
        for i in range(len(children)):
            s = call(i, s)
        return join(_scaled, x, s)

    def rebuild(kids: Sequence[Layer]) -> Layer:
        return _wired(tuple((name, kid) for (name, _), kid in zip(children, kids, strict=True)), features)

    return compose("squeeze_excite", children, run, rebuild)


def _scaled(x: jax.Array, s: jax.Array) -> jax.Array:
    return x * s.reshape(s.shape[0], *[1] * (x.ndim - 2), s.shape[-1])
