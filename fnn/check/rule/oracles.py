"""Checks free of differences: against JAX's own derivative, against arithmetic, and against the rule itself.

With J the Jacobian at the point, and J' the rule:  <v, J' dy> = <J v, dy>,   J'(a dy) = a J' dy,   J' 0 = 0.
"""

import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from fnn.check.arrays import pull
from fnn.check.finding import Finding, first_line
from fnn.check.rule.numeric import Numeric
from fnn.check.rule.subject import GIVEN, Arrays, Subject
from fnn.check.tolerance import Row, conclude, eps_of, gap, largest, largest_gap, limit_of

# Powers of two scale a float exactly, and 2^20 is large enough to meet a rule that clips its cotangent at 1e5. A
# quarter of the exponents of the narrowest dtype leaves room for the gradient: 2^4 in float16.
_MOST_SCALE, _SHARE = 20, 4


def check_primal(numeric: Numeric) -> Iterator[Finding]:
    """The value is the same with and without differentiation, by JAX, and by the textbook formula."""
    subject = numeric.subject
    by_hand, _ = subject.gradients("hand", subject.fine)
    noise, _ = subject.noise(subject.fine)
    point = subject.at(subject.fine)
    others = {"without differentiation": numeric.center()}
    if subject.has_auto:
        others["by the automatic form"] = subject.gradients("auto", subject.fine)[0]
    if "reference" in subject.functions and not numeric.quick:
        others["by the reference"] = subject.run(subject.fine, subject.functions["reference"], point)
    rows = []
    for name, ys in others.items():
        if len(ys) != len(by_hand):
            yield Finding("primal", "FAIL", detail=f"{len(by_hand)} float outputs by fwd, {len(ys)} {name}")
            continue
        for i, (a, b) in enumerate(zip(by_hand, ys, strict=True)):
            what = f"output {i}: fwd against {name}"
            if a.shape != b.shape or a.dtype != b.dtype:
                kinds = f"{a.dtype}{a.shape} by fwd, {b.dtype}{b.shape} {name}"
                yield Finding("primal", "FAIL", detail=f"output {i}: {kinds}")
                continue
            limit = subject.limit(a, max(largest(a), largest(b)), noise[i])
            rows.append(Row(f"output {i}", largest_gap(a, b), limit, what))
    yield from conclude("primal", rows, "no float output")


def check_automatic(numeric: Numeric) -> Iterator[Finding]:
    """Every entry of every gradient, in float64, against JAX; once more at integers, where ties and zeros live."""
    subject = numeric.subject
    if not subject.has_auto:
        yield Finding("automatic", "skip", detail=f"{subject.reason}; differences judge alone")
        return
    _, hand = subject.gradients("hand", subject.fine)
    _, auto = subject.gradients("auto", subject.fine)
    noise = subject.noise(subject.fine)[1]
    rows = [
        gradient_row(numeric, i, h, a, subject.limit(h, largest(a), noise[i]), "")
        for i, (h, a) in enumerate(zip(hand, auto, strict=True))
    ]
    for path in subject.paths:
        numeric.judged[path].add("automatic")
    if subject.strict:
        floats, dy = integers(subject)
        there = [subject.pull(mode, GIVEN, floats, dy)[1] for mode in ("hand", "auto")]
        for path, h, a in zip(subject.paths, *there, strict=True):
            limit = subject.limit(h, largest(a), 8 * eps_of(h.dtype.name) * largest(a))
            rows.append(Row(path, largest_gap(h, a), limit, "at integers, with ties and zeros"))
    yield from conclude("automatic", rows, "nothing to differentiate")


def check_adjoint(numeric: Numeric) -> Iterator[Finding]:
    """<v, J' dy> = <J v, dy> with J v by JAX's forward mode, leaf by leaf, at full size."""
    subject = numeric.subject
    if not subject.has_auto:
        yield Finding("adjoint", "skip", detail="forward mode needs a form that JAX can differentiate")
        return
    f = subject.functions["auto"]
    push = subject.jit(lambda x, v: jax.jvp(f, (x,), (v,))[1])
    point, dy = subject.at(subject.fine), subject.cotangents(0, subject.fine)
    _, grads = subject.gradients("hand", subject.fine)
    noise, rows = subject.noise(subject.fine)[1], []
    values, _ = subject.gradients("hand", subject.fine)
    outputs = sum(float(np.sum(np.abs(d * y), where=np.isfinite(y))) for d, y in zip(dy, values, strict=True))
    for i, path in enumerate(subject.paths):
        v = tuple(d.astype(a.dtype) for d, a in zip(subject.signs(7, i), point, strict=True))
        try:
            tangents = subject.run(subject.fine, push, point, v)
        except Exception as error:
            if subject.strict:
                raise
            yield Finding("adjoint", "skip", detail=f"JAX has no forward mode here: {first_line(error)}")
            return
        there = [d.astype(np.float64) * t for d, t in zip(dy, tangents, strict=True)]
        here = grads[i].astype(np.float64) * v[i]
        # Terms as large as the outputs may have cancelled on the way.
        sizes = float(np.abs(here).sum()) + sum(float(np.abs(t).sum()) for t in there) + outputs
        off = abs(float(here.sum()) - sum(float(t.sum()) for t in there))
        limit = subject.limit(grads[i], sizes, noise[i])
        free = subject.strict or not numeric.meets_kink(i, off > limit)
        if free and grads[i].size:
            rows.append(Row(path, np.inf if np.isnan(off) else off, limit, "<v, J' dy> against <J v, dy>"))
    yield from conclude("adjoint", rows, "every leaf is empty or lies at kinks")


