"""Training twice from one seed, with hand-written and with automatic gradients: do they stay together?

With h_k, a_k and z_k one parameter after k steps by hand, automatically, and automatically with noise, and n_k the norm
of all parameters:

    distance_k = |h_k - a_k| / n_k        floor_k = |z_k - a_k| / n_k        share_k = distance_k / limit_k
    limit_k    = factor max_(j <= k) floor_j + eps

and no share may exceed 1. The noise is the same mathematics rounded otherwise: every batch of z in another order, so
that sums over the batch are taken in another order. Two correct gradients differ by what rounding does, and training
carries that on and magnifies it, in z as in h. Each parameter has a limit of its own: the bias in front of a batch norm
has a gradient of nothing but noise, which Adam makes as large as any other, and its limit is of no use elsewhere.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn.check.arrays import norm_of, path_of, widen
from fnn.check.automatic import automatic
from fnn.check.model.noise import coarsest, nudged, order_is_free, rows
from fnn.check.report import plain
from fnn.core.errors import integer, real, require
from fnn.core.layer import Layer, Params
from fnn.core.program import custom_vjps
from fnn.core.rule import gradients
from fnn.inspect.table import table
from fnn.train.arguments import require_batches
from fnn.train.batch import split_batch
from fnn.train.step import TrainState, init_state, make_step

_SHOWN = (1, 2, 5)  # and these times 10, 100, ...
# A loss is log(sum(exp)) - x, or the like, by two formulas that round differently even where the floor is zero.
_LOSS_ULPS = 4
# A wrong rule is wrong by distance / k in a mean step; one that is this much better did not make the distance.
_CARRIED = 0.1
_NOISES = {
    "order": "the automatic run with the examples of each batch in another order: the same sums, rounded anew",
    "ulp": "the automatic run from parameters moved by one unit in the last place (another order of examples would\n"
    "be other mathematics here: random numbers belong to places, or the batch has one or two examples)",
}


@dataclass(frozen=True)
class Step:
    """One step of the three runs.

    Attributes:
      step: how many updates were made, from 1.
      loss: of the automatic run, before this update.
      distance, floor: of all parameters after this update, relative to their norm.
      worst, share: the parameter that used most of its limit, and how much of it.
      loss_distance, loss_floor, loss_share: the same of the loss before the update, in units of the largest so far.
    """

    step: int
    loss: float
    distance: float
    floor: float
    worst: str
    share: float
    loss_distance: float
    loss_floor: float
    loss_share: float

    @property
    def together(self) -> bool:
        """Whether parameters and loss keep their limits; nan keeps none."""
        return self.share <= 1 and self.loss_share <= 1


@dataclass(frozen=True)
class Lockstep:
    """Three runs, step by step; true if the hand-written one stayed within its limits, and a table when printed.

    Attributes:
      steps: one entry a step.
      noise: what was done to the third run: "order" (examples within each batch) or "ulp" (initial parameters).
      factor: how many times the noise floor is allowed.
      apart: the first step beyond a limit, or None.
      magnified: steps at which the distance left its limit by no fault of the gradients, which agree to rounding at
        the parameters of either run: a rounding error carried one of them across a kink (relu, max). The floor was
        raised to the distance there.
    """

    steps: tuple[Step, ...]
    noise: str
    factor: float
    apart: int | None = None
    magnified: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return self.apart is None

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings; numbers that are not finite become strings, as JSON has none."""
        return {"ok": bool(self), **plain(self)}

    def to_json(self) -> str:
        """The result as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        last = len(self.steps)
        shown = {n * 10**power for n in _SHOWN for power in range(len(str(last)))} | {last, self.apart}
        rows = [_cells(step) for step in self.steps if step.step in shown]
        top = ["step", "loss", "hand - auto", "noise", "worst parameter", "of limit", "loss: h - a", "noise"]
        legend = [
            "hand - auto: distance of the parameters over their norm; h - a: of the losses in units of the loss.",
            f"noise: {_NOISES[self.noise]}.",
            f"limit: {self.factor:g} x the largest noise of the parameter so far, and one unit in the last place.",
        ]
        return "\n".join([table([*top, "of limit", ""], rows, left=0), *legend, self._conclusion()])

    __repr__ = __str__

    def _conclusion(self) -> str:
        if self:
            most = max(step.share for step in self.steps)
            used = f"at most {100 * most:.2g} % of a limit was used"
            kinks = f"\nRounding was carried across a kink at steps {self.magnified}." if self.magnified else ""
            return f"Hand and automatic gradients train in lockstep over {len(self.steps)} steps; {used}.{kinks}"
        step = self.steps[(self.apart or 1) - 1]
        if not math.isfinite(step.loss):
            return f"The loss of step {step.step} is {step.loss}: nothing can be compared; lower the learning rate."
        if step.share <= 1:
            return f"The LOSSES of both DIFFER at step {step.step}, before the parameters do: a forward pass is wrong."
        return f"Hand and automatic training COME APART at step {step.step}, first in {step.worst}."


def lockstep(
    layer: Layer,
    loss: Callable[[Any, Any], jax.Array],
    batches: Iterable[tuple],
    optimizer: optax.GradientTransformation,
    *,
    key: jax.Array,
    steps: int = 50,
    factor: float = 30.0,
    penalty: Callable[[Params], jax.Array] | None = None,
) -> Lockstep:
    """Train by hand and automatically from one seed on the same batches, and hold their distance against rounding.

    Args:
      layer, loss, optimizer, penalty: as `fnn.train.make_step` takes them. Adam and its kind divide by the size of the
        gradient and so hide a wrong constant factor: prefer SGD here.
      batches: pairs (x, labels): a list, which is repeated as often as needed, an object whose method epoch(i) gives
        the batches of epoch i, or a generator of enough of them. Small batches train as well as large ones here.
      key: of initial parameters and of stochastic layers, the same in all runs.
      steps: updates to make.
      factor: how many times the noise floor the distance may be. Hand-written gradients sum in orders of their own in
        every layer, the noise only over the batch, so that a few times the floor is what correct ones need.
      penalty: added to the loss.

    Returns:
      A `Lockstep`: true if the runs stay together, printed as a table; `fnn.check.plot_lockstep` draws it.

    Raises:
      InputError: steps < 1 or factor <= 0, a model without parameters, too few batches, or what `make_step` refuses.

    >>> import jax, jax.numpy as jnp, fnn, optax
    >>> x = jax.random.normal(jax.random.key(1), (8, 3))
    >>> squared = lambda y, t: ((y - t) ** 2).mean(-1)
    >>> result = lockstep(fnn.dense(2), squared, [(x, x[:, :2])], optax.sgd(0.1), key=jax.random.key(0), steps=5)
    >>> bool(result), result.noise, len(result.steps)
    (True, 'order', 5)
    """
    require_batches("lockstep", batches)
    steps = integer("lockstep", "steps", steps, fix="leave it at 50")
    factor = real("lockstep", "factor > 0", factor, lambda f: f > 0, "leave it at 30")
    stream = itertools.islice(_stream(batches), steps)
    first: Any = next(stream, None)
    require(first is not None, "lockstep", "at least one batch", "none", "pass a list of batches (x, labels)")
    x, _, n = split_batch("lockstep", first)
    start = init_state(layer, optimizer, key, x)
    require(len(jax.tree.leaves(start.params)) > 0, "lockstep", "a model with parameters", "none", "add some")
    eps = coarsest(start.params)
    noise = "order" if order_is_free(layer, start, x, n, math.sqrt(eps)) else "ulp"

    hand = auto = make_step(layer, loss, optimizer, penalty=penalty)
    if _has_foreign_rules(layer, loss, start, first):
        auto = make_step(_dissolved(layer), automatic(loss), optimizer, penalty=penalty)
    updates = {"hand": hand, "auto": auto, "noisy": auto}
    runs = {name: jax.tree.map(jnp.copy, start) for name in ("hand", "auto", "noisy")}
    if noise == "ulp":
        runs["noisy"] = runs["noisy"]._replace(params=nudged(runs["noisy"].params))
    floors, loss_floor, largest, done, magnified = dict[str, float](), 0.0, 0.0, [], []
    for number, batch in enumerate(itertools.chain([first], stream), 1):
        before = jax.tree.map(jnp.copy, runs["hand"])
        losses, params = _advance(updates, runs, batch, number if noise == "order" else None)
        norm = math.hypot(*_norms(params["auto"]).values()) or 1.0
        distances, noises = (_norms(params[name], params["auto"]) for name in ("hand", "noisy"))
        floors = {path: max(floors.get(path, 0.0), n / norm) for path, n in noises.items()}
        limits = {path: norm * (factor * floors[path] + eps) for path in floors}
        beyond = [path for path, d in distances.items() if d > limits[path]]
        if beyond and not _is_local(auto, before, batch, params["hand"], distances, beyond, number):
            magnified.append(number)
            floors = {path: max(floors[path], d / norm) for path, d in distances.items()}
            limits = {path: norm * (factor * floors[path] + eps) for path in floors}
        shares = {path: d / limits[path] for path, d in distances.items()}
        worst = max(shares, key=lambda path: math.inf if math.isnan(shares[path]) else shares[path])
        largest = max(largest, abs(losses["auto"])) or 1.0
        off, loss_noise = (abs(losses[name] - losses["auto"]) / largest for name in ("hand", "noisy"))
        loss_floor = max(loss_floor, loss_noise, off if magnified[-1:] == [number] else 0.0)
        distance, floor = (math.hypot(*parts.values()) / norm for parts in (distances, noises))
        loss_share = off / (factor * (loss_floor + _LOSS_ULPS * eps))
        done.append(
            Step(number, losses["auto"], distance, floor, worst, shares[worst], off, loss_noise, loss_share),
        )
    fix = "pass a list, which is repeated, or lower steps"
    require(len(done) == steps, "lockstep", f"{steps} batches", f"{len(done)}", fix)
    apart = next((step.step for step in done if not step.together), None)
    return Lockstep(tuple(done), noise, float(factor), apart, tuple(magnified))


def _stream(batches: Any) -> Iterator[tuple]:
    """Batches, epoch after epoch, until the source is dry."""
    for epoch in itertools.count():
        dry = True
        for batch in batches.epoch(epoch) if hasattr(batches, "epoch") else batches:
            dry = False
            yield batch
        if dry:
            return


def _has_foreign_rules(layer: Layer, loss: Callable, start: TrainState, batch: tuple) -> bool:
    """Whether derivatives written by hand remain where fnn's own rules are automatic."""

    def objective(params: Params, x: Any, labels: Any) -> jax.Array:
        return loss(layer.apply(params, start.model_state, x, train=True, key=start.key)[0], labels)

    with gradients("auto"):
        return custom_vjps(jax.make_jaxpr(objective)(start.params, *batch).jaxpr) > 0


