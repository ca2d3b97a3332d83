"""The command `fnn-check`, or `python -m fnn.check`: are the backward rules right, or the gradients of a model?

    fnn-check                                  every registered rule
    fnn-check --quick --rule conv,dense        two cases a rule, and the checks that compile least
    fnn-check --import mine                    the rules that mine.py registers
    fnn-check --model nets:classifier          a model that `classifier()` in nets.py returns with its batch and loss
    fnn-check --model nets:model --shape 8,28,28,1    a Layer, on a random batch with random classes

Exit status: 0 all is right, 1 something is wrong, 2 something could not be checked or nothing could be said, and the
last line tells why.
"""

import argparse
import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TextIO

import jax

from fnn.check.command.model import check_model, imported
from fnn.check.report import Outcome, Suite, word_of
from fnn.check.rule.examine import CHECKS
from fnn.check.rule.vjp import DTYPES, QUICK_CASES, check_rule
from fnn.check.tolerance import allowed
from fnn.core.errors import InputError, require
from fnn.core.rule import rules
from fnn.inspect.table import table

RIGHT, WRONG, UNUSABLE = 0, 1, 2
_MOST_WORKERS = 2  # by default; each takes about a gigabyte
_MOST_SEED = 2**32  # further, two seeds are one to JAX


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
      argv: the words after the program's name; those of the process by default.

    Returns:
      The exit status: 0 right, 1 wrong, 2 not checked, or unusable input or output.

    Raises:
      SystemExit: words that the parser does not understand (status 2), or `--help` (status 0).
    """
    outcome: Outcome
    options = _parser().parse_args(argv)
    two_devices()
    folder = os.getcwd()
    sys.path.insert(0, folder)  # for `--model` and `--import`; a console script lacks it
    try:
        _refuse_options(options)
        own = _import(options.modules)
        if options.modules and not (options.rule or options.model or options.list):
            fix = "name those to whose tables it adds rows: --rule conv"
            require(bool(own), "--import", "modules that register rules", ", ".join(options.modules), fix)
            options.rule = own
        if options.list:
            print(_listing(options.rule or list(rules())))
            return RIGHT
        if options.model:
            outcome = check_model(options.model, options.shape, options.dtype, options.seed, options.tolerance)
        else:
            outcome = _check_rules(options)
    except InputError as error:
        return _refuse(error)
    except BrokenProcessPool:
        return _refuse("a worker died, out of memory perhaps; --workers 1 needs least")
    except KeyboardInterrupt:
        return _refuse("interrupted")
    finally:
        sys.path.remove(folder)
    return _print(outcome, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fnn-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rule", action="extend", type=_names, metavar="NAME,...", help="rules to check; default: all")
    what.add_argument(
        "--model",
        metavar="MODULE:NAME",
        help="a Layer, or a function without arguments that returns one or (layer, params, state, batch, loss)",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        action="extend",
        type=_names,
        default=[],
        metavar="MODULE,...",
        help="import first what registers rules; without --rule these are checked",
    )
    parser.add_argument("--list", action="store_true", help="name the rules, their cases and the checks, and stop")
    parser.add_argument("--shape", type=_sizes, metavar="N,...", help="of the random batch for a Layer: 8,28,28,1")
    parser.add_argument("--dtype", choices=DTYPES, help="of the arguments; default: float32, or as the model has them")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (default 0)")
    parser.add_argument(
        "--tolerance", type=float, metavar="X", help="relative error allowed beyond rounding (default 0)"
    )
    parser.add_argument("--skip", action="extend", type=_names, metavar="CHECK,...", help="checks to leave out")
    parser.add_argument("--quick", action="store_true", help="two cases a rule, and the checks that compile least")
    parser.add_argument(
        "--workers", type=int, metavar="N", help=f"processes (default {_MOST_WORKERS} on a CPU, else 1)"
    )
    parser.add_argument("--json", metavar="PATH", help="write the whole report there; - is the standard output")
    return parser


def _names(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _sizes(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise argparse.ArgumentTypeError(f"sizes such as 8,28,28,1, not {text!r}")
    return tuple(map(int, words))


def _refuse_options(options: argparse.Namespace) -> None:
    """Refuse at once what would fail after minutes, and what would be ignored."""
    for_rules = {"--skip": options.skip, "--quick": options.quick, "--workers": options.workers is not None}
    idle = [name for name, given in for_rules.items() if given] if options.model else []
    require(not idle, "--model", "no options that are for rules", ", ".join(idle), "leave them out")
    ok = options.shape is None or options.model
    require(ok, "--shape", "--model MODULE:NAME beside it", "none", "name the model")
    ok = 0 <= options.seed < _MOST_SEED
    require(ok, "--seed", f"a number from 0 to {_MOST_SEED - 1}", options.seed, "choose another")
    allowed("--tolerance", options.tolerance)
    ok = options.workers is None or options.workers >= 1
    require(ok, "--workers", "1 or more", options.workers, "1 checks in this process")
    unknown = sorted(set(options.skip or ()) - set(CHECKS))
    require(not unknown, "--skip", f"checks among {', '.join(CHECKS)}", ", ".join(unknown), "choose from these")
    if options.json not in (None, "-"):
        require_writable(options.json)


def _check_rules(options: argparse.Namespace) -> Suite:
    names = list(dict.fromkeys(options.rule or rules()))
    start, parts = time.perf_counter(), {name: dict[int, Suite]() for name in names}
    counts = {name: _cases_of(name, options.quick) for name in names}
    calls = [(name, i) for name, count in counts.items() for i in range(count)]
    how = {"skip": tuple(options.skip or ()), "dtype": options.dtype or "float32"}
    how |= {"seed": options.seed, "quick": options.quick, "tolerance": options.tolerance}
    show, suites = _Progress(sys.stderr, len(names), len(calls)), {}
    for name, i, suite in _run(calls, how, options.workers or _workers(), options.modules):
        parts[name][i] = suite
        if len(parts[name]) == counts[name]:
            ordered = [parts[name][k] for k in range(counts[name])]
            reports = tuple(report for part in ordered for report in part.reports)
            remarks = tuple(line for line in ordered[0].remarks if all(line in part.remarks for part in ordered))
            suites[name] = Suite(name, reports, sum(part.seconds for part in ordered), remarks)
            show.rule_ends(suites[name])
        show.call_ends()
    return Suite(
        "all rules" if not options.rule else "rules", tuple(suites[name] for name in names), time.perf_counter() - start
    )


def _cases_of(name: str, quick: bool) -> int:
    known = rules()
    require(name in known, "--rule", f"rules among {', '.join(sorted(known))}", name, "choose from these")
    return min(len(known[name].cases), QUICK_CASES) if quick else len(known[name].cases)


def _run(
    calls: list[tuple[str, int]], how: dict[str, Any], workers: int, modules: Sequence[str]
) -> Iterator[tuple[str, int, Suite]]:
    """Check one case of a rule after the other, or several at a time: cases, for some rules take ten times longer."""
    if min(workers, len(calls)) == 1:
        yield from (_check_call(call, how, modules) for call in calls)
        return
    context = multiprocessing.get_context("spawn")  # JAX has threads, and does not survive a fork
    pool = futures.ProcessPoolExecutor(min(workers, len(calls)), context, _start_worker)
    try:
        for done in futures.as_completed([pool.submit(_check_call, call, how, modules) for call in calls]):
            yield done.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()


def _check_call(call: tuple[str, int], how: dict[str, Any], modules: Sequence[str]) -> tuple[str, int, Suite]:
    _import(modules)  # in a worker; here they are imported
    name, i = call
    return name, i, check_rule(name, cases=[i], **how)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells what an interrupt means
    two_devices()


def _import(modules: Sequence[str]) -> list[str]:
    """Import the modules, what they print going to standard error; the names of the rules that they register."""
    old = rules()
    with contextlib.redirect_stdout(sys.stderr):
        for module in modules:
            imported("--import", module)
    return [name for name in rules() if name not in old]


def two_devices() -> None:
    """Give JAX a second host device, without which `shard_map` cannot be checked, unless it is too late."""
    try:
        jax.config.update("jax_num_cpu_devices", 2)
    except RuntimeError:
        return


def _workers() -> int:
    """An accelerator serves one process; a CPU as many as have room."""
    return min(_MOST_WORKERS, os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1


def _listing(names: Sequence[str]) -> str:
    rows = [[name, str(_cases_of(name, False))] for name in names]
    total = str(sum(int(count) for _, count in rows))
    return table(["rule", "cases"], rows, ["total", total]) + f"\n\nchecks: {', '.join(CHECKS)}"


class _Progress:
    """One line a rule; in a terminal one more below them, which counts."""

    def __init__(self, out: TextIO, names: int, calls: int):
        self.out, self.live, self.names, self.calls = out, out.isatty(), names, calls
        self.rules = self.done = 0
        self.start = time.perf_counter()

    def rule_ends(self, suite: Suite) -> None:
        """Print its line."""
        self.rules += 1
        count = sum(f.verdict in ("pass", "FAIL") for report in suite.flat() for f in report.findings)
        numbers = f"{len(suite.flat()):>3} cases {count:>5} checks {suite.seconds:>6.1f} s"
        line = f"{suite.name:<28} {numbers}  {word_of(suite)}"
        print(f"{self._clear()}{line}", file=self.out, flush=True)

    def call_ends(self) -> None:
        """Count one call, in a terminal."""
        self.done += 1
        if self.live:
            seconds = time.perf_counter() - self.start
            text = f"{self.rules} of {self.names} rules, {self.done} of {self.calls} calls, {seconds:.0f} s"
            print(f"{self._clear()}{text if self.done < self.calls else ''}", end="", file=self.out, flush=True)

    def _clear(self) -> str:
        return "\r\x1b[K" if self.live else ""


def _print(outcome: Outcome, path: str | None) -> int:
    """Print the outcome, or its JSON; write that if asked; the exit status."""
    try:
        print(outcome.to_json() if path == "-" else outcome, flush=True)
        if path not in (None, "-"):
            Path(path).write_text(outcome.to_json() + "\n")
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _refuse(f"--json {path}: {error.strerror}; the report there is not whole")
    return {"right": RIGHT, "wrong": WRONG}.get(outcome.verdict, UNUSABLE)


def require_writable(path: str) -> None:
    """Refuse a path that no report can be written to, before the work that leads to one."""
    folder = os.path.dirname(os.path.abspath(path))
    ok = bool(path) and os.path.isdir(folder) and not os.path.isdir(path)
    require(ok, "--json", "the path of a file in a folder that exists", path, "choose another")


def _refuse(why: object) -> int:
    print(f"fnn-check: {why}", file=sys.stderr)
    return UNUSABLE
