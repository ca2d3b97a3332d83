"""The networks in fnn: its layers, `train.make_step`, and an attention layer made with `fnn.lift`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from benchmarks.networks import nodes
from benchmarks.networks.nodes import Place
from benchmarks.networks.program import LEARNING_RATE, SGD_MOMENTUM, JaxProgram
from benchmarks.networks.weights import Slot, carry_tree, draw_batch, draw_weights, neutral_tree
from benchmarks.networks.zoo import Network
from fnn import ops, train


class FnnProgram(JaxProgram):
    """fnn's own jitted step, called as a user calls it, under one kind of gradients."""

    def __init__(self, network: Network, variant: str):
        mode, _, more = variant.partition(", ")
        if more == "memory kept" and not train.keep_memory():
            raise nodes.NotSupported("this C library gives freed memory back.")
        if more == "XLA alone" and not ops.kernels().missing:
            raise nodes.NotSupported("this process has compiled kernels.")
        layer = computing(model(network.places()), network.dtype)
        loss = fnn.squared_error if network.classes is None else fnn.softmax_cross_entropy
        optimizer = optax.sgd(LEARNING_RATE, SGD_MOMENTUM)
        self._mode = mode
        self._step = train.make_step(layer, loss, optimizer, compiler_options={} if more == "defaults" else None)
        self._batch = tuple(map(jax.device_put, draw_batch(network)))
        template = slots(network)
        params = carry_tree(template, draw_weights(network))
        fresh = train.init_state(layer, optimizer, jax.random.key(0), network.input)
        same = jax.tree.map(jnp.shape, fresh.params) == jax.tree.map(jnp.shape, params)
        assert same, "the description and fnn's layers name or shape their parameters in different ways"
        self._start = jax.tree.map(np.array, fresh._replace(params=params, key=jax.random.key_data(fresh.key)))
        self._read = lambda state: neutral_tree(template, state.opt_state[0].trace)
        self._state, self._costs, self._nudge = None, None, network.nudge

    def _begin(self) -> train.TrainState:
        state = jax.tree.map(jnp.array, self._start)
        return state._replace(key=jax.random.wrap_key_data(state.key))

    def _lower(self, state: train.TrainState) -> Any:
        with fnn.gradients(self._mode):
            return self._step.lower(state, self._batch)

    def _call(self, state: train.TrainState) -> tuple[train.TrainState, jax.Array]:
        with fnn.gradients(self._mode):
            state, measures = self._step(state, self._batch)
        return state, measures["loss"]


def build(network: Network, variant: str) -> FnnProgram:
    """The program of one variant."""
    return FnnProgram(network, variant)


def slots(network: Network) -> dict:
    """fnn's params are nested dicts by layer name: the neutral paths, cut at their slashes."""
    tree: dict = {}
    for path in network.parameters():
        *parents, name = path.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = Slot(path)
    return tree


def computing(layer: fnn.Layer, dtype: str) -> fnn.Layer:
    """The layer computing in `dtype`: its parameters and x are converted on the way in, y back on the way out."""
    if dtype == "float32":
        return layer

    def apply(params, state, x, **given):
        y, state = layer.apply(carried(params, dtype), state, x.astype(dtype), **given)
        return y.astype(x.dtype), state

    return fnn.Layer(layer.init, apply, name=layer.name)


def carried(tree: Any, dtype: str) -> Any:
    """The arrays of a tree in another floating dtype, for any JAX library."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def model(places: list[Place]) -> fnn.Layer:
    """A chain of layers, named as in the description."""
    return fnn.serial(**{place.name: _layer(place) for place in places})


def _layer(place: Place) -> fnn.Layer:
    match place.node:
        case nodes.Conv(features, window, stride, padding, groups, bias):
            return fnn.conv(features, window, stride=stride, padding=padding, groups=groups, bias=bias)
        case nodes.ConvTranspose(features, window, stride, padding):
            return fnn.conv_transpose(features, window, stride=stride, padding=padding)
        case nodes.Dense(features):
            return fnn.dense(features)
        case nodes.LayerNorm():
            return fnn.layer_norm(epsilon=nodes.EPSILON)
        case nodes.BatchNorm():
            return fnn.batch_norm(momentum=nodes.MOMENTUM, epsilon=nodes.EPSILON)
        case nodes.Attention(heads):
            return _attention(heads)
        case nodes.PositionEmbedding():
            init = jax.nn.initializers.zeros
            return fnn.lift(lambda p, x: x + p["embedding"], lambda key, x: {"embedding": init(key, x.shape[1:])})
        case nodes.Relu():
            return fnn.relu()
        case nodes.Gelu():
            return fnn.gelu()
        case nodes.MaxPool(window, stride, padding):
            return fnn.max_pool(window, stride=stride, padding=padding)
        case nodes.AvgPool(window, stride):
            return fnn.avg_pool(window, stride=stride)
        case nodes.GlobalAvgPool():
            return fnn.global_avg_pool()
        case nodes.Flatten():
            return fnn.flatten()
        case nodes.Tokens():
            return fnn.reshape(-1, place.shape[-1])
        case nodes.Subsample(features):
            return fnn.lift(lambda p, x: subsample(x, features), name="subsample")
        case nodes.Residual():
            body, shortcut = place.branches()
            return fnn.residual(model(body), model(shortcut) if shortcut else None)
    raise NotImplementedError(place.node)


def subsample(x: jax.Array, features: int) -> jax.Array:
    """x: (N, H, W, C) -> (N, H/2, W/2, features): as `nodes.Subsample` says, for any JAX library."""
    extra = features - x.shape[-1]
    return jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))


def _attention(heads: int) -> fnn.Layer:
    """x: (N, T, C) -> same: softmax(q k^T / sqrt(C / heads)) v, projected; one kernel makes q, k and v."""

    def apply(params, x):
        n, t, c = x.shape
        q, k, v = jnp.split(ops.dense(x, **params["qkv"]).reshape(n, t, 3 * heads, c // heads), 3, axis=2)
        y = ops.attention(q, k, v)
        return ops.dense(y.reshape(n, t, c), **params["out"])

    def init(key, x):
        zeros, c = jax.nn.initializers.zeros, x.shape[-1]

        def dense(features):
            return {"kernel": zeros(key, (c, features)), "bias": zeros(key, (features,))}

        return {"qkv": dense(3 * c), "out": dense(c)}

    return fnn.lift(apply, init, name="attention")
