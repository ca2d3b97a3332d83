"""One subject, many programs: build them, show that they compute the same, compile, warm up, and time them in turns.

A subject is a network or an operation; its programs come from `build(name, library, variant)` of the source module and
have `first()`, `prepare()` and `run(steps)`. A program that fails or disagrees is left out, and the record says why.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.networks.agree import GRADIENT_TOLERANCE, MOST, differences, tolerances
from benchmarks.timing import rounds
from benchmarks.timing.machine import DISTURBED, Copying, Others, load_average
from benchmarks.timing.worker import ProgramError, Worker

REFERENCE = "fnn, hand"  # ratios are to this one
KEPT = ("turns", "seconds", "ratio", "trace_seconds", "compile_seconds", "temp_bytes")
TRUTH = ("fnn, auto, defaults", "fnn, auto")  # all must compute what JAX makes of the plain formulas


@dataclass
class Program:
    """What is known of one program so far; `error` is the sentence that ended it."""

    library: str
    variant: str
    worker: Worker = field(repr=False)
    found: dict = field(default_factory=dict)
    error: str | None = None

    @property
    def label(self) -> str:
        """How reports call it."""
        return f"{self.library}, {self.variant}"


def measure(
    source: str,
    name: str,
    programs: Sequence[Program],
    *,
    most_rounds: int = rounds.ROUNDS,
    cap: float = rounds.CAP_SECONDS,
    turn_seconds: float = rounds.TURN_SECONDS,
    nudges: int = 0,
    least: float = GRADIENT_TOLERANCE,
    most: float = MOST,
    sample: int | None = None,
    say: Callable[[str], None] = print,
) -> dict:
    """The record of one subject: a dict for JSON.

    Args:
      source: module with `build`.
      name: the subject, as the source knows it.
      programs: in the order in which they are built, each with its worker, which several may share.
      most_rounds, cap: see `rounds.turns_of`.
      turn_seconds: about how long a turn takes.
      nudges: how often the first program of `TRUTH` repeats its first step with a nudged input, to learn how far
        rounding alone may move each gradient; see `benchmarks.networks.agree`.
      least: what gradients may differ by in any case, relative to their norm.
      most: what they may differ by at most, however far a nudge moves them.
      sample: how many numbers of each gradient are compared; None: all.
      say: receives lines of progress.
    """
    record = {"name": name, "reference": REFERENCE, "load_before": load_average()[:1]}
    for each in programs:
        _try(each, "build", source=source, name=name, library=each.library, variant=each.variant)
    _require_equal(programs, nudges, least, most, sample)
    for each in programs:
        costs = _try(each, "prepare")
        if each.error is None:
            each.found |= costs
    for each in programs:
        seconds = _try(each, "run", steps=1)  # the first step after compiling touches its memory for the first time
        if each.error is None and seconds <= rounds.CRAWLING_SECONDS:
            seconds = _try(each, "run", steps=1)
        if each.error is None:
            each.found["steps"] = rounds.steps_of_turn(seconds, turn_seconds)
            each.found["turn_seconds"] = seconds * each.found["steps"]
    ready = {each.label: each for each in programs if each.error is None}
    turns = rounds.turns_of(
        {label: each.found["turn_seconds"] for label, each in ready.items()}, rounds=most_rounds, cap=cap
    )

    def turn(label: str) -> float | None:
        steps, warm = ready[label].found["steps"], ready[label].found["turn_seconds"] <= rounds.SLOW_SECONDS
        seconds = _try(ready[label], "run", steps=steps, warm=warm)
        return None if seconds is None else seconds / steps

    others = Others({each.worker.pid for each in programs})
    copying = Copying()
    times = rounds.take_turns(rounds.plan(turns, REFERENCE), turn, before=copying.sample)
    record |= {"load_after": load_average()[:1], "others_share": others.share()}
    record["copy_gib_per_second"] = copying.found()
    if (record["others_share"] or 0.0) > DISTURBED:
        say(f"  other processes took {record['others_share']:.0%} of the cores: these times mean little")
    found = rounds.statistics(times, REFERENCE)
    for each in programs:
        each.found |= found.get(each.label, {})
        say(f"  {each.label:28s} {_line(each)}")
    reference = next((each.found for each in programs if each.label == REFERENCE), {})
    record["gradient_error"] = reference.get("gradient_error")
    record["programs"] = [_record(each, reference.get("program")) for each in programs]
    return record


def _try(program: Program, do: str, **request):
    if program.error is not None:
        return None
    try:
        return program.worker.ask(do, label=program.label, **request)
    except ProgramError as failure:
        program.error = str(failure)
        return None


def _require_equal(programs: Sequence[Program], nudges: int, least: float, most: float, sample: int | None) -> None:
    """Compare every program with the truth: loss and first gradient. Those that differ are out before any timing."""
    truth = None
    order = sorted(programs, key=lambda each: TRUTH.index(each.label) if each.label in TRUTH else len(TRUTH))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gradient.npz"

        def first(each: Program, **nudge: int) -> tuple[float, dict] | None:
            loss = _try(each, "first", path=str(path), most=sample, **nudge)
            if loss is None:
                return None
            with np.load(path) as stored:
                return loss, {name: stored[name] for name in stored.files}

        for each in order:
            got = first(each)
            if got is None:
                continue
            if truth is None and each.label not in TRUTH:
                each.error = "Nothing to compare with: fnn's automatic gradients failed."
                continue
            if truth is None:
                truth = got
                nudged = [first(each, nudge=seed) for seed in range(nudges)]
                allowed = tolerances(truth, filter(None, nudged), least, most)
            errors = differences(got, truth)
            over = {name: error for name, error in errors.items() if not error <= allowed.get(name, 0.0)}  # or NaN
            errors.pop("loss")
            worst = max(over or errors, key=lambda name: errors.get(name, 0.0))
            each.found["gradient_error"] = max(errors.values())
            if "loss" in over:
                each.error = f"Disagrees: its loss is {got[0]:.6g}, not {truth[0]:.6g}."
            elif over:
                each.error = f"Disagrees: its gradient differs by {errors[worst]:.1e} at {worst}."


def _record(program: Program, reference: str | None) -> dict:
    head = {"library": program.library, "variant": program.variant}
    if program.error is not None:
        return head | {"error": program.error}
    found = {name: program.found[name] for name in KEPT if name in program.found}
    same = reference is not None and program.found.get("program") == reference
    return head | found | ({"same_program": True} if same else {})


def _line(program: Program) -> str:
    if program.error is not None:
        return program.error
    seconds, ratio = program.found["seconds"], program.found.get("ratio")
    text = f"{1e3 * seconds['median']:10.3f} ms"
    return text if ratio is None else f"{text}  {ratio['median']:7.2f} times {REFERENCE}"