def check_linear(numeric: Numeric) -> Iterator[Finding]:
    """The gradient is linear in the cotangent: sums and large and small multiples."""
    subject = numeric.subject
    point, rows = subject.at(subject.fine), []
    first, second = (subject.cotangents(number, subject.fine) for number in (0, 1))
    here, there = (subject.gradients("hand", subject.fine, number)[1] for number in (0, 1))
    both = tuple(2 * a - b for a, b in zip(first, second, strict=True))
    trials = [("2 u - w", both, tuple(2 * a - b for a, b in zip(here, there, strict=True)))]
    exponent = min(_MOST_SCALE, *(jnp.finfo(name).maxexp // _SHARE for name in subject.dtypes))
    for scale in (2.0**exponent, 2.0**-exponent):
        scaled = tuple(scale * a for a in first)
        trials.append((f"{scale:g} u", scaled, tuple(scale * a for a in here)))
    for name, dy, want in trials:
        got = subject.pull("hand", subject.fine, point, dy)[1]
        size = max((largest(d) for d in dy), default=1.0)
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            peaks = max(largest(w), largest(g), largest(here[i]) * size)
            limit = subject.limit(g, peaks, subject.noise(subject.fine)[1][i] * size)
            row = Row(subject.paths[i], largest_gap(g, w), limit, f"for a cotangent {name}")
            if row.ok or not _as_jax_does(subject, dy, i, g, limit):
                rows.append(row)
    yield from conclude("linear", rows, "nothing to differentiate")


def _as_jax_does(subject: Subject, dy: Arrays, i: int, g: np.ndarray, limit: float) -> bool:
    """Whether JAX's own derivative of a user's function is as far off: it overflows, or a solver stops too early."""
    if subject.strict or not subject.has_auto:
        return False
    auto = subject.pull("auto", subject.fine, subject.at(subject.fine), dy)[1][i]
    return bool(largest_gap(g, auto) <= limit)


def check_zero(numeric: Numeric) -> Iterator[Finding]:
    """A zero cotangent gives exactly zero."""
    subject = numeric.subject
    zero = tuple(np.zeros_like(d) for d in subject.cotangents(0, subject.fine))
    got = subject.pull("hand", subject.fine, subject.at(subject.fine), zero)[1]
    rows = [
        Row(path, largest_gap(g, np.zeros_like(g)), 0.0, "for a zero cotangent")
        for path, g in zip(subject.paths, got, strict=True)
    ]
    yield from conclude("zero", rows, "nothing to differentiate")


def check_exact(numeric: Numeric) -> Iterator[Finding]:
    """Bit for bit at small integers, where JAX's result is exact in the given precision."""
    subject = numeric.subject
    if not subject.has_auto:
        yield Finding("exact", "skip", detail="needs a form that JAX can differentiate")
        return
    floats, dy = integers(subject)
    wider = subject.output_dtypes(subject.fine)
    fine = subject.refined(floats), tuple(d.astype(t) for d, t in zip(dy, wider, strict=True))
    wide = subject.pull("auto", subject.fine, *fine) if subject.fine == "float64" else None
    narrow = subject.pull("auto", GIVEN, floats, dy)
    same = wide is not None and all(
        np.array_equal(a.astype(np.float64), b)
        for w, n in zip(wide, narrow, strict=True)
        for a, b in zip(n, w, strict=True)
    )
    if wide is None or not same or not all(_dyadic(a) for part in wide for a in part):
        yield Finding("exact", "skip", detail="not exact at integers: it rounds")
        return
    hand = subject.pull("hand", GIVEN, floats, dy)
    names = [[f"output {i}" for i in range(len(hand[0]))], subject.paths]
    rows = [
        Row(path, largest_gap(h, n), 0.0, "at integers, bit for bit")
        for part in (0, 1)
        for path, h, n in zip(names[part], hand[part], narrow[part], strict=True)
    ]
    if subject.strict or all(row.ok for row in rows):
        yield from conclude("exact", rows, "nothing to compare")
    else:
        # Sums in another order, by FFT say, are right and not exact; at ties several derivatives are.
        far = any(
            row.error > limit_of("float32", largest(a)) for row, a in zip(rows, (*narrow[0], *narrow[1]), strict=True)
        )
        reason = "ties, or wrong there: check such a point" if far else "it rounds where JAX does not"
        yield Finding("exact", "note", detail=f"differs from JAX at small integers: {reason}")


def check_deterministic(numeric: Numeric) -> Iterator[Finding]:
    """The same bits twice: compiled, and traced anew, so that hidden counters and random numbers show."""
    subject = numeric.subject
    point, dy = subject.given, subject.cotangents(0, GIVEN)
    if not subject.compiled:
        yield from _twice_op_by_op(subject)
        return
    compiled = [subject.pull("hand", GIVEN, point, dy) for _ in range(2)]
    effects, *traced = [subject.in_precision(GIVEN, f, subject) for f in (_effects_of, program_of, program_of)]
    if effects:
        yield Finding("deterministic", "note", detail=f"the function has side effects: {effects}")
    for part, name in ((0, "outputs"), (1, "gradients")):
        for a, b in zip(compiled[0][part], compiled[1][part], strict=True):
            if a.tobytes() != b.tobytes():
                yield Finding(
                    "deterministic", "FAIL", detail=f"{name} differ between two calls with the same arguments"
                )
                return
    if traced[0] != traced[1]:
        yield Finding("deterministic", "FAIL", detail="two traces give different programs: hidden state or randomness")
        return
    yield Finding("deterministic", "pass")


def _twice_op_by_op(subject: Subject) -> Iterator[Finding]:
    both = [subject.pull("hand", GIVEN, subject.given, subject.cotangents(0, GIVEN)) for _ in range(2)]
    bits = [[a.tobytes() for part in pair for a in part] for pair in both]
    same = bits[0] == bits[1]
    yield Finding(
        "deterministic", "pass" if same else "FAIL", detail="" if same else "two calls give different results"
    )


def program_of(subject: Subject) -> str:
    """The program of forward and backward as text, constants included, addresses left out."""
    closed = jax.make_jaxpr(pull(subject.functions["hand"]))(subject.given, subject.cotangents(0, GIVEN))
    return re.sub(r"0x[0-9a-f]+", "", str(closed)) + "".join(map(_bits, closed.consts))


def _bits(constant: object) -> str:
    if isinstance(constant, jax.Array) and jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
        constant = jax.random.key_data(constant)
    return np.asarray(constant).tobytes().hex() if isinstance(constant, np.ndarray | jax.Array) else ""


def _effects_of(subject: Subject) -> str:
    closed = jax.make_jaxpr(subject.functions["hand"])(subject.given)
    return ", ".join(sorted(type(effect).__name__ for effect in closed.effects))


def integers(subject: Subject) -> tuple[Arrays, Arrays]:
    """The given point as small integers, with ties, and zeros where signs are mixed; integer cotangents, none zero.

    Integers stay what they are (labels of -1 and 1), probabilities become certainties, positive numbers stay positive.
    """

    def rounded(a: np.ndarray) -> np.ndarray:
        wide = a.astype(np.float64)
        if a.size and np.all(wide >= 0):
            if a.ndim and np.allclose(wide.sum(-1), 1.0, atol=1e-2):
                return (a == a.max(-1, keepdims=True)).astype(a.dtype)
            return np.ceil(2 * wide).clip(1, 4).astype(a.dtype)
        if np.array_equal(wide, np.round(wide)):
            return a
        near = np.round(2 * wide).clip(-4, 4)
        if np.all(near):
            near.flat[0] = 0
        return (near + 0.0).astype(a.dtype)  # no -0.0, which JAX tells from 0

    rng = np.random.default_rng([subject.seed, 5])
    dy = [rng.integers(1, 4, shape) * rng.choice([-1, 1], shape) for shape in subject.shapes]
    return tuple(map(rounded, subject.given)), tuple(
        d.astype(t) for d, t in zip(dy, subject.output_dtypes(GIVEN), strict=True)
    )


def _dyadic(a: np.ndarray) -> bool:
    """Whether every entry is an integer over 256 of moderate size: what exact arithmetic leaves of small integers."""
    scaled = a.astype(np.float64) * 256
    return bool(np.all(np.isfinite(scaled)) and np.all(scaled == np.round(scaled)) and np.all(np.abs(scaled) < 2**24))


def gradient_row(numeric: Numeric, i: int, h: np.ndarray, a: np.ndarray, limit: float, detail: str) -> Row:
    """Leaf i of two gradients; for a user's function, entries at kinks do not count."""
    distance = gap(h, a).ravel()
    beyond = np.flatnonzero(distance > limit)
    if not numeric.subject.strict and beyond.size:
        distance = distance.copy()
        distance[numeric.at_kinks(i, beyond)] = 0.0  # several derivatives are right there, and "kinks" judges
    return Row(numeric.subject.paths[i], float(np.max(distance, initial=0.0)), limit, detail)
