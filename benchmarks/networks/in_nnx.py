"""The networks in flax.nnx: modules, split once into a graph and its state, as flax advises for fast training loops."""

import jax
from flax import nnx

from benchmarks.networks import nodes
from benchmarks.networks.in_fnn import subsample
from benchmarks.networks.nodes import Place
from benchmarks.networks.program import JaxProgram, peer
from benchmarks.networks.weights import Slot, reshaped, transposed
from benchmarks.networks.zoo import Network


def build(network: Network, tuned: bool) -> JaxProgram:
    """The program; the state beside the parameters holds the running averages."""
    model = _chain(network.places(), nnx.Rngs(0))
    graph, template, other = nnx.split(model, nnx.Param, ...)

    def forward(params, other, x):
        model = nnx.merge(graph, params, other, copy=True)  # running averages are written to
        y = model(x)
        return y, nnx.state(model, nnx.Not(nnx.Param))

    return peer(network, template, forward, other, tuned=tuned)


class _Residual(nnx.Module):
    """body(x) + shortcut(x)."""

    def __init__(self, body: nnx.Module, shortcut: nnx.Module | None):
        self.body, self.shortcut = body, shortcut

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.body(x) + (x if self.shortcut is None else self.shortcut(x))


class _PositionEmbedding(nnx.Module):
    """A learned vector added to each token."""

    def __init__(self, slot: Slot):
        self.embedding = nnx.Param(slot)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.embedding[...]


def _chain(places: list[Place], rngs: nnx.Rngs) -> nnx.Sequential:
    return nnx.Sequential(*(_layer(place, rngs) for place in places))


def _layer(place: Place, rngs: nnx.Rngs):
    path, c = place.path, place.shape[-1]
    kernel, bias = Slot(f"{path}/kernel"), Slot(f"{path}/bias")
    match place.node:
        case nodes.Conv(features, window, stride, padding, groups, with_bias):
            layer = nnx.Conv(
                c,
                features,
                (window, window),
                stride,
                padding=padding,
                feature_group_count=groups,
                use_bias=with_bias,
                rngs=rngs,
            )
            return _filled(layer, kernel=kernel, **({"bias": bias} if with_bias else {}))
        case nodes.ConvTranspose(features, window, stride, padding):
            # flax pads the stretched input; what a convolution pads and a transposed one crops is window - 1 less.
            layer = nnx.ConvTranspose(
                c, features, (window, window), (stride, stride), padding=window - 1 - padding, rngs=rngs
            )
            return _filled(layer, kernel=transposed(kernel.path, 0, 1, 2, 3, flip=True), bias=bias)
        case nodes.Dense(features):
            return _filled(nnx.Linear(c, features, rngs=rngs), kernel=kernel, bias=bias)
        case nodes.LayerNorm():
            layer = nnx.LayerNorm(c, epsilon=nodes.EPSILON, rngs=rngs)
            return _filled(layer, scale=Slot(f"{path}/scale"), bias=Slot(f"{path}/offset"))
        case nodes.BatchNorm():
            layer = nnx.BatchNorm(c, momentum=nodes.MOMENTUM, epsilon=nodes.EPSILON, rngs=rngs)
            return _filled(layer, scale=Slot(f"{path}/scale"), bias=Slot(f"{path}/offset"))
        case nodes.Attention(heads):
            return _attention(path, heads, c, rngs)
        case nodes.PositionEmbedding():
            return _PositionEmbedding(Slot(f"{path}/embedding"))
        case nodes.Relu():
            return nnx.relu
        case nodes.Gelu():
            return nnx.gelu
        case nodes.MaxPool(window, stride, padding):
            pads = ((padding, padding),) * 2
            return lambda x: nnx.max_pool(x, (window, window), (stride, stride), pads)
        case nodes.AvgPool(window, stride):
            return lambda x: nnx.avg_pool(x, (window, window), (stride, stride))
        case nodes.GlobalAvgPool():
            return lambda x: x.mean(tuple(range(1, x.ndim - 1)))
        case nodes.Flatten():
            return lambda x: x.reshape(x.shape[0], -1)
        case nodes.Tokens():
            return lambda x: x.reshape(x.shape[0], -1, x.shape[-1])
        case nodes.Subsample(features):
            return lambda x: subsample(x, features)
        case nodes.Residual():
            body, shortcut = place.branches()
            return _Residual(_chain(body, rngs), _chain(shortcut, rngs) if shortcut else None)
    raise NotImplementedError(place.node)


def _attention(path: str, heads: int, c: int, rngs: nnx.Rngs) -> nnx.MultiHeadAttention:
    layer = nnx.MultiHeadAttention(heads, c, decode=False, rngs=rngs)
    split = (heads, c // heads)
    for i, part in enumerate((layer.query, layer.key, layer.value)):
        _filled(
            part,
            kernel=reshaped(f"{path}/qkv/kernel", (c, c), (c, *split), i),
            bias=reshaped(f"{path}/qkv/bias", (c,), split, i),
        )
    _filled(layer.out, kernel=reshaped(f"{path}/out/kernel", (c, c), (*split, c)), bias=Slot(f"{path}/out/bias"))
    return layer


def _filled(layer: nnx.Module, **slots: Slot) -> nnx.Module:
    """The layer with slots in place of its initial parameters."""
    for name, slot in slots.items():
        setattr(layer, name, nnx.Param(slot))
    return layer
