"""Weight sharing: a layer that stands in several places of a composition, with one set of parameters."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax

from fnn.core.errors import require
from fnn.core.layer import Layer, marked, require_layer


def shared(layer: Layer) -> Layer:
    """The same layer, to be put more than once into one composition: it has one set of parameters and one state.

    Both stand under the name of the first place. The places are run in order, each from the state that the one before
    left; each draws with a key of its own. Around it may be `at` and `remat`. A layer that is not marked so has
    parameters of its own in every place.

    Raises:
      InputError: no Layer; and from the composition: places with other parameters, or in different children of it.

    >>> import jax, fnn
    >>> block = fnn.shared(fnn.dense(3))
    >>> net = fnn.serial(first=block, act=fnn.tanh(), second=block, out=fnn.dense(1))
    >>> params, state = net.init(jax.random.key(0), (1, 3))
    >>> sorted(params)
    ['first', 'out']

    Two inputs through one encoder:

    >>> encoder = fnn.shared(fnn.serial(hidden=fnn.dense(8), act=fnn.relu()))
    >>> twins = fnn.serial(left=fnn.at("a", encoder), right=fnn.at("b", encoder))
    >>> params, state = twins.init(jax.random.key(0), {"a": (1, 3), "b": (1, 3)})
    >>> jax.tree.map(lambda p: p.shape, params)
    {'left': {'hidden': {'bias': (8,), 'kernel': (3, 8)}}}
    """
    require_layer("shared", "layer", layer)
    return marked(layer, object(), "shared")


def owners_of(kind: str, children: Sequence[tuple[str, Layer]]) -> dict[str, str]:
    """For each child the name under which its parameters stand: its own, or that of the first with the same mark.

    Raises:
      InputError: a shared layer in different children, which could not reach the parameters of each other.
    """
    first: dict[Any, str] = {}
    owners = {name: first.setdefault(child.shared or name, name) for name, child in children}
    within: dict[object, str] = {child.shared: name for name, child in children if child.shared}
    for name, child in children:
        if owners[name] != name:
            continue
        for mark, path in _marks(child, name):
            fix = "share it among the children of one composition, or share the children that hold it"
            other = within.setdefault(mark, path)
            require(other == path, kind, "a shared layer in one composition", f"one at {other} and at {path}", fix)
    return owners


def require_same(name: str, owner: str, came: Any, want: Any) -> None:
    """Refuse a place whose input asks for other parameters than the first place has."""
    shapes = [jax.tree.map(lambda a: f"{a.dtype}{list(a.shape)}", tree) for tree in (came, want)]
    fix = "share layers whose inputs have the same features and dtype"
    require(shapes[0] == shapes[1], "shared", f"the parameters and state of {owner}: {shapes[1]}", shapes[0], fix)


def borrowed(layer: Layer, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths of the children whose parameters stand elsewhere.

    >>> import fnn
    >>> block = shared(fnn.relu())
    >>> list(borrowed(fnn.serial(stem=fnn.serial(a=block, b=block))))
    ['stem/b']
    """
    seen = set()
    for name, child in layer.children:
        if child.shared in seen:
            yield "/".join((*path, name))
            continue
        seen |= {child.shared} - {None}
        yield from borrowed(child, (*path, name))


def unshared(layer: Layer, params: Any, state: Any) -> tuple[Layer, Any, Any]:
    """The layer with a copy of the parameters and state for each place: for what looks at single places.

    >>> import jax, fnn
    >>> block = shared(fnn.dense(3))
    >>> net = fnn.serial(a=block, b=block)
    >>> _, params, _ = unshared(net, *net.init(jax.random.key(0), (1, 3)))
    >>> sorted(params)
    ['a', 'b']
    """
    if layer.rebuild is None or not any(True for _ in borrowed(layer)):
        return layer, params, state
    if layer.name == "repeat":  # its copies are no level of the trees
        kid, params, state = unshared(layer.children[0][1], params, state)
        return layer.rebuild([kid]), params, state
    owners, kids, trees, states = owners_of(layer.name, layer.children), [], {}, {}
    for name, child in layer.children:
        owner = owners[name]
        kid, p, s = unshared(child, params.get(owner, {}), state.get(owner, {}))
        kids.append(marked(kid, object()))
        trees.update({name: p} if p else {})
        states.update({name: s} if s else {})
    return layer.rebuild(kids), trees, states


def _marks(layer: Layer, path: str) -> Iterator[tuple[object, str]]:
    for name, child in layer.children:
        here = f"{path}/{name}"
        if child.shared:
            yield child.shared, path  # children of one composition may share it
        yield from _marks(child, here)
