"""A composition cut, taken apart and changed by the names of its layers; parameters and state follow."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fnn.core.errors import InputError, require
from fnn.core.layer import Layer, Params, State, cast_by, marked, params_and_state, require_layer
from fnn.core.shared import unshared
from fnn.core.words import described

Model = tuple[Layer, Params, State]


def child(layer: Layer, train_state: Any, path: str) -> Model:
    """One layer of a composition, by its path, with its parameters and state.

    Args:
      layer: the composition.
      train_state: its TrainState, or a pair (params, state).
      path: names from the outside in, joined by "/", as `summary` shows them.

    Returns:
      (layer, params, state) of the child.

    Raises:
      InputError: no such child, or one inside `repeat`, of which there are several.

    >>> import jax, fnn
    >>> net = fnn.serial(body=fnn.serial(hidden=fnn.dense(4), act=fnn.relu()), out=fnn.dense(2))
    >>> hidden, params, state = child(net, net.init(jax.random.key(0), (1, 3)), "body/hidden")
    >>> hidden, params["kernel"].shape
    (dense(4), (3, 4))
    """
    layer, params, state = _model("child", layer, train_state)
    layer, params, state = unshared(layer, params, state)
    for name in _names("child", path):
        layer = cast_by(_children("child", layer, name)[0][name], layer.cast)
        params, state = params.get(name, {}), state.get(name, {})
    return layer if layer.shared is None else marked(layer, None), params, state


def prefix(layer: Layer, train_state: Any, path: str) -> Model:
    """A `serial` up to and including one of its layers, with the parameters and state of what is left: features.

    Args:
      layer: a `serial`; a longer path cuts the one inside it, too.
      train_state: its TrainState, or a pair (params, state).
      path: the last layer to keep, names joined by "/".

    Returns:
      (layer, params, state): the same names and arrays, without those behind. A training step takes the arrays it is
      given, from the whole as well: `fnn.train.init_state(layer, ..., params=params, model_state=state)` copies them.

    Raises:
      InputError: no such layer, or one inside a composition that is no `serial`.

    >>> import jax, jax.numpy as jnp, fnn
    >>> net = fnn.models.lenet5()
    >>> features, params, state = prefix(net, net.init(jax.random.key(0), (1, 28, 28, 1)), "relu4")
    >>> features.apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 84)
    """
    layer, params, state = _model("prefix", layer, train_state)
    names = _names("prefix", path)
    if len(names) > 1:
        layer, params, state = unshared(layer, params, state)
    return _cut(layer, params, state, names)


def replace(layer: Layer, train_state: Any, path: str, new: Layer, *, key: jax.Array, x: Any) -> Model:
    """The composition with another layer in one place: freshly initialised there, and as it was everywhere else.

    Args:
      layer: the composition.
      train_state: its TrainState, or a pair (params, state).
      path: the layer to replace, names joined by "/".
      new: what takes its place and its name; inside a `precision` it computes in that, unless it has one of its own.
      key, x: a random key and an example input of the whole, as for `layer.init`.

    Returns:
      (layer, params, state). The arrays that are kept are those of the old model, and a training step takes the arrays
      it is given: `fnn.train.init_state(layer, ..., params=params, model_state=state)` copies them, so both live on.

    Raises:
      InputError: no such layer, or one inside `repeat`; a new layer whose output another one does not fit.

    >>> import jax, fnn
    >>> key, x = jax.random.key(0), (1, 28, 28, 1)
    >>> net = fnn.models.lenet5()
    >>> params, state = net.init(key, x)
    >>> tuned, new, state = replace(net, (params, state), "dense5", fnn.dense(3), key=key, x=x)
    >>> new["dense5"]["kernel"].shape, new["conv1"] is params["conv1"]
    ((84, 3), True)
    """
    layer, params, state = _model("replace", layer, train_state)
    require_layer("replace", "new", new)
    names = _names("replace", path)
    if _passes_shared(layer, names):
        layer, params, state = unshared(layer, params, state)
    changed = _with(layer, names, new)
    fresh = changed.init(key, x)
    return changed, *(_kept(tree, old, names) for tree, old in zip(fresh, (params, state), strict=True))


def _model(where: str, layer: Any, train_state: Any) -> Model:
    require_layer(where, "layer", layer)
    return layer, *params_and_state(where, train_state)


def _names(where: str, path: str) -> list[str]:
    ok = isinstance(path, str) and path != "" and "" not in path.split("/")
    require(ok, where, "names joined by a slash for path", described(path), 'write it like "features/conv3"')
    return path.split("/")


def _children(where: str, layer: Layer, name: str) -> tuple[dict[str, Layer], Callable[[Sequence[Layer]], Layer]]:
    """The children, of which `name` is one, and how the layer is made again around others."""
    kids, rebuild = dict(layer.children), layer.rebuild
    if layer.name == "repeat":
        fix = "take the whole repeat; the parameters of copy i are the i-th entries of its arrays"
        raise InputError(where, "a layer that stands there once", f"{name!r} among the copies of repeat", fix)
    if name not in kids or rebuild is None:
        fix = f"name one of {list(kids)}" if kids else "a single layer has no children"
        if name.partition(".")[0] in kids:
            fix = f"join names by a slash: {name.replace('.', '/')!r}"
        raise InputError(where, f"a child {name!r}", f"{layer.name} without it", fix)
    return kids, rebuild


def _cut(layer: Layer, params: Params, state: State, names: Sequence[str]) -> Model:
    name, *rest = names
    kids, rebuild = _children("prefix", layer, name)
    ok, fix = layer.name == "serial", "cut it in front or behind; fnn.child takes a part of it out"
    require(ok, "prefix", f"a serial that holds {name!r}", layer.name, fix)
    kept = list(kids)[: list(kids).index(name) + 1]
    params, state = ({n: tree[n] for n in kept if n in tree} for tree in (params, state))
    last, p, s = kids[name], params.get(name, {}), state.get(name, {})
    if rest:
        last, p, s = _cut(last, p, s, rest)
    for tree, part in ((params, p), (state, s)):
        tree.pop(name, None)
        tree.update({name: part} if part else {})
    return rebuild([*(kids[n] for n in kept[:-1]), last]), params, state


def _with(layer: Layer, names: Sequence[str], new: Layer) -> Layer:
    name, *rest = names
    kids, rebuild = _children("replace", layer, name)
    old = cast_by(kids[name], layer.cast)
    kids[name] = _with(old, rest, new) if rest else layer.cast(new) if layer.cast else new
    return cast_by(rebuild(list(kids.values())), layer.cast)


def _passes_shared(layer: Layer, names: Sequence[str]) -> bool:
    for name in names:
        layer = _children("replace", layer, name)[0][name]
        if layer.shared is not None:
            return True
    return False


def _kept(fresh: Any, old: Any, names: Sequence[str]) -> Any:
    """The old entries, and the fresh ones at the path; elsewhere both must have the same shapes."""
    name, *rest = names
    others = [{n: tree[n] for n in tree if n != name} for tree in (fresh, old)]
    wanted, came = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): np.shape(a) for path, a in pairs}
        for pairs in map(jax.tree_util.tree_leaves_with_path, others)
    )
    wrong = [f"{n} {came.get(n)}" for n in wanted | came if wanted.get(n) != came.get(n)]
    fix = "replace the layers that read its output, too, or use one with the old features"
    require(not wrong, "replace", "layers that fit the new one", ", ".join(wrong), fix)
    part = fresh.get(name, {})
    if rest:
        part = _kept(part, old.get(name, {}), rest)
    order = fresh if name in fresh else old
    return {n: part if n == name else old[n] for n in order if n != name or part}
