"""The training loop: epochs over any iterable of batches, with progress, callbacks and a history of plain dicts."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from fnn.core.errors import require, require_flag
from fnn.train.arguments import check_fit
from fnn.train.batch import split_batch
from fnn.train.progress import Display, make_display
from fnn.train.step import TrainState, require_state

_RESERVED = {"epoch", "step", "images_per_second", "seconds"}


@dataclass(frozen=True)
class Event:
    """What a callback is told.

    Attributes:
      kind: "step" after each step, "epoch" after each epoch and its evaluation.
      epoch: counted from 0.
      step: steps taken so far.
      train_state: alive until the next step donates it; copy what must live longer.
      measures: of the step, still on the device (reading them waits for it), or the epoch's row of the history.
    """

    kind: Literal["step", "epoch"]
    epoch: int
    step: int
    train_state: TrainState
    measures: dict[str, Any]


class NonFiniteLoss(RuntimeError):  # noqa: N818
    """The loss became inf or nan; the message says at which step and names the first parameter that is not finite.

    Attributes:
      step: the step, counted from 0.
      train_state: no update was made from this loss. The step after it, under way when the loss arrived, is included.
    """

    def __init__(self, message: str, step: int, train_state: TrainState):
        super().__init__(message)
        self.step, self.train_state = step, train_state


def fit(
    step: Callable,
    train_state: TrainState,
    batches: Iterable[tuple],
    *,
    epochs: int = 1,
    first_epoch: int = 0,
    evaluate: Callable[[TrainState], dict[str, float]] | None = None,
    callbacks: Sequence[Callable[[Event], bool | None]] = (),
    progress: bool = True,
) -> tuple[TrainState, list[dict[str, float]]]:
    """Train until `epochs` epochs are complete.

    Args:
      step: `make_step` makes one.
      train_state: where to begin; its arrays are donated.
      batches: pairs (x, labels). With a method `epoch(i)`, this gives the batches of epoch i (a new shuffle); otherwise
        the object is iterated once an epoch.
      epochs: number of epochs of the whole run.
      first_epoch: epochs that an interrupted run had completed; the loop begins here.
      evaluate: `train_state -> {name: number}` after each epoch; its numbers enter the history as `test_<name>`.
      callbacks: each is called with an `Event` after every step and every epoch; one that returns True ends training,
        after the current epoch is closed with its row and evaluation.
      progress: show progress: live in a terminal, one line an epoch elsewhere.

    Returns:
      train_state and history: a dict an epoch with "epoch", "step" (taken so far), "loss" and the metrics (means over
      the epoch's examples while they were learned), the evaluation, "images_per_second" and "seconds" (of
      training, without evaluation; the first epoch includes compilation).

    Raises:
      InputError: epochs and first_epoch that do not fit, a generator for several epochs, an epoch without batches.
      NonFiniteLoss: the loss is inf or nan. It is read one step late, so that the device need not wait for the host.

    >>> import jax, jax.numpy as jnp, fnn, optax
    >>> from fnn.train import init_state, make_step
    >>> model, optimizer = fnn.dense(1), optax.sgd(0.1)
    >>> step = make_step(model, lambda y, t: (y - t) ** 2, optimizer)
    >>> now = init_state(model, optimizer, jax.random.key(0), (1, 3))
    >>> now, history = fit(step, now, [(jnp.ones((4, 3)), jnp.ones((4, 1)))], epochs=3, progress=False)
    >>> [row["step"] for row in history], history[2]["loss"] < history[0]["loss"]
    ([1, 2, 3], True)
    """
    epochs, first_epoch, step, evaluate, callbacks = check_fit(step, epochs, first_epoch, batches, evaluate, callbacks)
    require_state("fit", train_state)
    require_flag("fit", "progress", progress)
    passes = batches.epoch if hasattr(batches, "epoch") else lambda epoch: batches
    require(
        hasattr(batches, "epoch") or not hasattr(batches, "__next__") or epochs - first_epoch == 1,
        "fit",
        "batches that can be read once an epoch",
        f"a {type(batches).__name__}, which is empty after the first of {epochs - first_epoch} epochs",
        "pass a list, or an object whose method epoch(i) gives the batches of epoch i",
    )
    history, taken = [], int(train_state.step)
    with make_display(progress, first_epoch, epochs, len(batches) if hasattr(batches, "__len__") else None) as display:
        for epoch in range(first_epoch, epochs):
            run = _Epoch(epoch, taken, display)
            train_state, stop = run.train(step, train_state, passes(epoch), callbacks)
            taken = run.taken
            tests = {f"test_{name}": float(v) for name, v in (evaluate(train_state) if evaluate else {}).items()}
            row = run.row(tests)
            history.append(row)
            display.epoch_ends(row)
            event = Event("epoch", epoch, taken, train_state, row)
            if any([callback(event) is True for callback in callbacks]) or stop:  # a list: every callback is called
                break
    return train_state, history


class _Epoch:
    """One pass over the batches, and what it measured."""

    def __init__(self, epoch: int, taken: int, display: Display):
        self.epoch, self.taken, self.display = epoch, taken, display
        self.examples, self.sums, self.start = 0, {}, time.perf_counter()
        self.seconds = 0.0

    def train(self, step: Callable, now: TrainState, batches: Iterable, callbacks: Sequence) -> tuple[TrainState, bool]:
        late, stop = None, False
        for batch in batches:
            now, measures = step(now, batch)
            if late is not None:
                self._settle(now, *late)
            late = (self.taken, batch, measures)
            self.taken += 1
            event = Event("step", self.epoch, self.taken, now, measures)
            stop = any([callback(event) is True for callback in callbacks])
            if stop:
                break
        require(late is not None, "fit", "at least one batch an epoch", f"none in epoch {self.epoch}", "check the data")
        self._settle(now, *late)
        self.seconds = time.perf_counter() - self.start
        return now, stop

    def row(self, tests: dict[str, float]) -> dict[str, float]:
        clash = _RESERVED & (self.sums.keys() | tests.keys()) | self.sums.keys() & tests.keys()
        require(not clash, "fit", "other names for measures", sorted(clash), "rename these metrics")
        speed = {"images_per_second": self.examples / self.seconds, "seconds": self.seconds}
        return {"epoch": self.epoch, "step": self.taken, **self._means(), **tests, **speed}

    def _means(self) -> dict[str, float]:
        return {name: total / self.examples for name, total in self.sums.items()}

    def _settle(self, now: TrainState, number: int, batch: tuple, measures: dict[str, jax.Array]) -> None:
        """Wait for a step, refuse a loss that is not finite, and add up its measures."""
        measures = {name: float(value) for name, value in jax.device_get(measures).items()}
        if not math.isfinite(measures["loss"]):
            reason = _explain(now.params, batch[0])
            raise NonFiniteLoss(
                f"the loss of step {number} (epoch {self.epoch}) is {measures['loss']}: {reason}", number, now
            )
        n = split_batch("fit", batch)[2]
        self.examples += n
        for name in sorted(measures, key=lambda name: name != "loss"):  # the loss first, as readers expect
            self.sums[name] = self.sums.get(name, 0.0) + n * measures[name]
        self.display.step_ends(self.epoch, self._means(), self.examples / (time.perf_counter() - self.start))


def _explain(params: Any, x: Any) -> str:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not np.isfinite(np.asarray(leaf, np.float64)).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return f"parameter {name} is not finite; lower the learning rate, or use optax.clip_by_global_norm"
    broken = sum(int((~np.isfinite(np.asarray(leaf, np.float64))).sum()) for leaf in jax.tree.leaves(x))
    if broken:
        return f"all parameters are finite, but x of this batch has {broken} entries that are not; clean the data"
    return "all parameters and x are finite; look at the labels and the loss, or lower the learning rate"
