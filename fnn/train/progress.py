"""Progress of a run: a live bar in a terminal, one line an epoch elsewhere. Both show numbers already on the host."""

import importlib.util
import os
import statistics
import sys
import time
from collections import deque
from typing import Any

_REMEMBERED = 1000  # steps whose time enters the median: enough, however long an epoch is
_WIDE = 80  # columns of a terminal that has room for a bar beside the numbers
_REFRESH = 0.1  # seconds between updates of the bar: smooth to the eye, nothing beside a step


class Display:
    """Shows no progress; the other displays override what they show."""

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def step_ends(self, epoch: int, means: dict[str, float], speed: float) -> None:
        """After a step: the means of this epoch so far, and examples per second."""

    def epoch_ends(self, row: dict[str, float]) -> None:
        """After an epoch and its evaluation: its row of the history."""

    def print(self, text: str) -> None:
        """What is to be said without progress, too."""
        print(text, file=sys.stderr)


class Pace:
    """How long the rest takes, compilation left out: it happens in the first step and in the first evaluation.

    In the first epoch the pace is the median time between the ends of two steps, since one of them may be compiled anew
    for a smaller last batch; from the second on, that of whole epochs without the first, evaluation included.
    """

    def __init__(self, first: int, epochs: int, steps: int | None):
        self.ahead, self.steps = epochs - first, steps
        self.done, self.count = 0, 0  # epochs, and steps of this one
        self.last_step: float | None = None
        self.first_end, self.last_end = 0.0, 0.0  # set by the first epoch
        self.between: deque[float] = deque(maxlen=_REMEMBERED)

    def step_ends(self) -> None:
        """After each step."""
        now = time.perf_counter()
        if self.done == 0 and self.last_step is not None:
            self.between.append(now - self.last_step)
        self.last_step, self.count = now, self.count + 1

    def epoch_ends(self) -> None:
        """After each epoch and its evaluation."""
        self.steps, self.count, self.done = self.count, 0, self.done + 1
        self.last_end = time.perf_counter()
        self.first_end = self.first_end or self.last_end

    def left(self) -> str:
        """`0:39 left`, empty where nothing is known yet."""
        if self.ahead == self.done:
            return "0:00 left"
        if self.done > 1:
            epoch = (self.last_end - self.first_end) / (self.done - 1)
            spent = min(epoch, time.perf_counter() - self.last_end)
        elif self.between and self.steps:
            epoch = statistics.median(self.between) * self.steps
            spent = epoch * min(1, self.count / self.steps)
        else:
            return ""
        return f"{clock(epoch * (self.ahead - self.done) - spent)} left"


class Lines(Display):
    """One line an epoch, with the time left at the pace so far.

    Args:
      first, epochs: epochs already done, and in all.
      steps: steps an epoch, None where the batches do not tell; then the first epoch counts them.
    """

    def __init__(self, first: int, epochs: int, steps: int | None = None):
        self.first, self.epochs, self.pace = first, epochs, Pace(first, epochs, steps)

    def step_ends(self, epoch: int, means: dict[str, float], speed: float) -> None:
        """Take the time."""
        self.pace.step_ends()

    def epoch_ends(self, row: dict[str, float]) -> None:
        """Print the row."""
        self.pace.epoch_ends()
        self.print(f"{line(row, self.epochs)}  {self.pace.left()}".rstrip())

    def print(self, text: str) -> None:
        """Flushed, because a log is read while it grows."""
        print(text, flush=True)


class Live(Lines):
    """A bar below the lines: epoch, loss and metrics, examples per second, time left.

    Args:
      first, epochs, steps: as for `Lines`.
      console: a rich Console, the terminal by default.
    """

    def __init__(self, first: int, epochs: int, steps: int | None, console: Any = None):
        from rich import progress
        from rich.console import Console

        super().__init__(first, epochs, steps)
        console = console or Console()
        self.steps, self.count, self.shown = steps, 0, 0.0
        # The bar has what the words leave of the line, and on a narrow one goes first.
        bar = [progress.BarColumn(bar_width=24)] if console.width >= _WIDE else []
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            *bar,
            progress.TextColumn("{task.fields[numbers]}", markup=False),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task(f"epoch {first + 1}/{epochs}", total=self._total(), numbers="compiling")

    def __enter__(self) -> "Live":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def step_ends(self, epoch: int, means: dict[str, float], speed: float) -> None:
        """Move the bar, not more often than the eye can follow."""
        super().step_ends(epoch, means, speed)
        self.count += 1
        now = time.perf_counter()
        if now - self.shown >= _REFRESH:
            self.shown = now
            numbers = f"{measures(means)}  {speed:,.0f} examples/s  {self.pace.left()}"
            self.bar.update(
                self.task, completed=self.count, numbers=numbers, description=f"epoch {epoch + 1}/{self.epochs}"
            )

    def epoch_ends(self, row: dict[str, float]) -> None:
        """Print the row above the bar, and learn the length of an epoch."""
        self.steps = self.steps or self.count
        self.bar.update(self.task, completed=self.count, total=self._total())
        super().epoch_ends(row)

    def print(self, text: str) -> None:
        """Above the bar."""
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _total(self) -> int | None:
        return self.steps and self.steps * (self.epochs - self.first)


def make_display(progress: bool, first: int, epochs: int, steps: int | None) -> Display:
    """The display that suits the output."""
    if not progress:
        return Display()
    terminal = getattr(sys.stdout, "isatty", bool)() and os.environ.get("TERM") not in ("dumb", "unknown")
    if terminal and importlib.util.find_spec("rich"):
        return Live(first, epochs, steps)
    return Lines(first, epochs, steps)


def line(row: dict[str, float], epochs: int) -> str:
    """A row of the history as text."""
    aside = {"epoch", "step", "examples_per_second", "seconds"}
    numbers = measures({name: value for name, value in row.items() if name not in aside})
    width = len(str(epochs))
    speed = f"{row['examples_per_second']:,.0f} examples/s  {row['seconds']:.1f} s"
    return f"epoch {row['epoch'] + 1:{width}}/{epochs}  {numbers}  {speed}"


def measures(values: dict[str, float]) -> str:
    """`loss 0.1234  accuracy 0.9876`."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())


def clock(seconds: float) -> str:
    """`1:05` or `2:00:07`."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
