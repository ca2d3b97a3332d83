"""Mixed precision: parameters in one dtype, computation in another, outputs in a third."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import FLOATS, require, require_flag
from fnn.core.layer import Layer, Params, State, around, cast_by, require_layer
from fnn.core.spec import Spec
from fnn.core.words import described


class _Cast(Layer):
    """A leaf layer that computes in a dtype of its own; a `precision` around it lets it be."""


def precision(
    layer: Layer, compute: Any, *, params: Any = jnp.float32, output: Any = None, integers: bool = False
) -> Layer:
    """The same layer, computing in another dtype: its parameters, inputs and those between its layers are cast.

    Parameters are made and stored in `params`, cast where they are used, and so get gradients in `params`. The running
    averages of norms stay in float32. A child inside that has a `precision` of its own keeps it: the head of a network
    in float32, say. Name and children are those of the layer.

    Args:
      layer: any layer. Each of its leaf layers casts what it gets; what lies between, such as the sum of `residual`,
        is in the dtype of its inputs.
      compute: float16, bfloat16, float32 or float64.
      params: the dtype of the parameters.
      output: the dtype of floating-point outputs; that of `compute` by default.
      integers: cast integer inputs of the whole, too: images of bytes. Class numbers and tokens want it off.

    Raises:
      InputError: no Layer; what is no dtype in which fnn computes.

    >>> import jax, jax.numpy as jnp, fnn
    >>> body = fnn.serial(flat=fnn.flatten(), hidden=fnn.dense(8), act=fnn.relu())
    >>> net = fnn.precision(fnn.serial(body=body, out=fnn.dense(2)), "bfloat16", output="float32", integers=True)
    >>> image = jnp.zeros((1, 4, 4, 1), jnp.uint8)
    >>> params, state = net.init(jax.random.key(0), image)
    >>> y, _ = net.apply(params, state, image)
    >>> params["out"]["kernel"].dtype.name, fnn.inspect.activations(net, (params, state), image)["out"].dtype.name
    ('float32', 'bfloat16')
    >>> y.dtype.name
    'float32'
    """
    require_layer("precision", "layer", layer)
    require_flag("precision", "integers", integers)
    compute, params = _dtype("compute", compute), _dtype("params", params)
    output = None if output is None else _dtype("output", output)
    words = [f"precision {compute.name}"]
    inner = cast_by(_leaves_cast(layer, compute, params), lambda new: _leaves_cast(new, compute, params))
    return _between(inner, compute, output, integers, words)


def _between(layer: Layer, compute: Any, output: Any, integers: bool, words: Sequence[str]) -> Layer:
    """Casts at the entry and the exit of a layer."""

    def enter(x: Any) -> Any:
        return _cast(x, compute, integers)

    def leave(y: Any) -> Any:
        return y if output is None else _cast(y, output)

    def init_spec(key: jax.Array, x: Spec) -> tuple[Params, State, Spec]:
        params, state, y = layer.init_spec(key, enter(x))
        return params, state, leave(y)

    def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        y, state = layer.apply(params, state, enter(x), train=train, key=key)
        return leave(y), state

    def again(inner: Layer) -> Layer:
        return _between(cast_by(inner, layer.cast), compute, output, integers, words)

    return around(layer, apply, init_spec, again, *words)


def _leaves_cast(layer: Layer, compute: Any, params: Any) -> Layer:
    if isinstance(layer, _Cast):
        return layer
    if layer.children and layer.rebuild:
        return layer.rebuild([_leaves_cast(child, compute, params) for _, child in layer.children])

    def init_spec(key: jax.Array, x: Spec) -> tuple[Params, State, Spec]:
        weights, state, y = layer.init_spec(key, _cast(x, params))
        return weights, state, _cast(y, compute)

    def apply(weights: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
        y, state = layer.apply(_cast(weights, compute), state, _cast(x, compute), train=train, key=key)
        return _cast(y, compute), state

    inner = (layer.name, layer.children, layer.rebuild, layer.copies)
    return _Cast(lambda key, x: init_spec(key, x)[:2], apply, *inner, init_spec, layer.options, layer.shared)


def _cast(tree: Any, dtype: Any, integers: bool = False) -> Any:
    """The floating-point arrays of a tree, or their specs, in this dtype."""

    def cast(a: Any) -> Any:
        kind = jnp.result_type(a)
        if not (jnp.issubdtype(kind, jnp.floating) or (integers and jnp.issubdtype(kind, jnp.integer))):
            return a
        return jax.ShapeDtypeStruct(a.shape, dtype) if isinstance(a, jax.ShapeDtypeStruct) else jnp.asarray(a, dtype)

    return jax.tree.map(cast, tree)


def _dtype(name: str, value: Any) -> Any:
    fix = f"pass one of {', '.join(jnp.dtype(t).name for t in FLOATS)}"
    kinds = {name: jnp.dtype(kind) for kind in FLOATS for name in (kind, jnp.dtype(kind), jnp.dtype(kind).name)}
    dtype = kinds.get(value) if isinstance(value, str | type | np.dtype) else None
    require(
        dtype is not None,
        "precision",
        f"a floating-point dtype for {name}",
        described(value),
        fix,
    )
    known = jax.dtypes.canonicalize_dtype(dtype) == dtype
    fix = 'pass "float32", or begin with jax.config.update("jax_enable_x64", True)'
    require(known, "precision", f"a dtype of at most 32 bits for {name}", str(dtype), fix)
    return dtype
