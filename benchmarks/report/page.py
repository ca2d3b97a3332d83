"""The report, its chart and the README's table, from the JSON files in `benchmarks/results/`."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from benchmarks.report import aims, chart, tables
from benchmarks.timing import rounds
from benchmarks.timing.machine import COPIED, DISTURBED, RESULTS, copied

README = Path(__file__).parents[2] / "README.md"
OTHERS = {
    "profile": "Where the time of a step goes",
    "ablation": "What each part is worth",
    "layers": "Where the time of convolutions goes",
    "residuals": "Memory kept for the backward pass",
    "loops": "In loops and under vmap",
    "sharding": "Sharded batches",
    "startup": "Import, calls and compiling",
}
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"

HOW = f"""\
Every program trains the same network from the same weights on the same batch, in float32, with SGD and momentum.
Before anything is timed, its loss and its first gradient must be those of the plain formulas under `jax.grad`; a
program that differs is not timed. Each program lives in a process of its own, as in training; only one computes at a
time. In every round each takes one turn of about {rounds.TURN_SECONDS:g} seconds, in an order drawn anew, after a step
that warms the caches (but for programs of over {rounds.SLOW_SECONDS:g} seconds a step); inputs are on the device and
results are fetched. The time of a step is the median over turns. A ratio divides two times of the same round and is
above 1 where fnn by hand is faster; "tie" means that its quartiles enclose 1, "slower" that they lie below. A program
whose step takes long has fewer turns. Compile time includes tracing; each of JAX's processes has compiled something
small before. Before every round, one thread copies {COPIED >> 20} MiB: on a virtual machine others may take memory's
bandwidth unseen. Temporary memory is what the compiler plans beside state and batch (PyTorch does not tell). fnn has no
attention layer yet: its ViT has one written from its dense layers, which projects queries, keys and values at once.

"defaults": the library as installed, compiled without options. "options": compiled with those that
`fnn.train.compiler_options` gives this very program. fnn's "hand" and "auto" have these options too, unless they say
"defaults"; "memory kept": in a process that has called `fnn.train.keep_memory`."""

AIMS = """\
What fnn wants to reach on two cores, against the fastest of JAX's peers at its defaults and the fastest of PyTorch's
variants; bold is missed. Hand-written gradients should also be faster than fnn's own automatic ones, need less
temporary memory (no more, where there is neither pooling nor a norm), and compile no longer than the JAX peer at its
defaults that compiles fastest. Below, "Where the time of a step goes" and "What each part is worth" take apart steps
that miss an aim, and "Where the time of convolutions goes" times each convolution in every formulation, beside a matrix
product of as many multiply-adds: what a step of nothing but convolutions would take in pure JAX. What would go below it
are compiled kernels, which need not copy patches for a matrix product, nor store what lies between a convolution, its
norm and its activation. Compiling takes longer because a formulation is several operations where XLA's own convolution
is one, and XLA generates code for each of them, even where a layer repeats another; the last column has the steps after
which faster steps have repaid it, against the JAX peer whose steps are fastest."""


def load(name: str, folder: Path = RESULTS) -> dict | None:
    """A file of results, or None while nobody has measured it."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def machine(report: Mapping) -> str:
    """One sentence: versions, processor and date."""
    about = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    return f"{about['cores']} cores of {about['processor']}, Python {about['python']}, {versions}; {dated(about)}."


def dated(about: Mapping) -> str:
    """Date and commit of a measurement; a plus where files had changed after the commit.

    >>> dated({"date": "2026-01-31", "fnn": "0123abc+"})
    '2026-01-31, fnn at commit 0123abc+'
    """
    return about["date"] + (f", fnn at commit {about['fnn']}" if about.get("fnn") else "")


def loads(record: Mapping) -> str:
    """What else the machine did: load over the last minute, share of other processes, quartiles of copying memory."""
    before, after = (record[when][0] if record[when] else "unknown" for when in ("load_before", "load_after"))
    text, share = f"load {before} before, {after} after", record.get("others_share")
    if share is not None:
        text += f"; other processes took {share:.0%} of the cores"
    if record.get("copy_gib_per_second"):
        text += "; " + copied(record["copy_gib_per_second"])
    return f"**Disturbed:** {text}" if (share or 0.0) > DISTURBED else text


def network_sections(report: Mapping) -> list[str]:
    """Summary and details of the training steps."""
    records = report["subjects"]
    parts = ["## Training steps", HOW, machine(report), "![Time of a training step](networks.svg)", summary(report)]
    parts += ["### Aims", AIMS, aims.markdown(records)]
    for record in records:
        parts.append(f"### {record['title']}\n\nBatch {'x'.join(map(str, record['input']))}; {loads(record)}.")
        parts.append(tables.network(record))
    return parts


