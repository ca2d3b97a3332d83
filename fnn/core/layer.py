"""A layer is two pure functions and a name."""

import copy
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, NoReturn, ParamSpec

import jax
import numpy as np

from fnn.core.alive import explained
from fnn.core.errors import (
    InputError,
    integer,
    require,
    require_array,
    require_flag,
    require_function,
    require_key,
)
from fnn.core.rule import gradients
from fnn.core.spec import Spec, spec_of
from fnn.core.words import described, outline

Params = dict[str, Any]
State = dict[str, Any]
_EXAMPLE = "x an example input, or its shape such as (1, 28, 28, 1)"
_CALL = "write y, state = layer.apply(params, state, x), with params, state = layer.init(key, x)"
_FROM_INIT = "pass the params that init returned for this layer"
_RETURN_BOTH = "return a pair, with {} where there is none"
Pair = tuple[Params, State]
P = ParamSpec("P")
_MADE: Any = None  # in the place of an init_spec, which `__post_init__` then makes
_MISSING: Any = object()  # in the place of an argument, so that our message is raised and not Python's


@dataclass(frozen=True, eq=False)
class Layer:
    """A pair of pure functions on explicit dicts of arrays.

    Args:
      init: `(key, x) -> (params, state)`. x is an array, a `jax.ShapeDtypeStruct`, a shape tuple (float32), or a pytree
        of these, such as a dict of shape tuples: only shape and dtype count. A tuple of integers is a shape, `()` that
        of a number; any other tuple, and every list and dict, holds several inputs. Whoever writes a layer is always
        handed ShapeDtypeStructs.
      apply: `(params, state, x, *, train=False, key=None) -> (y, state)`. The state that comes out has the tree, shapes
        and dtypes of the one that went in. `key` is needed in training by stochastic layers, and never in evaluation.
      name: what kind of layer this is, for paths and tables.
      children: named layers this one is made of; `()` for a leaf.
      rebuild: the same composition around other children; how `inspect` looks inside without hooks. That of `serial`
        takes its first children alone, too.
      copies: how often each child runs (`repeat`).
      init_spec: `(key, x) -> (params, state, output spec)`; combinators give it so that no child is traced twice.
      options: what it was made with, as words for `repr`, which shows the layer as a tree.
      shared: what `fnn.shared` marks a layer with: children of one composition with the same mark share parameters.

    A Layer is not a pytree: close over it, or pass it to `jax.jit` as a static argument. It is no function either:
    `layer.apply(params, state, x)` runs it.

    Raises:
      InputError: functions of other arguments; and when called: no key, no example input, params or state that are no
        dicts, a `train` that is no bool, or a function that does not return a pair.
    """

    init: Callable[..., tuple[Params, State]]
    apply: Callable[..., tuple[Any, State]]
    name: str = "layer"
    children: tuple[tuple[str, "Layer"], ...] = ()
    rebuild: Callable[[Sequence["Layer"]], "Layer"] | None = None
    copies: int = 1
    init_spec: Callable[..., tuple[Params, State, Spec]] = field(default=_MADE, repr=False)
    options: tuple[str, ...] = ()
    shared: object = None
    cast: Callable[["Layer"], "Layer"] | None = field(default=None, init=False, repr=False)  # of `precision`

    def __post_init__(self) -> None:
        init, apply, init_spec = self.init, self.apply, self.init_spec
        ok = isinstance(self.name, str)
        require(ok, "Layer", "a string for name", described(self.name), 'name the kind of layer: name="dense"')
        where = f"Layer {self.name!r}"
        require_function(where, "init", init, "key", "x")
        require_function(where, "apply", apply, "params", "state", "x", keywords=("train", "key"))
        require_function(where, "rebuild", self.rebuild, "children", optional=True)
        require_function(where, "init_spec", init_spec, "key", "x", optional=True)
        pairs = isinstance(self.children, tuple) and all(isinstance(c, tuple) and len(c) == 2 for c in self.children)
        ok = pairs and all(isinstance(child, Layer) for _, child in self.children)
        require(ok, where, "a tuple of pairs (name, Layer) for children", described(self.children), "leave it out")
        object.__setattr__(self, "copies", integer(where, "copies", self.copies))
        ok = isinstance(self.options, tuple) and all(isinstance(option, str) for option in self.options)
        require(ok, where, "a tuple of strings for options", described(self.options), "leave it out")

        def checked_init(key: jax.Array, x: Any = _MISSING) -> tuple[Params, State]:
            if x is _MISSING:
                fix = f"write params, state = layer.init(key, x): {_EXAMPLE}"
                raise InputError(f"{self.name}.init", "a key and an example input x", "one argument", fix)
            require_key(f"{self.name}.init", key)
            came = init(key, spec_of(x))
            ok = isinstance(came, tuple) and len(came) == 2 and all(isinstance(tree, Mapping) for tree in came)
            require(ok, f"{self.name}.init", "init to return two dicts, params and state", outline(came), _RETURN_BOTH)
            return came

        def traced_init(key: jax.Array, x: Any) -> tuple[Params, State, Spec]:
            params, state = checked_init(key, x)
            with gradients("auto"):  # the plain formulas trace in half the time, to the same shapes
                y, _ = jax.eval_shape(self.apply, params, state, spec_of(x))
            return params, state, y

        def checked_apply(
            params: Params, state: State = _MISSING, x: Any = _MISSING, *more: Any, train: bool = False, key: Any = None
        ) -> tuple[Any, State]:
            if more:
                fix = "pass train and key by name: layer.apply(params, state, x, train=True, key=key)"
                raise InputError(f"{self.name}.apply", "params, state and x", f"{3 + len(more)} arguments", fix)
            if x is _MISSING:
                got = "one argument" if state is _MISSING else "two arguments"
                fix = f"{_CALL}; state is {{}} where init returned {{}}"
                raise InputError(f"{self.name}.apply", "params, state and x", got, fix)
            if train is not False:
                require_flag(f"{self.name}.apply", "train", train)
            if key is not None:
                require_key(self.name, key)
            if not (_is_dict(params) and _is_dict(state)):
                what, tree = ("state", state) if _is_dict(params) else ("params", params)
                fix = f"pass the {what} that init returned for this layer"
                raise InputError(self.name, f"a dict of {what}", described(tree), fix)
            try:
                came = apply(params, state, x, train=train, key=key)
            except (RuntimeError, ValueError) as error:
                raise explained(self.name, (params, state, x, key), error)  # noqa: B904 - it may be the very error
            if not (isinstance(came, tuple) and len(came) == 2 and (_is_dict(came[1]) or is_dataclass(came[1]))):
                raise InputError(self.name, "apply to return (y, state), state a dict", outline(came), _RETURN_BOTH)
            return came

        object.__setattr__(self, "init", checked_init)
        object.__setattr__(self, "apply", checked_apply)
        object.__setattr__(self, "init_spec", traced_init if init_spec is None else init_spec)

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: a layer holds no parameters."""
        raise InputError(self.name, "its function apply to be called", "a call of the layer itself", _CALL)

    def __repr__(self) -> str:
        """The layer as a tree, each child with its name, in words close to those that make it."""
        children = [textwrap.indent(f"{name}={child!r}", "  ") for name, child in self.children]
        if not children:
            return f"{self.name}({', '.join(self.options)})"
        lines = [*children, *(f"  {option}" for option in self.options)]
        return "\n".join([f"{self.name}(", *(f"{line}," for line in lines), ")"])


def around(
    layer: Layer,
    apply: Callable[..., Any],
    init_spec: Callable[..., Any],
    wrap: Callable[[Layer], Layer],
    *options: str,
) -> Layer:
    """A layer around another, with its parameters, state, children and name; `wrap` makes it again around another."""
    again = layer.rebuild
    rebuild = None if again is None else lambda kids: wrap(again(kids))
    inner = (layer.name, layer.children, rebuild, layer.copies)
    init = lambda key, x: init_spec(key, x)[:2]  # noqa: E731
    return cast_by(type(layer)(init, apply, *inner, init_spec, (*layer.options, *options), layer.shared), layer.cast)


def cast_by(layer: Layer, cast: Callable[[Layer], Layer] | None) -> Layer:
    """The same layer, which knows what a `precision` does to the leaves inside it; it keeps one of its own."""
    if cast is None or layer.cast is not None:
        return layer
    new = copy.copy(layer)
    object.__setattr__(new, "cast", cast)
    return new


def marked(layer: Layer, shared: object, *options: str) -> Layer:
    """The same layer with another mark."""
    new = copy.copy(layer)
    object.__setattr__(new, "shared", shared)
    object.__setattr__(new, "options", (*layer.options, *options))
    return new


def shown(make: Callable[P, Layer]) -> Callable[P, Layer]:
    """A function that makes layers; they show in their `repr` what it was called with, the defaults left out.

    >>> from fnn.core.lift import lift
    >>> @shown
    ... def scaled(factor, *, offset=0.0):
    ...     return lift(lambda params, x: factor * x + offset, name="scaled")
    >>> scaled(3, offset=1.0)
    scaled(3, offset=1.0)
    """
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: P.args, **options: P.kwargs) -> Layer:
        try:
            layer = make(*args, **options)
        except (TypeError, ValueError) as error:
            if not (args and isinstance(args[0], jax.Array | np.ndarray) and args[0].ndim > 1):
                raise
            where, expected, got = make.__name__, "the options of a layer, which it makes", str(described(args[0]))
            fix = "functions of arrays are in fnn.ops; of the layer write y, state = layer.apply(params, state, x)"
            if isinstance(error, InputError):
                where, expected, got, fix = error.where, error.expected, error.got, f"{error.fix}; {fix}"
            raise InputError(where, expected, got, fix) from error
        words = []
        for name, value in signature.bind(*args, **options).arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                words += [str(described(_plain(v))) for v in value]
            elif parameter.kind is parameter.KEYWORD_ONLY:
                words += [f"{name}={described(_plain(value))}"] if value is not parameter.default else []
            else:
                words.append(str(described(_plain(value))))
        object.__setattr__(layer, "options", tuple(words))
        return layer

    return made


def _plain(value: Any) -> Any:
    """A NumPy number as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def require_layer(where: str, name: str, value: Any) -> None:
    """Refuse what is no Layer, with a word on how to make one of it."""
    if isinstance(value, Layer):
        return
    known = getattr(value, "__name__", "")
    own = getattr(value, "__module__", "") or ""
    fix = "wrap functions with fnn.lift"
    positional = where in ("serial", "parallel") and name[:1].isdigit()
    if isinstance(value, Mapping):
        fix = f"unpack it: {where}(**layers)" if positional else "join them: fnn.serial(**layers)"
    elif isinstance(value, Iterator) or (isinstance(value, list | tuple) and all(isinstance(v, Layer) for v in value)):
        fix = f"unpack it: {where}(*layers)" if positional else "join them: fnn.serial(*layers)"
    elif callable(value) and own.startswith("fnn.layers"):
        fix = f"call it: {known}{_call_of(value)} makes a layer, {known} does not"
    elif callable(value) and known and own.startswith("jax"):
        fix = f"use fnn's layer where there is one, fnn.{known}(), or wrap it: fnn.lift(lambda params, x: {known}(x))"
    elif callable(value) and known:
        fix = f"call it if it makes a layer; a function of arrays becomes one: fnn.lift(lambda params, x: {known}(x))"
    if name.endswith("_?"):  # the name that a positional layer without a kind would have
        name = f"argument {int(name[:-2])}, counted from 0"
    raise InputError(where, f"a Layer for {name}", described(value), fix)


