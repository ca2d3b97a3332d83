"""What a check found: one row a gradient leaf, one finding a check, and a verdict that is true only when all holds."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np

from fnn.inspect.table import table

Verdict = Literal["pass", "FAIL", "skip", "note"]


class GradientError(AssertionError):
    """A gradient is wrong; the message is the whole report."""


class Outcome:
    """What every result of a check can do, a dataclass with a `name` that is true only when all holds."""

    def raise_if_wrong(self) -> Self:
        """Return the result if all holds.

        Raises:
          GradientError: something is wrong; the message is the whole result.
        """
        if not self:
            raise GradientError(f"\n{self}")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings; numbers that are not finite become strings, as JSON has none."""
        return {"name": self.name, "ok": bool(self), **plain(self)}

    def to_json(self) -> str:
        """The result as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __repr__(self) -> str:
        return str(self)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """The gradient of one array, as three ways computed it.

    Attributes:
      path: its place among the arguments, such as "0" or "1/kernel".
      shape, dtype: of the array.
      absolute, relative: the largest difference of hand-written from true, and the same over the largest true entry.
      ulps: the largest difference in units in the last place of the entry, or of the leaf's rms where that is larger.
      cosine: of the angle between the hand-written and the true gradient; 1 is right, nan where one of them is zero.
      worst: the index of the largest difference.
      hand, auto, numeric: the values there: by the rule, by JAX, and by finite differences in float64; None where one
        was not computed.
      verdict: "agree", "DIFFER", "kink" (several derivatives are right there, and the rule took one of them) or
        "vanish" (nothing but rounding errors of an exact zero).
      culprit: which of the three disagrees with the two others: "hand", "auto", "differences", or "".
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    absolute: float
    relative: float
    ulps: float
    cosine: float
    worst: tuple[int, ...]
    hand: float | None
    auto: float | None
    numeric: float | None
    verdict: str
    culprit: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check said, of one leaf or of all.

    Attributes:
      check: its name, one of `fnn.check.CHECKS`.
      verdict: "pass", "FAIL", "skip" (it does not apply, detail says why) or "note" (worth knowing, not wrong).
      leaf: path of the leaf, or "" for all.
      detail: what was seen, in a sentence.
      error, tolerance: the number that was judged and its limit, where there is one.
    """

    check: str
    verdict: Verdict
    leaf: str = ""
    detail: str = ""
    error: float | None = None
    tolerance: float | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Outcome):
    """The outcome for one function at one point; true if no check failed.

    Attributes:
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
        return not self.failures()

    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.verdict == "FAIL")

    def __str__(self) -> str:
        parts = [f"{self.name}: {verdict_of(self)}"]
        if self.leaves:
            parts += ["", leaf_table(self.leaves)]
        if self.findings:
            parts += ["", findings_table(self.findings)]
        for title, lines in (("diagnosis", self.diagnosis), ("kinks", self.kinks), ("sensitivity", self.miss)):
            if lines:
                parts += ["", f"{title}:", *(f"  {line}" for line in lines)]
        return "\n".join(parts)


@dataclasses.dataclass(frozen=True, repr=False)
class Suite(Outcome):
    """Several reports under one name: the cases of a rule, or all rules; true if every one is.

    Attributes:
      name: of the whole.
      reports: the parts, Reports or Suites.
      seconds: how long it took.
    """

    name: str
    reports: tuple["Report | Suite", ...]
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return all(self.reports)

    def flat(self) -> list[Report]:
        """All Reports, however deep."""
        return [leaf for r in self.reports for leaf in (r.flat() if isinstance(r, Suite) else [r])]

    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed, of all reports."""
        return tuple(finding for report in self.flat() for finding in report.failures())

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings."""
        reports = [report.to_dict() for report in self.reports]
        return {"name": self.name, "ok": bool(self), "seconds": self.seconds, "reports": reports}

    def __str__(self) -> str:
        header = ["", "cases", "checks", "skipped", "failed", "verdict"]
        rows = [_suite_row(report) for report in self.reports]
        wrong = [report for report in self.flat() if not report]
        shown = [str(report) for report in wrong[:_MOST_SHOWN]]
        if len(wrong) > _MOST_SHOWN:
            shown.append(f"... and {len(wrong) - _MOST_SHOWN} more reports with failures")
        legend = "skipped: the check does not apply there, the JSON report says why."
        end = f"{self.name}: {verdict_of(self)}" + (f" ({self.seconds:.0f} s)" if self.seconds else "")
        return "\n\n".join([table(header, rows), *shown, f"{legend}\n{end}"])


_MOST_SHOWN = 5  # a shared bug fails every case in the same way; the first few say it


def verdict_of(report: Report | Suite) -> str:
    """One line: what holds, or what failed first."""
    checks = sorted({finding.check for finding in report.failures()})
    if checks:
        return f"WRONG, says {', '.join(checks)}"
    if isinstance(report, Suite):
        return f"right, in {len(report.flat())} calls"
    ran = {finding.check for finding in report.findings if finding.verdict == "pass"}
    return f"right, by {len(ran)} checks"


def leaf_table(leaves: Iterable[Leaf], what: str = "leaf") -> str:
    """The rows as text: differences first, then the three values at the worst entry."""
    header = [what, "shape", "max diff", "relative", "ulps", "cosine", "worst at", "hand", "auto", "differences"]
    rows = [
        [
            *(r.path, _shape(r.shape), f"{r.absolute:.1e}", f"{r.relative:.1e}", ulps_text(r.ulps), f"{r.cosine:.6f}"),
            *(_shape(r.worst), _value(r.hand), _value(r.auto), _value(r.numeric), r.verdict + _blame(r)),
        ]
        for r in leaves
    ]
    return table([*header, "verdict"], rows, left=2)


def findings_table(findings: Iterable[Finding]) -> str:
    """One line a finding."""
    rows = [
        [f.check, f.leaf, f.verdict, _number(f.error), _number(f.tolerance), f.detail.replace("\n", " ")]
        for f in findings
    ]
    return table(["check", "leaf", "verdict", "error", "limit", ""], rows, left=6)


def ulps_text(n: float) -> str:
    """A number of ulps, short however large."""
    return f"{n:,.1f}" if n < 1e5 else f"{n:.0e}"


def _suite_row(report: Report | Suite) -> list[str]:
    flat = report.flat() if isinstance(report, Suite) else [report]
    verdicts = [finding.verdict for r in flat for finding in r.findings]
    counts = [len(flat), sum(v in ("pass", "FAIL") for v in verdicts), verdicts.count("skip"), verdicts.count("FAIL")]
    return [report.name, *(f"{n:,}" for n in counts), "right" if report else "WRONG"]


def _blame(leaf: Leaf) -> str:
    return f" ({leaf.culprit})" if leaf.culprit else ""


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if shape else "()"


def _value(v: float | None) -> str:
    return "-" if v is None else f"{v:.6g}"


def _number(v: float | None) -> str:
    return "" if v is None else f"{v:.1e}"


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
