"""Hand-written against automatic gradients of a model's training loss, one row a parameter.

With h the hand-written and a the automatic gradient of one parameter, entry by entry, and rms(a) = sqrt(mean(a^2)):

    absolute = max |h - a|        relative = absolute / max |a|        ulps = max (|h - a| / ulp(max(|a|, rms(a))))

ulp(v) is the distance from v to the next number of the parameter's dtype. Entries below the rms are measured in ulps of
the rms: each is a sum that may cancel, and its rounding errors have the size of the terms, not of what is left of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import require
from fnn.core.layer import Layer, Params, State
from fnn.core.rule import gradients
from fnn.inspect.table import table
from fnn.train.batch import mean, split_batch

# Two orders of summation over a batch differ by ten to a few hundred ulps of the rms; a wrong formula by millions.
# Half precision rounds after every operation; 64 ulps of bfloat16 are half the rms, enough to see a wrong sign only.
_TOLERANCE = {"float64": 1024, "float32": 1024, "float16": 64, "bfloat16": 64}
# A gradient this small beside the largest of the model is what rounding leaves of an exact zero: the bias in front of
# a batch norm, for example.
_VANISHING_ULPS = 16


@dataclass(frozen=True)
class Row:
    """One parameter.

    Attributes:
      path: its place in params, such as "conv1/kernel".
      shape: of the parameter.
      absolute, relative, ulps: the largest differences, as the module defines them.
      verdict: "agree", "DIFFER", or "vanish" where both gradients are nothing but rounding errors.
    """

    path: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    ulps: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The rows; true if no row differs, and a table when printed."""

    rows: tuple[Row, ...]

    def __bool__(self) -> bool:
        return all(row.verdict != "DIFFER" for row in self.rows)

    def __str__(self) -> str:
        header = ["parameter", "shape", "max |hand - auto|", "relative", "ulps", "verdict"]
        cells = [
            [r.path, str(r.shape), f"{r.absolute:.2e}", f"{r.relative:.2e}", _ulps(r.ulps), r.verdict]
            for r in self.rows
        ]
        bad = [row.path for row in self.rows if row.verdict == "DIFFER"]
        vanishing = sum(row.verdict == "vanish" for row in self.rows)
        agreement = f"The gradients agree in all {len(self.rows) - vanishing} parameters that have one."
        conclusion = f"The gradients DIFFER in {', '.join(bad)}." if bad else agreement
        legend = [
            "hand: the rules written in fnn; auto: jax.grad of the plain formulas; both of the same loss and batch.",
            "relative: to the largest automatic entry of the parameter; ulps: in units in the last place.",
        ]
        if vanishing:
            legend.append("vanish: the true gradient is zero here, and both show only rounding errors.")
        return "\n".join([table(header, cells, left=2), *legend, conclusion])


def compare(
    layer: Layer,
    params: Params,
    state: State,
    batch: tuple,
    loss: Callable[[Any, Any], jax.Array],
    *,
    key: jax.Array | None = None,
) -> Comparison:
    """Differentiate the mean training loss of a batch both ways and compare parameter by parameter.

    Args:
      layer, params, state: the model, in float32 or wider for a sharp verdict: automatic gradients in half precision
        are summed in half precision, and differ from those by hand because they are worse.
      batch: a pair (x, labels).
      loss: `(outputs, labels)` -> () or one number an example, of which the mean is taken.
      key: for stochastic layers; both ways draw the same.

    Returns:
      A `Comparison`: true if the gradients agree in every parameter, printed as a table.

    Raises:
      InputError: a model without parameters, or a batch that is no pair (x, labels) of equal length.

    >>> import jax, jax.numpy as jnp, fnn
    >>> model, x = fnn.dense(2), jnp.arange(6.0).reshape(2, 3)
    >>> result = compare(model, *model.init(jax.random.key(0), x), (x, jnp.ones((2, 2))), lambda y, t: (y - t) ** 2)
    >>> bool(result), [row.path for row in result.rows]
    (True, ['bias', 'kernel'])
    """
    x, labels, _ = split_batch("compare", batch)
    require(len(jax.tree.leaves(params)) > 0, "compare", "a model with parameters", "none", "add a layer that has some")

    @jax.jit
    def gradient(params: Params) -> Params:
        def objective(params: Params) -> jax.Array:
            outputs, _ = layer.apply(params, state, x, train=True, key=key)
            return mean(loss(outputs, labels))

        return jax.grad(objective)(params)

    with gradients("hand"):
        hand = gradient(params)
    with gradients("auto"):
        auto = gradient(params)
    return compare_trees(hand, auto)


def compare_trees(hand: Any, auto: Any) -> Comparison:
    """Compare two gradients of the same tree."""
    places, leaves = zip(*jax.tree_util.tree_leaves_with_path(auto), strict=True)
    paths = [jax.tree_util.keystr(place, simple=True, separator="/") for place in places]
    pairs = list(zip(jax.tree.leaves(hand), leaves, strict=True))
    largest = max((float(np.max(np.abs(_wide(a)), initial=0.0)) for _, a in pairs), default=0.0)
    return Comparison(tuple(_row(path, h, a, largest) for path, (h, a) in zip(paths, pairs, strict=True)))


def _row(path: str, hand: jax.Array, auto: jax.Array, largest: float) -> Row:
    h, a, dtype = _wide(hand), _wide(auto), auto.dtype
    if not (np.isfinite(h).all() and np.isfinite(a).all()):  # inf - inf proves nothing
        return Row(path, auto.shape, np.nan, np.nan, np.inf, "DIFFER")
    difference = np.abs(h - a)
    peak = np.max(np.abs(a), initial=0.0)
    absolute = np.max(difference, initial=0.0)
    relative = absolute / peak if peak else np.inf if absolute else 0.0
    rms = np.sqrt(np.mean(a**2)) if a.size else 0.0
    ulps = np.max(difference / ulp(np.maximum(np.abs(a), rms), dtype), initial=0.0)
    noise = _VANISHING_ULPS * float(jnp.finfo(dtype).eps) * largest
    if ulps <= _TOLERANCE[dtype.name]:
        verdict = "agree"
    else:
        verdict = "vanish" if max(peak, np.max(np.abs(h))) <= noise else "DIFFER"
    return Row(path, auto.shape, float(absolute), float(relative), float(ulps), verdict)


def ulp(v: np.ndarray, dtype: Any) -> np.ndarray:
    """The distance from v >= 0, given in float64, to the next larger number of dtype.

    >>> float(ulp(np.float64(1.0), jnp.float32)) == 2.0**-23
    True
    """
    info = jnp.finfo(dtype)
    _, exponent = np.frexp(v)  # v = m 2^exponent with m in [1/2, 1)
    return np.maximum(np.ldexp(1.0, exponent - 1 - info.nmant), np.float64(info.smallest_subnormal))


def _wide(a: jax.Array) -> np.ndarray:
    return np.asarray(a).astype(np.float64)


def _ulps(n: float) -> str:
    return f"{n:,.1f}" if n < 1e6 else f"{n:.1e}"
