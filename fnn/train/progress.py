"""Progress of a run: a live bar in a terminal, one line an epoch elsewhere. Both show numbers already on the host."""

import importlib.util
import sys
import time
from typing import Any

_REFRESH = 0.1  # seconds between updates of the bar: smooth to the eye, nothing beside a step


class Display:
    """Shows nothing; the other displays override what they show."""

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def step_ends(self, epoch: int, means: dict[str, float], speed: float) -> None:
        """After a step: the means of this epoch so far, and images per second."""

    def epoch_ends(self, row: dict[str, float]) -> None:
        """After an epoch and its evaluation: its row of the history."""


class Lines(Display):
    """One line an epoch, with the time left at the pace so far."""

    def __init__(self, first: int, epochs: int):
        self.first, self.epochs, self.start = first, epochs, time.perf_counter()

    def epoch_ends(self, row: dict[str, float]) -> None:
        """Print the row."""
        done = row["epoch"] + 1
        left = (time.perf_counter() - self.start) / (done - self.first) * (self.epochs - done)
        self.print(f"{line(row, self.epochs)}  {clock(left)} left")

    def print(self, text: str) -> None:
        """Flushed, because a log is read while it grows."""
        print(text, flush=True)


class Live(Lines):
    """A bar below the lines: epoch, loss and metrics, images per second, time left.

    Args:
      first, epochs: epochs already done, and in all.
      steps: steps an epoch, None where the batches do not tell; then the first epoch counts them.
      console: a rich Console, the terminal by default.
    """

    def __init__(self, first: int, epochs: int, steps: int | None, console: Any = None):
        from rich import progress

        super().__init__(first, epochs)
        self.steps, self.count, self.shown = steps, 0, 0.0
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.TextColumn("{task.fields[numbers]}"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("left"),
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
        self.count += 1
        now = time.perf_counter()
        if now - self.shown >= _REFRESH:
            self.shown = now
            numbers = f"{measures(means)}  {speed:,.0f} images/s"
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
        self.bar.console.print(text, highlight=False, soft_wrap=True)

    def _total(self) -> int | None:
        return self.steps and self.steps * (self.epochs - self.first)


def make_display(progress: bool, first: int, epochs: int, steps: int | None) -> Display:
    """The display that suits the output."""
    if not progress:
        return Display()
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        return Live(first, epochs, steps)
    return Lines(first, epochs)


def line(row: dict[str, float], epochs: int) -> str:
    """A row of the history as text."""
    aside = {"epoch", "step", "images_per_second", "seconds"}
    numbers = measures({name: value for name, value in row.items() if name not in aside})
    width = len(str(epochs))
    speed = f"{row['images_per_second']:,.0f} images/s  {row['seconds']:.1f} s"
    return f"epoch {row['epoch'] + 1:{width}}/{epochs}  {numbers}  {speed}"


def measures(values: dict[str, float]) -> str:
    """`loss 0.1234  accuracy 0.9876`."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())


def clock(seconds: float) -> str:
    """`1:05` or `2:00:07`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
