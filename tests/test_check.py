"""The comparison of hand-written with automatic gradients, and the timing of both."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import check
from fnn.check.compare import compare_trees, ulp

X, T = jax.random.normal(jax.random.key(1), (8, 3)), jax.random.normal(jax.random.key(2), (8, 2))
NET = fnn.serial(hidden=fnn.dense(4), act=fnn.lift(lambda p, x: jnp.tanh(x), name="tanh"), out=fnn.dense(2))
PARAMS, STATE = NET.init(jax.random.key(0), X)


def squared(y, t):
    return (y - t) ** 2


@pytest.fixture
def broken_dense():
    """A function that breaks the hand-written rule of dense until the end of the test."""
    rule = fnn.rules()["dense"]
    old = rule._hand

    def install(wrong):
        hand = jax.custom_vjp(lambda spec, *args: rule.fwd(spec, *args)[0], nondiff_argnums=(0,))
        hand.defvjp(rule.fwd, lambda spec, residuals, dy: wrong(*rule.bwd(spec, residuals, dy)))
        object.__setattr__(rule, "_hand", hand)

    yield install
    object.__setattr__(rule, "_hand", old)


class TestCompare:
    def test_agreement(self):
        result = check.compare(NET, PARAMS, STATE, (X, T), squared)
        assert result
        assert [row.path for row in result.rows] == ["hidden/bias", "hidden/kernel", "out/bias", "out/kernel"]
        assert [row.shape for row in result.rows] == [(4,), (3, 4), (2,), (4, 2)]
        assert "The gradients agree in all 4 parameters that have one." in str(result)

    def test_a_wrong_sign_is_found_and_named(self, broken_dense):
        broken_dense(lambda dx, dkernel, dbias: (dx, dkernel, -dbias))
        result = check.compare(NET, PARAMS, STATE, (X, T), squared)
        assert not result
        assert [row.verdict for row in result.rows] == ["DIFFER", "agree", "DIFFER", "agree"]
        assert result.rows[2].relative == pytest.approx(2)
        assert str(result).endswith("The gradients DIFFER in hidden/bias, out/bias.")

    def test_one_entry_off_by_a_thousandth_is_found(self, broken_dense):
        broken_dense(lambda dx, dkernel, dbias: (dx, dkernel.at[0, 0].multiply(1.001), dbias))
        verdicts = {r.path: r.verdict for r in check.compare(NET, PARAMS, STATE, (X, T), squared).rows}
        assert verdicts["out/kernel"] == "DIFFER"

    def test_stochastic_layers_draw_the_same_in_both_modes(self):
        net = fnn.serial(noise=fnn.dropout(0.5), out=fnn.dense(2))
        assert check.compare(net, *net.init(jax.random.key(0), X), (X, T), squared, key=jax.random.key(5))

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match="a model with parameters; got none"):
            check.compare(fnn.identity(), {}, {}, (X, X), squared)
        with pytest.raises(fnn.InputError, match=r"compare expected a batch \(x, labels\)"):
            check.compare(NET, PARAMS, STATE, X, squared)


class TestNumbers:
    def test_differences(self):
        auto = {"w": jnp.array([4.0, -1.0, 0.0])}
        hand = {"w": jnp.array([4.0, -1.0 - 2.0**-20, 0.0])}
        (row,) = compare_trees(hand, auto).rows
        assert row.absolute == 2.0**-20
        assert row.relative == 2.0**-22
        assert row.ulps == 2.0**-20 / 2.0**-22  # the rms is 2.4, and an ulp between 2 and 4 is 2^-22
        assert row.verdict == "agree"

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_ulp_is_the_distance_to_the_next_number(self, dtype):
        for v in (1.0, 1.5, 2.0, 1000.0, 0.01, 0.0):
            number = jnp.asarray(v, dtype)
            want = np.float64(jnp.nextafter(number, jnp.asarray(jnp.inf, dtype))) - np.float64(number)
            assert float(ulp(np.float64(number), jnp.dtype(dtype))) == want or v == 0

    def test_rounding_around_an_exact_zero_vanishes(self):
        auto = {"b": jnp.array([1e-8, -2e-8]), "w": jnp.array([1.0, 2.0])}
        hand = {"b": jnp.array([-1e-8, 1e-8]), "w": jnp.array([1.0, 2.0])}
        result = compare_trees(hand, auto)
        assert [row.verdict for row in result.rows] == ["vanish", "agree"]
        assert result
        assert "vanish: the true gradient is zero" in str(result)
        assert "agree in all 1 parameters that have one" in str(result)

    @pytest.mark.parametrize("b", [0.0, 1e-4])
    def test_a_small_gradient_is_not_taken_for_rounding(self, b):
        auto = {"b": jnp.array([1e-4]), "w": jnp.array([1.0])}
        hand = {"b": jnp.array([b]), "w": jnp.array([1.0])}
        assert bool(compare_trees(hand, auto)) == (b == 1e-4)

    def test_a_gradient_where_there_should_be_none_does_not_vanish(self):
        auto = {"b": jnp.array([0.0]), "w": jnp.array([1.0])}
        assert not compare_trees({**auto, "b": jnp.array([0.5])}, auto)

    @pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
    def test_what_is_not_finite_never_agrees(self, bad):
        tree = {"w": jnp.array([1.0, bad])}
        assert not compare_trees(tree, tree)

    def test_both_exactly_zero_agree(self):
        zero = {"w": jnp.zeros(3)}
        (row,) = compare_trees(zero, zero).rows
        assert (row.absolute, row.relative, row.ulps, row.verdict) == (0, 0, 0, "agree")


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
