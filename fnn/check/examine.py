"""All checks of one function at one point, in order, and the report they make."""

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fnn.check import ladder, oracles, pairs, transforms
from fnn.check import numeric as differences
from fnn.check.diagnose import diagnose
from fnn.check.numeric import ALWAYS, Numeric
from fnn.check.program import first_line
from fnn.check.report import Finding, Leaf, Report
from fnn.check.subject import GIVEN, Subject
from fnn.check.tolerance import cosine, gap, largest, limit_of, ulp

_TABLE: dict[str, Callable[[Numeric], Iterator[Finding]]] = {
    "deterministic": oracles.check_deterministic,
    "primal": oracles.check_primal,
    "cotangents": transforms.check_cotangents,
    "automatic": oracles.check_automatic,
    "adjoint": oracles.check_adjoint,
    "linear": oracles.check_linear,
    "zero": oracles.check_zero,
    "differences": differences.check_differences,
    "coordinates": differences.check_coordinates,
    "jacobian": differences.check_jacobian,
    "kinks": differences.check_kinks,
    "exact": oracles.check_exact,
    "precision": ladder.check_precision,
    "jit": transforms.check_jit,
    "vmap": transforms.check_vmap,
    "grad_of_grad": transforms.check_grad_of_grad,
    "jvp_of_grad": transforms.check_jvp_of_grad,
    "remat": transforms.check_remat,
    "scan": transforms.check_scan,
    "shard_map": transforms.check_shard_map,
    "pairs": pairs.check_pairs,
}
CHECKS = tuple(_TABLE)
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
    """
    subject = Subject(hand, auto, reference, tuple(args), seed, strict, dissolve)
    trouble = _prepare(subject)
    if trouble is not None:
        return Report(name, findings=(trouble,))
    numeric = Numeric(subject, quick)
    findings: list[Finding] = []
    for check in _TABLE:
        if check not in checks:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = list(_TABLE[check](numeric))
        except Exception as error:
            found = [Finding(check, "FAIL", detail=f"raises {first_line(error)}")]
        failed = any(finding.verdict == "FAIL" for finding in findings)
        # A remark on integers says nothing once the gradient is known to be wrong.
        findings += [f for f in found if not (failed and check == "exact" and f.verdict == "note")]
        failed = any(finding.verdict == "FAIL" for finding in findings)
        if failed and (first or check == "deterministic"):  # nothing can be compared with what changes by itself
            return Report(name, findings=tuple(findings))
    wrong = any(finding.verdict == "FAIL" for finding in findings)
    try:
        leaves = tuple(_leaf(numeric, i) for i in range(len(subject.paths)))
    except Exception:  # the findings say what raises
        leaves = ()
    diagnosis = diagnose(numeric, leaves) if wrong and leaves else ()
    return Report(name, leaves, tuple(findings), diagnosis, differences.kink_lines(numeric), _miss(numeric))


def _prepare(subject: Subject) -> Finding | None:
    """Run the function and its gradient once; a finding if nothing can be checked."""
    if not subject.paths:
        kinds = ", ".join(f"{path or 'argument'}: {kind}" for path, kind in subject.held) or "no arguments"
        if "complex" in kinds:
            return Finding("primal", "FAIL", detail=f"complex numbers are not supported: {kinds}")
        return Finding("primal", "FAIL", detail=f"nothing to differentiate: no floating-point argument ({kinds})")
    try:
        shapes = subject.shapes
    except Exception as error:
        subject.give_up_compiling()  # it may be tracing that fails: a function that branches on values
        try:
            shapes = subject.shapes
        except Exception:
            hint = ". Pass all arguments after f, a key for example" if _misses_arguments(error) else ""
            return Finding("primal", "FAIL", detail=f"the function raises {first_line(error)}{hint}")
    if not shapes:
        return Finding(
            "primal", "FAIL", detail="nothing to differentiate: the function returns no floating-point array"
        )
    try:
        outputs, _ = subject.gradients("hand", GIVEN)
    except Exception as error:
        subject.give_up_compiling()
        try:
            outputs, _ = subject.gradients("hand", GIVEN)
        except Exception:
            return Finding("cotangents", "FAIL", detail=f"the gradient raises {first_line(error)}")
    if any(np.isnan(y).any() for y in outputs):
        return Finding("primal", "FAIL", detail="the function returns NaN here: nothing can be shown at this point")
    try:
        subject.gradients("hand", subject.fine)
    except Exception:
        subject.fine = GIVEN
    if subject.has_auto:
        try:
            subject.gradients("auto", subject.fine)
        except Exception as error:
            if subject.strict:
                return Finding("automatic", "FAIL", detail=f"JAX's own gradient raises {first_line(error)}")
            subject.drop_auto(f"JAX's own derivative cannot be had: {first_line(error)}")
    return None


def _leaf(numeric: Numeric, i: int) -> Leaf:
    """The row of one array: in the given precision, unless only float64 shows the error."""
    subject = numeric.subject
    fine = subject.fine
    candidates = [_difference(subject, GIVEN, i)]
    if fine != GIVEN:
        candidates.append(_difference(subject, fine, i))
    hand, true, limit, dtype = next(
        (c for c in candidates if not np.max(gap(c[0], c[1]), initial=0.0) <= c[2]), candidates[0]
    )
    shape = subject.given[i].shape
    if hand.size == 0:
        return Leaf(subject.paths[i], shape, dtype, 0.0, 0.0, 0.0, np.nan, (), None, None, None, "agree")
    distance = gap(hand, true)
    k = int(np.argmax(distance))
    index = tuple(int(j) for j in np.unravel_index(k, shape))
    measure = numeric.at(i, [k])[0]
    known = np.isfinite(measure.error)
    h, a, n = (float(v) for v in (hand.flat[k], true.flat[k], measure.value))
    absolute, peak = float(distance.flat[k]), largest(true)
    verdict, culprit = "agree", ""
    allowed = not (subject.strict and absolute > limit)  # a registered rule follows the convention of its plain form
    if (
        allowed
        and measure.kink
        and measure.low - limit <= h <= measure.high + limit
        and (absolute > limit or not subject.has_auto)
    ):
        verdict = "kink"
    elif not absolute <= limit:
        verdict = "DIFFER"
        near = abs(a - n) <= limit + measure.error
        culprit = "hand" if near or not known else "auto" if abs(h - n) <= limit + measure.error else ""
    elif known and not measure.kink and abs(h - n) > measure.error + 2 * limit:
        verdict, culprit = "DIFFER", "differences" if subject.has_auto else "hand"
    return Leaf(
        path=subject.paths[i],
        shape=shape,
        dtype=dtype,
        absolute=absolute,
        relative=absolute / peak if peak else (np.inf if absolute else 0.0),
        ulps=float(np.max(distance / ulp(np.maximum(np.abs(true), np.sqrt(np.mean(true**2))), dtype))),
        cosine=cosine(hand, true),
        worst=index,
        hand=h,
        auto=a if subject.has_auto else None,
        numeric=n if known or measure.kink else None,
        verdict=verdict,
        culprit=culprit,
    )


def _difference(subject: Subject, dtype: str, i: int) -> tuple[np.ndarray, np.ndarray, float, str]:
    hand, true = (grads[i] for _, grads in (subject.gradients("hand", dtype), subject.truth(dtype)))
    name = hand.dtype.name
    limit = limit_of(subject.rounds_as(hand), largest(true), subject.noise(dtype)[1][i])
    return hand.astype(np.float64), true.astype(np.float64), limit, name


def _miss(numeric: Numeric) -> tuple[str, ...]:
    """What could have got past, from what was sampled."""
    lines = []
    for i, (path, g) in enumerate(zip(numeric.subject.paths, numeric.subject.given, strict=True)):
        judged = numeric.judged[path]
        visible = numeric.visible.get(path)
        seen = f"above {visible:.0e} of the leaf's rms" if visible and np.isfinite(visible) else "above rounding"
        if g.size == 0:
            continue
        kinked = len(numeric.kinks(i)) if g.size <= ALWAYS else 0
        if kinked == g.size:
            lines.append(f"{path}: every entry lies at a kink; what passes is anything between the one-sided slopes")
        elif judged & {"automatic", "jacobian", "all"}:
            how = ", ".join(sorted({"automatic": "every entry against JAX"}.get(j, j) for j in judged))
            lines.append(f"{path}: a single wrong entry {seen} is missed with chance 0 ({how})")
        elif "directions" in judged:
            pair = 0.5**numeric.directions
            lines.append(f"{path}: a single wrong entry {seen} is missed with chance 0, two equal ones with {pair:.2g}")
        elif judged:
            share = max(int(j.split()[0]) / g.size for j in judged)
            lines.append(f"{path}: a single wrong entry {seen} is missed with chance {1 - share:.3g}")
        else:
            lines.append(f"{path}: not judged; a wrong entry is missed with chance 1")
    return tuple(lines)


def _misses_arguments(error: Exception) -> bool:
    return isinstance(error, TypeError) and "missing" in str(error) and "argument" in str(error)
