"""A model's gradients side by side: by hand, automatic, and from finite differences of the loss in float64.

Each parameter is judged by what rounding explains (`fnn.check.model.measure`), never by its size. Differences look at
the loss alone, so that they see what the two others share: along one direction of random +1 and -1 in each parameter by
itself, where every entry counts, and at the entry where hand and automatic are furthest apart.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.check.arrays import widen
from fnn.check.automatic import automatic
from fnn.check.differences import points_of, slope_of, steps_for, sweeper
from fnn.check.finding import Finding, Leaf, first_line, leaf_table
from fnn.check.model.measure import Judged, Measured
from fnn.check.report import Report
from fnn.check.tolerance import EPS64, allowed, largest
from fnn.check.verdict import NOTHING, Difference, verdict_on
from fnn.core.alive import of_live_arrays
from fnn.core.errors import integer, require, require_function, require_key, require_leaves
from fnn.core.layer import Layer, Pair, Params, params_and_state, require_layer
from fnn.core.rule import gradients
from fnn.train.batch import split_batch
from fnn.train.measure import measure
from fnn.train.step import TrainState

# Differences that are not this sharp, relative to the gradient along their direction, judge nothing.
_SHARP = 0.01
# Rounding errors of a directional derivative that the gradient itself has, in roundings of the sum of its entries.
_ROUNDINGS = 64
VALUE, GRADIENT = "loss", "gradient/"


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison(Report):
    """A `Report` with one row a parameter: true if no gradient differs, and a table when printed."""

    def __str__(self) -> str:
        vanishing = sum(leaf.verdict == "vanish" for leaf in self.leaves)
        kinked = sum(leaf.verdict == "kink" for leaf in self.leaves)
        legend = [
            "hand: the rules written in fnn; auto: jax.grad of the plain formulas; differences: of the float64 loss.",
            "max diff, relative, ulps, cosine: of hand from auto in float64; the values are those of the worst entry.",
        ]
        if vanishing:
            legend.append("vanish: the true gradient is zero here, and what is left are rounding errors.")
        if kinked:
            legend.append("kink: hand and auto agree; the loss has several slopes here, and differences cannot judge.")
        told = [f for f in self.findings if f.verdict in ("FAIL", "note", "skip")]
        lines = [f"{f.leaf or f.check}: {f.detail}" for f in told if f.detail]
        bad = sorted({finding.leaf for finding in self.failures()}, key=self._place)
        agreement = f"The gradients agree in all {len(self.leaves) - vanishing} parameters that have one."
        conclusion = f"The gradients DIFFER in {', '.join(bad)}." if bad else agreement
        return "\n".join([leaf_table(self.leaves, "parameter"), *legend, *lines, conclusion])

    def _place(self, path: str) -> int:
        return next((i for i, leaf in enumerate(self.leaves) if leaf.path == path), -1)


@of_live_arrays
def compare(
    layer: Layer,
    train_state: TrainState | Pair,
    batch: tuple,
    loss: Callable[[Any, Any], jax.Array],
    *,
    key: jax.Array | None = None,
    seed: int = 0,
    tolerance: float | None = None,
) -> Comparison:
    """Differentiate the mean training loss of a batch in three ways and compare parameter by parameter.

    Everything is computed in the dtype of the model and once more in float64 from the same rounded values, so that the
    verdict on a model in bfloat16 is as sharp as on one in float32. Differences take 66 evaluations of the loss a
    parameter array, or 99 where they confirm a disagreement.

    Args:
      layer: the model.
      train_state: its parameters and model state: a TrainState, or a pair (params, state) such as `layer.init` returns.
      batch: a pair (x, labels).
      loss: `(outputs, labels)` -> () or one number an example, of which the mean is taken.
      key: for stochastic layers; all ways draw the same.
      seed: of the directions of the differences and of the roundings.
      tolerance: how far a gradient may be off, relative to its largest entry, beyond what rounding explains.

    Returns:
      A `Comparison`: true if the gradients agree in every parameter, printed as a table.

    Raises:
      InputError: a model without parameters, or a batch that is no pair (x, labels) of equal length.

    >>> import jax, jax.numpy as jnp, fnn
    >>> model, x = fnn.dense(2), jnp.arange(6.0).reshape(2, 3)
    >>> result = compare(model, model.init(jax.random.key(0), x), (x, jnp.ones((2, 2))), fnn.squared_error)
    >>> bool(result), [leaf.path for leaf in result.leaves]
    (True, ['bias', 'kernel'])
    """
    seed = integer("compare", "seed", seed, 0)
    f, free, data = objective("compare", layer, train_state, batch, loss, key)
    room = allowed("compare", tolerance)
    measured = Measured(gradient_of(f), free, data, seed, gradient_of(automatic(f)), room)
    judged = measured.judge("hand")
    findings = [Finding("precision", "note", detail=note) for note in measured.notes]
    if judged[-1].wrong:  # the loss: tree order puts it last
        detail = f"the loss itself differs: {judged[-1].finding().detail}"
        findings.append(Finding("primal", "FAIL", "the loss", detail, judged[-1].error, judged[-1].tolerance))
    rows = judged[:-1]
    leaves = [dataclasses.replace(j.leaf, path=j.leaf.path.removeprefix(GRADIENT)) for j in rows]
    if measured.wide:
        numbers = _Differences(f, widen(free), widen(data), seed)
        outcomes = [
            _with_differences(numbers, i, leaf, j) for i, (leaf, j) in enumerate(zip(leaves, rows, strict=True))
        ]
        leaves = [leaf for leaf, _ in outcomes]
        findings += [finding for _, some in outcomes for finding in some]
    else:
        findings += [dataclasses.replace(j.finding(), leaf=leaf.path) for j, leaf in zip(rows, leaves, strict=True)]
        findings.append(Finding("differences", "skip", detail="finite differences need float64"))
    return Comparison(layer.name, tuple(leaves), tuple(findings))


def objective(
    where: str, layer: Layer, train_state: TrainState | Pair, batch: tuple, loss: Callable, key: jax.Array | None
) -> tuple[Callable, Params, tuple]:
    """The mean training loss as `f(params, (x, labels, state, key)) -> ()`, and these arguments.

    Raises:
      InputError: a model without parameters, or a batch that is no pair (x, labels) of equal length.
    """
    require_layer(where, "layer", layer)
    require_function(where, "loss", loss, "outputs", "labels")
    params, state = params_and_state(where, train_state)
    require_leaves(where, params=params, state=state)
    if key is not None:
        require_key(where, key)
    x, labels, _ = split_batch(where, batch)
    require(len(jax.tree.leaves(params)) > 0, where, "a model with parameters", "none", "add a layer that has some")
    ok = all(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in jax.tree.leaves(params))
    require(ok, where, "floating-point params", "others", "pass the params that init returned")
    require(callable(loss), where, "a function loss(outputs, labels)", repr(loss), "pass fnn.softmax_cross_entropy")

    def f(params: Params, rest: tuple) -> jax.Array:
        x, labels, state, key = rest
        outputs, _ = layer.apply(params, state, x, train=True, key=key)
        return measure(where, "loss", loss, outputs, labels, split_batch(where, (x, labels))[2])

    return f, jax.tree.map(jnp.asarray, params), (*jax.tree.map(jnp.asarray, (x, labels, state)), key)


def gradient_of(f: Callable) -> Callable:
    """`(params, rest) -> {"gradient": gradient of f, "loss": f}`."""

    def gradient(params: Params, rest: tuple) -> dict[str, Any]:
        value, slopes = jax.value_and_grad(f)(params, rest)
        return {GRADIENT[:-1]: slopes, VALUE: value}

    return gradient


class _Differences:
    """Directional derivatives of f in float64, along directions in one array of params alone."""

    def __init__(self, f: Callable, params: Params, rest: tuple, seed: int):
        leaves, tree = jax.tree.flatten(params)
        self._leaves, self._rest, self.seed = tuple(leaves), rest, seed
        self.trouble = ""  # what f raises when its values along a line are asked for
        self._sweep = sweeper(lambda leaves, rest: f(jax.tree.unflatten(tree, leaves), rest))

    def along(self, i: int, v: np.ndarray) -> Difference:
        """The derivative along v in array i."""
        steps = steps_for(self._leaves[i])
        direction = tuple((v if j == i else np.zeros_like(leaf))[None] for j, leaf in enumerate(self._leaves))
        try:
            with jax.enable_x64(True), gradients("auto"):
                values = self._sweep(self._leaves, direction, points_of(steps)[None], self._rest)
        except Exception as error:
            self.trouble = first_line(error)
            return NOTHING
        found = slope_of(np.asarray(values, np.float64)[0], steps, EPS64)
        low, high = sorted((float(found.left), float(found.right)))
        return Difference(float(found.value), float(found.error), low, high, bool(found.kink))


def _with_differences(numbers: _Differences, i: int, leaf: Leaf, judged: Judged) -> tuple[Leaf, list[Finding]]:
    """The row and the findings of one parameter, completed by differences."""
    finding = dataclasses.replace(judged.finding(), leaf=leaf.path)
    t = judged.truth.astype(np.float64)
    if not (t.size and np.isfinite(t).all()):
        return leaf, [finding]
    found = (_blamed if judged.wrong else _confirmed)(numbers, i, leaf, judged, finding)
    if numbers.trouble:
        return leaf, [finding, Finding("differences", "skip", leaf.path, numbers.trouble)]
    return found


def _blamed(numbers: _Differences, i: int, leaf: Leaf, judged: Judged, finding: Finding) -> tuple[Leaf, list[Finding]]:
    """Of two gradients that differ, which one do differences contradict at the worst entry?"""
    leaf, here = _at_worst(numbers, i, leaf, judged)
    culprit = "hand" if judged.wrong == "dtype" else ""
    if not culprit and judged.hand is not None:
        hand, auto = (float(v[leaf.worst]) for v in (judged.hand, judged.truth))
        _, culprit = verdict_on(hand, auto, here, judged.rounding, beyond=True, free=False)
    detail = f"{finding.detail}; {_BLAME[culprit]}"
    return dataclasses.replace(leaf, culprit=culprit), [dataclasses.replace(finding, detail=detail)]


def _confirmed(
    numbers: _Differences, i: int, leaf: Leaf, judged: Judged, finding: Finding
) -> tuple[Leaf, list[Finding]]:
    """Do differences along random signs agree with both?"""
    leaf, _ = _at_worst(numbers, i, leaf, judged)
    t = judged.truth.astype(np.float64)
    limit = judged.rounding * np.sqrt(t.size) + _ROUNDINGS * EPS64 * float(np.abs(t).sum())
    for number in range(2):  # the second confirms a disagreement
        v = np.random.default_rng([numbers.seed, i, number]).choice([-1.0, 1.0], t.shape)
        along, seen = float(np.vdot(t, v)), numbers.along(i, v)
        sharp = seen.error <= _SHARP * float(np.linalg.norm(t))
        verdict, _ = verdict_on(along, along, seen if sharp else NOTHING, limit, beyond=False, free=False)
        if leaf.verdict == "vanish" or verdict == "agree":
            break
    else:
        detail = f"hand and auto agree, and differences say otherwise: {_BLAME['differences']}"
        wrong = dataclasses.replace(leaf, verdict="DIFFER", culprit="differences")
        off = abs(seen.value - along), seen.error + limit
        return wrong, [finding, Finding("differences", "FAIL", leaf.path, detail, *off)]
    if sharp or leaf.verdict == "vanish":
        off = abs(seen.value - along), seen.error + limit
        return leaf, [finding, Finding("differences", "pass", leaf.path, "", *off)]
    if seen.kink or not seen.known:
        return dataclasses.replace(leaf, verdict="kink"), [finding, Finding("differences", "skip", leaf.path)]
    detail = "" if not np.any(t) else f"differences are sharp only to {seen.error:.1e} here, and judge nothing"
    return leaf, [finding, Finding("differences", "skip", leaf.path, detail)]


def _at_worst(numbers: _Differences, i: int, leaf: Leaf, judged: Judged) -> tuple[Leaf, Difference]:
    """The row with the derivative at its worst entry, and this if it is sharp enough to judge."""
    t = judged.truth.astype(np.float64)
    h = t if judged.hand is None else judged.hand
    unit = np.zeros(t.shape)
    unit[leaf.worst] = 1.0
    here = numbers.along(i, unit)
    sharp = here.error <= _SHARP * max(largest(t), abs(float(h[leaf.worst])))
    return dataclasses.replace(leaf, numeric=here.value if here.known else None), here if sharp else NOTHING


_BLAME = {
    "hand": "the hand-written gradient is wrong",
    "auto": "differences side with the hand-written one",
    "": "differences cannot tell which is wrong",
    "differences": "a custom derivative that both share, a stop_gradient, or a loss that jumps",
}
