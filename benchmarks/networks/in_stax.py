"""The networks in `jax.example_libraries.stax`, which has no groups, layer norm, attention and running averages."""

from typing import Any

from jax.example_libraries import stax

from benchmarks.networks import nodes
from benchmarks.networks.in_fnn import subsample
from benchmarks.networks.nodes import NotSupported, Place
from benchmarks.networks.program import JaxProgram, peer
from benchmarks.networks.weights import Slot, reshaped, transposed
from benchmarks.networks.zoo import Network


def build(network: Network, tuned: bool) -> JaxProgram:
    """The program; stax has no state beside the parameters."""
    apply, template = _chain(network.places())
    return peer(network, template, lambda params, other, x: (apply(params, x), other), tuned=tuned)


def _chain(places: list[Place]) -> tuple[Any, list]:
    layers, templates = zip(*map(_layer, places), strict=True)
    return stax.serial(*layers)[1], list(templates)


def _layer(place: Place) -> tuple[tuple, Any]:
    """The layer, an (init, apply) pair, and the template of its params."""
    path, same = place.path, ((0, 0),)
    match place.node:
        case nodes.Conv(features, window, stride, padding, groups, bias):
            if groups > 1:
                raise NotSupported("stax has no grouped convolutions.")
            pair = stax.Conv(features, (window, window), (stride, stride), ((padding, padding),) * 2)
            if not bias:
                # stax always adds a bias; the constant 0 in its place costs nothing once compiled.
                init, apply = pair
                pair = init, lambda params, x, **rest: apply((*params, 0.0), x, **rest)
            return pair, (Slot(f"{path}/kernel"), *_bias(path, bias, features))
        case nodes.ConvTranspose(features, window, stride, padding):
            pads = ((window - 1 - padding,) * 2,) * 2
            pair = stax.ConvTranspose(features, (window, window), (stride, stride), pads)
            kernel = transposed(f"{path}/kernel", 0, 1, 2, 3, flip=True)
            return pair, (kernel, *_bias(path, True, features))
        case nodes.Dense(features):
            return stax.Dense(features), (Slot(f"{path}/kernel"), Slot(f"{path}/bias"))
        case nodes.Tokens() | nodes.LayerNorm() | nodes.Attention():
            raise NotSupported("stax has neither layer norm nor attention.")
        case nodes.BatchNorm():
            return stax.BatchNorm(epsilon=nodes.EPSILON), (Slot(f"{path}/offset"), Slot(f"{path}/scale"))
        case nodes.Relu():
            return stax.Relu, ()
        case nodes.MaxPool(window, stride, padding):
            pads = (*same, *((padding, padding),) * 2, *same)
            return stax.MaxPool((window, window), (stride, stride), pads), ()
        case nodes.AvgPool(window, stride):
            return stax.AvgPool((window, window), (stride, stride)), ()
        case nodes.GlobalAvgPool():
            return stax.elementwise(lambda x: x.mean((1, 2))), ()
        case nodes.Flatten():
            return stax.Flatten, ()
        case nodes.Subsample(features):
            return stax.elementwise(lambda x: subsample(x, features)), ()
        case nodes.Residual():
            (body, one), (shortcut, two) = (_branch(part) for part in place.branches())
            both = stax.parallel((None, body), (None, shortcut))
            return stax.serial(stax.FanOut(2), both, stax.FanInSum), [(), [one, two], ()]
    raise NotSupported(f"stax has no {place.node.kind}.")


def _branch(places: list[Place]) -> tuple[Any, Any]:
    return _chain(places) if places else (stax.Identity[1], ())


def _bias(path: str, bias: bool, features: int) -> tuple[Slot, ...]:
    return (reshaped(f"{path}/bias", (features,), (1, 1, 1, features)),) if bias else ()