def _dissolved(layer: Layer) -> Layer:
    """The layer without anyone's custom derivatives, fnn's or the user's."""

    def apply(params: Params, state: Any, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, Any]:
        def call(params: Params, state: Any, x: Any, key: Any) -> tuple[Any, Any]:
            return layer.apply(params, state, x, train=train, key=key)

        return automatic(call)(params, state, x, key)

    return Layer(layer.init, apply, layer.name)


def _is_local(
    auto: Callable, before: TrainState, batch: tuple, hand: Params, distances: dict, beyond: list, number: int
) -> bool:
    """Whether this step alone, from the same state, shows the fault; if not, it carried an older rounding error on."""
    with gradients("auto"):
        again, _ = auto(before, batch)
    here = _norms(hand, again.params)
    return not all(here[path] <= _CARRIED * distances[path] / number for path in beyond)


def _advance(updates: dict, runs: dict, batch: tuple, seed: int | None) -> tuple[dict, dict]:
    """One step of each run, in place: the losses and the new parameters, by run."""
    losses, params = {}, {}
    for name, now in runs.items():
        given = batch
        if name == "noisy" and seed is not None:
            n = split_batch("lockstep", batch)[2]
            given = rows(tuple(batch), np.random.default_rng(seed).permutation(n))
        with gradients("hand" if name == "hand" else "auto"):
            runs[name], measures = updates[name](now, given)
        losses[name], params[name] = float(measures["loss"]), runs[name].params
    return losses, params


def _norms(params: Params, others: Params | None = None) -> dict[str, float]:
    """The norm of each parameter, or of its difference from the other."""
    wide = widen(params) if others is None else jax.tree.map(np.subtract, widen(params), widen(others))
    return {path_of(place): norm_of(a) for place, a in jax.tree_util.tree_leaves_with_path(wide)}


def _cells(step: Step) -> list[str]:
    far = [f"{step.distance:.1e}", f"{step.floor:.1e}", step.worst, f"{step.share:.2g}"]
    losses = [f"{step.loss_distance:.1e}", f"{step.loss_floor:.1e}", f"{step.loss_share:.2g}"]
    return [f"{step.step}", f"{step.loss:.4g}", *far, *losses, "" if step.together else "APART"]
