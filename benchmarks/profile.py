"""Where a training step's time goes: the operations of the compiled program by kind, as JAX's profiler counts them.

    python -m benchmarks.profile            a minute; writes results/profile.json, which the report then shows
    python -m benchmarks.profile resnet20   prints one network

XLA hands convolutions to other threads, and its trace does not say how long those take: they are what is left of the
step when all other operations are subtracted.
"""

import gzip
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import tables
from benchmarks.machine import RESULTS, describe
from benchmarks.networks import NETWORKS, libraries

NAMES = ("resnet20", "vgg", "mobilenet", "resnext")
WARM, STEPS = 3, 10
PRODUCTS, SUMS, COPIES, ELEMENTWISE = KINDS = ("matrix products", "sums", "copies", "other elementwise operations")
LEFT = "convolutions"

RUN_OTHERS = {"while", "call", "conditional", "convolution"}  # convolutions are LEFT
MOVE = {"bitcast", "broadcast", "concatenate", "copy", "dynamic-slice", "dynamic-update-slice", "pad", "reshape"}
MOVE |= {"reverse", "slice", "transpose"}
FREE = {"constant", "get-tuple-element", "iota", "parameter", "tuple"}
COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.\-]+) \(")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (?:\(.*?\)|\S+) ([\w\-]+)\(")
CALLED = re.compile(r"calls=%([\w.\-]+)")


def kinds(program: str) -> dict[str, str]:
    """The kind of each instruction by its name; those that run others, and convolutions, have none.

    Args:
      program: optimised HLO as text.

    >>> kinds("ENTRY %main (x: f32[2]) -> f32[2] {\\n  ROOT %y = f32[2]{0} negate(%x)\\n}")
    {'y': 'other elementwise operations'}
    """
    inside: dict[str, set[str]] = {}
    found: dict[str, tuple[str, str | None]] = {}
    for line in program.splitlines():
        if header := COMPUTATION.match(line):
            here = inside.setdefault(header[1], set())
        elif instruction := INSTRUCTION.match(line):
            called = CALLED.search(line)
            found[instruction[1]] = instruction[2], called and called[1]
            here.add(instruction[2])
    return {
        name: _kind((inside[called] if called else {opcode}) - FREE)
        for name, (opcode, called) in found.items()
        if opcode not in RUN_OTHERS | FREE
    }


def _kind(opcodes: set[str]) -> str:
    if "dot" in opcodes:
        return PRODUCTS
    if opcodes & {"reduce", "reduce-window"}:
        return SUMS
    return COPIES if opcodes <= MOVE else ELEMENTWISE


def totals(events: Iterable[Mapping], kind_of: Mapping[str, str]) -> dict[str, float]:
    """Seconds by kind.

    >>> totals([{"ph": "X", "name": "a", "dur": 5e5}, {"ph": "M", "name": "a"}], {"a": "sums"})["sums"]
    0.5
    """
    seconds = dict.fromkeys(KINDS, 0.0)
    for event in events:
        if event.get("ph") == "X" and event["name"] in kind_of:
            seconds[kind_of[event["name"]]] += 1e-6 * event["dur"]
    return seconds


def record(name: str) -> dict:
    """Seconds of a step of fnn by hand, and of its operations by kind."""
    import jax

    program = libraries.build(name, "fnn", "hand")
    kind_of = kinds(program.hlo())
    program.run(WARM)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            step = program.run(STEPS) / STEPS
        (path,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    parts = {kind: seconds / STEPS for kind, seconds in totals(events, kind_of).items()}
    return {"name": name, "title": NETWORKS[name].title, "seconds": step, "parts": parts}


def records(names: Sequence[str]) -> Iterator[dict]:
    """One record a network."""
    for name in names:
        print(NETWORKS[name].title)
        yield record(name)


def markdown(report: Mapping) -> str:
    """A table of the networks."""
    about = (
        f"Milliseconds of a step of fnn by hand, from JAX's profiler, averages of {STEPS} steps in a row. XLA computes "
        "convolutions on other threads and does not trace them: they are what is left."
    )
    rows = []
    for each in report["subjects"]:
        parts = [each["parts"][kind] for kind in KINDS]
        rows.append(
            [each["title"], *(f"{1e3 * s:.1f}" for s in (each["seconds"], *parts, each["seconds"] - sum(parts)))]
        )
    return f"{about}\n\n{tables.table(['network', 'step', *KINDS, LEFT], rows)}"


def main(words: list[str]) -> None:
    """Measure, print and, without words, write."""
    report = {"machine": describe(), "subjects": list(records(words or NAMES))}
    print(markdown(report))
    if not words:
        (RESULTS / "profile.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
