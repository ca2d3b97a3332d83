"""A layer of a function: parameters, state and random numbers go where its arguments ask for them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import InputError, require, require_function
from fnn.core.layer import Layer, Params, State
from fnn.core.spec import Spec
from fnn.core.words import described, outline


def lift(
    f: Callable[..., Any],
    init: Callable[[jax.Array, Spec], Params] | None = None,
    *,
    state: Callable[[jax.Array, Spec], State] | None = None,
    name: str | None = None,
) -> Layer:
    """Make a Layer of a function, with parameters, a state and random numbers where it asks for them.

    Args:
      f: `(params, x) -> y`. What else it needs it takes by these names: `state`, and then it returns (y, new state), of
        the same tree, shapes and dtypes; `train`, True in training; `key`, a random key in training, else None.
      init: `(key, x) -> params`, x a ShapeDtypeStruct; without it there are no parameters and f is handed `{}`.
      state: `(key, x) -> state`, the state before the first step; for an f that takes `state`.
      name: the kind of layer; the name of f by default, "lambda" where it has none.

    Raises:
      InputError: functions of other arguments, such as `f(x)`; an f that takes `state` without one to begin with, or
        the reverse; when called, training without a key for an f that takes one, a new state that is not like the old.

    >>> import jax, jax.numpy as jnp, fnn
    >>> double = fnn.lift(lambda params, x: 2 * x, name="double")
    >>> params, state = double.init(jax.random.key(0), (3,))
    >>> double.apply(params, state, 1.5)
    (3.0, {})

    A layer that counts the examples it was trained on, and one that adds noise in training:

    >>> def count(params, x, *, state, train):
    ...     return x, {"seen": state["seen"] + len(x)} if train else state
    >>> counter = fnn.lift(count, state=lambda key, x: {"seen": jnp.zeros((), jnp.int32)})
    >>> _, state = counter.apply(*counter.init(jax.random.key(0), (4, 3)), jnp.ones((4, 3)), train=True)
    >>> int(state["seen"])
    4
    >>> noise = fnn.lift(lambda params, x, key: x if key is None else x + jax.random.normal(key, x.shape), name="noise")
    >>> y, _ = noise.apply({}, {}, jnp.zeros(5), train=True, key=jax.random.key(1))
    >>> bool(y.std() > 0)
    True
    """
    asked = _asked_for(f)
    require_function("lift", "f", f, "params", "x", keywords=asked)
    require_function("lift", "init", init, "key", "x", optional=True)
    require_function("lift", "state", state, "key", "x", optional=True)
    ok = name is None or isinstance(name, str)
    require(ok, "lift", "a string or None for name", described(name), 'name the kind of layer: name="square"')
    kind = name or getattr(f, "__name__", "lift").strip("<>")  # of a lambda, too
    if ("state" in asked) != (state is not None):
        got = "state= beside an f without one" if state else "an f that takes state, and no state="
        fix = "write f(params, x, *, state) and lift(f, state=lambda key, x: {...}), or neither"
        raise InputError("lift", "an f that takes state, and the state to begin with", got, fix)

    def init_pair(key: jax.Array, x: Spec) -> tuple[Params, State]:
        keys = (key, key) if init is None or state is None else jax.random.split(key)
        params = init(keys[0], x) if init else {}
        fix = "return the parameters alone, {} where there are none; state=lambda key, x: {...} makes the state"
        require(isinstance(params, Mapping), kind, "init to return a dict of params", outline(params), fix)
        return params, (state(keys[1], x) if state else {})

    def apply(params: Params, old: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        if not asked:
            return f(params, x), old
        if "key" in asked and train:
            require(key is not None, kind, "a key in training", "key=None", "pass key=jax.random.key(seed) to apply")
        given = {"state": old, "train": train, "key": key if train else None}
        came = f(params, x, **{name: given[name] for name in asked})
        if "state" not in asked:
            return came, old
        pair, want = isinstance(came, tuple) and len(came) == 2, _like(old)
        expected = f"f to return (y, state) with a state like {want}"
        fix = "return the state with the same tree, shapes and dtypes in training and evaluation"
        new = _like(came[1]) if pair else outline(came)
        require(pair and new == want, kind, expected, new, fix)
        return came[0], came[1]

    return Layer(init_pair, apply, kind)


def _asked_for(f: Any) -> tuple[str, ...]:
    """Which of state, train and key a function takes by name, beside its first two arguments."""
    if not callable(f):
        return ()
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # no function, or one written in C
        return ()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {p.name for i, p in enumerate(parameters) if p.kind in kinds and (i >= 2 or p.kind is kinds[1])}
    return tuple(name for name in ("state", "train", "key") if name in named)


def _like(tree: Any) -> Any:
    """Tree, shapes and dtypes, to compare and to show."""
    return jax.tree.map(lambda a: f"{jnp.result_type(a)}{list(np.shape(a))}", tree)
