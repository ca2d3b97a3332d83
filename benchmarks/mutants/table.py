"""The outcomes as one table: a row a kind of bug, a column a checker."""

from collections.abc import Iterable, Sequence

from benchmarks.mutants.suite import OURS, Outcome
from fnn.inspect.table import table


def real(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The mutants that are bugs; one that was declared equivalent and differs is one too."""
    return [o for o in outcomes if o.kind != "correct" and (o.differs or not o.equivalent)]


def missed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The bugs that fnn.check did not see."""
    return [o for o in real(outcomes) if not o.said.get(OURS)]


def false_alarms(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The correct calls, and the mutants equivalent to their rules, that fnn.check accused."""
    bugs = {o.name for o in real(outcomes)}
    return [o for o in outcomes if o.name not in bugs and o.said.get(OURS)]


def text(outcomes: Sequence[Outcome], checkers: Sequence[str]) -> str:
    """The table, its legend, and all that deserves a line of its own."""
    bugs, correct = real(outcomes), [o for o in outcomes if o.kind == "correct"]
    kinds = sorted({o.kind for o in bugs})
    header = ["caught, by kind of bug", "bugs", *checkers]
    rows = [[kind, *_counts([o for o in bugs if o.kind == kind], checkers)] for kind in kinds]
    rows.append(["all", *_counts(bugs, checkers)])
    alarms = [str(sum(bool(o.said[c]) for o in correct)) for c in checkers]
    parts = [table(header, rows, ["false alarms", str(len(correct)), *alarms]), LEGEND]
    parts += _section("Missed by fnn.check", missed(outcomes), lambda o: f"{o.what} ({o.differs or 'NO DIFFERENCE'})")
    parts += _section("False alarms of fnn.check", false_alarms(outcomes), lambda o: o.said[OURS])
    parts += _section("Equivalent to their rules", [o for o in outcomes if o.equivalent], lambda o: o.equivalent)
    return "\n\n".join(parts)


LEGEND = (
    "Each checker sees every case of the rule until one fails. Cases in which it accuses the unbroken rule do not\n"
    "count for it. fnn.check is given the rule's plain form and textbook loop, as by check_rule; the others see the\n"
    "rule alone, which does not show a broken forward pass or another convention at ties. check_grads: order 1,\n"
    "reverse mode, its own tolerances. gradcheck: float64, through a bridge.\n"
    "false alarms: complaints about correct calls, of the number in the second column."
)


def _counts(bugs: Sequence[Outcome], checkers: Sequence[str]) -> list[str]:
    cells = [str(len(bugs))]
    for checker in checkers:
        caught = sum(bool(o.said[checker]) for o in bugs)
        cells.append(f"{caught} ({100 * caught / len(bugs):.1f} %)" if bugs else "0")
    return cells


def _section(title: str, outcomes: Sequence[Outcome], describe) -> list[str]:
    if not outcomes:
        return []
    return ["\n".join([f"{title}:", *(f"  {o.name}: {describe(o)}" for o in outcomes)])]
