"""Training steps and operations of fnn against other libraries.

    python -m benchmarks                       about an hour; writes benchmarks/results/, README's and docs' tables
    python -m benchmarks --quick               about five minutes: the small networks, an operation of each kind,
                                               the peers at their defaults and eager PyTorch, in five rounds
    python -m benchmarks --only resnet20 conv  networks and operations whose name has one of these words

Only a run of all networks, or of all operations, replaces results; --quick and --only write to out/benchmarks/.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from benchmarks.networks import NETWORKS
from benchmarks.networks.agree import NUDGES
from benchmarks.operations.in_fnn import PLACES
from benchmarks.operations.zoo import OPERATIONS, QUICK
from benchmarks.report import page as report
from benchmarks.timing.machine import cores, describe
from benchmarks.timing.measure import Program, measure
from benchmarks.timing.results import RESULTS, write
from benchmarks.timing.worker import Worker

OUT = Path(__file__).parent.parent / "out" / "benchmarks"
# What to import for a library, and what to install.
PACKAGES = {
    "stax": ("jax", "jax"),
    "flax.nnx": ("flax", "flax"),
    "equinox": ("equinox", "equinox"),
    "haiku": ("haiku", "dm-haiku"),
    "torch": ("torch", "torch"),
}
PEERS = [library for library in PACKAGES if library != "torch"]
FNN = ("hand", "auto", "auto, defaults", "hand, defaults", "hand, memory kept", "hand, XLA alone")
TORCH = ("contiguous", "channels last", "compiled")
# The largest whose programs compile and run within a minute in all.
QUICK_NETWORKS = ("mlp", "lenet5", "mnist_cnn", "convnetjs")
QUICK_ROUNDS, QUICK_CAP = 5, 10.0
OPERATION_ROUNDS, OPERATION_CAP, OPERATION_TURN = 11, 1.5, 0.1  # most take milliseconds

Choices = list[tuple[str, str]]


def missing() -> list[str]:
    """Libraries to compare with that are not installed."""
    return [library for library, (module, _) in PACKAGES.items() if find_spec(module) is None]


def network_programs(quick: bool) -> Choices:
    """Libraries and variants of a training step."""
    if quick:
        return [("fnn", v) for v in FNN[:3]] + [(p, "defaults") for p in PEERS] + [("torch", v) for v in TORCH[:2]]
    jax = [("fnn", v) for v in FNN] + [(p, v) for v in ("defaults", "options") for p in PEERS]
    return jax + [("torch", v) for v in TORCH]


def operation_programs(quick: bool) -> Choices:
    """Libraries and variants of an operation."""
    if quick:
        return [("fnn", v) for v in FNN[:3]] + [("torch", v) for v in TORCH[:2]]
    inside = [("fnn", f"{mode}, {place}") for mode in FNN[:2] for place in PLACES]
    return [("fnn", v) for v in FNN[:3]] + inside + [("torch", v) for v in TORCH]


def run_networks(names: Sequence[str], choices: Choices, say: Callable[[str], None], **limits) -> Iterator[dict]:
    """Records of the networks; each program has a fresh process, as in training, and inherits nobody's memory."""
    for name in names:
        network = NETWORKS[name]
        say(f"{network.title}, batch {'x'.join(map(str, network.input))}")
        with ExitStack() as stack:
            workers = (Worker(*_words(library), kernels="XLA alone" not in variant) for library, variant in choices)
            programs = [Program(*choice, stack.enter_context(w)) for choice, w in zip(choices, workers, strict=True)]
            record = measure("benchmarks.networks.libraries", name, programs, nudges=NUDGES, say=say, **limits)
        yield {"title": network.title, "input": list(network.input), **record}


def run_operations(names: Sequence[str], choices: Choices, say: Callable[[str], None], **limits) -> Iterator[dict]:
    """Records of the operations: all of JAX's in one process, and PyTorch's in another.

    Both keep freed memory. An operation alone would else write into fresh pages, as it does not within a step, and be
    timed waiting for the operating system.
    """
    kinds = sorted({_words(library) for library, _ in choices}) if names else []
    with ExitStack() as stack:
        workers = {words: stack.enter_context(Worker(*words, keeps_memory=True)) for words in kinds}
        for name in names:
            say(name)
            programs = [Program(library, variant, workers[_words(library)]) for library, variant in choices]
            yield measure("benchmarks.operations.libraries", name, programs, say=say, **limits)
            for worker in workers.values():
                worker.ask("forget")


def _words(library: str) -> tuple[str, ...]:
    """What a worker for a library is told."""
    return ("torch", str(cores())) if library == "torch" else ("jax",)


def main(words: Sequence[str] | None = None) -> int:
    """The command; 1 if a program disagreed, or fnn itself failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about five minutes; see the module's text")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="names that contain one of these words")
    parser.add_argument("--networks", action="store_true", help="training steps only")
    parser.add_argument("--operations", action="store_true", help="operations only")
    parser.add_argument("--rounds", type=int, help="at most so many rounds")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args(words)
    absent = missing()
    for library in absent:
        print(
            f'{library} is left out: {PACKAGES[library][1]} is not installed; pip install -e ".[bench]" installs all.'
        )

    def wanted(names, quick):
        chosen = [name for name in names if not options.quick or name in quick]
        return [name for name in chosen if not options.only or any(word in name for word in options.only)]

    both = options.networks == options.operations
    start, complete = time.perf_counter(), not (options.quick or options.only or options.rounds)
    reports = {}
    if both or options.networks:
        choices = [choice for choice in network_programs(options.quick) if choice[0] not in absent]
        limits = {"most_rounds": QUICK_ROUNDS, "cap": QUICK_CAP} if options.quick else {}
        limits |= {"most_rounds": options.rounds} if options.rounds else {}
        reports["networks"] = (run_networks, wanted(NETWORKS, QUICK_NETWORKS), choices, limits)
    if both or options.operations:
        choices = [choice for choice in operation_programs(options.quick) if choice[0] not in absent]
        limits = {"most_rounds": QUICK_ROUNDS if options.quick else OPERATION_ROUNDS, "cap": OPERATION_CAP}
        limits["turn_seconds"] = OPERATION_TURN
        limits |= {"most_rounds": options.rounds} if options.rounds else {}
        reports["operations"] = (run_operations, wanted(OPERATIONS, QUICK), choices, limits)
    folder = RESULTS if complete else OUT
    status = 0
    for kind, (run, names, choices, limits) in reports.items():
        found = {"machine": describe(), "subjects": []}
        for record in run(names, choices, print, **limits):
            found["subjects"].append(record)
            if not options.no_write:
                save(OUT, kind, found)  # what a broken run leaves behind
        found["minutes"] = round((time.perf_counter() - start) / 60, 1)
        status |= wrong(found["subjects"])
        if names and not options.no_write:
            save(folder, kind, found)
    if not options.no_write:
        report.write(folder, report.ROOT if complete else None)
        print(f"{folder / 'report.md'}, after {(time.perf_counter() - start) / 60:.1f} minutes")
    return status


def save(folder: Path, kind: str, found: dict) -> None:
    """Write one file of results."""
    write(folder / f"{kind}.json", found)


def wrong(records: Sequence[dict]) -> int:
    """1 if fnn failed or any program disagreed: a rival that lacks a layer is no error, a wrong gradient is."""
    failed = [p for record in records for p in record["programs"] if "error" in p]
    return int(any(p["library"] == "fnn" or p["error"].startswith("Disagrees") for p in failed))


if __name__ == "__main__":
    raise SystemExit(main())
