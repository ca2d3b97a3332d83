"""The training loop: epochs over any iterable of batches, with progress, callbacks and a history of plain dicts."""

import math
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.alive import alive
from fnn.core.errors import InputError, require, require_flag
from fnn.core.words import described
from fnn.train.arguments import check_fit
from fnn.train.batch import split_batch
from fnn.train.finite import verdict
from fnn.train.interrupt import Interrupt, Live
from fnn.train.progress import Display, make_display
from fnn.train.step import TrainState, require_state
from fnn.train.tracing import at_once

_RESERVED = {"epoch", "step", "examples_per_second", "seconds"}


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
    """The loss, its gradient or an update became inf or nan; the message names the parameter.

    Attributes:
      step: the step, counted from 0.
      train_state: the last good one: nothing was updated by this step. The one after it, under way when its measures
        arrived, is included.
      history: the epochs completed before.
    """

    def __init__(self, message: str, step: int, train_state: TrainState):
        super().__init__(message)
        self.step, self.train_state = step, train_state
        self.history: list[dict[str, float]] = []


def fit(
    step: Callable[..., Any],
    train_state: TrainState,
    batches: Iterable[tuple[Any, ...]],
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
      the epoch's examples while they were learned), the evaluation, "examples_per_second" and "seconds" (of
      training, without evaluation; the first epoch includes compilation).

    Ctrl-C (in the main thread, where Python's own handler is in charge) ends training at the end of the step in flight:
    `fit` says so and returns. The interrupted epoch has no row in history, so that `first_epoch + len(history)` is the
    epoch to go on with; its steps are in the state. A second Ctrl-C raises KeyboardInterrupt at once.

    Any exception that leaves `fit`, from a callback, the data or the evaluation, carries the last state and history as
    its attributes `train_state` (None where the arrays were donated to a step that failed) and `history`.

    Raises:
      InputError: epochs and first_epoch that do not fit, a generator for several epochs, an epoch without batches; a
        state that was donated, or that a transformation of JAX traces.
      NonFiniteLoss: the loss, its gradient or an update is inf or nan. It is read one step late, so that the device
        need not wait for the host.

    >>> import jax, jax.numpy as jnp, fnn, optax
    >>> from fnn.train import init_state, make_step
    >>> model, optimizer = fnn.dense(1), optax.sgd(0.1)
    >>> step = make_step(model, lambda y, t: ((y - t) ** 2)[:, 0], optimizer)
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
    steps = len(batches) if isinstance(batches, Sized) else None
    live = Live(train_state)
    with (
        at_once("fit", train_state),
        make_display(progress, first_epoch, epochs, steps) as display,
        live.carried(),
        Interrupt() as interrupt,
    ):
        run, live.taken = None, int(train_state.step)
        try:
            for epoch in range(first_epoch, epochs):
                run = _Epoch(epoch, epochs, live, display, interrupt)
                stop = run.train(step, passes(epoch), callbacks)
                if interrupt.pressed:
                    break
                run.complete(evaluate)
                event = Event("epoch", epoch, live.taken, live.train_state, live.history[-1])
                # A list: every callback is called.
                if any([callback(event) is True for callback in callbacks]) or stop or interrupt.pressed:
                    break
        except KeyboardInterrupt:  # raised by a callback or the data, or where another handler is in charge
            if interrupt.hard or not alive(live.train_state):
                raise
            interrupt.pressed = True
        if interrupt.pressed and len(live.history) < epochs - first_epoch:
            text = run.stopped(steps) if run else "fit stopped by Ctrl-C before its first step"
            display.print(text)
    return live.train_state, live.history


class _Epoch:
    """One pass over the batches, and what it measured."""

    def __init__(self, epoch: int, epochs: int, live: Live, display: Display, interrupt: Interrupt):
        self.epoch, self.epochs, self.live, self.display, self.interrupt = epoch, epochs, live, display, interrupt
        self.examples, self.start, self.steps, self.seconds = 0, time.perf_counter(), 0, 0.0
        self.sums: dict[str, float] = {}

    def train(self, step: Callable[..., Any], batches: Iterable[Any], callbacks: Sequence[Any]) -> bool:
        live, late, stop = self.live, None, False
        for batch in batches:
            live.train_state, measures = step(live.train_state, batch)
            live.taken, self.steps = live.taken + 1, self.steps + 1
            if late is not None:
                self._settle(*late)
            late = (live.taken - 1, batch, measures)
            event = Event("step", self.epoch, live.taken, live.train_state, measures)
            stop = any([callback(event) is True for callback in callbacks])
            if stop or self.interrupt.pressed:
                break
        got = f"none in epoch {self.epoch + 1}/{self.epochs}"
        require(late is not None or self.interrupt.pressed, "fit", "at least one batch an epoch", got, "check the data")
        if late is not None:
            self._settle(*late)
        self.seconds = time.perf_counter() - self.start
        return stop

    def complete(self, evaluate: Callable[..., Any] | None) -> None:
        """Evaluate, and write the row of the history."""
        tests = evaluate(self.live.train_state) if evaluate else {}
        row = self.row({f"test_{name}": _number(name, value) for name, value in tests.items()})
        self.live.history.append(row)
        self.display.epoch_ends(row)

    def stopped(self, steps: int | None) -> str:
        """What fit says after Ctrl-C."""
        done, of = len(self.live.history), f" of {steps}" if steps else ""
        at = f"in epoch {self.epoch + 1}/{self.epochs} after {self.steps}{of} steps"
        if done and self.live.history[-1]["epoch"] == self.epoch:
            at = f"after epoch {self.epoch + 1}/{self.epochs}"
        return f"stopped by Ctrl-C {at}; the state has them all, history the completed epochs: {done}"

    def row(self, tests: dict[str, float]) -> dict[str, float]:
        clash = _RESERVED & (self.sums.keys() | tests.keys()) | self.sums.keys() & tests.keys()
        require(not clash, "fit", "other names for measures", sorted(clash), "rename these metrics")
        speed = {"examples_per_second": self.examples / self.seconds, "seconds": self.seconds}
        return {"epoch": self.epoch, "step": self.live.taken, **self._means(), **tests, **speed}

    def _means(self) -> dict[str, float]:
        return {name: total / self.examples for name, total in self.sums.items()}

    def _settle(self, number: int, batch: tuple[Any, ...], measures: dict[str, jax.Array]) -> None:
        """Wait for a step, refuse what is not finite, and add up its measures."""
        values = {name: float(value) for name, value in jax.device_get(measures).items()}
        skipped = int(values.pop("skipped", 0))
        if skipped or not math.isfinite(values["loss"]):
            at = f"step {number} (epoch {self.epoch + 1}/{self.epochs})"
            reason = _explain(self.live.train_state, batch, skipped, values["loss"], at)
            raise NonFiniteLoss(reason, number, self.live.train_state)
        n = split_batch("fit", batch)[2]
        self.examples += n
        for name in sorted(values, key=lambda name: name != "loss"):  # the loss first, as readers expect
            self.sums[name] = self.sums.get(name, 0.0) + n * values[name]
        self.display.step_ends(self.epoch, self._means(), self.examples / (time.perf_counter() - self.start))


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        fix = "return one number a name"
        raise InputError("fit", f"evaluate to give a number for {name!r}", described(value), fix) from error


def _explain(now: TrainState, batch: tuple[Any, ...], skipped: int, loss: float, at: str) -> str:
    if math.isfinite(loss):
        return f"{at} was not taken: its loss is {loss:.6g}, but {verdict(now[:3], skipped)}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(now.params):
        if not np.isfinite(np.asarray(leaf, np.float64)).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            fix = "lower the learning rate, or use optax.clip_by_global_norm"
            return f"the loss of {at} is {loss}: parameter {name} is not finite; {fix}"
    numbers = [
        np.asarray(leaf) for leaf in jax.tree.leaves(batch[0]) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    broken = sum(int((~np.isfinite(leaf.astype(np.complex128))).sum()) for leaf in numbers)
    integers = [np.asarray(a) for a in jax.tree.leaves(batch[1:]) if jnp.issubdtype(jnp.result_type(a), jnp.integer)]
    known = ", ".join(f"integers from {a.min()} to {a.max()}" for a in integers if a.size)
    labels = f"the labels ({known}; classes count from 0)" if known else "the labels"
    reason = f"all parameters and x are finite; look at {labels} and the loss, or lower the learning rate"
    if broken:
        reason = f"all parameters are finite, but x of this batch has {broken} entries that are not; clean the data"
    return f"the loss of {at} is {loss}: {reason}"
