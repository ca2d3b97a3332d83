"""What a check found: one row a gradient leaf, one finding a check, and a verdict that is true only when all holds."""

import dataclasses
import json
import textwrap
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from fnn.check.finding import WIDTH, findings_table, leaf_table
from fnn.check.finding import Finding as Finding
from fnn.check.finding import Leaf as Leaf
from fnn.inspect.table import table

RIGHT, WRONG, NOT_CHECKED = "right", "wrong", "not checked"


class GradientError(AssertionError):
    """A gradient is wrong; the message is the whole report."""


class NotCheckedError(AssertionError):
    """Nothing can be said of a gradient, neither right nor wrong; the message is the whole report."""


class Outcome:
    """What every result of a check can do, a dataclass with a `name` that is true only when all holds."""

    name: str

    @property
    def verdict(self) -> str:
        """ "right", "wrong", or "not checked", of which only the first is true."""
        return RIGHT if self else WRONG

    def raise_if_wrong(self) -> Self:
        """Return the result if all holds.

        Raises:
          GradientError: something is wrong; the message is the whole result.
          NotCheckedError: nothing is known to be wrong, and something could not be checked.
        """
        if not self:
            raise (NotCheckedError if self.verdict == NOT_CHECKED else GradientError)(f"\n{self}")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings; numbers that are not finite become strings, as JSON has none."""
        return {"name": self.name, "ok": bool(self), "verdict": self.verdict, **plain(self)}

    def to_json(self) -> str:
        """The result as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __repr__(self) -> str:
        return str(self)


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Outcome):
    """The outcome for one function at one point; true if every check that could be made held, and all could.

    Attributes:
      verdict: "right", "wrong" (a check failed), or "not checked" (nothing failed, and nothing can be said: the
        function or JAX's own derivative cannot be differentiated, raises or is not defined there).
      name: of what was checked.
      leaves: one row an array that was differentiated.
      findings: one or more a check, in the order they ran.
      diagnosis: what a wrong gradient looks like, in sentences ("dx looks like the kernel was not flipped").
      kinks: where one-sided derivatives differ, and the convention taken there.
      miss: how large an error must be to be seen, and the chance that a single wrong entry was not.
    """

    name: str
    leaves: tuple[Leaf, ...] = ()
    findings: tuple[Finding, ...] = ()
    diagnosis: tuple[str, ...] = ()
    kinks: tuple[str, ...] = ()
    miss: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.verdict == RIGHT

    @property
    def verdict(self) -> str:
        """ "right", "wrong" or "not checked"."""
        seen = {finding.verdict for finding in self.findings}
        return WRONG if "FAIL" in seen else NOT_CHECKED if "CANNOT" in seen else RIGHT

    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.verdict == "FAIL")

    def __str__(self) -> str:
        parts = [textwrap.fill(f"{self.name}: {verdict_of(self)}", WIDTH, subsequent_indent="  ")]
        if self.leaves:
            parts += ["", leaf_table(self.leaves)]
        if self.findings:
            parts += ["", findings_table(self.findings)]
        for title, lines in (("diagnosis", self.diagnosis), ("kinks", self.kinks), ("sensitivity", self.miss)):
            if lines:
                indented = [textwrap.fill(f"  {line}", WIDTH, subsequent_indent="    ") for line in lines]
                parts += ["", f"{title}:", *indented]
        return "\n".join(parts)


@dataclasses.dataclass(frozen=True, repr=False)
class Suite(Outcome):
    """Several reports under one name: the cases of a rule, or all rules; true if every one is.

    Attributes:
      name: of the whole.
      reports: the parts, Reports or Suites.
      seconds: how long it took.
      remarks: what else there is to know, in sentences.
    """

    name: str
    reports: tuple["Report | Suite", ...]
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(self.reports)

    @property
    def verdict(self) -> str:
        """ "wrong" if a part is, "not checked" if a part is, else "right"."""
        return worst_of(report.verdict for report in self.reports)

    def flat(self) -> list[Report]:
        """All Reports, however deep."""
        return [leaf for r in self.reports for leaf in (r.flat() if isinstance(r, Suite) else [r])]

    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed, of all reports."""
        return tuple(finding for report in self.flat() for finding in report.failures())

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings."""
        reports = [report.to_dict() for report in self.reports]
        return {
            "name": self.name,
            "ok": bool(self),
            "verdict": self.verdict,
            "seconds": self.seconds,
            "remarks": list(self.remarks),
            "reports": reports,
        }

    def __str__(self) -> str:
        header = ["", "cases", "checks", "skipped", "failed", "verdict"]
        rows = [_suite_row(report) for report in self.reports]
        wrong = sorted((report for report in self.flat() if not report), key=lambda report: report.verdict != WRONG)
        shown = [str(report) for report in wrong[:_MOST_SHOWN]]
        if len(wrong) > _MOST_SHOWN:
            shown.append(f"... and {len(wrong) - _MOST_SHOWN} more reports with failures")
        legend = "skipped: the check does not apply there, the JSON report says why."
        end = f"{self.name}: {verdict_of(self)}" + (f" ({self.seconds:.0f} s)" if self.seconds else "")
        parts = [part for part in self.reports if isinstance(part, Suite)]
        remarks = [line for suite in (self, *parts) for line in suite.remarks]
        return "\n\n".join([table(header, rows), *shown, "\n".join([*remarks, legend, end])])


_MOST_SHOWN = 5  # a shared bug fails every case in the same way; the first few say it


def worst_of(verdicts: Iterable[str]) -> str:
    """The verdict on a whole whose parts have these."""
    seen = set(verdicts)
    return next((verdict for verdict in (WRONG, NOT_CHECKED) if verdict in seen), RIGHT)


def verdict_of(report: Report | Suite) -> str:
    """One line: what holds, or what failed first."""
    checks = sorted({finding.check for finding in report.failures()})
    if checks:
        return f"WRONG, says {', '.join(checks)}"
    if report.verdict == NOT_CHECKED:
        flat = report.flat() if isinstance(report, Suite) else [report]
        why = next(f.detail for r in flat for f in r.findings if f.verdict == "CANNOT")
        return f"NOT CHECKED, neither right nor wrong: {why}"
    if isinstance(report, Suite):
        return f"right, in {len(report.flat())} calls"
    ran = {finding.check for finding in report.findings if finding.verdict == "pass"}
    return f"right, by {len(ran)} checks"


def _suite_row(report: Report | Suite) -> list[str]:
    flat = report.flat() if isinstance(report, Suite) else [report]
    verdicts = [finding.verdict for r in flat for finding in r.findings]
    counts = [len(flat), sum(v in ("pass", "FAIL") for v in verdicts), verdicts.count("skip"), verdicts.count("FAIL")]
    return [report.name, *(f"{n:,}" for n in counts), word_of(report)]


def word_of(outcome: Outcome) -> str:
    """The verdict in a table: what is not right in capitals."""
    return outcome.verdict if outcome else outcome.verdict.upper()


def plain(value: Any) -> Any:
    """Dataclasses, tuples and NumPy numbers as dicts, lists and numbers; what is not finite as a string."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(value)
    return int(value) if isinstance(value, np.integer) else value
