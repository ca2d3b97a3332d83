"""`check_vjp` on pytrees, odd arguments and functions that cannot be checked; what reports say."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import check
from fnn.check.rule.subject import Subject
from tests.broken import VALUES, failed, findings, on_the_host, ruled, says, sine, times, unary

X = jnp.array([0.3, -1.2, 2.0])


class TestTrees:
    @staticmethod
    def layer(p, x, labels, key, name):
        kept = x * jax.random.bernoulli(key, jnp.float32(0.5), x.shape)
        return {"y": kept @ p["kernel"] + p["bias"], "size": labels.size, "name": name}, (jnp.sum(x), labels + 1)

    def test_leaves_have_names_and_others_are_held_fixed(self):
        p = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2), "none": None}
        report = check.check_vjp(self.layer, p, X, jnp.arange(2), jax.random.key(0), "a", quick=True)
        assert report, str(report)
        assert [leaf.path for leaf in report.leaves] == ["p/bias", "p/kernel", "x"]
        skipped = {f.leaf: f.detail for f in findings(report, "cotangents") if f.verdict == "skip"}
        assert skipped["labels"].startswith("int32: held fixed")
        assert skipped["key"].startswith("a random key: held fixed")
        assert skipped["name"].startswith("str: held fixed")

    def test_one_wrong_leaf_is_named(self):
        f = ruled(lambda p, x: p["a"] * x + p["b"], lambda r, dy: ({"a": dy * r[1], "b": -dy}, dy * r[0]["a"]))
        report = check.check_vjp(f, {"a": X, "b": X}, X + 1, quick=True)
        assert {finding.leaf for finding in report.failures()} == {"p/b"}
        assert {leaf.path: leaf.verdict for leaf in report.leaves} == {"p/a": "agree", "p/b": "DIFFER", "x": "agree"}
        assert report.leaves[1].culprit == "hand"
        assert report.leaves[1].hand == pytest.approx(-report.leaves[1].auto)
        assert report.leaves[1].numeric == pytest.approx(report.leaves[1].auto)

    def test_small_leaves_do_not_hide_behind_large_ones(self):
        f = ruled(lambda a, b: 1e6 * a + 1e-6 * b, lambda r, dy: (1e6 * dy, 1.001e-6 * dy))
        report = check.check_vjp(f, X, X, quick=True)
        assert {finding.leaf for finding in report.failures()} == {"b"}

    def test_several_outputs(self):
        def both(x):
            return {"sum": jnp.sum(x**2), "sin": jnp.sin(x)}

        right = ruled(both, lambda r, dy: (2 * dy["sum"] * r[0] + dy["sin"] * jnp.cos(r[0]),))
        assert check.check_vjp(right, X, checks=(*VALUES, "cotangents", "jacobian", "linear", "zero"))
        forgets = ruled(both, lambda r, dy: (2 * dy["sum"] * r[0],))
        assert failed(check.check_vjp(forgets, X, checks=(*VALUES, "cotangents"))) == set(VALUES)
        assert "output" in says(check.check_vjp(forgets, X, checks=("jacobian",)), "jacobian")

    def test_symbolic_zeros(self):
        """Only the second output's cotangent is read; where it is a symbolic zero the rule returns nonsense."""

        @jax.custom_vjp
        def both(x):
            return jnp.sin(x), jnp.cos(x)

        def bwd(x, dy):
            zero = isinstance(dy[1], jax.custom_derivatives.SymbolicZero)
            return (dy[0] * jnp.cos(x) * (2 if zero else 1) - (0 if zero else dy[1] * jnp.sin(x)),)

        both.defvjp(lambda x: ((jnp.sin(x.value), jnp.cos(x.value)), x.value), bwd, symbolic_zeros=True)
        report = check.check_vjp(both, X, checks=(*VALUES, "cotangents"))
        assert failed(report) == {"cotangents"}
        assert "one output alone" in says(report, "cotangents")

    def test_scalars_and_weak_types(self):
        checks = (*VALUES, "cotangents", "zero")
        for x in (0.5, jnp.float32(0.5), np.float32(0.5)):
            assert check.check_vjp(sine(), x, checks=checks)
        weakly = times(1.5, lambda x, dy: jax.typeof(x).weak_type)
        report = check.check_vjp(weakly, jnp.float32(0.5), checks=("cotangents",))
        assert "weak types" in says(report, "cotangents")
        assert not report

    def test_arrays_without_entries(self):
        f = ruled(lambda x, y: jnp.sum(x) + y**2, lambda r, dy: (jnp.full_like(r[0], dy), 2 * dy * r[1]))
        report = check.check_vjp(f, jnp.zeros((0, 3)), jnp.array(2.0), skip=("scan", "remat"))
        assert report, str(report)
        assert report.leaves[0].shape == (0, 3)
        assert check.check_vjp(sine(), jnp.zeros((0,)), quick=True)

    @pytest.mark.parametrize("where", ["gradient", "output", "everywhere"])
    def test_nan_equals_nothing(self, where):
        value = (lambda x: x * jnp.nan) if where != "gradient" else (lambda x: jnp.sin(x))
        slope = (lambda x, dy: dy) if where == "output" else (lambda x, dy: dy * jnp.nan)
        report = check.check_vjp(unary(value, slope), X, quick=True)
        assert not report
        if where == "gradient":
            assert {"automatic", "differences", "zero", "linear", "vmap"} <= failed(report)
            assert "3 of 3 entries of the gradient are NaN" in report.diagnosis[0]
            for name in ("adjoint", "cotangents", "remat"):
                assert not check.check_vjp(unary(value, slope), X, checks=(name,)), name
        else:
            assert "NaN" in says(report, "primal")

    def test_one_nan_among_many_entries(self):
        f = sine(lambda x, dy: (dy * jnp.cos(x)).at[77].set(jnp.nan))
        for name in ("automatic", "differences", "linear"):
            assert failed(check.check_vjp(f, jnp.linspace(-2, 2, 100), checks=(name,))) == {name}


