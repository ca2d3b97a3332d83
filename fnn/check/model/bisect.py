"""Which rule is wrong: each rule of a model by hand while all others are automatic."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from fnn.check.model.compare import GRADIENT, gradient_of, objective
from fnn.check.model.measure import Judged, Measured
from fnn.check.report import Outcome
from fnn.core.alive import of_live_arrays
from fnn.core.layer import Layer, Pair
from fnn.core.program import custom_vjps
from fnn.core.rule import gradients, rules
from fnn.inspect.table import table
from fnn.train.step import TrainState


@dataclasses.dataclass(frozen=True)
class Suspect:
    """One rule, alone by hand.

    Attributes:
      rule: its name.
      verdict: "right" or "WRONG".
      relative: the largest error of a parameter's gradient over its largest entry; of the wrong ones, if there are any.
      worst: the path of that parameter, or "loss" where the value itself is wrong.
      detail: what is wrong, in a sentence.
    """

    rule: str
    verdict: str
    relative: float
    worst: str
    detail: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class Bisection(Outcome):
    """One row a rule that the model uses; true if none is guilty, and a table when printed."""

    name: str
    rows: tuple[Suspect, ...]
    notes: tuple[str, ...] = ()

    @property
    def guilty(self) -> tuple[str, ...]:
        """Names of the rules that make a gradient wrong."""
        return tuple(row.rule for row in self.rows if row.verdict == "WRONG")

    def __bool__(self) -> bool:
        return not self.guilty

    def __str__(self) -> str:
        cells = [[r.rule, r.verdict, f"{r.relative:.1e}", r.worst, r.detail] for r in self.rows]
        header = ["rule", "verdict", "relative", "worst parameter", ""]
        legend = ["Each rule alone by hand, all others automatic; relative: the largest error over the largest entry."]
        conclusion = f"None of {len(self.rows)} rules is wrong here."
        if self.guilty:
            conclusion = f"WRONG: {', '.join(self.guilty)}."
        elif not self.rows:
            conclusion = "The model uses no rule."
        return "\n".join([table(header, cells, left=5), *legend, *self.notes, conclusion])


@of_live_arrays
def bisect(
    layer: Layer,
    train_state: TrainState | Pair,
    batch: tuple,
    loss: Callable[[Any, Any], jax.Array],
    *,
    key: jax.Array | None = None,
) -> Bisection:
    """Name the rules that make a model's gradients wrong.

    Args:
      layer, train_state, batch, loss, key: as for `compare`.

    Returns:
      A `Bisection`: true if no rule is guilty, printed as a table.

    Raises:
      InputError: a model without parameters, or a batch that is no pair (x, labels) of equal length.

    >>> import jax, jax.numpy as jnp, fnn
    >>> model, x = fnn.dense(2), jnp.arange(6.0).reshape(2, 3)
    >>> result = bisect(model, model.init(jax.random.key(0), x), (x, jnp.ones((2, 2))), fnn.squared_error)
    >>> bool(result), [row.rule for row in result.rows]
    (True, ['dense', 'squared_error'])
    """
    f, free, data = objective("bisect", layer, train_state, batch, loss, key)
    measured = Measured(gradient_of(f), free, data)
    rows = tuple(_suspect(name, measured.judge({name: "hand"})) for name in rules_of(f, free, data))
    notes = list(dict.fromkeys(measured.notes))
    with gradients("auto"):
        program = jax.make_jaxpr(f)(free, data)
    if custom_vjps(program.jaxpr):
        notes.append("Derivatives that are not fnn's are in the model, and taken for true here: audit judges them too.")
    return Bisection(layer.name, rows, tuple(notes))


def rules_of(f: Callable, *args: Any) -> tuple[str, ...]:
    """Names of the rules that run in `f(*args)`: those that put a call of their own into the automatic program."""

    def calls(**mode: str) -> int:
        with gradients("auto"), gradients(mode):
            return custom_vjps(jax.make_jaxpr(f)(*args).jaxpr)

    none = calls()
    return tuple(name for name in sorted(rules()) if calls(**{name: "hand"}) != none)


def _suspect(name: str, judged: list[Judged]) -> Suspect:
    wrong = [j for j in judged if j.wrong]
    worst = max(wrong or judged, key=lambda j: j.relative)
    path = worst.leaf.path.removeprefix(GRADIENT)
    detail = worst.finding().detail
    return Suspect(name, "WRONG" if wrong else "right", worst.relative, path, detail)
