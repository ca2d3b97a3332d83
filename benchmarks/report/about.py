"""Sentences on where and when something was measured."""

from collections.abc import Mapping

from benchmarks.timing.machine import DISTURBED, copied


def machine(report: Mapping) -> str:
    """One sentence: versions, processor and date."""
    about = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    return f"{about['cores']} cores of {about['processor']}, Python {about['python']}, {versions}; {dated(about)}."


def place(report: Mapping) -> str:
    """Processor, date and commit alone.

    >>> place({"machine": {"cores": 2, "processor": "Abacus", "date": "2026-01-31", "fnn": "0123abc"}})
    'Measured on 2 cores of Abacus; 2026-01-31, fnn at commit 0123abc.'
    """
    about = report["machine"]
    return f"Measured on {about['cores']} cores of {about['processor']}; {dated(about)}."


def dated(about: Mapping) -> str:
    """Date and commit of a measurement; a plus where files had changed after the commit.

    >>> dated({"date": "2026-01-31", "fnn": "0123abc+"})
    '2026-01-31, fnn at commit 0123abc+'
    """
    return about["date"] + (f", fnn at commit {about['fnn']}" if about.get("fnn") else "")


def loads(record: Mapping) -> str:
    """What else the machine did: load over the last minute, share of other processes, quartiles of copying memory."""
    before, after = (record[when][0] if record.get(when) else "unknown" for when in ("load_before", "load_after"))
    text, share = f"load {before} before, {after} after", record.get("others_share")
    if share is not None:
        text += f"; other processes took {share:.0%} of the cores"
    if record.get("copy_gib_per_second"):
        text += "; " + copied(record["copy_gib_per_second"])
    return f"**Disturbed:** {text}" if (share or 0.0) > DISTURBED else text
