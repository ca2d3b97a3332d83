"""What each implementation, keeping and recomputation are worth in a whole network: the training step without it.

    python -m benchmarks.studies.ablation            some minutes; writes results/ablation.json
    python -m benchmarks.studies.ablation resnet20   prints one network

"without winograd" is the step of fnn by hand whose tables of convolutions lack the rows of that name: the next
row that fits is taken. "memory kept" is the step in a process that has called `fnn.train.keep_memory`. Each variant has
a process of its own, and its first step is compared like any other program's.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import fnn
from benchmarks.networks import NETWORKS, libraries, nodes
from benchmarks.networks.agree import NUDGES
from benchmarks.networks.zoo import asked
from benchmarks.report import tables
from benchmarks.report.about import loads
from benchmarks.studies.layers import choices, convolutions
from benchmarks.timing.machine import describe
from benchmarks.timing.measure import Program, measure
from benchmarks.timing.results import RESULTS, write
from benchmarks.timing.worker import Worker

NAMES = ("resnet20", "vgg", "mobilenet", "resnext", "vit")
WITHOUT = "hand, without "
KEPT, AGAIN = "keeping", "recomputation"
SWITCHES = {KEPT: "keep", AGAIN: "recompute"}
NORMS = (nodes.BatchNorm, nodes.LayerNorm)
MEMORY = "hand, memory kept"
_process = ExitStack()  # what holds until the process ends


def build(name: str, library: str, variant: str) -> object:
    """The program of a network in fnn, for `benchmarks.timing.worker`; changes fnn in this process."""
    if variant.startswith(WITHOUT):
        _remove(variant.removeprefix(WITHOUT))
        variant = "hand"
    return libraries.build(name, library, variant)


def _remove(part: str) -> None:
    """For the rest of this process."""
    if part in SWITCHES:
        _process.enter_context(fnn.storage(**{SWITCHES[part]: False}))
    else:
        fnn.rules()["conv"].remove(part)  # the tables are those of the transposed convolution, too


def parts(name: str) -> list[str]:
    """The implementations that the tables choose somewhere in a network's step, but for "direct"; the switches."""
    found = {}
    for i, convolution in enumerate(convolutions(name)):
        for product, form in choices(convolution).items():
            if i or product != "input_gradient":  # nobody needs the gradient of a network's input
                found[form] = None
    norms = any(isinstance(place.node, NORMS) for place in nodes.leaves(NETWORKS[name].places()))
    return [form for form in found if form != "direct"] + [KEPT] + [AGAIN] * norms


def records(names: Sequence[str]) -> Iterator[dict]:
    """One record a network, of the form that `measure` gives."""
    for name in names:
        print(NETWORKS[name].title)
        variants = ["hand", *(WITHOUT + part for part in parts(name)), MEMORY, "hand, defaults", "auto"]
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker("jax")) for _ in variants]
            programs = [Program("fnn", *each) for each in zip(variants, workers, strict=True)]
            record = measure("benchmarks.studies.ablation", name, programs, nudges=NUDGES)
        yield {"title": NETWORKS[name].title, **record}


def markdown(report: Mapping) -> str:
    """A table a network."""
    about = (
        "The step of fnn by hand without one of its parts, in a run of its own; above 1: what the part is worth. "
        '"without winograd" takes the next implementation that fits; "without keeping" leaves XLA free to compute '
        "activations, the indices of max pooling and depthwise gradients again in every operation that reads them; "
        '"without recomputation" keeps the outputs of norms, and of a relu behind them, for the backward pass; '
        '"defaults" is compiled without options. "memory kept" is the whole step in a process that has called '
        "`fnn.train.keep_memory`: below 1 is what page faults cost."
    )
    parts = [about]
    for record in report["subjects"]:
        parts += [f"### {record['title']}, in parts", f"Meanwhile: {loads(record)}.", tables.network(record)]
    return "\n\n".join(parts)


def main(words: list[str]) -> None:
    """Measure, print and, without words, write."""
    report = {"machine": describe(), "subjects": list(records(asked(words, NAMES)))}
    print(markdown(report))
    if not words:
        write(RESULTS / "ablation.json", report)


if __name__ == "__main__":
    main(sys.argv[1:])