def _call_of(make: Callable[..., Any]) -> str:
    """`(features)`: the arguments without which it cannot be called."""
    parameters = inspect.signature(make).parameters.values()
    return f"({', '.join(p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD)})"


def params_and_state(where: str, came: Any) -> Pair:
    """The parameters and the model state of a TrainState, or of a pair of both.

    Raises:
      InputError: neither.
    """
    if hasattr(came, "params") and hasattr(came, "model_state"):
        return came.params, came.model_state
    ok = isinstance(came, tuple | list) and len(came) == 2 and all(isinstance(tree, Mapping) for tree in came)
    fix = "pass what init_state or the last step returned, or layer.init(key, x)"
    require(ok, where, "a TrainState, or a pair (params, state)", outline(came), fix)
    return tuple(came)


def _is_dict(tree: Any) -> bool:
    return type(tree) is dict or isinstance(tree, Mapping)  # the second alone costs as much as a small operation


def require_shape(where: str, name: str, array: Any, shape: Sequence[int | None]) -> None:
    """Refuse a parameter of another shape than the layer's own; None stands for any size."""
    require_array(where, name, array)
    if len(array.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        sizes = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(where, f"a {name} of shape ({sizes})", f"{array.shape}", _FROM_INIT)


def weights(where: str, params: Params, *names: str, optional: Sequence[str] = ()) -> list[Any]:
    """The named entries of a leaf layer's params, in order; None for optional ones that are absent.

    Raises:
      InputError: params is not a dict with exactly these names.
    """
    came = sorted(params) if isinstance(params, Mapping) else None
    if came is None or not set(names) <= set(came) <= {*names, *optional}:
        wanted = f"params with {list(names)}" + (f" and perhaps {list(optional)}" if optional else "")
        got = type(params).__name__ if came is None else f"{came}"
        raise InputError(where, wanted, got, _FROM_INIT)
    return [params.get(name) for name in (*names, *optional)]
