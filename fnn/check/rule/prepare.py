"""The first calls: whether a gradient can be checked at all, and in which ways."""

import numpy as np

from fnn.check.arrays import is_float, pull
from fnn.check.automatic import automatic
from fnn.check.finding import Finding, first_line
from fnn.check.rule.mistakes import sentence_of
from fnn.check.rule.subject import GIVEN, Subject
from fnn.check.tolerance import gap, largest


def prepare(subject: Subject) -> tuple[Finding, ...]:
    """Run the function and its gradient once; findings if nothing more can be checked."""
    if not subject.paths:
        kinds = ", ".join(f"{path or 'argument'}: {kind}" for path, kind in subject.held) or "no arguments"
        if "complex" in kinds:
            return _cannot("primal", f"complex arguments are not supported: {kinds}; pass real and imaginary parts")
        return _cannot("primal", f"nothing to differentiate: no floating-point argument ({kinds})")
    try:
        shapes = subject.shapes
    except Exception as error:
        subject.give_up_compiling()  # it may be tracing that fails: a function that branches on values
        try:
            shapes = subject.shapes
        except Exception:
            hint = ". Pass all arguments after f, a key for example" if _misses_arguments(error) else ""
            return _cannot("primal", f"the function raises {sentence_of(error)}{hint}")
    if not shapes:
        return _cannot("primal", "nothing to differentiate: the function returns no floating-point array")
    try:
        outputs, gradients = subject.gradients("hand", GIVEN)
    except Exception as error:
        subject.give_up_compiling()
        try:
            outputs, gradients = subject.gradients("hand", GIVEN)
        except Exception:
            if _raises_without_rules(subject, error):
                return _cannot(
                    "cotangents", f"there is no gradient to check, by no fault of a rule: {first_line(error)}"
                )
            return (Finding("cotangents", "FAIL", detail=f"the gradient raises {sentence_of(error)}"),)
    for path, a, g in zip(subject.paths, subject.given, gradients, strict=True):
        if not is_float(g):
            detail = f"bwd returns {g.dtype}{g.shape} for an argument {a.dtype}{a.shape}: cast it to that dtype"
            return (Finding("cotangents", "FAIL", path, detail),)
    if any(np.isnan(y).any() for y in outputs):
        return _cannot("primal", "the function returns NaN here: nothing can be shown at this point; choose another")
    try:
        subject.gradients("hand", subject.fine)
    except Exception:
        subject.fine = GIVEN
    if subject.has_auto:
        try:
            subject.gradients("auto", subject.fine)
        except Exception as error:
            if subject.strict:
                return (Finding("automatic", "FAIL", detail=f"JAX's own gradient raises {first_line(error)}"),)
            subject.drop_auto(f"JAX's own derivative cannot be had: {first_line(error)}")
    return _undefined(subject) if subject.has_auto else ()


def _undefined(subject: Subject) -> tuple[Finding, ...]:
    """Where JAX's own derivative is not finite: the rule's is judged by differences, or is not defined either."""
    pairs = list(zip(*(subject.gradients(mode, subject.fine)[1] for mode in ("hand", "auto")), strict=True))
    if all(np.isfinite(a).all() for _, a in pairs):
        return ()
    if all(np.isfinite(h).all() for h, _ in pairs):
        subject.drop_auto("JAX's own derivative is NaN or infinite at this point")
        return ()
    if any((~np.isfinite(h) & np.isfinite(a)).any() for h, a in pairs):
        return ()  # the checks will say so
    findings, noise = [], subject.noise(subject.fine)[1]
    for i, (path, (h, a)) in enumerate(zip(subject.paths, pairs, strict=True)):
        defined = np.isfinite(h) & np.isfinite(a)
        error, limit = largest(gap(h[defined], a[defined])), subject.limit(h, largest(a), noise[i])
        if error > limit:
            findings.append(Finding("automatic", "FAIL", path, "where JAX's own derivative is finite", error, limit))
        elif not defined.all():
            where = tuple(int(k) for k in np.argwhere(~defined)[0])
            detail = (
                f"undefined here: the derivative in {path} at {where} is {a[where]} by JAX and {h[where]} by the rule"
            )
            findings += _cannot("automatic", f"{detail}; choose another point", path)
    return tuple(findings)


def _raises_without_rules(subject: Subject, error: Exception) -> bool:
    """Whether the gradient raises the same once every custom rule is dissolved."""
    try:
        f = pull(automatic(subject.functions["hand"]))
        subject.run(GIVEN, f, subject.given, subject.cotangents(0, GIVEN))
    except Exception as other:
        return type(other) is type(error) and first_line(other) == first_line(error)
    return False


def _cannot(check: str, why: str, leaf: str = "") -> tuple[Finding, ...]:
    return (Finding(check, "CANNOT", leaf, why),)


def _misses_arguments(error: Exception) -> bool:
    return isinstance(error, TypeError) and "missing" in str(error) and "argument" in str(error)
