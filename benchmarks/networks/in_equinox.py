"""The networks in equinox: modules for one example, channels first, mapped over the batch; jitted on plain arrays."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.networks import nodes
from benchmarks.networks.nodes import Place
from benchmarks.networks.program import JaxProgram, peer
from benchmarks.networks.weights import Slot, channels_first_dense, reshaped, transposed
from benchmarks.networks.zoo import Network

_KEY = jax.random.key(0)  # initial parameters are replaced


def build(network: Network, tuned: bool) -> JaxProgram:
    """The program; equinox's State holds the running averages."""
    model, state = eqx.nn.make_with_state(lambda: _chain(network.places()))()
    template, static = eqx.partition(model, lambda leaf: isinstance(leaf, Slot) or eqx.is_inexact_array(leaf))
    strangers = [leaf for leaf in jax.tree.leaves(template) if not isinstance(leaf, Slot)]
    assert not strangers, "a parameter of equinox has no slot"

    def forward(params, state, x):
        model = eqx.combine(params, static)
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    def channels_first(a):
        return a.transpose(0, 3, 1, 2) if a.ndim == 4 else a

    return peer(network, template, forward, state, layout=channels_first, tuned=tuned)


class _Residual(eqx.nn.StatefulLayer):
    """body(x) + shortcut(x)."""

    body: eqx.nn.Sequential
    shortcut: eqx.nn.Sequential | None

    def __call__(self, x: jax.Array, state: eqx.nn.State, *, key: jax.Array | None = None) -> tuple:
        y, state = self.body(x, state)
        if self.shortcut is not None:
            x, state = self.shortcut(x, state)
        return y + x, state


class _PositionEmbedding(eqx.Module):
    """A learned vector added to each token."""

    embedding: jax.Array

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        return x + self.embedding


class _SelfAttention(eqx.Module):
    """equinox's attention with one input for queries, keys and values."""

    attention: eqx.nn.MultiheadAttention

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        return self.attention(x, x, x)


class _EachToken(eqx.Module):
    """A layer for vectors, mapped over tokens."""

    layer: eqx.Module

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        return jax.vmap(self.layer)(x)


def _chain(places: list[Place]) -> eqx.nn.Sequential:
    return eqx.nn.Sequential([_layer(place) for place in places])


def _layer(place: Place) -> eqx.Module:
    path, c = place.path, place.shape[-1]
    tokens = len(place.shape) == 3
    match place.node:
        case nodes.Conv(features, window, stride, padding, groups, bias):
            layer = eqx.nn.Conv2d(c, features, window, stride, padding, groups=groups, use_bias=bias, key=_KEY)
            return _filled(layer, transposed(f"{path}/kernel", 3, 2, 0, 1), _channel_bias(path, features, bias))
        case nodes.ConvTranspose(features, window, stride, padding):
            layer = eqx.nn.ConvTranspose2d(c, features, window, stride, padding=padding, key=_KEY)
            kernel = transposed(f"{path}/kernel", 3, 2, 0, 1, flip=True)
            return _filled(layer, kernel, _channel_bias(path, features, True))
        case nodes.Dense(features):
            layer = eqx.nn.Linear(c, features, key=_KEY)
            layer = _filled(layer, channels_first_dense(place), Slot(f"{path}/bias"))
            return _EachToken(layer) if tokens else layer
        case nodes.LayerNorm():
            return _EachToken(
                _filled(eqx.nn.LayerNorm(c, nodes.EPSILON), Slot(f"{path}/scale"), Slot(f"{path}/offset"))
            )
        case nodes.BatchNorm():
            layer = eqx.nn.BatchNorm(c, "batch", nodes.EPSILON, momentum=nodes.MOMENTUM, mode="batch")
            return _filled(layer, Slot(f"{path}/scale"), Slot(f"{path}/offset"))
        case nodes.Attention(heads):
            return _SelfAttention(_attention(path, heads, c))
        case nodes.PositionEmbedding():
            return _PositionEmbedding(Slot(f"{path}/embedding"))
        case nodes.Relu():
            return eqx.nn.Lambda(jax.nn.relu)
        case nodes.Gelu():
            return eqx.nn.Lambda(jax.nn.gelu)
        case nodes.MaxPool(window, stride, padding):
            return eqx.nn.MaxPool2d(window, stride, padding)
        case nodes.AvgPool(window, stride):
            return eqx.nn.AvgPool2d(window, stride)
        case nodes.GlobalAvgPool():
            return eqx.nn.Lambda((lambda x: x.mean(0)) if tokens else (lambda x: x.mean((1, 2))))
        case nodes.Flatten():
            return eqx.nn.Lambda(jnp.ravel)
        case nodes.Tokens():
            return eqx.nn.Lambda(lambda x: x.reshape(x.shape[0], -1).T)
        case nodes.Subsample(features):
            return eqx.nn.Lambda(_subsample(features - c))
        case nodes.Residual():
            body, shortcut = place.branches()
            return _Residual(_chain(body), _chain(shortcut) if shortcut else None)
    raise NotImplementedError(place.node)


def _attention(path: str, heads: int, c: int) -> eqx.nn.MultiheadAttention:
    biases = dict.fromkeys(("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias"), True)
    layer = eqx.nn.MultiheadAttention(heads, c, **biases, key=_KEY)
    projections = (layer.query_proj, layer.key_proj, layer.value_proj)
    filled = [
        _filled(part, _third(f"{path}/qkv/kernel", i), Slot(f"{path}/qkv/bias", part=i))
        for i, part in enumerate(projections)
    ]
    filled.append(_filled(layer.output_proj, transposed(f"{path}/out/kernel", 1, 0), Slot(f"{path}/out/bias")))
    return eqx.tree_at(lambda a: (a.query_proj, a.key_proj, a.value_proj, a.output_proj), layer, tuple(filled))


def _third(path: str, part: int) -> Slot:
    return Slot(path, lambda a: a.T, lambda a: a.T, part)


def _channel_bias(path: str, features: int, bias: bool) -> Slot | None:
    return reshaped(f"{path}/bias", (features,), (features, 1, 1)) if bias else None


def _filled(layer: eqx.Module, weight: Slot, bias: Slot | None) -> eqx.Module:
    """The layer with slots in place of its initial parameters."""
    layer = eqx.tree_at(lambda m: m.weight, layer, weight)
    return layer if bias is None else eqx.tree_at(lambda m: m.bias, layer, bias)


def _subsample(extra: int) -> Callable[[jax.Array], jax.Array]:
    return lambda x: jnp.pad(x[:, ::2, ::2], ((extra // 2, extra - extra // 2), (0, 0), (0, 0)))
