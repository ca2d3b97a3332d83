"""Every layer of a model on its own: is its gradient wrong, or does it only pass on what was wrong before it?

Local error: the layer is given the input it has in the model and the automatic cotangent that reaches it there, and its
gradients by hand, of its parameters and of its input, are held against the automatic ones. Cumulative error: those of
its parameters within the whole model by hand. A wrong rule in layer 7 gives layers 1 to 6 a cumulative error alone.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core

from fnn.check.arrays import norm_of, split
from fnn.check.automatic import automatic
from fnn.check.finding import Leaf, ulps_text
from fnn.check.model.compare import GRADIENT, gradient_of, objective
from fnn.check.model.measure import Judged, Measured
from fnn.check.model.probe import PARAMS, PROBE, Probed, Seen, walk
from fnn.check.report import Outcome
from fnn.check.timing import MODES, medians
from fnn.core.alive import of_live_arrays
from fnn.core.errors import integer
from fnn.core.layer import Layer, Pair, Params, State
from fnn.core.program import bytes_of
from fnn.core.rule import gradients, kept_by_hand
from fnn.core.shared import unshared
from fnn.inspect.table import table
from fnn.train.batch import mean
from fnn.train.step import TrainState

LOSS = "(loss)"


@dataclasses.dataclass(frozen=True)
class Child:
    """One layer.

    Attributes:
      path, kind: its names from the outside in, and what it is; "(loss)" is the loss function.
      verdict: "right", "WRONG" (its own gradient is), "inherits" (only its cumulative one is), or "-" (it has none).
      local, ulps: the largest error of its own gradients by hand: over the largest entry of the array (where entries
        are sums that cancel to rounding errors, over the terms), and in units in the last place.
      cumulative: the same as `local`, of its parameters in the whole model by hand; None without parameters.
      seconds: of the backward pass, {"hand": median, "auto": median}; all copies together inside a `repeat`.
      saved: bytes kept for the backward pass in each mode, parameters not counted.
      gradient, cotangent: norms of its parameters' automatic gradient (None without any) and of what reaches it.
      leaves: one row an array: its parameters, its "input", its "output".
      detail: what is wrong, in a sentence.
    """

    path: str
    kind: str
    verdict: str
    local: float
    ulps: float
    cumulative: float | None
    seconds: dict[str, float]
    saved: dict[str, int]
    gradient: float | None
    cotangent: float
    leaves: tuple[Leaf, ...] = ()
    detail: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class Audit(Outcome):
    """One row a layer, in order of construction, the loss last; true if all is right, and a table when printed."""

    name: str
    rows: tuple[Child, ...]
    notes: tuple[str, ...] = ()

    @property
    def guilty(self) -> tuple[str, ...]:
        """Paths of the layers whose own gradient is wrong."""
        return tuple(row.path for row in self.rows if row.verdict == "WRONG")

    def __bool__(self) -> bool:
        return all(row.verdict in ("right", "-") for row in self.rows)

    def conclusion(self) -> str:
        """Who is guilty, in sentences."""
        inheriting = [row.path for row in self.rows if row.verdict == "inherits"]
        if not self.guilty:
            if inheriting:
                where = ", ".join(inheriting)
                return f"No layer is wrong alone, and together they are in {where}: look between the layers."
            return "Every layer is right on its own, and so is the model."
        lines = [f"{row.path} is wrong: {row.detail}." for row in self.rows if row.verdict == "WRONG"]
        if inheriting:
            lines.append(f"{', '.join(inheriting)} only inherit{'s' if len(inheriting) == 1 else ''} it.")
        return "\n".join(lines)

    def __str__(self) -> str:
        header = ["layer", "kind", "local", "ulps", "cumulative", "ms hand", "ms auto", "KB hand", "KB auto"]
        rows = [
            [r.path, r.kind, f"{r.local:.1e}", ulps_text(r.ulps), _number(r.cumulative)]
            + [f"{1e3 * r.seconds[mode]:.3f}" for mode in MODES if r.seconds]
            + [f"{r.saved[mode] / 1024:,.1f}" for mode in MODES if r.saved]
            + ["-"] * (4 - 2 * bool(r.seconds) - 2 * bool(r.saved))
            + [_number(r.gradient), _number(r.cotangent), r.verdict]
            for r in self.rows
        ]
        legend = [
            "local: error of a layer's own gradients, given the automatic cotangent, over their largest entry;",
            "cumulative: that of its parameters in the whole model by hand; ms: median of its backward pass, to its",
            "parameters and input; KB: kept for it, without parameters; |grad|, |cotangent|: norms, automatic.",
        ]
        text = table([*header, "|grad|", "|cotangent|", "verdict"], rows, left=2)
        return "\n".join([text, *legend, *self.notes, self.conclusion()])


@of_live_arrays
def audit(
    layer: Layer,
    train_state: TrainState | Pair,
    batch: tuple,
    loss: Callable[[Any, Any], jax.Array],
    *,
    key: jax.Array | None = None,
    rounds: int = 5,
) -> Audit:
    """Judge, time and weigh the backward pass of every layer of a model on its own.

    The copies inside a `repeat` share one row: each is judged with its own parameters, input and cotangent.

    Args:
      layer, train_state, batch, loss, key: as for `compare`.
      rounds: timed calls a layer and mode.

    Returns:
      An `Audit`: true if the gradients of every layer are right, printed as a table.

    Raises:
      InputError: a model without parameters, rounds < 1, or a batch that is no pair (x, labels) of equal length.

    >>> import jax, jax.numpy as jnp, fnn
    >>> model, x = fnn.serial(hidden=fnn.dense(3), act=fnn.tanh()), jnp.arange(6.0).reshape(2, 3)
    >>> result = audit(model, model.init(jax.random.key(0), x), (x, jnp.ones((2, 3))), fnn.squared_error, rounds=1)
    >>> bool(result), [row.path for row in result.rows]
    (True, ['hidden', 'act', '(loss)'])
    """
    rounds = integer("audit", "rounds", rounds, fix="time at least one round")
    _, params, (x, labels, state, key) = objective("audit", layer, train_state, batch, loss, key)
    layer, params, state = unshared(layer, params, state)
    probed = Probed(layer, params, state, x, key)
    f, slots, rest = objective("audit", probed.layer, (probed.params, state), (x, labels), loss, key)
    whole = Measured(gradient_of(f), slots, rest, auto=gradient_of(automatic(f)))
    with gradients("auto"):
        look = jax.jit(lambda slots, state, x, key: probed.layer.apply(slots, state, x, train=True, key=key))
        outputs, seen = look(slots, state, x, key)
    slopes, judged = (
        jax.tree.unflatten(whole.tree, some)[GRADIENT.strip("/")] for some in (whole.auto, whole.judge("hand"))
    )
    rows, notes = {}, list(whole.notes)
    for found, (slot, slope, verdicts) in walk(seen, slots, slopes, judged):
        part = _Part(found, probed.leaves[found.path], slot[PARAMS], slope[PROBE])
        mine = (slope[PARAMS], jax.tree.leaves(verdicts[PARAMS]))
        rows[found.path] = _child(found.path, part, *mine, rounds, notes)

    def end(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[jax.Array, State]:
        del params, train, key
        return mean(loss(x, state["labels"])), state

    name = getattr(loss, "__name__", "loss")
    one = np.ones((), np.asarray(whole.auto[-1]).dtype)
    part = _Part(Seen(outputs, {"labels": labels}, None, [one], LOSS, (0,)), Layer(layer.init, end, name), {}, [one])
    rows[LOSS] = _child(LOSS, part, {}, [], rounds, notes)
    order = [*(path for path in probed.leaves if path in rows), LOSS]
    return Audit(layer.name, tuple(rows[path] for path in order), tuple(dict.fromkeys(notes)))


class _Part:
    """One layer with what reaches it: `free` are its parameters and cotangents, `data` its input, state and key."""

    def __init__(self, seen: Seen, layer: Layer, params: Params, cotangents: list):
        self.layer, axes = layer, seen.axes
        self.copies = int(np.prod(seen.y[0].shape[:axes])) if seen.y else 1

        def stack(leaf: Any) -> Any:
            return leaf.reshape(self.copies, *leaf.shape[axes:])

        both: Any = (params, cotangents), (seen.x, seen.state, seen.key)
        self.stacked = axes > 0
        self.free, self.data = jax.tree.map(stack, both) if self.stacked else both
        self.differentiable = bool(seen.y) and bool(jax.tree.leaves(params) or split(seen.x)[0])

    def _function(self, data: tuple) -> tuple[Callable, list]:
        x, state, key = data
        floats, join = split(x)

        def f(params: Params, floats: list) -> list:
            return split(self.layer.apply(params, state, join(floats), train=True, key=key)[0])[0]

        return f, floats

    def pull(self, free: tuple, data: tuple, dissolve: bool = False) -> dict[str, Any]:
        """Outputs and gradients, of all copies; without any rule of anyone if `dissolve`."""

        def one(item: tuple) -> dict[str, Any]:
            (params, cotangents), data = item
            f, floats = self._function(data)
            y, back = jax.vjp(automatic(f) if dissolve else f, params, floats)
            dparams, dx = back([c.astype(v.dtype) for c, v in zip(cotangents, y, strict=True)])
            return {"params": dparams, "input": dx, "output": y}

        return lax.map(one, (free, data)) if self.stacked else one((free, data))

    def first(self) -> tuple:
        """(free, data) of the first copy."""
        both = self.free, self.data
        return jax.tree.map(lambda leaf: leaf[0], both) if self.stacked else both

    def save(self, params: Params, data: tuple) -> Callable:
        """The backward pass, a pytree of what it keeps."""
        f, floats = self._function(data)
        return jax.vjp(f, params, floats)[1]


def _child(path: str, part: _Part, slopes: Params, cumulative: list[Judged], rounds: int, notes: list[str]) -> Child:
    kind, norm = part.layer.name, norm_of(part.free[1])
    gradient = norm_of(slopes) if jax.tree.leaves(slopes) else None
    if not part.differentiable:
        return Child(path, kind, "-", 0.0, 0.0, None, {}, {}, gradient, norm)
    measured = Measured(part.pull, part.free, part.data, auto=partial(part.pull, dissolve=True))
    judged = measured.judge("hand")
    notes += [f"{path}: {note}" for note in measured.notes]
    wrong, inherited = ([j for j in some if j.wrong] for some in (judged, cumulative))
    verdict = "WRONG" if wrong else "inherits" if inherited else "right"
    leaves = tuple(dataclasses.replace(j.leaf, path=_place(j.leaf.path)) for j in judged)
    worst = max(wrong, key=lambda j: j.relative, default=None)
    detail = ""
    if worst:
        what = _place(worst.leaf.path)
        what = f"{what} itself" if what.startswith("output") else f"{what} gradient"
        detail = f"its own {what} is off by {worst.relative:.1e} of its largest entry ({worst.finding().detail})"
    local = max(j.relative for j in judged)
    ulps = max((j.leaf.ulps for j in judged if not j.cancelled), default=0.0)
    total = max((j.relative for j in cumulative), default=None)
    costs = _seconds(part, rounds), _saved(part)
    return Child(path, kind, verdict, local, ulps, total, *costs, gradient, norm, leaves, detail)


def _seconds(part: _Part, rounds: int) -> dict[str, float]:
    (params, cotangents), data = part.first()
    back, pulls = jax.jit(lambda pull, dy: pull(dy)), {}
    for mode in MODES:
        with kept_by_hand(mode):
            pulls[mode] = jax.jit(part.save)(params, data)
    seconds = medians(lambda mode: back(pulls[mode], cotangents), rounds)
    return {mode: part.copies * value for mode, value in seconds.items()}


def _saved(part: _Part) -> dict[str, int]:
    (params, _), data = part.first()
    known, sizes = len(jax.tree.leaves(params)), {}
    for mode in MODES:
        with kept_by_hand(mode):
            program = jax.make_jaxpr(part.save)(params, data).jaxpr
        kept = {v for v in program.outvars if not isinstance(v, core.Literal)} - set(program.invars[:known])
        sizes[mode] = part.copies * sum(map(bytes_of, kept))
    return sizes


def _place(path: str) -> str:
    """The name of an array of a layer: a lone input or output needs no number."""
    return path.removeprefix("params/").removesuffix("/0") if path[:2] != "in" else path.removesuffix("/0")


def _number(v: float | None) -> str:
    return "-" if v is None else f"{v:.1e}"
