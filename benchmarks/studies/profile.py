"""Where a training step's time goes: the operations of the compiled program by kind, as JAX's profiler counts them.

    python -m benchmarks.studies.profile            a minute; writes results/profile.json, which the report then shows
    python -m benchmarks.studies.profile resnet20   prints one network

XLA hands convolutions, and part of other operations, to threads that it does not trace. What is left of the step when
all that is traced is subtracted is therefore mostly convolutions. Operations that run at once share the time.
"""

import gzip
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.networks import NETWORKS, libraries
from benchmarks.networks.zoo import asked
from benchmarks.report import tables
from benchmarks.timing.machine import describe
from benchmarks.timing.results import RESULTS, write

NAMES = ("mlp", "lenet5", "resnet20", "vgg", "mobilenet", "resnext", "autoencoder", "vit")
WARM, STEPS = 3, 10
PRODUCTS, SUMS, COPIES, ELEMENTWISE = KINDS = ("matrix products", "sums", "copies", "other elementwise operations")
LEFT = "left: convolutions, untraced threads"

RUN_OTHERS = {"while", "call", "conditional"}
UNTRACED = {"convolution", "custom-call"}  # these are LEFT
MOVE = {"bitcast", "broadcast", "concatenate", "copy", "dynamic-slice", "dynamic-update-slice", "pad", "reshape"}
MOVE |= {"reverse", "slice", "transpose"}
FREE = {"constant", "get-tuple-element", "iota", "parameter", "tuple"}
COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.\-]+) \(")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (?:\(.*?\)|\S+) ([\w\-]+)\(")
CALLED = re.compile(r"calls=%([\w.\-]+)")


def kinds(program: str) -> dict[str, str]:
    """The kind of each instruction by its name; those that run others, convolutions and foreign code have none.

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
    own = {name: (opcode, called) for name, (opcode, called) in found.items() if opcode not in RUN_OTHERS | FREE}
    opcodes = {name: (inside[called] if called else {opcode}) - FREE for name, (opcode, called) in own.items()}
    return {name: _kind(codes) for name, codes in opcodes.items() if not codes & UNTRACED}


def _kind(opcodes: set[str]) -> str:
    if "dot" in opcodes:
        return PRODUCTS
    if opcodes & {"reduce", "reduce-window"}:
        return SUMS
    return COPIES if opcodes <= MOVE else ELEMENTWISE


def totals(events: Iterable[Mapping], kind_of: Mapping[str, str]) -> dict[str, float]:
    """Seconds by kind; where several run at once, each has its share of the time.

    >>> event = {"ph": "X", "name": "a", "ts": 0, "dur": 4e6}
    >>> totals([event, event | {"ts": 2e6}, {"ph": "M", "name": "a"}], {"a": "sums"})["sums"]
    6.0
    """
    seconds, running, before = dict.fromkeys(KINDS, 0.0), Counter(), 0.0
    spans = [e for e in events if e.get("ph") == "X" and e["name"] in kind_of]
    marks = [(e["ts"] + end * e["dur"], 1 - 2 * end, kind_of[e["name"]]) for e in spans for end in (0, 1)]
    for now, change, kind in sorted(marks):
        for each, count in running.items():
            seconds[each] += 1e-6 * (now - before) * count / (running.total() or 1)
        running[kind] += change
        before = now
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
        f"Milliseconds of a step of fnn by hand, from JAX's profiler, averages of {STEPS} steps in a row. Operations "
        "that run at once share the time. XLA computes convolutions, and part of the other operations, on threads that "
        "it does not trace: what is left is mostly convolutions."
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
    report = {"machine": describe(), "subjects": list(records(asked(words, NAMES)))}
    print(markdown(report))
    if not words:
        write(RESULTS / "profile.json", report)


if __name__ == "__main__":
    main(sys.argv[1:])
