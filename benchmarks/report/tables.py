"""Tables of the report, from the records that `measure` makes. A ratio is a program's time over that of fnn by hand."""

from collections.abc import Iterable, Mapping, Sequence

JAX_PEERS = ("stax", "flax.nnx", "equinox", "haiku")
SHORT = {"flax.nnx": "nnx", "torch": "PyTorch"}
ABSENT = "-"
AUTO = (("fnn", "auto"), ("fnn", "auto, defaults"))
INSIDE = ("in a loop", "in a branch")
SLOWED = 1.3  # times: within it, a loop's copies of what enters and leaves it


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "|" + "|".join(cells) + "|" if cells[0] == "---" else f"| {' | '.join(cells)} |" for cells in lines
    )


def number(value: float) -> str:
    """Two decimals, or none from 100 on: files of results have four digits.

    >>> number(0.6249), number(12345.0)
    ('0.62', '12,345')
    """
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def verdict(ratio: Mapping[str, float]) -> str:
    """What quartiles of a ratio say of fnn by hand: "faster", "tie" where they enclose 1, or "slower".

    >>> verdict({"low": 0.97, "median": 1.01, "high": 1.04})
    'tie'
    """
    return "slower" if ratio["high"] < 1 else "faster" if ratio["low"] > 1 else "tie"


def marked(ratio: Mapping[str, float] | None) -> str:
    """A ratio with its verdict, unless that is "faster".

    >>> marked({"low": 0.6, "median": 0.62, "high": 0.7}), marked({"low": 2.0, "median": 2.5, "high": 3.0})
    ('**0.62 slower**', '2.50')
    """
    if ratio is None:
        return ABSENT
    word = verdict(ratio)
    text = number(ratio["median"])
    return {"slower": f"**{text} slower**", "tie": f"{text} tie", "faster": text}[word]


def milliseconds(program: Mapping | None) -> str:
    """The median time of a step."""
    return ABSENT if program is None else number(1e3 * program["seconds"]["median"])


def mebibytes(program: Mapping | None) -> str:
    """Temporary memory."""
    temporary = (program or {}).get("temp_bytes")
    return ABSENT if temporary is None else f"{temporary / 2**20:.1f}"


def find(record: Mapping, library: str, variant: str) -> Mapping | None:
    """A program that was timed, or None."""
    return best(record, [(library, variant)])


def best(record: Mapping, choices: Iterable[tuple[str, str]]) -> Mapping | None:
    """The fastest of some programs, by library and variant; None if none of them was timed."""
    choices = set(choices)
    timed = [p for p in record["programs"] if (p["library"], p["variant"]) in choices and "seconds" in p]
    return min(timed, key=lambda program: program["seconds"]["median"], default=None)


def best_of_torch(record: Mapping) -> Mapping | None:
    """PyTorch's fastest variant."""
    return best(record, [(p["library"], p["variant"]) for p in record["programs"] if p["library"] == "torch"])


def best_of_peers(record: Mapping) -> Mapping | None:
    """The fastest JAX peer at its defaults."""
    return best(record, [(library, "defaults") for library in JAX_PEERS])


def compiling(program: Mapping | None) -> float | None:
    """Seconds of tracing and compiling; None where neither is known.

    >>> compiling({"trace_seconds": 0.5, "compile_seconds": 1.0})
    1.5
    """
    parts = [(program or {}).get(name) for name in ("trace_seconds", "compile_seconds")]
    return None if parts == [None, None] else sum(part for part in parts if part is not None)


def against(program: Mapping | None, name: str | None) -> str:
    """A ratio and, in brackets, whose it is; of the very program that fnn by hand compiles to, it says so."""
    if program is None:
        return ABSENT
    ratio = program.get("ratio")
    if program.get("same_program") and ratio is not None:
        return f"{number(ratio['median'])} same program"
    return marked(ratio) + (f" ({name})" if name else "")


def name_of(program: Mapping | None) -> str | None:
    """The library for people."""
    return None if program is None else SHORT.get(program["library"], program["library"])


def summary(records: Iterable[Mapping]) -> str:
    """One row a network: fnn by hand against the best of each kind; of fnn's automatic forms the faster."""
    head = ["network", "fnn hand, ms", "XLA alone", "best fnn auto"]
    head += ["best JAX peer", "best with fnn's options", "best PyTorch"]
    rows = []
    for record in records:
        plain = best_of_peers(record)
        tuned = best(record, [(library, "options") for library in JAX_PEERS])
        torch = best_of_torch(record)
        rows.append(
            [
                record.get("title", record["name"]),
                milliseconds(find(record, "fnn", "hand")),
                against(find(record, "fnn", "hand, XLA alone"), None),
                against(best(record, AUTO), None),
                against(plain, name_of(plain)),
                against(tuned, name_of(tuned)),
                against(torch, torch and torch["variant"]),
            ]
        )
    return table(head, rows)


