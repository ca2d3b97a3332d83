"""The lines of a report: one a gradient leaf, one a finding, and the tables that they make."""

import dataclasses
import itertools
import textwrap
from collections.abc import Iterable
from typing import Literal

from fnn.inspect.table import table

Verdict = Literal["pass", "FAIL", "skip", "note", "CANNOT"]
WIDTH = 120  # characters; no table of a report is wider
_SHORTEST = 20  # a path is cut to no less
_WIDEST_CELL = 40
_LONGEST = 500  # characters of a message: JAX says in its last third what came


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
      verdict: "pass", "FAIL", "skip" (it does not apply, detail says why), "note" (worth knowing, not wrong) or
        "CANNOT" (it ought to apply and cannot be made, detail says why: the report is "not checked").
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


def first_line(error: BaseException) -> str:
    """The kind of an error and the first paragraph of its message."""
    text = (str(error).strip() or "no message").split("\n\n")[0]
    return f"{type(error).__name__}: {textwrap.shorten(text, _LONGEST, placeholder=' ...')}"


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
    text = table([*header, "verdict"], rows, left=2)
    over = max(map(len, text.splitlines())) - WIDTH
    longest = max((len(row[0]) for row in rows), default=0)
    if over > 0 and longest > _SHORTEST:  # the end of a path says more than its beginning
        room = max(longest - over, _SHORTEST)
        rows = [[row[0] if len(row[0]) <= room else "..." + row[0][3 - room :], *row[1:]] for row in rows]
        text = table([*header, "verdict"], rows, left=2)
    return text


def findings_table(findings: Iterable[Finding]) -> str:
    """One line a finding, and more below it where its sentence is long."""
    header, rows = ["check", "leaf", "verdict", "error", "limit"], list[list[str]]()
    findings = list(findings)
    cells = [[f.check, f.leaf, f.verdict, _number(f.error), _number(f.tolerance)] for f in findings]
    cells = [["\n".join(textwrap.wrap(cell, _WIDEST_CELL)) for cell in row] for row in cells]
    taken = sum(max(len(line) for row in [header, *cells] for line in row[i].split("\n")) + 2 for i in range(5))
    for finding, row in zip(findings, cells, strict=True):
        columns = [cell.split("\n") for cell in row] + [textwrap.wrap(finding.detail, WIDTH - taken) or [""]]
        rows += map(list, itertools.zip_longest(*columns, fillvalue=""))
    return table([*header, ""], rows, left=6)


def ulps_text(n: float) -> str:
    """A number of ulps, short however large."""
    return f"{n:,.1f}" if n < 1e5 else f"{n:.0e}"


def _blame(leaf: Leaf) -> str:
    return f" ({leaf.culprit})" if leaf.culprit else ""


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if shape else "()"


def _value(v: float | None) -> str:
    return "-" if v is None else f"{v:.6g}"


def _number(v: float | None) -> str:
    return "" if v is None else f"{v:.1e}"
