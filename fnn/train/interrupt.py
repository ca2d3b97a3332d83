"""What ends a loop early loses nothing: Ctrl-C waits for the end of a step, and an error carries the last state."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fnn.core.alive import alive

_PRESSED = b"\nCtrl-C: stopping at the end of this step; press it again to stop at once\n"


class Interrupt:
    """The first Ctrl-C in the block is noted, the second raises KeyboardInterrupt; at the end the old handler is back.

    Only in the main thread, where Python delivers signals, and only in place of Python's own handler: one that somebody
    chose, or SIGINT ignored, stays.

    Attributes:
      pressed: whether Ctrl-C was pressed.
      hard: whether it was pressed again.
    """

    def __init__(self) -> None:
        self.pressed = self.hard = False
        self._old: Any = None
        self._outer: Interrupt | None = None

    def __enter__(self) -> "Interrupt":
        old = signal.getsignal(signal.SIGINT)
        outer = getattr(old, "__self__", None)
        main = threading.current_thread() is threading.main_thread()
        self._outer = outer if main and isinstance(outer, Interrupt) else None
        if main and (old is signal.default_int_handler or self._outer is not None):
            with suppress(ValueError):  # an interpreter within the process has no signals
                signal.signal(signal.SIGINT, self._press)
                self._old = old
        return self

    def __exit__(self, *error: object) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)
        if self._outer is not None and self.pressed:  # a loop in a callback of another: both end
            self._outer.pressed = True
            self._outer.hard |= self.hard

    def _press(self, number: int, frame: Any) -> None:
        if self.pressed:
            self.hard = True
            raise KeyboardInterrupt
        self.pressed = True
        with suppress(OSError):  # not `print`, which may be under way in the frame that was interrupted
            os.write(2, _PRESSED)


class Live:
    """The last state of a loop and its history, for whatever ends the loop."""

    def __init__(self, train_state: Any):
        self.train_state, self.taken = train_state, 0
        self.history: list[dict[str, float]] = []

    @contextmanager
    def carried(self) -> Iterator[None]:
        """Any exception that leaves the block gets the attributes `train_state` and `history`, and a note of it."""
        try:
            yield
        except BaseException as error:
            left = alive(self.train_state)
            bearer: Any = error  # of attributes that it does not declare
            with suppress(AttributeError, TypeError):  # an exception that takes no attributes
                bearer.train_state, bearer.history = self.train_state if left else None, self.history
                lost = "fit: the state was donated to the step that failed, and is lost"
                kept = f"fit: the state after {self.taken} steps is this error's attribute train_state"
                error.add_note(f"{kept if left else lost}; the epochs completed are its history")
            raise
