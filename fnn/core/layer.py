"""A layer is two pure functions and a name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core.errors import InputError, require, require_flag, require_key
from fnn.core.rule import gradients

Params = dict[str, Any]
State = dict[str, Any]
Spec = Any  # a jax.ShapeDtypeStruct, or a pytree of them


@dataclass(frozen=True, eq=False)
class Layer:
    """A pair of pure functions on explicit dicts of arrays.

    Args:
      init: `(key, x) -> (params, state)`. x is an array, a `jax.ShapeDtypeStruct`, or a shape tuple (float32): only
        shape and dtype count. Whoever writes a layer is always handed ShapeDtypeStructs.
      apply: `(params, state, x, *, train=False, key=None) -> (y, state)`. The state that comes out has the tree, shapes
        and dtypes of the one that went in. `key` is needed in training by stochastic layers, and never in evaluation.
      name: what kind of layer this is, for paths and tables.
      children: named layers this one is made of; `()` for a leaf.
      rebuild: the same composition around other children; how `inspect` looks inside without hooks.
      copies: how often each child runs (`repeat`).
      init_spec: `(key, x) -> (params, state, output spec)`; combinators give it so that no child is traced twice.

    A Layer is not a pytree: close over it, or pass it to `jax.jit` as a static argument.
    """

    init: Callable[..., tuple[Params, State]]
    apply: Callable[..., tuple[Any, State]]
    name: str = "layer"
    children: tuple[tuple[str, "Layer"], ...] = ()
    rebuild: Callable[[Sequence["Layer"]], "Layer"] | None = None
    copies: int = 1
    init_spec: Callable[..., tuple[Params, State, Spec]] = field(default=None, repr=False)

    def __post_init__(self):
        init, apply, init_spec = self.init, self.apply, self.init_spec

        def checked_init(key: jax.Array, x: Any) -> tuple[Params, State]:
            require_key(f"{self.name}.init", key)
            return init(key, spec_of(x))

        def traced_init(key: jax.Array, x: Any) -> tuple[Params, State, Spec]:
            params, state = checked_init(key, x)
            with gradients("auto"):  # the plain formulas trace in half the time, to the same shapes
                y, _ = jax.eval_shape(self.apply, params, state, spec_of(x))
            return params, state, y

        def checked_apply(
            params: Params, state: State, x: Any, *, train: bool = False, key: Any = None
        ) -> tuple[Any, State]:
            require_flag(f"{self.name}.apply", "train", train)
            return apply(params, state, x, train=train, key=key)

        object.__setattr__(self, "init", checked_init)
        object.__setattr__(self, "apply", checked_apply)
        object.__setattr__(self, "init_spec", init_spec or traced_init)


def lift(
    f: Callable[[Params, Any], Any], init: Callable[[jax.Array, Spec], Params] | None = None, *, name: str | None = None
) -> Layer:
    """Make a Layer of a function that needs neither key nor state.

    Args:
      f: `(params, x) -> y`.
      init: `(key, x) -> params`, x a ShapeDtypeStruct; without it there are no parameters and f is handed `{}`.
      name: the kind of layer; the name of f by default.

    >>> import jax, fnn
    >>> double = fnn.lift(lambda params, x: 2 * x, name="double")
    >>> params, state = double.init(jax.random.key(0), (3,))
    >>> double.apply(params, state, 1.5)
    (3.0, {})
    """

    def init_pair(key: jax.Array, x: Spec) -> tuple[Params, State]:
        return (init(key, x) if init else {}), {}

    def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        del train, key
        return f(params, x), state

    return Layer(init_pair, apply, name or getattr(f, "__name__", "lift"))


def spec_of(x: Any) -> Spec:
    """Shape and dtype of x: an array, a ShapeDtypeStruct, a pytree of these, or a shape tuple, which means float32."""
    if isinstance(x, tuple) and all(isinstance(n, int) for n in x):
        require(all(n >= 0 for n in x), "init", "a shape of sizes >= 0", x, "use 0 or more in every place")
        return jax.ShapeDtypeStruct(x, jnp.float32)

    def leaf(a: Any) -> jax.ShapeDtypeStruct:
        require(
            hasattr(a, "shape") and hasattr(a, "dtype"),
            "init",
            "an array, a jax.ShapeDtypeStruct or a shape tuple",
            repr(a),
            "pass an example input or its shape, such as (1, 28, 28, 1)",
        )
        return jax.ShapeDtypeStruct(a.shape, a.dtype)

    return jax.tree.map(leaf, x)


def weights(where: str, params: Params, *names: str, optional: Sequence[str] = ()) -> list:
    """The named entries of a leaf layer's params, in order; None for optional ones that are absent.

    Raises:
      InputError: params is not a dict with exactly these names.
    """
    came = sorted(params) if isinstance(params, Mapping) else None
    if came is None or not set(names) <= set(came) <= {*names, *optional}:
        wanted = f"params with {list(names)}" + (f" and perhaps {list(optional)}" if optional else "")
        got = type(params).__name__ if came is None else f"{came}"
        raise InputError(where, wanted, got, "pass the params that init returned for this layer")
    return [params.get(name) for name in (*names, *optional)]
