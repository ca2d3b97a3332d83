"""What is said while training goes on: the time left, whatever the first step and evaluation took, on every output."""

import io
import os
import re
import subprocess
import sys
import types

import pytest

from fnn.train import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes when told; `clock.now += 1`."""
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.now)
    return clock


def seconds(text):
    """Of `1:05 left`."""
    (minutes, rest) = re.findall(r"(\d+):(\d\d) left", text)[-1]
    return 60 * int(minutes) + int(rest)


def row(epoch):
    return {"epoch": epoch, "step": 1, "loss": 0.5, "examples_per_second": 1.0, "seconds": 1.0}


def run(display, clock, epochs, steps, compiling=500.0, evaluating=1.0):
    """Epochs of `steps` seconds and an evaluation; the first of each, and the last step's other shape, are compiled."""
    for epoch in range(display.first, epochs):
        new = compiling if epoch == display.first else 0
        for i in range(steps):
            clock.now += 1 + (new if i in (0, steps - 1) else 0)
            display.step_ends(epoch, {"loss": 0.5}, 1.0)
        clock.now += evaluating + new
        display.epoch_ends(row(epoch))
        yield


@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("steps", [4, None])
def test_time_left_does_not_count_compilation(clock, capsys, first, steps):
    lines = progress.Lines(first, first + 10, steps)
    for ahead, _ in zip(range(9, -1, -1), run(lines, clock, first + 10, 4), strict=True):
        exact = 5 * ahead
        # Of the evaluation nothing is known before it has run twice.
        assert seconds(capsys.readouterr().out) == (4 * ahead if ahead == 9 else exact)


def test_time_left_within_an_epoch(clock):
    pace = progress.Pace(0, 3, 10)
    assert pace.left() == ""
    clock.now += 1000
    pace.step_ends()
    assert pace.left() == ""  # the one step so far was compiled
    for i in range(2, 11):
        clock.now += 2
        pace.step_ends()
        assert seconds(pace.left()) == 60 - 2 * i
    clock.now += 300
    pace.epoch_ends()
    assert seconds(pace.left()) == 40
    for _ in range(10):
        clock.now += 2
        pace.step_ends()
    clock.now += 5
    pace.epoch_ends()
    assert seconds(pace.left()) == 25
    clock.now += 10
    assert seconds(pace.left()) == 15
    clock.now += 1000  # slower than before: it has to end some time, but never less than none
    assert seconds(pace.left()) == 0
    pace.epoch_ends()
    assert pace.left() == "0:00 left"


def test_one_step_an_epoch_says_nothing_before_it_knows(clock, capsys):
    lines = progress.Lines(0, 3, 1)
    printed = [capsys.readouterr().out for _ in run(lines, clock, 3, 1)]
    assert "left" not in printed[0]
    assert (seconds(printed[1]), seconds(printed[2])) == (2, 0)


@pytest.mark.parametrize("width", [1, 20, 60, 80, 200])
def test_the_bar_at_every_width(clock, width):
    from rich.console import Console

    out = io.StringIO()
    live = progress.Live(0, 3, 4, Console(file=out, force_terminal=True, width=width))
    with live:
        for _ in run(live, clock, 3, 4):
            live.bar.refresh()
    text = out.getvalue()
    assert "epoch 3/3  loss 0.5000" in text  # the lines of the epochs are left whole
    if width >= 60:
        assert "0:05 left" in text
        assert ("\u2501" in text) == (width >= 80)  # the bar itself


def test_names_are_no_markup(clock):
    from rich.console import Console

    out = io.StringIO()
    live = progress.Live(0, 1, 1, Console(file=out, force_terminal=True, width=120))
    with live:
        clock.now += 1
        live.step_ends(0, {"loss[bold]": 0.5}, 1.0)
        live.bar.refresh()
        live.epoch_ends({**row(0), "recall[red]": 1.0})
    assert "loss[bold] 0.5000" in out.getvalue()
    assert "recall[red] 1.0000" in out.getvalue()


def test_plain_lines_where_a_bar_cannot_be_drawn(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress.make_display(True, 0, 1, 1)) is progress.Lines
    monkeypatch.setenv("TERM", "xterm")
    assert type(progress.make_display(True, 0, 1, 1)) is progress.Live
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)  # rich is not installed
    assert type(progress.make_display(True, 0, 1, 1)) is progress.Lines
    monkeypatch.setattr("sys.stdout", None)  # a program without a console
    display = progress.make_display(True, 0, 1, 1)
    display.epoch_ends(row(0))


PROGRAM = """
from fnn.train import progress
display = progress.make_display(True, 0, 2, 2)
with display:
    for epoch in range(2):
        for _ in range(2):
            display.step_ends(epoch, {"loss": 0.5}, 1.0)
        display.epoch_ends({"epoch": epoch, "loss": 0.5, "examples_per_second": 1.0, "seconds": 1.0})
print(type(display).__name__)
"""


@pytest.mark.long
@pytest.mark.parametrize("environment", [{}, {"COLUMNS": "20"}, {"TERM": "dumb"}, {"TERM": "xterm", "COLUMNS": "9"}])
def test_in_a_pipe_and_in_a_terminal(environment):
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0:00 left\nLines\n")
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
        if not shown:
            break
    assert process.wait() == 0, shown
    assert b"epoch 2/2  loss 0.5000" in shown
    assert shown.strip().endswith(b"Lines" if environment.get("TERM", "dumb") == "dumb" else b"Live"), shown
