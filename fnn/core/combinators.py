"""Layers made of layers. Each child sees its own part of params and state, and the key `fold_in(key, index)`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import InputError, inside, integer, require, require_array, require_function, require_leaves
from fnn.core.layer import Layer, Params, State, around, marked, require_layer
from fnn.core.lift import lift
from fnn.core.shared import owners_of, require_same
from fnn.core.spec import Spec, spec_of
from fnn.core.words import described

Children = tuple[tuple[str, Layer], ...]


def identity() -> Layer:
    """A layer that returns its input: the default shortcut of `residual`."""
    return lift(lambda params, x: x, name="identity")


def serial(*layers: Layer, **named: Layer) -> Layer:
    """Feed each layer's output to the next.

    Positional layers are named by position and kind (`00_conv`, `01_relu`), keyword layers by their keyword; positional
    ones come first. A child without parameters (or state) has no entry in params (or state).

    Raises:
      InputError: an argument is no Layer; params or state do not fit; and whatever a child raises, with the path to it.

    >>> import jax, fnn
    >>> net = fnn.serial(hidden=fnn.dense(4), act=fnn.relu(), out=fnn.dense(2))
    >>> params, state = net.init(jax.random.key(0), (1, 3))
    >>> jax.tree.map(lambda p: p.shape, params["hidden"])
    {'bias': (4,), 'kernel': (3, 4)}
    >>> y, state = net.apply(params, state, jax.numpy.ones((5, 3)))
    >>> y.shape
    (5, 2)
    """
    children = _name_children("serial", layers, named)

    def run(call: Callable[..., Any], join: Callable[..., Any], x: Any) -> Any:
        for i in range(len(children)):
            x = call(i, x)
        return x

    return compose("serial", children, run, lambda kids: serial(**_renamed(children[: len(kids)], kids)))


def residual(body: Layer, shortcut: Layer | None = None, after: Layer | None = None) -> Layer:
    """`after(body(x) + shortcut(x))`: a residual block (He et al., 2016, https://arxiv.org/abs/1512.03385, eq. 1).

    Args:
      body: the function to learn.
      shortcut: how x reaches the sum, `identity()` by default; a 1x1 convolution where the shape changes.
      after: what follows the sum, `identity()` by default; `relu()` in the original.

    x and what the children return may be trees: they are added leaf by leaf.

    Raises:
      InputError: body and shortcut return different trees or shapes.
    """
    shortcut, after = (identity() if layer is None else layer for layer in (shortcut, after))
    children = (("body", body), ("shortcut", shortcut), ("after", after))
    _require_layers("residual", children)

    def add(fx: Any, sx: Any) -> Any:
        require_leaves("residual", **{"the output of the body": fx, "the output of the shortcut": sx})
        ours: Any = jax.tree.structure(fx)
        its: Any = jax.tree.structure(sx)
        fix = "return the same tree from both; fnn.at applies a layer to one part and keeps the rest"
        require(ours == its, "residual", f"a shortcut that returns {ours}, as the body", str(its), fix)
        return jax.tree.map(add_leaves, fx, sx)

    def add_leaves(fx: jax.Array, sx: jax.Array) -> jax.Array:
        require(
            np.shape(fx) == np.shape(sx),
            "residual",
            f"a shortcut of shape {np.shape(fx)}, as the body returns",
            f"{np.shape(sx)}",
            "give the shortcut the body's stride and features, for example conv(features, 1, stride=2)",
        )
        return fx + sx

    def run(call: Callable[..., Any], join: Callable[..., Any], x: Any) -> Any:
        return call(2, join(add, call(0, x), call(1, x)))

    return compose("residual", children, run, lambda kids: residual(*kids))


def parallel(*branches: Layer, merge: Callable[[Sequence[Any]], Any], **named: Layer) -> Layer:
    """Give every branch the same x and merge the list of their outputs.

    Args:
      *branches: layers named by position and kind.
      merge: `[y_1, ..., y_n] -> y`, for example `fnn.concat` (channels) or Python's `sum`.
      **named: further branches, named by keyword.
    """
    children = _name_children("parallel", branches, named)
    require(len(children) > 0, "parallel", "at least one branch", "none", "pass layers")
    if merge is not list and merge is not tuple:
        require_function("parallel", "merge", merge, "outputs")

    def run(call: Callable[..., Any], join: Callable[..., Any], x: Any) -> Any:
        def merged(*ys: Any) -> Any:
            y = merge(list(ys))
            require_leaves("parallel", **{"the output of merge": y})
            return y

        return join(merged, *[call(i, x) for i in range(len(children))])

    return compose("parallel", children, run, lambda kids: parallel(merge=merge, **_renamed(children, kids)))


def concat(ys: Sequence[jax.Array]) -> jax.Array:
    """Concatenate along the last axis, the channels: a `merge` for `parallel`.

    Raises:
      InputError: outputs that differ in another axis.
    """
    ok = isinstance(ys, list | tuple) and len(ys) > 0
    require(ok, "concat", "a list of arrays", described(ys), "pass the outputs as one list: concat([a, b])")
    for i, y in enumerate(ys):
        require_array("concat", f"output {i}", y)
        require(
            y.ndim >= 1, "concat", "outputs with a last axis", f"output {i} of shape ()", "give it an axis: y[None]"
        )
    shapes = [y.shape for y in ys]
    fix = 'give every branch the same padding and stride, for example padding="SAME"'
    require(len({shape[:-1] for shape in shapes}) == 1, "concat", "outputs alike but for the last axis", shapes, fix)
    return jnp.concatenate(ys, axis=-1)


def repeat(layer: Layer, n: int) -> Layer:
    """n copies of `layer` in a row, each with its own params and state, traced once.

    params and state have the tree of one copy with a new leading axis of size n. The copies run in a `lax.scan`, so
    compile time does not grow with n. Equals `serial` of n copies, keys included. x may be a tree.

    Raises:
      InputError: n < 1, or the layer changes the shape or dtype of its input.
    """
    require_layer("repeat", "layer", layer)
    n = integer("repeat", "n", n, fix="pass a number of copies n >= 1")
    fix = "for one set of parameters put the shared layer n times into serial"
    require(layer.shared is None, "repeat", "a layer whose copies have parameters of their own", "a shared one", fix)

    def init_spec(key: jax.Array, x: Spec) -> tuple[Params, State, Spec]:
        x = spec_of(x)
        with inside(layer.name):
            _, _, y = jax.eval_shape(lambda k: layer.init_spec(k, x), key)
            params, state = jax.vmap(lambda k: layer.init(k, x))(_fold(key, n))
        require(spec_of(y) == x, "repeat", f"a layer that keeps {x}", f"{y}", "repeat only layers that keep the shape")
        return params, state, x

    def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves((params, state))}
        require(sizes <= {(n,)}, "repeat", f"params and state stacked {n} deep", sizes, "pass those that init returned")

        require_leaves("repeat", params=params, state=state, x=x)

        def step(x: Any, copy: tuple[Any, ...]) -> tuple[Any, State]:
            p, s, k = copy
            return layer.apply(p, s, x, train=train, key=k)

        with inside(layer.name):
            return jax.lax.scan(step, x, (params, state, None if key is None else _fold(key, n)), length=n)

    return Layer(
        lambda key, x: init_spec(key, x)[:2],
        apply,
        "repeat",
        ((layer.name, layer),),
        lambda kids: repeat(kids[0], n),
        n,
        init_spec,
        (f"n={n}",),
    )


def remat(layer: Layer, policy: Callable[..., Any] | None = None) -> Layer:
    """The same layer, whose intermediate values are computed again in the backward pass instead of stored.

    Args:
      layer: any layer; params, state, values and gradients stay exactly as they are.
      policy: which values to keep all the same, one of `jax.checkpoint_policies`.
    """
    require_layer("remat", "layer", layer)
    ok = policy is None or (callable(policy) and not isinstance(policy, type))
    require(ok, "remat", "a function policy or None", described(policy), "use one of jax.checkpoint_policies")

    def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        def run(params: Params, state: State, x: Any, key: Any) -> tuple[Any, State]:
            return layer.apply(params, state, x, train=train, key=key)

        require_leaves(layer.name, params=params, state=state, x=x)
        y, state = jax.checkpoint(run, policy=policy)(params, state, x, key)
        return y, state

    return around(layer, apply, layer.init_spec, lambda inner: remat(inner, policy), "remat")


def compose(kind: str, children: Children, run: Callable[..., Any], rebuild: Callable[..., Layer]) -> Layer:
    """A layer whose wiring is `run(call, join, x)`: `call(i, x)` is child i, `join(f, *ys)` is f(*ys).

    The one wiring serves both halves: init runs it on shapes, apply on arrays.
    """
    owners = owners_of(kind, children)
    names = list(dict.fromkeys(owners.values()))

    def init_spec(key: jax.Array, x: Spec) -> tuple[Params, State, Spec]:
        params: Params = {}
        state: State = {}

        def call(i: int, x: Spec) -> Spec:
            name, child = children[i]
            with inside(name):
                p, s, y = child.init_spec(jax.random.fold_in(key, i), x)
                owner = owners[name]
                if owner != name:
                    require_same(name, owner, (p, s), (params.get(owner, {}), state.get(owner, {})))
                    return y
            params.update({name: p} if p else {})
            state.update({name: s} if s else {})
            return y

        y = run(call, jax.eval_shape, spec_of(x))
        return params, state, y

    def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        _require_tree(kind, names, "params", params)
        _require_tree(kind, names, "state", state)
        new_state: State = {}

        def call(i: int, x: Any) -> Any:
            name, child = children[i]
            owner = owners[name]
            child_key = None if key is None else jax.random.fold_in(key, i)
            old = new_state.get(owner, state.get(owner, {}))  # a shared layer may have run before
            with inside(name):
                y, s = child.apply(params.get(owner, {}), old, x, train=train, key=child_key)
            new_state.update({owner: s} if s else {})
            return y

        return run(call, lambda f, *ys: f(*ys), x), new_state

    def again(kids: Sequence[Layer]) -> Layer:
        pairs = zip(kids, children, strict=kind != "serial")  # of which a prefix is a serial, too
        return rebuild([kid if kid.shared else marked(kid, child.shared) for kid, (_, child) in pairs])

    return Layer(lambda key, x: init_spec(key, x)[:2], apply, kind, children, again, 1, init_spec)


def _fold(key: jax.Array, n: int) -> jax.Array:
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))


def _name_children(kind: str, layers: Sequence[Layer], named: Mapping[str, Layer]) -> Children:
    width = max(2, len(str(len(layers) - 1)))
    names = [f"{i:0{width}d}_{getattr(layer, 'name', '?')}" for i, layer in enumerate(layers)]
    children = (*zip(names, layers, strict=True), *named.items())
    require(len({name for name, _ in children}) == len(children), kind, "different names", names, "rename a keyword")
    unfit = [name for name, _ in children if "/" in name or not name]
    expected = "names, not empty and without a slash, which joins them to paths"
    require(not unfit, kind, expected, unfit, "rename a keyword")
    _require_layers(kind, children)
    return children


def _renamed(children: Children, kids: Sequence[Layer]) -> dict[str, Layer]:
    return {name: kid for (name, _), kid in zip(children, kids, strict=True)}


def _require_layers(kind: str, children: Children) -> None:
    for name, child in children:
        require_layer(kind, name, child)


def _require_tree(kind: str, names: Sequence[str], what: str, tree: Any) -> None:
    if not isinstance(tree, Mapping) or not set(tree) <= set(names):
        got = sorted(tree) if isinstance(tree, Mapping) else type(tree).__name__
        raise InputError(kind, f"{what} with keys among {list(names)}", str(got), f"pass the {what} that init returned")