def elsewhere(folder: Path) -> list[str]:
    """The training steps on other processors: networks.json as it was there, kept as networks-NAME.json."""
    parts = []
    for path in sorted(folder.glob("networks-*.json")):
        report = json.loads(path.read_text())
        parts += [f"## Training steps on {report['machine']['processor']}", machine(report), summary(report)]
    return parts


def operation_sections(report: Mapping) -> list[str]:
    """The table of operations, and its losses in a sentence."""
    records = report["subjects"]
    found = tables.tally(records, "fnn", "auto")
    counts = f"By hand against auto: {len(found['faster'])} faster, {len(found['tie'])} ties, "
    counts += f"{len(found['same'])} the same compiled program, whose ratios show the noise of measuring, "
    slower = ", ".join(found["slower"])
    counts += f"{len(found['slower'])} slower" + (f" ({slower})." if slower else ".")
    about = (
        "Output and gradients of all arguments, float32; measured as the training steps are, but in shorter turns, in "
        "one process for JAX and one for PyTorch, in which the C library keeps freed memory for the next call: within "
        "a step, too, an operation writes into memory in use. The three columns after the time are ratios to it: of "
        "fnn's automatic gradients compiled with the same options, of the same without options, and of PyTorch, the "
        "best of contiguous, channels last and compiled. The last four are of the same computation in the body of a "
        "loop (`lax.scan`, `while_loop`) and in a branch of `lax.cond`: by hand over the same outside, and "
        "automatic over by hand there. A loop copies what enters and leaves it, which fast operations feel."
    )
    parts = ["## Operations", about, machine(report), counts, tables.operations(records)]
    slow = ", ".join(tables.slowed(records))
    parts.append(f"More than {tables.SLOWED:g} times as long by hand inside as outside: {slow or 'none'}.")
    lines = tables.failures(records)
    told = {line.replace("contiguous", "compiled") for line in lines if "contiguous" in line}
    failures = [line for line in lines if "channels last" not in line and line not in told]
    disturbed = [record["name"] for record in records if (record.get("others_share") or 0.0) > DISTURBED]
    if disturbed:
        parts.append(f"**Disturbed** by other processes, which took over {DISTURBED:.0%}: {', '.join(disturbed)}.")
    return [*parts, "Not timed:\n\n" + "\n".join(f"- {line}" for line in failures)] if failures else parts


def summary(report: Mapping) -> str:
    """The table of networks."""
    return tables.summary(report["subjects"])


def readme(report: Mapping) -> str:
    """What stands between the markers in README."""
    note = (
        "Milliseconds of a training step with hand-written gradients, and the time of others over it: above 1 fnn by "
        f"hand is faster. Medians of up to {rounds.ROUNDS} interleaved rounds; {machine(report)}"
    )
    return f"{BEGIN}\n{summary(report)}\n\n{note}\n{END}"


def between_markers(text: str, block: str) -> str | None:
    """The text with the part between the markers replaced; None if it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + block + after if begin and end else None


def other_section(name: str, title: str, folder: Path = RESULTS) -> list[str]:
    """What another module of this package measured, as it renders it itself."""
    report = load(name, folder)
    if report is None:
        return []
    try:
        text = import_module(f"benchmarks.studies.{name}").markdown(report).strip()
    except KeyError:
        text = f"The numbers are of an older form: run `python -m benchmarks.studies.{name}` again."
    return [f"## {title}", f"Measured {dated(report['machine'])}.", text]


def markdown(folder: Path = RESULTS) -> str:
    """The whole report."""
    parts = ["# How fast is it?"]
    for name, sections in (("networks", network_sections), ("operations", operation_sections)):
        report = load(name, folder)
        parts += sections(report) if report is not None else []
    parts += elsewhere(folder)
    for name, title in OTHERS.items():
        parts += other_section(name, title, folder)
    return "\n\n".join(parts) + "\n"


def write(folder: Path = RESULTS, page: Path | None = README) -> None:
    """Write report.md and networks.svg into the folder and the table into the page."""
    (folder / "report.md").write_text(markdown(folder))
    networks = load("networks", folder)
    if networks is None:
        return
    chart.draw(networks["subjects"], folder / "networks.svg")
    if page is not None:
        text = between_markers(page.read_text(), readme(networks))
        if text is None:
            print(f"{page.name} has no lines {BEGIN} and {END}; its table was not written")
        else:
            page.write_text(text)
