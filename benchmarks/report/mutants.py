"""The table of broken rules: which checker misses how many bugs of each kind, and accuses how many correct calls."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.report.tables import table


def condense(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of results keeps of a report with "checkers", "versions" and "outcomes", one for a mutant or call.

    Of each kind of bug the number, and by checker the names of those that it missed; of the correct calls the number,
    and by checker the names of those that it accused.

    >>> bug = {"name": "relu/sign", "kind": "sign", "said": {"ours": "wrong", "other": ""}}
    >>> condense({"checkers": ["ours", "other"], "versions": {}, "outcomes": [bug]})["bugs"]
    [{'kind': 'sign', 'count': 1, 'missed': {'other': ['relu/sign']}}]
    """
    checkers, outcomes = report["checkers"], report["outcomes"]
    correct = [o for o in outcomes if o["kind"] == "correct"]
    # One that was declared equivalent to its rule, and differs from it all the same, is a bug.
    bugs = [o for o in outcomes if o["kind"] != "correct" and (o.get("differs") or not o.get("equivalent"))]

    def names(some: Iterable[Mapping], *, accused: bool) -> dict[str, list[str]]:
        found = {c: [o["name"] for o in some if bool(o["said"].get(c)) is accused] for c in checkers}
        return {checker: each for checker, each in found.items() if each}

    kinds = {kind: [o for o in bugs if o["kind"] == kind] for kind in sorted({o["kind"] for o in bugs})}
    return {
        "checkers": checkers,
        "versions": report["versions"],
        "bugs": [{"kind": k, "count": len(some), "missed": names(some, accused=False)} for k, some in kinds.items()],
        "correct": {"count": len(correct), "accused": names(correct, accused=True)},
        "equivalent": [o["name"] for o in outcomes if o.get("equivalent") and not o.get("differs")],
    }


def markdown(found: Mapping[str, Any]) -> str:
    """A row a kind of bug, shares caught in per cent, then the false alarms."""
    checkers, rows = found["checkers"], []

    def row(label: str, some: list[Mapping]) -> list[str]:
        count = sum(each["count"] for each in some)
        missed = [sum(len(each.get("missed", {}).get(c, ())) for each in some) for c in checkers]
        return [label, str(count), *(f"{100 * (count - m) / count:.0f} %" for m in missed)]

    rows = [row(each["kind"], [each]) for each in found["bugs"]]
    rows += [row("**all**", found["bugs"]), false_alarms(found)]
    return table(["kind of bug", "bugs", *checkers], rows)


def short(found: Mapping[str, Any]) -> str:
    """The last two rows alone."""
    lines = markdown(found).splitlines()
    return "\n".join([*lines[:2], *lines[-2:]])


def false_alarms(found: Mapping[str, Any]) -> list[str]:
    """The row of the correct calls."""
    accused = found["correct"].get("accused", {})
    alarms = [str(len(accused.get(c, ()))) for c in found["checkers"]]
    return ["**false alarms**", f"of {found['correct']['count']}", *alarms]
