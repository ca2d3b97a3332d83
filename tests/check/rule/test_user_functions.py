"""`check_vjp` on functions of users: no false alarm, no miss; solvers, tolerances, time, and mistakes in words."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import fnn
from fnn import check
from fnn.check.automatic import automatic
from fnn.check.command import main as cli
from fnn.check.finding import WIDTH
from fnn.check.rule.numeric import Numeric, OutOfTimeError
from fnn.check.rule.subject import Subject
from tests.broken import VALUES, findings, ruled, says, sine, times, unary
from tests.user_functions import RIGHT, WRONG, A, X, Y, by_half, fixed_point

CHECKS = ("primal", "automatic", "linear", "differences", "coordinates", "kinks")
# One of each kind that was once told wrong; all of them with --full.
FEW = ("float16 inside", "an implicit rule to 1e-7", "a linear solve")


def judged(f, args, **options):
    report = check.check_vjp(f, *args, **options)
    assert max(map(len, str(report).splitlines())) <= WIDTH
    return report


class TestUserFunctions:
    @pytest.mark.parametrize("name", FEW)
    def test_right(self, name):
        report = judged(*RIGHT[name], checks=CHECKS)
        assert report.verdict == "right", str(report)

    @pytest.mark.parametrize("name", ["straight-through", "an implicit rule off by 1 %", "in a linear solve"])
    def test_wrong(self, name):
        assert judged(*WRONG[name], checks=CHECKS).verdict == "wrong"

    @pytest.mark.long
    @pytest.mark.parametrize("name", RIGHT)
    def test_every_right_one(self, name):
        report = judged(*RIGHT[name], quick=True)
        assert report.verdict == "right", str(report)

    @pytest.mark.long
    @pytest.mark.parametrize("name", WRONG)
    def test_every_wrong_one(self, name):
        assert judged(*WRONG[name], quick=True).verdict == "wrong"


# Functions of JAX whose programs carry others: each has an automatic derivative that judges.
CARRIERS = {
    "solve": (jnp.linalg.solve, (A, X)),
    "inv": (jnp.linalg.inv, (A,)),
    "det": (jnp.linalg.det, (A,)),
    "slogdet": (lambda a: jnp.linalg.slogdet(a)[1], (A,)),
    "lstsq": (lambda a, b: jnp.linalg.lstsq(a, b)[0], (A, X)),
    "svd": (lambda a: jnp.linalg.svd(a, compute_uv=False), (A,)),
    "qr": (lambda a: jnp.linalg.qr(a)[1], (A,)),
    "expm": (jax.scipy.linalg.expm, (A / 8,)),
    "a solve in a scan": (
        lambda a: lax.scan(lambda c, _: (jnp.linalg.solve(a, c), None), X, None, length=2)[0],
        (A,),
    ),
    "a solve in vmap and checkpoint": (jax.vmap(jax.checkpoint(jnp.linalg.solve)), (A[None], X[None, :, None])),
    "a root": RIGHT["a root"],
    "associative_scan": (lambda x: lax.associative_scan(jnp.multiply, x), (X,)),
    "switch": (lambda x: lax.switch(1, [jnp.sin, jnp.cos], x), (X,)),
    "fori_loop": (lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c), x), (X,)),
    "cumulative sums": (lambda x: lax.cumlogsumexp(x) + lax.cumprod(x) + lax.cummax(x), (X,)),
    "top_k": (lambda x: lax.top_k(x, 2), (X,)),
    "jax.nn": (lambda x: jax.nn.softplus(jax.nn.log_softmax(jax.nn.celu(x))) + jax.nn.logsumexp(x), (X,)),
}
FEW_CARRIERS = ("solve", "a solve in a scan", "a root")


class TestAutomatic:
    @pytest.mark.parametrize(
        "name", [name if name in FEW_CARRIERS else pytest.param(name, marks=pytest.mark.long) for name in CARRIERS]
    )
    def test_judges_what_carries_programs(self, name):
        f, args = CARRIERS[name]
        (finding,) = findings(judged(f, args, checks=("automatic",)), "automatic")
        assert finding.verdict == "pass", finding

    def test_finds_a_rule_in_a_linear_solve(self):
        @jax.custom_vjp
        def apply(v):
            return A @ v

        apply.defvjp(lambda v: (A @ v, None), lambda _, dy: (0 * dy,))

        def f(b):
            return lax.custom_linear_solve(
                lambda v: A @ v,
                b,
                lambda _, b: jnp.linalg.solve(A, apply(b)),
                lambda _, b: jnp.linalg.solve(A.T, b),
            )

        text = str(jax.make_jaxpr(automatic(f))(X))
        assert "custom_linear_solve" in text
        assert "custom_vjp" in str(jax.make_jaxpr(f)(X))
        assert "custom_vjp" not in text


def rotated(slope):
    return unary(lambda x: jnp.exp(1j * x), slope)


def singular_values(a):
    return jnp.linalg.svd(a, compute_uv=False)


class TestComplex:
    """The real and the imaginary part of an output are two outputs; an argument is held fixed beside real ones."""

    def test_outputs(self):
        right = rotated(lambda x, dy: (dy * 1j * jnp.exp(1j * x)).real)
        half = rotated(lambda x, dy: -dy.real * jnp.sin(x))
        assert judged(jnp.fft.fft, (X,), quick=True).verdict == "right"
        assert judged(right, (X,), quick=True).verdict == "right"
        assert judged(half, (X,), quick=True).verdict == "wrong"

    def test_arguments(self):
        report = judged(lambda z, x: jnp.abs(z) * jnp.sin(x), (X + 1j, X), checks=(*CHECKS, "cotangents"))
        assert report.verdict == "right"
        assert "complex64: held fixed, it has no gradient" in says(report, "cotangents")


class TestMeetingSlopes:
    @pytest.mark.parametrize("f", [jnp.linalg.eigvalsh, singular_values])
    def test_equal_values_have_no_derivative(self, f):
        assert judged(f, (jnp.eye(3),), quick=True).verdict == "not checked"
        assert judged(f, (A,), quick=True).verdict == "right"

    def test_a_wrong_rule_is_wrong_there_too(self):
        values = lambda a: jnp.linalg.eigvalsh(a)  # noqa: E731 - custom_vjp would hand on its default arguments
        doubled = ruled(values, lambda args, dy: (2 * jax.vjp(values, *args)[1](dy)[0],))
        assert judged(doubled, (jnp.eye(3),), quick=True).verdict == "wrong"

    def test_outputs_beside_an_arbitrary_one_are_judged(self):
        def both(x):
            return jnp.stack([jnp.where(x == 0, 0.0, 3 * x + jnp.abs(x)), jnp.abs(x)])

        slope = lambda x: jnp.where(x == 0, jnp.array([0.0, 1.5]), jnp.array([3 + jnp.sign(x), jnp.sign(x)]))  # noqa: E731
        wrong = unary(both, lambda x, dy: dy @ slope(x))
        assert judged(wrong, (jnp.array(0.0),), checks=("jacobian",)).verdict == "wrong"


class TestSolvers:
    def test_tolerance(self):
        slightly = times(1 + 1e-6)
        report = check.check_vjp(slightly, X, checks=VALUES)
        assert "pass tolerance=" in report.findings[-1].detail
        assert check.check_vjp(slightly, X, checks=VALUES, tolerance=1e-5)
        assert not check.check_vjp(times(1.001), X, checks=VALUES, tolerance=1e-5)

    def test_loops_that_count_excuse_nothing(self):
        def summed(x, n):
            return lax.fori_loop(0, n, lambda i, s: s + jnp.sin(x[i]), 0.0)

        for slope, verdict in ((1.0, "right"), (1.001, "wrong")):
            f = jax.custom_vjp(summed)
            f.defvjp(
                lambda x, n: (summed(x, n), (x, n)),
                lambda r, dy, slope=slope: (slope * dy * jnp.cos(r[0]) * (jnp.arange(r[0].size) < r[1]), None),
            )
            assert check.check_vjp(f, X, jnp.array(2), checks=VALUES).verdict == verdict

    def test_loops_are_not_run_in_less_precision(self):
        report = check.check_vjp(fixed_point(), jnp.array(0.7), checks=("precision",))
        assert "may never be" in says(report, "precision")

    def test_cotangents_fit_the_narrowest_dtype(self):
        clips = unary(by_half, lambda x, dy: jax.vjp(by_half, x)[1](jnp.clip(dy, -8, 8))[0])
        assert check.check_vjp(by_half, X, checks=("linear",))
        assert not check.check_vjp(clips, X, checks=("linear",))


class TestTime:
    def test_what_is_left_out_is_said(self):
        report = check.check_vjp(sine(), X, seconds=1e-6)
        assert report.verdict == "not checked"
        assert {f.detail for f in report.findings if f.verdict == "skip"} == {
            "left out, 1e-06 seconds are over: seconds=None has no limit"
        }

    def test_it_ends_within_a_check(self):
        numeric = Numeric(Subject(jnp.sin, None, None, (X,), 0, False), False, 0.0)
        with pytest.raises(OutOfTimeError):
            numeric.at(0, [0])

    def test_user_mistakes_are_named(self):
        for seconds in (0, -1, "60"):
            with pytest.raises(fnn.InputError, match="check_vjp expected seconds > 0"):
                check.check_vjp(sine(), X, seconds=seconds)
        for tolerance in (-1, 1, "1e-5", float("nan")):
            with pytest.raises(fnn.InputError, match="check_vjp expected a tolerance from 0 to 1"):
                check.check_vjp(sine(), X, tolerance=tolerance)


def faulty(bwd=lambda r, dy: (dy * r[1], dy * r[0]), fwd=lambda x, y: (x * y, (x, y))):
    f = jax.custom_vjp(lambda x, y: x * y)
    f.defvjp(fwd, bwd)
    return f


class Box:
    """No pytree."""


SLIPS = {
    "an array": (faulty(lambda r, dy: dy * r[1]), "bwd returns one array: return a tuple"),
    "a dict": (faulty(lambda r, dy: {"x": dy, "y": dy}), "bwd returns a dict: return a tuple"),
    "too few": (faulty(lambda r, dy: (dy,)), "too many or too few gradients"),
    "too many": (faulty(lambda r, dy: (dy, dy, dy)), "too many or too few gradients"),
    "a shape": (faulty(lambda r, dy: (dy[:2], dy)), "bwd returns float32[2] as gradient 0 (counted from 0)"),
    "a float": (faulty(lambda r, dy: (1.0, dy)), "bwd returns float32[] as gradient 0"),
    "a dtype": (
        faulty(lambda r, dy: (dy.astype(jnp.bfloat16), dy)),
        "bwd returns bfloat16(3,) for an argument float32",
    ),
    "integers": (
        faulty(lambda r, dy: (dy.astype(int), dy)),
        "bwd returns int32(3,) for an argument float32",
    ),
    "bwd of one": (faulty(lambda dy: (dy, dy)), "bwd takes the nondiff_argnums, residuals, cotangent"),
    "bwd of three": (faulty(lambda n, r, dy: (dy, dy)), "bwd takes the nondiff_argnums, residuals, cotangent"),
    "fwd of one": (faulty(fwd=lambda x: (x, (x, x))), "fwd takes what f takes"),
    "only the output": (faulty(fwd=lambda x, y: x * y), "fwd must return a pair"),
    "three of fwd": (faulty(fwd=lambda x, y: (x * y, x, y)), "fwd must return a pair"),
    "residuals first": (faulty(fwd=lambda x, y: ((x, y), x * y)), "fwd returns another output than the function"),
    "a sum by fwd": (faulty(fwd=lambda x, y: ((x * y).sum(), (x, y))), "fwd returns another output than the function"),
    "no pytree": (faulty(fwd=lambda x, y: (x * y, Box())), "fwd keeps something that is no array"),
    "an error": (faulty(lambda r, dy: 1 / 0), "the gradient raises ZeroDivisionError: division by zero"),
}


class TestMistakes:
    @pytest.mark.parametrize("name", SLIPS)
    def test_in_words(self, name):
        f, sentence = SLIPS[name]
        report = judged(f, (X, Y), checks=("cotangents",))
        assert report.verdict == "wrong"
        assert sentence in report.findings[0].detail

    def test_no_rule_yet(self):
        report = judged(jax.custom_vjp(lambda x: x), (X,))
        assert report.verdict == "not checked"
        assert "call f.defvjp(fwd, bwd)" in report.findings[0].detail

    def test_a_fwd_that_calls_the_function_is_no_fault_of_the_rule(self):
        """As JAX's documentation writes it; scan's second derivatives are then wrong in JAX itself."""
        for factor, verdict in ((1, "right"), (2, "wrong")):
            f = jax.custom_vjp(lambda a: jnp.linalg.slogdet(a)[1])
            f.defvjp(lambda a, f=f: (f(a), a), lambda a, dy, s=factor: (s * dy * jnp.linalg.inv(a).T,))
            report = judged(f, (A,), checks=("automatic", "pairs"))
            assert report.verdict == verdict
            note = next(finding for finding in report.findings if finding.check == "pairs")
            assert note.verdict == "note"
            assert "call the plain formula in fwd" in note.detail

    def test_right_for_jax(self):
        assert judged(faulty(lambda r, dy: [dy * r[1], dy * r[0]]), (X, Y), checks=("cotangents", *VALUES))
        forgotten = judged(faulty(lambda r, dy: (None, dy * r[0])), (X, Y), checks=("automatic",))
        assert forgotten.diagnosis == ("x: the gradient is all zeros.",)


class TestOutcomes:
    def test_rules_by_themselves(self):
        relu = fnn.rules()["relu"]
        assert check.check_rule(relu, cases=[0], checks=("zero",), tolerance=1e-6).name == "relu"
        assert check.check_all(names=[relu], checks=("zero",), quick=True)
        assert check.explain(relu).name == "relu"

    def test_suites_and_exit_status(self, capsys):
        right, wrong, unknown = (
            check.Report(name, findings=(check.Finding("primal", verdict, "", "why"),))
            for name, verdict in (("a", "pass"), ("b", "FAIL"), ("c", "CANNOT"))
        )
        for reports, verdict, status in (
            ((right,), "right", 0),
            ((right, unknown), "not checked", 2),
            ((unknown, right, wrong), "wrong", 1),
        ):
            suite = check.Suite("all", reports)
            assert suite.verdict == json.loads(suite.to_json())["verdict"] == verdict
            assert bool(suite) is (verdict == "right")
            assert cli._print(suite, None) == status
        assert "NOT CHECKED, neither right nor wrong: why" in capsys.readouterr().out
        with pytest.raises(check.NotCheckedError):
            check.Suite("all", (right, unknown)).raise_if_wrong()
        with pytest.raises(check.GradientError):
            check.Suite("all", (unknown, wrong)).raise_if_wrong()

    def test_tables_are_narrow(self):
        leaf = check.Leaf("params/" + "layer/" * 20, (128, 128), "float32", *[1.0] * 4, (0, 0), 1.0, 1.0, 1.0, "agree")
        finding = check.Finding("automatic", "FAIL", leaf.path, "word " * 90, 1.0, 1.0)
        text = str(check.Report("long", (leaf,), (finding,), ("word " * 90,)))
        assert max(map(len, text.splitlines())) <= WIDTH
        assert text.count("word") == 180
