"""All checks of one function at one point, in order, and the report they make."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fnn.check.finding import Finding, first_line
from fnn.check.report import Report
from fnn.check.rule import by_differences, ladder, oracles, pairs, transforms
from fnn.check.rule.diagnose import diagnose
from fnn.check.rule.numeric import Numeric, OutOfTimeError
from fnn.check.rule.prepare import prepare
from fnn.check.rule.rows import rows_of, what_may_be_missed
from fnn.check.rule.subject import Subject
from fnn.check.tolerance import largest

_TABLE: dict[str, Callable[[Numeric], Iterator[Finding]]] = {
    "deterministic": oracles.check_deterministic,
    "primal": oracles.check_primal,
    "cotangents": transforms.check_cotangents,
    "automatic": oracles.check_automatic,
    "adjoint": oracles.check_adjoint,
    "linear": oracles.check_linear,
    "zero": oracles.check_zero,
    "differences": by_differences.check_differences,
    "coordinates": by_differences.check_coordinates,
    "jacobian": by_differences.check_jacobian,
    "kinks": by_differences.check_kinks,
    "exact": oracles.check_exact,
    "precision": ladder.check_precision,
    "jit": transforms.check_jit,
    "placement": transforms.check_placement,
    "vmap": transforms.check_vmap,
    "grad_of_grad": transforms.check_grad_of_grad,
    "jvp_of_grad": transforms.check_jvp_of_grad,
    "remat": transforms.check_remat,
    "scan": transforms.check_scan,
    "shard_map": transforms.check_shard_map,
    "pairs": pairs.check_pairs,
}
CHECKS = tuple(_TABLE)
# Programs that a check compiles, where they are many.
_PROGRAMS = {"jit": 2, "placement": 1, "grad_of_grad": 6, "jvp_of_grad": 6, "scan": 2, "shard_map": 2}
_JUDGES = {"automatic", "differences", "coordinates", "jacobian"}  # of the gradient's values
_SLIGHT = 1e-3  # a relative error that a solver may have
# What compiles most and finds least beyond the others.
SLOW = ("jit", "grad_of_grad", "jvp_of_grad", "remat", "scan", "shard_map", "pairs", "jacobian", "adjoint")


def examine(
    name: str,
    hand: Callable,
    args: tuple,
    *,
    auto: Callable | None = None,
    dissolve: bool = False,
    reference: Callable | None = None,
    strict: bool = False,
    checks: Sequence[str] = CHECKS,
    seed: int = 0,
    quick: bool = False,
    first: bool = False,
    tolerance: float = 0.0,
    seconds: float | None = None,
) -> Report:
    """Run the checks on one function at one point.

    Args:
      name: for the report.
      hand: the function with the rule in question, of positional pytrees.
      args: the point; float leaves are differentiated, all others held fixed.
      auto: the same function as JAX differentiates it.
      dissolve: whether custom rules inside `auto` have to be dissolved first.
      reference: the textbook formula; its value alone counts.
      strict: for fnn's own rules: every transformation must be supported, and what `auto` does at kinks binds.
      checks: names from `CHECKS`.
      seed: of all random directions.
      quick: fewer directions, no float16 and no reference.
      first: stop at the first check that fails.
      tolerance: how far results may be off, relative to their largest entries.
      seconds: after which no further check is begun; none that is expected to end later.
    """
    start = time.perf_counter()
    deadline = np.inf if seconds is None else start + seconds
    subject = Subject(hand, auto, reference, tuple(args), seed, strict, dissolve, tolerance)
    trouble = prepare(subject)
    if trouble:
        return Report(name, findings=trouble)
    # Compiling takes nearly all of the time, and three programs have been compiled by now.
    once = (time.perf_counter() - start) / 3
    numeric = Numeric(subject, quick, deadline)
    findings: list[Finding] = []
    for check in [check for check in _TABLE if check in checks]:
        try:
            if time.perf_counter() + once * _PROGRAMS.get(check, 0) > deadline:
                raise OutOfTimeError
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = list(_TABLE[check](numeric))
        except OutOfTimeError:
            late = f"left out, {seconds:g} seconds are over: seconds=None has no limit"
            found = [Finding(check, "skip", detail=late)]
        except Exception as error:
            found = [Finding(check, "FAIL", detail=f"raises {first_line(error)}")]
        failed = any(finding.verdict == "FAIL" for finding in findings)
        # A remark on integers says nothing once the gradient is known to be wrong.
        findings += [f for f in found if not (failed and check == "exact" and f.verdict == "note")]
        failed = any(finding.verdict == "FAIL" for finding in findings)
        if failed and (first or check == "deterministic"):  # nothing can be compared with what changes by itself
            return Report(name, findings=tuple(findings))
    wrong = any(finding.verdict == "FAIL" for finding in findings)
    findings += _hints(numeric, findings, set(checks)) if not strict else []
    leaves = rows_of(numeric)
    numeric.deadline = np.inf
    diagnosis = diagnose(numeric, leaves) if wrong and leaves else ()
    missed = what_may_be_missed(numeric)
    return Report(name, leaves, tuple(findings), diagnosis, by_differences.kink_lines(numeric), missed)


def _hints(numeric: Numeric, findings: list[Finding], wanted: set[str]) -> list[Finding]:
    """What to do where nothing judged the gradient, or where it is wrong by little."""
    judges = [finding for finding in findings if finding.check in _JUDGES]
    if wanted & _JUDGES and not any(finding.verdict in ("pass", "FAIL", "CANNOT") for finding in judges):
        late = [finding for finding in judges if finding.detail.startswith("left out")]
        if late:
            return [Finding("differences", "CANNOT", detail="no check of the gradient's values ended in time")]
    wrong = [finding for finding in findings if finding.verdict == "FAIL"]
    sizes = map(largest, numeric.subject.gradients("hand", numeric.subject.fine)[1])
    peaks = dict(zip(numeric.subject.paths, sizes, strict=True))
    slight = [f for f in wrong if f.leaf in peaks and f.error is not None and f.error <= _SLIGHT * peaks[f.leaf]]
    if wrong and len(slight) == len(wrong):
        share = max((f.error or 0.0) / peaks[f.leaf] for f in slight if peaks[f.leaf])
        detail = f"wrong by {share:.0e} of the largest entry: if that is how exactly f is solved, pass tolerance="
        return [Finding(slight[0].check, "note", detail=detail)]
    return []
