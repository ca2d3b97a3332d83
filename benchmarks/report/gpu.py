"""The page of `benchmarks.gpu`: milliseconds a step, and how many times as long as by hand the others take."""

from collections.abc import Mapping, Sequence

TITLES = {"networks": "Training steps", "operations": "Operations", "processor": "Training steps on the processor"}
ABOUT = """\
Milliseconds by hand, then the others as multiples of that: above 1 the hand-written rules are faster. Memory is what a
step needs beyond what is alive before it, as the compiler plans or the GPU saw it; the last column is the largest
difference of a gradient from the automatic one, relative to its norm. Where that is above 0.05, marked *, rounding
hides what else might be: the rules are checked above with exact products."""
MUCH = 0.05


def page(found: Mapping) -> str:
    """All parts as Markdown."""
    machine = found["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    where = f"{machine['platform']}, {machine['cores']} cores, {machine['date']}; {libraries}."
    lines = ["# fnn on a GPU", "", where, "", ABOUT]
    for each in found.get("checks", []):
        said = {0: "", None: f"stopped after {each['seconds']:.0f} seconds: "}
        last = said.get(each.get("status"), f"exit status {each.get('status')}: ") + each["last"][0]
        lines += ["", f"## Rules in {each['dtype']}", "", last, *(f"- {line}" for line in each["wrong"])]
    for part, title in TITLES.items():
        records = found.get(part, [])
        for dtype in dict.fromkeys(record["dtype"] for record in records):
            measured = [record for record in records if record["dtype"] == dtype]
            lines += ["", f"## {title} in {dtype}", "", *_table(measured)]
            names = {record["name"] for record in measured}
            left = [name for name in found.get("wanted", {}).get(part, []) if name not in names]
            lines += ["", f"No time was left for: {'; '.join(left)}."] if left else []
    return "\n".join(lines) + "\n"


def _table(records: Sequence[Mapping]) -> list[str]:
    labels = list(dict.fromkeys(f"{p['library']}, {p['variant']}" for r in records for p in r["programs"]))
    mine, others = labels[0], labels[1:]
    head = ["", f"{mine}, ms", *others, "MiB of each", "gradient apart"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    notes: dict[str, list[str]] = {}
    for record in records:
        programs = {f"{p['library']}, {p['variant']}": p for p in record["programs"]}
        seconds = {label: p.get("seconds", {}).get("median") for label, p in programs.items()}
        base = seconds.get(mine)
        ratios = [f"{seconds[o] / base:.2f}" if seconds.get(o) and base else "" for o in others]
        memory = ", ".join(_mib(programs.get(label, {}).get("temp_bytes")) for label in labels)
        apart = record.get("gradient_error")
        cells = [record["name"], f"{1e3 * base:.3f}" if base else "", *ratios, memory]
        shown = "" if apart is None else f"{apart:.1e}{' *' * (apart > MUCH)}"
        lines.append("| " + " | ".join([*cells, shown]) + " |")
        for label, program in programs.items():
            if "error" in program:
                notes.setdefault(f"{label}: {program['error']}", []).append(record["name"])
    return [*lines, "", *(f"- {note} ({'; '.join(names)})" for note, names in notes.items())] if notes else lines


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.0f}"


def status(found: Mapping) -> int:
    """1 if a rule is wrong, fnn failed, or any program disagreed.

    >>> status({"checks": [{"status": 0}], "networks": [{"programs": [{"library": "torch", "error": "no compiler"}]}]})
    0
    """
    programs = [p for part in TITLES for record in found.get(part, []) for p in record["programs"]]
    failed = [p for p in programs if "error" in p]
    wrong = any(p["library"] == "fnn" or p["error"].startswith("Disagrees") for p in failed)
    return int(wrong or any(each.get("status") != 0 for each in found.get("checks", [])))
