"""Does the rule survive two transformations at once: second derivatives through a loop, against those outside it.

Each of them alone may be right. JAX splits a loop into what is known and what is linear; a `custom_jvp` is lost there,
and what stands under it is differentiated the second time: another slope, or a `while_loop`, which has none backwards.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax import lax

from fnn.check.arrays import pull
from fnn.check.automatic import has_a_rule
from fnn.check.finding import Finding, first_line
from fnn.check.rule.numeric import Numeric
from fnn.check.rule.subject import Subject
from fnn.check.tolerance import Row, conclude, largest, largest_gap
from fnn.core.program import equations

# Seen in JAX 0.10.2 and 0.12, without fnn: scan's own counter, or another point, in the place of the residual.
_JAX_IS_WRONG = (
    "fwd calls the decorated function: there JAX mixes residuals up where a loop is differentiated twice, "
    "whatever the rule; call the plain formula in fwd"
)
# Of a function of one point one of two, stacked.
_PLACES = {
    "scan": lambda f: lambda points: lax.map(f, points),
    "remat in scan under vmap": lambda f: jax.vmap(lambda point: _first(lax.map(jax.checkpoint(f), _alone(point)))),
}


def check_pairs(numeric: Numeric) -> Iterator[Finding]:
    """Reverse mode through value and gradient of a loop over two points: what it is at each of them outside."""
    subject, found = numeric.subject, list(_compared(numeric))
    wrong = not subject.strict and any(finding.verdict == "FAIL" for finding in found)
    if wrong and _fwd_calls_a_rule(subject):
        found = [Finding("pairs", "note", detail=_JAX_IS_WRONG)]
    elif wrong and any(numeric.meets_kink(i) for i in range(len(subject.given))):
        found = [Finding("pairs", "note", detail="the point lies at kinks, where second derivatives do not exist")]
    yield from found


def _fwd_calls_a_rule(subject: Subject) -> bool:
    """Whether a `custom_vjp` is left in the program once each has put its `fwd` there: `fwd` made the call."""
    point = subject.at(subject.fine)
    program = subject.in_precision(
        subject.fine, jax.make_jaxpr(lambda point: jax.vjp(subject.functions["hand"], point)[0]), point
    )
    return any("custom_vjp" in eqn.primitive.name and has_a_rule(eqn) for eqn in equations(program.jaxpr))


def _compared(numeric: Numeric) -> Iterator[Finding]:
    subject = numeric.subject
    if not subject.compiled:
        yield Finding("pairs", "skip", detail="the function cannot be compiled: it looks at values")
        return
    f, dtype = subject.functions["hand"], subject.fine
    point, dy = subject.at(dtype), subject.cotangents(0, dtype)
    both = tuple(tuple(np.stack([a, a]) for a in arrays) for arrays in (point, dy))

    def alone(error: Exception) -> Finding:
        return Finding("pairs", "skip", detail=f"one of the two alone is not supported: {first_line(error)}")

    try:
        want = subject.run(dtype, jax.jit(_again(f)), point, dy)
    except Exception as error:
        yield alone(error)
        return
    want = tuple(np.stack([a, a]) for a in want)
    rows = []
    for name, place in _PLACES.items():
        try:
            got = subject.run(dtype, jax.jit(_again(place(f))), *both)
        except Exception as error:
            detail = f"second derivatives and {name}: each is supported, both raise {first_line(error)}"
            try:
                subject.run(dtype, jax.jit(pull(place(f))), *both)
            except Exception as first:
                yield alone(first)
            else:
                yield Finding("pairs", "FAIL", detail=detail)
            return
        # What is lost in a loop is no matter of digits.
        peak = max(map(largest, (*want, *dy)), default=0.0)
        limit = float(np.sqrt(subject.eps)) * peak
        rows += [
            Row(path, largest_gap(a, b), limit, f"second derivatives in {name}")
            for path, a, b in zip(subject.paths, got, want, strict=True)
        ]
    yield from conclude("pairs", rows, "nothing to compare")


def _again(f: Callable) -> Callable:
    """The gradient of the sum of squares of value and gradient: of the value too, as the rule's `fwd` computes it."""

    def run(point: tuple, dy: tuple) -> tuple:
        found, back = jax.vjp(lambda point: pull(f)(point, dy), point)
        return back(jax.tree.map(lambda a: 2 * a, found))[0]

    return run


def _alone(point: tuple) -> tuple:
    return jax.tree.map(lambda a: a[None], point)


def _first(y: tuple) -> tuple:
    return jax.tree.map(lambda a: a[0], y)
