"""What a loss, a metric or a penalty gives: one number an example, or one number."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import InputError, require
from fnn.train.batch import mean

Measure = Callable[[Any, Any], jax.Array]


def measure(where: str, name: str, f: Measure, outputs: Any, labels: Any, n: int) -> jax.Array:
    """() the mean of `f(outputs, labels)` over n examples, which must be () or (n,), one number an example.

    Any other shape is refused, (n, 1) too: its mean may be one over outputs broadcast against labels, which trains
    something else without a word. What comes as () was reduced by f, and is taken as it is.

    Raises:
      InputError: another shape, or no real array; for the loss, which is differentiated, no floating-point array.
    """
    values = f(outputs, labels)
    if name != "loss" and isinstance(values, bool | int | float):
        values = np.asarray(values)
    _require_real(where, name, values, differentiated=name == "loss")
    if values.shape not in ((), (n,)):
        shapes = f"{values.shape} from outputs {_shapes(outputs)} and labels {_shapes(labels)}"
        raise InputError(where, f"{name} of shape ({n},) or (), one number an example", shapes, _fix(values, n))
    return mean(values)


def penalty_of(where: str, penalty: Callable[..., Any] | None, params: Any) -> Any:
    """() the penalty on these parameters, 0.0 where there is none.

    Raises:
      InputError: another shape than (), or no floating-point number.
    """
    value = 0.0 if penalty is None else penalty(params)
    if isinstance(value, int | float) and not isinstance(value, bool):  # a sum over no parameters is 0
        return float(value)
    _require_real(where, "penalty", value, differentiated=True)
    require(value.shape == (), where, "a penalty of shape ()", value.shape, "sum the penalty to one number")
    return value


def _require_real(where: str, name: str, values: Any, *, differentiated: bool) -> None:
    kind = "a floating-point array" if differentiated else "an array of real numbers"
    expected = f"{name} to give {kind}"
    if not hasattr(values, "dtype") or not hasattr(values, "shape"):
        fix = f"return the {name} alone" if isinstance(values, tuple | list | dict) else "return a jax array"
        raise InputError(where, expected, _words(values), fix)
    float_like = jnp.issubdtype(values.dtype, jnp.floating)
    whole = jnp.issubdtype(values.dtype, jnp.integer) or values.dtype == jnp.bool_
    fix = "take its absolute value or its real part"
    if whole:
        fix = "count mistakes as a metric; a loss must have a gradient"
    ok = float_like or (whole and not differentiated)
    require(ok, where, expected, f"{values.dtype} of shape {values.shape}", fix)


def _fix(values: Any, n: int) -> str:
    if values.ndim >= 2 and values.shape[:2] == (n, n):
        return "outputs were broadcast against labels: give both one shape, for example outputs[:, 0]"
    if values.ndim >= 2 and values.shape[0] == n:
        return "reduce it over all axes but the first, for example .sum(-1), or .mean(-1)"
    return "give one number an example; a mean of your own is ()"


def _words(values: Any) -> str:
    if isinstance(values, tuple | list):
        return f"a {type(values).__name__} of {len(values)}"
    return "None" if values is None else type(values).__name__


def _shapes(tree: Any) -> str:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
    return str(shapes[0] if len(shapes) == 1 else shapes)
