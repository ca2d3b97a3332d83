"""The networks in haiku: modules inside one transformed function."""

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.networks import nodes
from benchmarks.networks.in_fnn import subsample
from benchmarks.networks.nodes import Place
from benchmarks.networks.program import JaxProgram, peer
from benchmarks.networks.weights import Slot, reshaped, transposed
from benchmarks.networks.zoo import Network


def build(network: Network, tuned: bool) -> JaxProgram:
    """The program; haiku's state holds the running averages."""
    template: dict = {}

    def forward(x: jax.Array) -> jax.Array:
        return _chain(network.places(), x, template)

    model = hk.transform_with_state(forward)
    params, state = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(network.input, jnp.float32))
    shapes = {name: {kind: array.shape for kind, array in inner.items()} for name, inner in params.items()}
    assert {(name, kind) for name in shapes for kind in shapes[name]} == {
        (name, kind) for name in template for kind in template[name]
    }, "haiku made other parameters than the template has"
    state = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)

    def run(params, state, x):
        return model.apply(params, state, None, x)

    return peer(network, template, run, state, tuned=tuned)


def _chain(places: list[Place], x: jax.Array, template: dict) -> jax.Array:
    for place in places:
        x = _apply(place, x, template)
    return x


def _apply(place: Place, x: jax.Array, template: dict) -> jax.Array:
    """Apply the module of a place, and note in `template` where its parameters are."""
    name, path = "p" + place.path.replace("/", "_"), place.path
    kernel, bias = Slot(f"{path}/kernel"), Slot(f"{path}/bias")
    match place.node:
        case nodes.Conv(features, window, stride, padding, groups, with_bias):
            template[name] = {"w": kernel} | ({"b": bias} if with_bias else {})
            pads = [(padding, padding)] * 2
            return hk.Conv2D(
                features,
                window,
                stride,
                padding=pads,
                feature_group_count=groups,
                with_bias=with_bias,
                w_init=jnp.zeros,
                name=name,
            )(x)
        case nodes.ConvTranspose(features, window, stride, padding):
            template[name] = {"w": transposed(f"{path}/kernel", 0, 1, 3, 2, flip=True), "b": bias}
            pads = [(window - 1 - padding,) * 2] * 2
            return hk.Conv2DTranspose(features, window, stride, padding=pads, w_init=jnp.zeros, name=name)(x)
        case nodes.Dense(features):
            template[name] = {"w": kernel, "b": bias}
            return hk.Linear(features, w_init=jnp.zeros, name=name)(x)
        case nodes.LayerNorm():
            template[name] = {"scale": Slot(f"{path}/scale"), "offset": Slot(f"{path}/offset")}
            return hk.LayerNorm(-1, create_scale=True, create_offset=True, eps=nodes.EPSILON, name=name)(x)
        case nodes.BatchNorm():
            c = x.shape[-1]
            template[name] = {kind: reshaped(f"{path}/{kind}", (c,), (1, 1, 1, c)) for kind in ("scale", "offset")}
            norm = hk.BatchNorm(True, True, nodes.MOMENTUM, eps=nodes.EPSILON, name=name)
            return norm(x, is_training=True)
        case nodes.Attention(heads):
            for i, part in enumerate(("query", "key", "value")):
                template[f"{name}/{part}"] = {
                    "w": Slot(f"{path}/qkv/kernel", part=i),
                    "b": Slot(f"{path}/qkv/bias", part=i),
                }
            template[f"{name}/linear"] = {"w": Slot(f"{path}/out/kernel"), "b": Slot(f"{path}/out/bias")}
            size = x.shape[-1] // heads
            return hk.MultiHeadAttention(heads, size, w_init=jnp.zeros, name=name)(x, x, x)
        case nodes.PositionEmbedding():
            template["~"] = {name: Slot(f"{path}/embedding")}
            return x + hk.get_parameter(name, x.shape[1:], init=jnp.zeros)
        case nodes.Relu():
            return jax.nn.relu(x)
        case nodes.Gelu():
            return jax.nn.gelu(x)
        case nodes.MaxPool(window, stride, padding):
            if padding:
                # haiku's pools know SAME and VALID alone, and SAME puts more padding after than before.
                pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
                return jax.lax.reduce_window(
                    x, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, stride, stride, 1), pads
                )
            return hk.max_pool(x, (window, window, 1), (stride, stride, 1), "VALID")
        case nodes.AvgPool(window, stride):
            return hk.avg_pool(x, (window, window, 1), (stride, stride, 1), "VALID")
        case nodes.GlobalAvgPool():
            return x.mean(tuple(range(1, x.ndim - 1)))
        case nodes.Flatten():
            return hk.Flatten()(x)
        case nodes.Tokens():
            return x.reshape(x.shape[0], -1, x.shape[-1])
        case nodes.Subsample(features):
            return subsample(x, features)
        case nodes.Residual():
            body, shortcut = place.branches()
            return _chain(body, x, template) + _chain(shortcut, x, template)
    raise NotImplementedError(place.node)