class TestWithoutAutomatic:
    """Where JAX has no derivative of its own, differences judge alone."""

    def test_differences_find_it(self):
        report = check.check_vjp(on_the_host(lambda x, dy: 1.001 * dy * jnp.cos(x)), X, quick=True)
        assert failed(report) == {"differences", "coordinates"}
        assert findings(report, "automatic")[0].verdict == "skip"
        assert report.leaves[0].auto is None
        assert report.leaves[0].verdict == "DIFFER"
        assert report.diagnosis == ("x: the gradient is 1.001 times the true one.",)

    def test_reference_is_used(self):
        def reference(x):
            return jnp.sin(x)

        f = on_the_host(lambda x, dy: (1 + 1e-8) * dy * jnp.cos(x))
        assert failed(check.check_vjp(f, X, reference=reference, checks=("automatic",))) == {"automatic"}
        right = on_the_host(lambda x, dy: dy * jnp.cos(x))
        assert check.check_vjp(right, X, reference=reference, quick=True)
        report = check.check_vjp(right, X, reference=lambda x: jnp.sin(x) + 1e-3, checks=("primal",))
        assert failed(report) == {"primal"}


class TestReportsSay:
    def test_what_could_have_been_missed(self):
        x = jnp.linspace(-2.0, 2.0, 200)
        (line,) = check.check_vjp(sine(), x, checks=("automatic",)).miss
        assert line == "x: a single wrong entry above rounding is missed with chance 0 (every entry against JAX)"
        (line,) = check.check_vjp(sine(), x, checks=("differences",)).miss
        assert line.endswith("missed with chance 0, two equal ones with 0.12")
        assert "of the leaf's rms" in line
        (line,) = check.check_vjp(sine(), x, checks=("coordinates",)).miss
        assert line.endswith("missed with chance 0.96")
        (line,) = check.check_vjp(sine(), x, checks=("zero",)).miss
        assert line.endswith("missed with chance 1")

    def test_a_single_wrong_entry_in_a_thousand(self):
        f = sine(lambda x, dy: (dy * jnp.cos(x)).at[7].multiply(1.1))
        for name in ("differences", "automatic"):
            assert failed(check.check_vjp(f, jnp.linspace(-1, 1, 1000), checks=(name,))) == {name}

    def test_two_wrong_entries_that_cancel_in_a_sum(self):
        f = unary(lambda x: jnp.sum(x**2), lambda x, dy: (2 * dy * x).at[3].add(0.1).at[9].add(-0.1))
        caught = [not check.check_vjp(f, X.repeat(10), checks=("differences",), seed=seed) for seed in range(4)]
        assert sum(caught) >= 2  # each misses with chance 1/8
        assert not check.check_vjp(f, X.repeat(10), checks=("coordinates", "jacobian"))

    def test_seeds_change_directions(self):
        def error(seed):
            return findings(check.check_vjp(sine(), X, checks=("differences",), seed=seed), "differences")[0].error

        assert len({error(0), error(1), error(2)}) > 1
        assert error(1) == error(1)
        drawn = [Subject(jnp.sin, None, None, (np.ones(64, np.float32),), seed, False) for seed in (0, 0, 1)]
        for draw in (lambda s: s.signs(0, 0)[0], lambda s: s.cotangents(0)[0]):
            np.testing.assert_array_equal(draw(drawn[0]), draw(drawn[1]))
            assert (draw(drawn[0]) != draw(drawn[2])).any()

    def test_names(self):
        def my_rule(x):
            return jnp.sin(x)

        assert check.check_vjp(my_rule, X, checks=("zero",)).name == "my_rule"
        assert check.check_vjp(my_rule, X, checks=("zero",), name="other").name == "other"

    def test_assert_vjp(self):
        check.assert_vjp(sine(), X, checks=VALUES)
        with pytest.raises(
            check.GradientError, match=r"WRONG, says automatic, coordinates, differences(.|\n)*1\.5 times"
        ):
            check.assert_vjp(times(1.5), X, checks=VALUES)