def short(records: Iterable[Mapping]) -> str:
    """One row a network, against fnn without the extra `cpu` and the best of three kinds."""
    head = ["network", "fnn, ms a step", "without `cpu`", "`jax.grad` in fnn", "best JAX peer", "best PyTorch"]
    rows = []
    for record in records:
        without = find(record, "fnn", "hand, XLA alone")
        rivals = (without, best(record, AUTO), best_of_peers(record), best_of_torch(record))
        own = milliseconds(find(record, "fnn", "hand"))
        rows.append([record.get("title", record["name"]), own, *(against(rival, None) for rival in rivals)])
    return table(head, rows)


def network(record: Mapping) -> str:
    """All programs of one network, failures included."""
    head = ["program", "step, ms", "times fnn hand (quartiles)", "turns", "compile, s", "temporary MiB"]
    rows = []
    for program in record["programs"]:
        label = f"{SHORT.get(program['library'], program['library'])}, {program['variant']}"
        if "seconds" not in program:
            rows.append([label, program.get("error", "not measured").replace("|", "\\|"), *[ABSENT] * 4])
            continue
        rows.append(
            [
                label,
                milliseconds(program),
                _spread(program.get("ratio"), program, record["reference"]),
                str(program["turns"]),
                ABSENT if compiling(program) is None else f"{compiling(program):.2f}",
                mebibytes(program),
            ]
        )
    return table(head, rows)


def _spread(ratio: Mapping[str, float] | None, program: Mapping, reference: str) -> str:
    """A ratio with its quartiles, and with its verdict but for fnn by hand itself in another form."""
    if ratio is None or f"{program['library']}, {program['variant']}" == reference:
        return ABSENT if ratio is None else "1"
    own = program["library"] == "fnn" and program["variant"].startswith("hand")
    return f"{number(ratio['median']) if own else marked(ratio)} ({number(ratio['low'])} to {number(ratio['high'])})"


def operations(records: Iterable[Mapping]) -> str:
    """One row an operation."""
    head = ["operation", "hand, ms", "auto", "auto, JAX's defaults", "PyTorch", "temporary MiB, hand", "auto"]
    head += [f"{place}: {what}" for place in INSIDE for what in ("hand over outside", "auto over hand")]
    rows = []
    for record in records:
        hand, auto = find(record, "fnn", "hand"), find(record, "fnn", "auto")
        torch = best_of_torch(record)
        rows.append(
            [
                record["name"],
                milliseconds(hand),
                against(auto, None),
                against(find(record, "fnn", "auto, defaults"), None),
                against(torch, torch and torch["variant"]),
                mebibytes(hand),
                mebibytes(auto),
                *(number(ratio) if ratio else ABSENT for place in INSIDE for ratio in inside(record, place)),
            ]
        )
    return table(head, rows)


def inside(record: Mapping, place: str) -> tuple[float | None, float | None]:
    """In a loop or a branch: the time by hand over that outside, and the automatic time over that by hand, medians."""
    hand, auto = (find(record, "fnn", f"{mode}, {place}") for mode in ("hand", "auto"))
    if hand is None:
        return None, None
    over = None if auto is None else auto["seconds"]["median"] / hand["seconds"]["median"]
    return hand.get("ratio") and hand["ratio"]["median"], over


def slowed(records: Iterable[Mapping]) -> list[str]:
    """Operations that take more than `SLOWED` times as long by hand in a loop or a branch as outside."""
    found = [(record["name"], place, inside(record, place)[0]) for record in records for place in INSIDE]
    return [f"{name} {place} ({ratio:.2f})" for name, place, ratio in found if ratio and ratio > SLOWED]


def tally(records: Iterable[Mapping], library: str, variant: str) -> dict[str, list[str]]:
    """Names of the subjects by verdict of fnn by hand against one program; "same" where it is that program."""
    found = {"faster": [], "tie": [], "slower": [], "same": []}
    for record in records:
        program = find(record, library, variant)
        if program is not None and program.get("ratio") is not None:
            word = "same" if program.get("same_program") else verdict(program["ratio"])
            found[word].append(record.get("title", record["name"]))
    return found


def failures(records: Iterable[Mapping]) -> list[str]:
    """One sentence a program that was not timed."""
    return [
        f"{record.get('title', record['name'])}: {program['library']}, {program['variant']}: {program['error']}"
        for record in records
        for program in record["programs"]
        if "error" in program
    ]
