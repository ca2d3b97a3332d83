"""The comparison of hand-written with automatic gradients, and the timing of both."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import check
from fnn.check import report as check_report
from fnn.check.tolerance import ulp

X, T = jax.random.normal(jax.random.key(1), (8, 3)), jax.random.normal(jax.random.key(2), (8, 2))
NET = fnn.serial(hidden=fnn.dense(4), act=fnn.lift(lambda p, x: jnp.tanh(x), name="tanh"), out=fnn.dense(2))
KEY = jax.random.key(0)
PARAMS, STATE = NET.init(KEY, X)


def squared(y, t):
    return ((y - t) ** 2).mean(-1)


@pytest.fixture
def broken_dense():
    """A function that breaks the hand-written rule of dense until the end of the test."""
    rule = fnn.rules()["dense"]
    old = rule._hand

    def install(wrong):
        def bwd(spec, residuals, dy):
            return wrong(*rule.bwd(spec, residuals, dy))

        object.__setattr__(rule, "_hand", fnn.core.by_hand.by_hand(rule.fwd, bwd))

    yield install
    object.__setattr__(rule, "_hand", old)


def verdicts(result):
    return {leaf.path: leaf.verdict for leaf in result.leaves}


class TestCompare:
    def test_agreement(self):
        result = check.compare(NET, (PARAMS, STATE), (np.asarray(X), np.asarray(T)), squared)
        assert result
        assert result.raise_if_wrong() is result
        assert [leaf.path for leaf in result.leaves] == ["hidden/bias", "hidden/kernel", "out/bias", "out/kernel"]
        assert [leaf.shape for leaf in result.leaves] == [(4,), (3, 4), (2,), (4, 2)]
        assert str(result).endswith("The gradients agree in all 4 parameters that have one.")
        for leaf in result.leaves:
            assert leaf.verdict == "agree"
            assert leaf.culprit == ""
            assert leaf.cosine == pytest.approx(1)
            assert leaf.hand == pytest.approx(leaf.auto, rel=1e-5)
            assert leaf.numeric == pytest.approx(leaf.auto, rel=1e-5)
            assert leaf.ulps < 32
        passed = [finding.check for finding in result.findings if finding.verdict == "pass"]
        assert passed == ["automatic", "differences"] * 4

    def test_a_wrong_sign_is_found_and_named(self, broken_dense):
        broken_dense(lambda dx, dkernel, dbias: (dx, dkernel, -dbias))
        result = check.compare(NET, (PARAMS, STATE), (X, T), squared)
        assert not result
        assert list(verdicts(result).values()) == ["DIFFER", "agree", "DIFFER", "agree"]
        out = result.leaves[2]
        assert out.relative == pytest.approx(2)
        assert out.cosine == pytest.approx(-1)
        assert out.culprit == "hand"
        assert out.hand == pytest.approx(-out.numeric, rel=1e-5)
        assert str(result).endswith("The gradients DIFFER in hidden/bias, out/bias.")
        with pytest.raises(check_report.GradientError, match="DIFFER in hidden/bias, out/bias"):
            result.raise_if_wrong()
        plain = json.loads(result.to_json())
        assert plain["ok"] is False
        assert plain["leaves"][2]["culprit"] == "hand"

    def test_half_precision_is_judged_as_sharply(self, broken_dense):
        params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (PARAMS, X))
        assert check.compare(NET, (params, STATE), (x, T), squared)
        broken_dense(lambda dx, dkernel, dbias: (dx, dkernel.at[0, 0].multiply(1 + 2.0**-7), dbias))
        result = check.compare(NET, (params, STATE), (x, T), squared)
        assert verdicts(result)["out/kernel"] == "DIFFER"  # by one ulp of bfloat16
        assert verdicts(result)["out/bias"] == "agree"
        assert result.leaves[3].worst == (0, 0)

    def test_what_is_wrong_in_one_dtype_alone(self, broken_dense):
        broken_dense(lambda dx, dk, db: (dx, dk, db * 1.01 if db.dtype == jnp.float32 else db))
        result = check.compare(NET, (PARAMS, STATE), (X, T), squared)
        assert list(verdicts(result).values()) == ["DIFFER", "agree", "DIFFER", "agree"]
        assert "in float32, and only there" in str(result)

    def test_a_gradient_of_zero_vanishes(self, broken_dense):
        net = fnn.serial(inner=fnn.dense(3), norm=fnn.batch_norm(), out=fnn.dense(2))
        params, state = net.init(jax.random.key(0), X)
        result = check.compare(net, (params, state), (X, T), squared)
        assert result
        wanted = {"inner/bias": "vanish", "inner/kernel": "agree", "norm/scale": "agree", "out/bias": "agree"}
        assert wanted.items() <= verdicts(result).items()
        assert str(result).endswith("agree in all 5 parameters that have one.")
        assert "vanish: the true gradient is zero" in str(result)
        broken_dense(lambda dx, dkernel, dbias: (dx, dkernel, dbias + 1e-4))
        result = check.compare(net, (params, state), (X, T), squared)
        assert verdicts(result)["inner/bias"] == "DIFFER"

    def test_a_small_gradient_is_not_taken_for_rounding(self, broken_dense):
        net = fnn.serial(small=fnn.dense(3), scale=fnn.lift(lambda p, x: 1e-9 * x), out=fnn.dense(2))
        params, state = net.init(jax.random.key(0), X)
        assert set(verdicts(check.compare(net, (params, state), (X, T), squared)).values()) == {"agree"}
        broken_dense(lambda dx, dkernel, dbias: (dx, dkernel, dbias * 1.001))
        assert verdicts(check.compare(net, (params, state), (X, T), squared))["small/bias"] == "DIFFER"

    def test_kinks_are_said_and_not_failed(self):
        net = fnn.serial(first=fnn.dense(3), act=fnn.relu(), out=fnn.dense(2))
        params, state = net.init(jax.random.key(0), X)
        result = check.compare(net, (params, state), (jnp.concatenate([X, 0 * X]), jnp.concatenate([T, T])), squared)
        assert result, str(result)
        assert verdicts(result) == {
            "first/bias": "kink",
            "first/kernel": "agree",
            "out/bias": "agree",
            "out/kernel": "agree",
        }
        assert "kink: hand and auto agree" in str(result)
        assert "agree in all 4 parameters" in str(result)

    def test_differences_see_what_both_share(self):
        triple = fnn.lift(lambda p, x: 2 * x + jax.lax.stop_gradient(x), name="triple")
        net = fnn.serial(first=fnn.dense(3), triple=triple, out=fnn.dense(2))
        result = check.compare(net, net.init(jax.random.key(0), X), (X, T), squared)
        assert list(verdicts(result).values()) == ["DIFFER", "DIFFER", "agree", "agree"]
        assert [leaf.culprit for leaf in result.leaves] == ["differences", "differences", "", ""]
        assert result.leaves[0].numeric == pytest.approx(1.5 * result.leaves[0].hand, rel=1e-4)

    def test_a_users_own_rule_is_dissolved(self):
        @jax.custom_vjp
        def triple(x):
            return 3 * x

        triple.defvjp(lambda x: (3 * x, None), lambda _, dy: (2 * dy,))
        net = fnn.serial(first=fnn.dense(3), triple=fnn.lift(lambda p, x: triple(x)), out=fnn.dense(2))
        result = check.compare(net, net.init(jax.random.key(0), X), (X, T), squared)
        assert [leaf.culprit for leaf in result.leaves] == ["hand", "hand", "", ""]

    def test_stochastic_layers_draw_the_same_in_all_ways(self):
        net = fnn.serial(noise=fnn.dropout(0.5), out=fnn.dense(2))
        result = check.compare(net, net.init(jax.random.key(0), X), (X, T), squared, key=jax.random.key(5))
        assert result
        assert {finding.verdict for finding in result.findings} == {"pass"}

    def test_a_model_that_refuses_float64(self, broken_dense):
        def only_half(p, x):
            fnn.core.errors.require(x.dtype == jnp.float32, "picky", "float32", x.dtype, "cast")
            return jnp.tanh(x)

        net = fnn.serial(first=fnn.dense(3), picky=fnn.lift(only_half), out=fnn.dense(2))
        params, state = net.init(jax.random.key(0), X)
        result = check.compare(net, (params, state), (X, T), squared)
        assert result
        assert "no float64: InputError: in picky: picky expected float32" in str(result)
        broken_dense(lambda dx, dkernel, dbias: (dx, dkernel.at[0, 0].multiply(1.01), dbias))
        assert verdicts(check.compare(net, (params, state), (X, T), squared))["out/kernel"] == "DIFFER"

    def test_a_loss_that_raises_along_a_line(self, monkeypatch):
        def sweeper(f):
            def sweep(*args):
                raise ValueError("no loops here")

            return sweep

        monkeypatch.setattr("fnn.check.model.compare.sweeper", sweeper)
        result = check.compare(NET, (PARAMS, STATE), (X, T), squared)
        assert result
        skipped = [(f.check, f.detail) for f in result.findings if f.verdict == "skip"]
        assert skipped == [("differences", "ValueError: no loops here")] * 4

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_a_model_that_rounds_inside(self, dtype):
        net = fnn.serial(first=fnn.dense(3), cast=fnn.lift(lambda p, x: x.astype(dtype).astype(x.dtype)))
        result = check.compare(net, net.init(jax.random.key(0), X), (X, T[:, :1]), squared)
        assert result, str(result)
        assert "the model rounds to an epsilon" in str(result)

    def test_what_is_not_finite_never_agrees(self):
        net = fnn.serial(first=fnn.dense(3), bad=fnn.lift(lambda p, x: x * jnp.nan))
        result = check.compare(net, net.init(jax.random.key(0), X), (X, T[:, :1]), squared)
        assert not result
        assert set(verdicts(result).values()) == {"DIFFER"}
        json.loads(result.to_json())

    def test_both_exactly_zero_agree(self):
        net = fnn.serial(first=fnn.dense(3), dead=fnn.lift(lambda p, x: 0 * x))
        result = check.compare(net, net.init(jax.random.key(0), X), (X, T[:, :1]), squared)
        assert result
        assert {(leaf.absolute, leaf.relative, leaf.ulps, leaf.verdict) for leaf in result.leaves} == {
            (0, 0, 0, "agree")
        }

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match="a model with parameters; got none"):
            check.compare(fnn.identity(), ({}, {}), (X, X), squared)
        with pytest.raises(fnn.InputError, match=r"compare expected a batch \(x, labels\)"):
            check.compare(NET, (PARAMS, STATE), X, squared)
        with pytest.raises(fnn.InputError, match=r"compare expected a function loss\(outputs, labels\)"):
            check.compare(NET, (PARAMS, STATE), (X, T), 3)
        with pytest.raises(fnn.InputError, match="compare expected a Layer for layer; got 'net'"):
            check.compare("net", (PARAMS, STATE), (X, T), squared)
        with pytest.raises(fnn.InputError, match="loss to give a floating-point array; got int32"):
            check.compare(NET, (PARAMS, STATE), (X, T), lambda y, t: jnp.argmax(y, -1))
        message = r"compare expected loss of shape \(8,\) or .*; outputs were broadcast against labels"
        with pytest.raises(fnn.InputError, match=message):
            check.compare(fnn.dense(1), fnn.dense(1).init(KEY, X), (X, T[:, 0]), lambda y, t: (y - t) ** 2)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_ulp_is_the_distance_to_the_next_number(dtype):
    for v in (1.0, 1.5, 2.0, 1000.0, 0.01, 0.0):
        number = jnp.asarray(v, dtype)
        want = np.float64(jnp.nextafter(number, jnp.asarray(jnp.inf, dtype))) - np.float64(number)
        assert float(ulp(np.float64(number), jnp.dtype(dtype))) == want or v == 0


class TestTiming:
    def test_times_each_mode_in_its_own_mode(self):
        modes = []

        class Slow:
            def __call__(self, x):
                program = str(jax.make_jaxpr(fnn.ops.dense)(x, x))
                modes.append("hand" if "custom_vjp" in program else "auto")
                time.sleep(0.02 if modes[-1] == "hand" else 0.001)
                return x

        seconds = check.time_modes(Slow(), jnp.ones((2, 2)), rounds=4)
        assert list(seconds) == ["hand", "auto"]
        assert seconds["hand"] > 0.02
        assert seconds["auto"] < seconds["hand"]
        assert modes == ["hand", "auto", "auto", "hand", "hand", "auto", "auto", "hand", "hand", "auto"]

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match="rounds >= 1; got 0"):
            check.time_modes(jax.jit(jnp.sin), X, rounds=0)
        with pytest.raises(fnn.InputError, match="a function that keeps its arguments; got one that donates them"):
            check.time_modes(jax.jit(lambda x: x + 1, donate_argnums=0), jnp.ones(3))