def halved(x):
    return jax.lax.while_loop(lambda y: jnp.abs(y).sum() > 1, lambda y: y / 2, x)


class TestBadInput:
    @pytest.mark.parametrize(
        ("f", "args", "message"),
        [
            (lambda x: x + 1, (jnp.arange(3),), "no floating-point argument (x: int32)"),
            (lambda: 1.0, (), "no floating-point argument (no arguments)"),
            (lambda z: jnp.abs(z), (X + 1j,), "complex arguments are not supported: z: complex64"),
            (lambda x: jnp.argmax(x), (X,), "the function returns no floating-point array"),
            (lambda x: 1 / 0, (X,), "the function raises ZeroDivisionError: division by zero"),
            (lambda x, key: x, (X,), "Pass all arguments after f"),
            (lambda x: jnp.log(x), (-X,), "returns NaN here"),
            (halved, (X,), "by no fault of a rule: ValueError: Reverse-mode differentiation does not work"),
            (lambda x: jax.pure_callback(np.sin, x, x), (X,), "by no fault of a rule"),
            (lambda x: jnp.linalg.norm(x), (0 * X,), "undefined here: the derivative in x at (0,) is nan by JAX"),
            (lambda x: jnp.sqrt(x), (abs(X).at[1].set(0.0),), "undefined here: the derivative in x at (1,) is inf"),
            (lambda x: jnp.linalg.eigh(x)[1], (jnp.eye(2),), "undefined here"),
        ],
    )
    def test_cannot_be_checked(self, f, args, message):
        report = check.check_vjp(f, *args)
        assert report.verdict == "not checked"
        assert not report
        assert not report.failures()
        assert message in report.findings[0].detail
        assert str(report).split(": ")[1].startswith("NOT CHECKED, neither right nor wrong")
        assert json.loads(report.to_json())["verdict"] == "not checked"
        with pytest.raises(check.NotCheckedError):
            report.raise_if_wrong()

    def test_not_defined_for_jax_and_wrong_elsewhere(self):
        norm_and_sine = ruled(
            lambda x, y: jnp.linalg.norm(x) * jnp.sin(y),
            lambda r, dy: (jnp.full_like(r[0], jnp.nan), dy + jnp.cos(r[1])),
        )
        assert check.check_vjp(norm_and_sine, 0 * X, jnp.array(0.5), quick=True).verdict == "wrong"

    def test_a_rule_may_define_what_jax_does_not(self):
        def norm(at_zero):
            return unary(
                lambda x: jnp.linalg.norm(x),
                lambda x, dy: dy * jnp.where(x.any(), x / jnp.linalg.norm(jnp.where(x.any(), x, 1.0)), at_zero),
            )

        report = check.check_vjp(norm(0.0), 0 * X, quick=True)
        assert report, str(report)
        assert "NaN or infinite at this point" in says(report, "automatic")
        assert check.check_vjp(norm(2.0), 0 * X, quick=True).verdict == "wrong"
        report = check.check_vjp(fnn.ops.gelu, jnp.array([1.0, jnp.inf, -jnp.inf]), quick=True)
        assert report.verdict != "wrong", str(report)

    def test_user_mistakes_are_named(self):
        with pytest.raises(fnn.InputError, match=r"check_vjp expected a function f\(\*args\); got int; pass"):
            check.check_vjp(3, X)
        with pytest.raises(fnn.InputError, match=r"expected a function reference\(\*args\); got int"):
            check.check_vjp(sine(), X, reference=3)
        for options in ({"checks": ("zeros",)}, {"skip": ("zeros",)}):
            with pytest.raises(fnn.InputError, match=r"checks among .*; got \['zeros'\]; choose from fnn.check.CHECKS"):
                check.check_vjp(sine(), X, **options)

    def test_side_effects_are_said(self):
        def noisy(x):
            jax.debug.print("{}", x[0])
            return jnp.sin(x)

        report = check.check_vjp(noisy, X, checks=("deterministic",))
        assert "side effects: DebugEffect" in says(report, "deterministic")
        assert report

    def test_randomness_is_found(self):
        draws = np.random.default_rng(0)
        report = check.check_vjp(lambda x: x * draws.normal(), X)
        assert failed(report) == {"deterministic"}
        assert "hidden state or randomness" in says(report, "deterministic")
