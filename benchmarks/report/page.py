"""The pages of the report, and the tables of README and of the documentation, from the files of results."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from benchmarks.report import aims, chart, gpu, mutants, tables
from benchmarks.report.about import dated, loads, machine, place
from benchmarks.timing import rounds
from benchmarks.timing.machine import COPIED, DISTURBED
from benchmarks.timing.results import RESULTS, read

ROOT = Path(__file__).parents[2]
STUDIES = {
    "profile": "Where the time of a step goes",
    "ablation": "What each part is worth",
    "layers": "Where the time of convolutions goes",
    "residuals": "Memory kept for the backward pass",
    "loops": "In loops and under vmap",
    "sharding": "Sharded batches",
    "startup": "Import, calls and compiling",
}

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
"defaults"; "memory kept": in a process that has called `fnn.train.keep_memory`; "XLA alone": in one without compiled
kernels."""

AIMS = """\
What fnn wants to reach on two cores, against the fastest of JAX's peers at its defaults and the fastest of PyTorch's
variants; bold is missed. Hand-written gradients should also be faster than fnn's own automatic ones, need less
temporary memory (no more, where there is neither pooling nor a norm), and compile no longer than the JAX peer at its
defaults that compiles fastest. [Studies](studies.md) take apart steps that miss an aim, and time each convolution in
every implementation, beside a matrix product of as many multiply-adds: what a step of nothing but convolutions would
take in pure JAX. Compiling takes longer because an implementation is several operations where XLA's own convolution is
one, and XLA generates code for each of them, even where a layer repeats another; the first program with compiled
kernels of a fresh installation contains their handler's, too. The last column has the steps after which faster steps
have repaid it, against the JAX peer whose steps are fastest."""


def load(name: str, folder: Path = RESULTS) -> dict | None:
    """A file of results, or None while nobody has measured it."""
    path = folder / f"{name}.json"
    return read(path) if path.exists() else None


def folded(title: str, *parts: str) -> str:
    """Parts that a reader opens by a click on the title."""
    return "\n\n".join([f"<details><summary>{title}</summary>", *parts, "</details>"])


def networks_page(folder: Path = RESULTS) -> str | None:
    """Training steps: summary, aims, and the programs of each network."""
    report = load("networks", folder)
    if report is None:
        return None
    records = report["subjects"]
    parts = ["# Training steps", "More: [operations](operations.md), [studies](studies.md)."]
    parts += [HOW, machine(report), "![Time of a training step](networks.svg)", tables.summary(records)]
    parts += ["## Aims", AIMS, aims.markdown(records), "## Every program"]
    for record in records:
        about = f"Batch {'x'.join(map(str, record['input']))}; {loads(record)}."
        parts.append(folded(record["title"], about, tables.network(record)))
    return _page(parts + elsewhere(folder))


def elsewhere(folder: Path) -> list[str]:
    """The training steps on other processors: networks.json as it was there, kept as networks-NAME.json."""
    parts = []
    for path in sorted(folder.glob("networks-*.json")):
        report = read(path)
        parts += [f"## On {report['machine']['processor']}", machine(report), tables.summary(report["subjects"])]
    return parts


def operations_page(folder: Path = RESULTS) -> str | None:
    """The table of operations, and its losses in a sentence."""
    report = load("operations", folder)
    return None if report is None else _page(operation_sections(report))


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
    parts = ["# Operations", about, machine(report), counts, tables.operations(records)]
    slow = ", ".join(tables.slowed(records))
    parts.append(f"More than {tables.SLOWED:g} times as long by hand inside as outside: {slow or 'none'}.")
    lines = tables.failures(records)
    told = {line.replace("contiguous", "compiled") for line in lines if "contiguous" in line}
    failures = [line for line in lines if "channels last" not in line and line not in told]
    disturbed = [record["name"] for record in records if (record.get("others_share") or 0.0) > DISTURBED]
    if disturbed:
        parts.append(f"**Disturbed** by other processes, which took over {DISTURBED:.0%}: {', '.join(disturbed)}.")
    return [*parts, "Not timed:\n\n" + "\n".join(f"- {line}" for line in failures)] if failures else parts


def studies_page(folder: Path = RESULTS) -> str | None:
    """What each module of `benchmarks.studies` measured, as it renders it itself."""
    parts = ["# Studies"]
    for name, title in STUDIES.items():
        report = load(name, folder)
        if report is not None:
            text = import_module(f"benchmarks.studies.{name}").markdown(report).strip()
            parts += [f"## {title}", f"`python -m benchmarks.studies.{name}`, {dated(report['machine'])}.", text]
    return _page(parts) if parts[1:] else None


def _page(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


PAGES: dict[str, Callable[[Path], str | None]] = {
    "report.md": networks_page,
    "operations.md": operations_page,
    "studies.md": studies_page,
}


def pages(folder: Path = RESULTS) -> dict[str, str]:
    """By file name, what can be told from the results in a folder."""
    made = {name: make(folder) for name, make in PAGES.items()}
    found = {name: text for name, text in made.items() if text is not None}
    return found | {path.with_suffix(".md").name: gpu.page(read(path)) for path in sorted(folder.glob("gpu-*.json"))}


def blocks(folder: Path = RESULTS) -> dict[tuple[str, str], str]:
    """By page and name of a block, what README and the documentation show of the results."""
    found, networks, broken = {}, load("networks", folder), load("mutants", folder)
    if networks is not None:
        records = networks["subjects"]
        note = (
            "Milliseconds of a training step with hand-written gradients, and the time of others over it: above 1 fnn "
            f"by hand is faster. Medians of up to {rounds.ROUNDS} interleaved rounds; {machine(networks)}"
        )
        found["README.md", "speed"] = f"{tables.short(records)}\n\n{place(networks)}"
        found["docs/performance.md", "speed"] = f"{tables.summary(records)}\n\n{note}"
    if broken is not None:
        found["README.md", "truth"] = mutants.short(broken)
        found["docs/checking.md", "truth"] = mutants.markdown(broken)
    return found


def block(text: str, name: str) -> str | None:
    """What stands between the markers of a block; None without them.

    >>> block("<!-- speed -->\\n| 1 |\\n<!-- /speed -->", "speed")
    '| 1 |'
    """
    _, begin, rest = text.partition(f"<!-- {name} -->\n")
    inside, end, _ = rest.partition(f"\n<!-- /{name} -->")
    return inside if begin and end else None


def write(folder: Path = RESULTS, root: Path | None = ROOT) -> None:
    """Write the pages and networks.svg into the folder, and the blocks of README and the documentation under `root`."""
    for name, text in pages(folder).items():
        (folder / name).write_text(text)
    networks = load("networks", folder)
    if networks is not None:
        chart.draw(networks["subjects"], folder / "networks.svg")
    for (page, name), text in blocks(folder).items() if root is not None else ():
        path = root / page
        old = block(path.read_text(), name) if path.exists() else None
        if old is None:
            print(f"{page} has no lines <!-- {name} --> and <!-- /{name} -->; its table was not written")
        else:
            mark = f"<!-- {name} -->\n"
            path.write_text(path.read_text().replace(mark + old, mark + text))
