"""Run the checkers over mutants and over correct calls, in several processes, and collect what each said."""

import dataclasses
import functools
import multiprocessing
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import jax

from benchmarks.mutants.catalogue import mutants
from benchmarks.mutants.correct import correct_calls
from benchmarks.mutants.differ import differs
from benchmarks.mutants.mutant import Mutant
from benchmarks.mutants.rivals import CHECKERS, Call, call_of, calls_of
from fnn.check.command.main import two_devices
from fnn.check.finding import first_line
from fnn.core.rule import rules

# Programs of broken rules are never needed again, and thousands of them would fill the memory.
_CLEAR_EVERY = 10
OURS = "fnn.check"
_SHORT = 80


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the checkers said of one mutant, or of one correct call.

    Attributes:
      name, rule, kind, what: of the mutant; kind is "correct" for a correct call.
      said: by checker: the complaint, "" for none.
      case: by checker: the case in which it complained.
      equivalent: why the mutant is no bug, if it is none.
      differs: of a mutant that nothing caught: where it differs from its rule, measured.
      seconds: by checker.
    """

    name: str
    rule: str
    kind: str
    what: str
    said: dict[str, str]
    case: dict[str, int] = dataclasses.field(default_factory=dict)
    equivalent: str = ""
    differs: str = ""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def run_mutant(name: str, checkers: Sequence[str]) -> Outcome:
    """One mutant through some checkers, each until it complains; cases where it accuses the right rule do not count."""
    mutant = mutants()[name]
    rule = rules()[mutant.rule]
    said, case, seconds = {}, {}, {}
    for checker in checkers:
        start = time.perf_counter()
        said[checker] = ""
        for i, call in calls_of(mutant, rule):
            if checker != OURS and _false_alarm(checker, mutant.rule, i):
                continue
            said[checker] = _ask(checker, call)
            if said[checker]:
                case[checker] = i
                break
        seconds[checker] = round(time.perf_counter() - start, 3)
    unseen = OURS in said and not said[OURS]
    where = _measured(mutant) if unseen else ""
    return Outcome(name, mutant.rule, mutant.kind, mutant.what, said, case, mutant.equivalent, where, seconds)


def _measured(mutant: Mutant) -> str:
    """Where an unseen mutant differs from its rule."""
    try:
        # In half precision two forms of one formula round differently.
        return differs(mutant, ("float64", "float32")) if mutant.equivalent else differs(mutant)
    except Exception as error:
        return f"cannot be measured: {first_line(error)}"


def run_correct(name: str, checkers: Sequence[str]) -> Outcome:
    """One correct call through some checkers."""
    call = _correct()[name]
    said, seconds = {}, {}
    for checker in checkers:
        start = time.perf_counter()
        said[checker] = _ask(checker, call)
        seconds[checker] = round(time.perf_counter() - start, 3)
    return Outcome(name, name.split(",")[0], "correct", "", said, seconds=seconds)


def run(
    names: Sequence[str],
    correct: Sequence[str],
    checkers: Sequence[str],
    workers: int,
    progress: Callable[[int, int, Outcome], None],
) -> list[Outcome]:
    """All of these mutants and correct calls, the outcomes in this order.

    Args:
      names, correct: of mutants and of correct calls.
      checkers: keys of `CHECKERS`.
      workers: processes; 1 runs here.
      progress: called with (how many are done, of how many, the last outcome).
    """
    tasks = [(run_mutant, n) for n in names] + [(run_correct, n) for n in correct]
    found: dict[int, Outcome] = {}
    if workers == 1:
        for k, (function, name) in enumerate(tasks):
            found[k] = _quietly(function, name, checkers)
            progress(len(found), len(tasks), found[k])
    else:
        context = multiprocessing.get_context("spawn")  # a forked JAX hangs
        with ProcessPoolExecutor(workers, context) as pool:
            futures = {pool.submit(_quietly, function, name, checkers): k for k, (function, name) in enumerate(tasks)}
            for future in as_completed(futures):
                k = futures[future]
                found[k] = future.result()
                progress(len(found), len(tasks), found[k])
    return [found[k] for k in range(len(tasks))]


_done = 0


def _quietly(function: Callable, name: str, checkers: Sequence[str]) -> Outcome:
    global _done
    _done += 1
    if _done % _CLEAR_EVERY == 0:
        jax.clear_caches()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if _done == 1:
            two_devices()
        return function(name, checkers)


def _ask(checker: str, call: Call) -> str:
    try:
        return CHECKERS[checker](call)
    except Exception as error:  # a checker that breaks down is a complaint too, of right and of wrong code
        return f"raises {type(error).__name__}: {error}"[:200]


@functools.cache
def _false_alarm(checker: str, rule: str, i: int) -> bool:
    return bool(_ask(checker, call_of(rules()[rule], i, rules()[rule].cases[i], rules()[rule])))


@functools.cache
def _correct() -> dict[str, Call]:
    return {call.name: call for call in correct_calls()}


def correct_names(chosen: Sequence[str] | None = None) -> list[str]:
    """Names of the correct calls, of some rules (and no users' functions) or of all."""
    return [n for n in _correct() if chosen is None or n.split(",")[0] in chosen]


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """Plain data, for JSON: complaints cut short, what is empty left out."""
    short = {checker: words[:_SHORT] for checker, words in outcome.said.items()}
    fields = dataclasses.asdict(outcome) | {"said": short}
    return {name: value for name, value in fields.items() if name == "what" or (value and name != "seconds")}
