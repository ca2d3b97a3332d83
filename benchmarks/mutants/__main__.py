"""`python -m benchmarks.mutants`: the share of broken rules that each checker catches, and its false alarms."""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import fnn
from benchmarks.mutants.catalogue import mutants
from benchmarks.mutants.rivals import CHECKERS
from benchmarks.mutants.suite import OURS, Outcome, correct_names, run, to_dict
from benchmarks.mutants.table import false_alarms, missed, real, text
from benchmarks.report.mutants import condense
from benchmarks.timing.results import RESULTS, write
from fnn.check.command.main import require_writable
from fnn.core.errors import InputError, require
from fnn.core.rule import rules


def main(argv: Sequence[str] | None = None) -> int:
    """Run the mutants and print the table.

    Args:
      argv: the command line's words after the program's name; those of the process by default.

    Returns:
      0 if fnn.check caught every bug and accused nothing correct, else 1.

    Raises:
      InputError: an unknown rule or kind.
    """
    options = _parser().parse_args(argv)
    found = mutants()
    chosen = _chosen("--rules", options.rules, list(rules()))
    kinds = _chosen("--kinds", options.kinds, sorted({m.kind for m in found.values()}))
    names = [n for n, m in found.items() if m.rule in chosen and m.kind in kinds]
    correct = [] if options.kinds or options.no_correct else correct_names(chosen if options.rules else None)
    checkers = [OURS] if options.no_rivals else list(CHECKERS)
    require(options.workers >= 1, "--workers", "1 or more", options.workers, "1 runs in this process")
    if options.json:
        require_writable(options.json)
    start = time.perf_counter()

    def progress(done: int, total: int, outcome: Outcome) -> None:
        quiet = bool(outcome.said[OURS]) != (outcome.kind == "correct" or bool(outcome.equivalent))
        mark = "" if quiet else "  <-- fnn.check"
        print(
            f"[{done}/{total}, {time.perf_counter() - start:.0f} s] {outcome.name}{mark}", file=sys.stderr, flush=True
        )

    outcomes = run(names, correct, checkers, options.workers, progress)
    seconds = time.perf_counter() - start
    print(text(outcomes, checkers))
    wrong = len(missed(outcomes)) + len(false_alarms(outcomes))
    counts = f"{len(real(outcomes))} bugs and {len(correct)} correct calls in {seconds:.0f} s"
    print(f"\n{counts}: {wrong} mistakes of fnn.check")
    report = {"checkers": checkers, "versions": _versions(), "outcomes": [to_dict(o) for o in outcomes]}
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=0) + "\n")
    if options.write:
        write(RESULTS / "mutants.json", condense(report))
    return int(wrong > 0)


def _versions() -> dict[str, str]:
    """Of what was compared, where it is installed."""
    names = ("jax", "jaxlib", "torch")
    return {"fnn": fnn.__version__} | {n: version(n) for n in names if importlib.util.find_spec(n) is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--rules", help="comma-separated; all by default")
    parser.add_argument("--kinds", help="comma-separated kinds of bugs; all by default, and the correct calls")
    parser.add_argument("--no-rivals", action="store_true", help="fnn.check alone")
    parser.add_argument("--no-correct", action="store_true", help="leave out the correct calls")
    parser.add_argument("--json", metavar="PATH", help="write all outcomes there")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/mutants.json, for the report")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    return parser


def _chosen(option: str, words: str | None, known: list[str]) -> list[str]:
    chosen = known if words is None else words.split(",")
    unknown = sorted(set(chosen) - set(known))
    require(not unknown, f"python -m benchmarks.mutants {option}", f"names among {known}", unknown, "choose from these")
    return chosen


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
