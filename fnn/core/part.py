"""A layer on one part of a tree of inputs."""

from collections.abc import Mapping
from typing import Any

import jax

from fnn.core.errors import LARGEST, InputError, index_of, require
from fnn.core.layer import Layer, Params, State, around, require_layer
from fnn.core.spec import Spec
from fnn.core.words import described


def at(place: str | int, layer: Layer) -> Layer:
    """x: a tree -> the same tree, with the part at `place` given to `layer` and replaced by its output.

    Parameters, state, key and name are those of the layer. A part of a part is reached by `at("inputs", at(0, layer))`.

    Args:
      place: a key of a dict, a field of a named tuple, or a position in a tuple or list, counted from 0.
      layer: any layer.

    Raises:
      InputError: no string or integer >= 0, no Layer; when called, an x without this part.

    >>> import jax, jax.numpy as jnp, fnn
    >>> net = fnn.serial(
    ...     image=fnn.at("image", fnn.serial(flat=fnn.flatten(), hidden=fnn.dense(3))),
    ...     join=fnn.lift(lambda params, x: jnp.concatenate([x["image"], x["age"]], axis=-1)),
    ... )
    >>> x = {"image": jnp.ones((2, 4, 4, 1)), "age": jnp.ones((2, 1))}
    >>> net.apply(*net.init(jax.random.key(0), x), x)[0].shape
    (2, 4)
    """
    number = None if isinstance(place, str) else index_of(place)
    ok = isinstance(place, str) or (number is not None and 0 <= number <= LARGEST)
    fix = 'write at("image", layer) or at(0, layer)'
    require(ok, "at", "a key or a position >= 0 for place", described(place), fix)
    require_layer("at", "layer", layer)
    place = place if number is None else number

    def init_spec(key: jax.Array, x: Spec) -> tuple[Params, State, Spec]:
        params, state, y = layer.init_spec(key, _part(x, place))
        return params, state, _replaced(x, place, y)

    def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        y, state = layer.apply(params, state, _part(x, place), train=train, key=key)
        return _replaced(x, place, y), state

    return around(layer, apply, init_spec, lambda inner: at(place, inner), f"at {place!r}")


def _part(x: Any, place: str | int) -> Any:
    if isinstance(x, Mapping):
        parts = list(x)
    elif isinstance(x, tuple | list):
        parts = list(getattr(x, "_fields", range(len(x))))
    else:
        raise InputError("at", f"x with a part {place!r}", described(x), "give it a dict, tuple or list of inputs")
    require(place in parts, "at", f"x with a part {place!r}", f"one with {parts}", "name one of its parts")
    return getattr(x, str(place)) if hasattr(x, "_fields") else x[place]


def _replaced(x: Any, place: Any, y: Any) -> Any:
    if isinstance(x, Mapping):
        return {**x, place: y}
    if hasattr(x, "_fields"):
        return x._replace(**{place: y})
    return type(x)(y if i == place else part for i, part in enumerate(x))
