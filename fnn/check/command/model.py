"""A model named on the command line: found, given a batch, compared, and audited if it is wrong."""

import importlib
import os
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.check.arrays import wide_types
from fnn.check.model.audit import audit
from fnn.check.model.compare import compare
from fnn.check.report import Outcome, word_of, worst_of
from fnn.core.errors import InputError, require
from fnn.core.layer import Layer
from fnn.ops.losses.cross_entropy import softmax_cross_entropy


class Model(Outcome):
    """The comparison of a model, and its audit if that finds a layer which is wrong."""

    def __init__(self, name: str, parts: list[Outcome]):
        self.name, self.parts = name, parts

    def __bool__(self) -> bool:
        return all(self.parts)

    @property
    def verdict(self) -> str:
        """The worst of its parts."""
        return worst_of(part.verdict for part in self.parts)

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.parts), f"{self.name}: {word_of(self)}"])

    def to_dict(self) -> dict[str, Any]:
        """The parts by their kinds: "comparison" and "audit"."""
        parts = {type(part).__name__.lower(): part.to_dict() for part in self.parts}
        return {"name": self.name, "ok": bool(self), "verdict": self.verdict, **parts}


def check_model(
    name: str, shape: tuple[int, ...] | None, dtype: str | None, seed: int, tolerance: float | None = None
) -> Model:
    """Compare the gradients of a model, and audit its layers if they differ.

    Args:
      name: `module:name` of a Layer, or of a function without arguments that returns a Layer or the whole
        (layer, params, state, batch, loss).
      shape: of the random normal batch that a Layer alone is given, with random classes and softmax cross-entropy.
      dtype: to which the floating-point arrays are cast; None leaves them as they are, float32 for a Layer alone.
      seed: of parameters, batch, directions and the model's key.
      tolerance: relative error that the comparison allows beyond rounding.

    Raises:
      InputError: no such model, or one that cannot be run.
    """
    where = f"--model {name}"
    with wide_types(dtype == "float64"):
        thing = _find(where, name)
        if isinstance(thing, Layer):
            thing = _with_batch(where, thing, shape, dtype or "float32", seed)
        else:
            require(shape is None, where, "no --shape", shape, "leave it out: the function returns its own batch")
        layer, *arrays, loss = thing
        key = jax.random.key(seed)
        try:
            params, state, batch = (_cast(tree, dtype) for tree in arrays) if dtype else arrays
            comparison = compare(layer, (params, state), batch, loss, key=key, seed=seed, tolerance=tolerance)
            parts: list[Outcome] = [comparison]
            if not comparison:
                audited = audit(layer, (params, state), batch, loss, key=key)
                parts += [] if audited else [audited]  # it sees what hand and automatic do not share
        except InputError:
            raise
        except Exception as error:
            raise _refusal(where, "a model and a loss that run on the batch", error) from error
    return Model(name, parts)


def _find(where: str, name: str) -> Any:
    module, _, attribute = name.partition(":")
    require(bool(module and attribute), where, "MODULE:NAME", name, "such as fnn.models:lenet5")
    found = imported(where, module)
    require(hasattr(found, attribute), where, f"{attribute!r} in {module}", "no such name", "look for a typing error")
    thing = getattr(found, attribute)
    wanted = "a Layer or (layer, params, state, batch, loss)"
    if callable(thing) and not isinstance(thing, Layer):
        try:
            thing = thing()
        except (Exception, SystemExit) as error:
            raise _refusal(where, f"{attribute}() to return {wanted}", error) from error
    whole = isinstance(thing, tuple) and len(thing) == 5 and isinstance(thing[0], Layer)
    ok = whole or isinstance(thing, Layer)
    require(ok, where, wanted, type(thing).__name__, "return one from a function without arguments")
    return thing


def imported(where: str, module: str) -> ModuleType:
    """The module of this name, which may lie in the folder where the command runs.

    Raises:
      InputError: it cannot be imported, and why.
    """
    ok = all(word.isidentifier() for word in module.split(".")) and not module.endswith(".py")
    require(ok, where, "the name of a module, such as nets or nets.small", repr(module), "leave folders and .py out")
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _refusal(where, f"a module that can be imported from {os.getcwd()}", error) from error


def _with_batch(where: str, layer: Layer, shape: tuple[int, ...] | None, dtype: str, seed: int) -> tuple:
    require(shape is not None, where, "--shape for a Layer", "none", "give the batch's shape: --shape 8,28,28,1")
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=shape), dtype)
    try:
        params, state, y = layer.init_spec(jax.random.key(seed), x)
    except Exception as error:
        raise _refusal(where, f"a Layer that takes {shape}", error) from error
    sizes: tuple[int, ...] = getattr(y, "shape", ())
    fix = "return (layer, params, state, batch, loss) from a function"
    require(len(sizes) > 1 and sizes[-1] > 0, where, "logits (N, ..., classes) as output", y, fix)
    labels = jnp.asarray(rng.integers(0, sizes[-1], sizes[:-1]), jnp.int32)
    return layer, params, state, (x, labels), softmax_cross_entropy


def _refusal(where: str, expected: str, error: BaseException) -> InputError:
    return InputError(where, expected, f"{type(error).__name__}: {error}", "mend it, or name another")


def _cast(tree: Any, dtype: str) -> Any:
    def leaf(a: Any) -> Any:
        return jnp.asarray(a, dtype) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a

    return jax.tree.map(leaf, tree)
