"""Training by hand and automatically, step by step, against the floor of rounding."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.check.model.lockstep import lockstep
from tests.helpers import normal

KEY = jax.random.key(0)
X = normal(0, (16, 6))
BATCHES = [(X[:8], X[:8, :3]), (X[8:], X[8:, :3])]


def squared(y, t):
    return ((y - t) ** 2).reshape(len(y), -1).mean(-1)


def affine(wrong=lambda g: g):
    """x W + b with a rule of its own, whose gradient of W goes through `wrong`."""

    @jax.custom_vjp
    def f(x, kernel, bias):
        return x @ kernel + bias

    f.defvjp(
        lambda x, kernel, bias: (f(x, kernel, bias), (x, kernel)),
        lambda kept, dy: (dy @ kept[1].T, wrong(kept[0].T @ dy), dy.sum(0)),
    )
    return fnn.lift(lambda p, x: f(x, p["kernel"], p["bias"]), lambda k, x: fnn.dense(4).init(k, x)[0], name="affine")


def net(middle):
    return fnn.serial(a=fnn.dense(4), t=fnn.tanh(), b=middle, c=fnn.dense(3))


def run(layer, batches=BATCHES, optimizer=None, **options):
    return lockstep(layer, squared, batches, optimizer or optax.sgd(0.05), key=KEY, **{"steps": 6, **options})


class TestLockstep:
    def test_right_rules_stay_together(self):
        result = run(fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.tanh(), fnn.dense(3)), steps=10)
        assert result
        assert result.noise == "order"
        assert [step.step for step in result.steps] == list(range(1, 11))
        assert result.steps[-1].loss < result.steps[0].loss
        assert 0 < max(step.floor for step in result.steps) < 1e-5
        assert all(step.distance < 1e-5 for step in result.steps)
        text = str(result)
        assert "train in lockstep over 10 steps" in text
        assert [line.split()[0] for line in text.splitlines()[2:6]] == ["1", "2", "5", "10"]

    @pytest.mark.parametrize(
        "wrong", [jnp.zeros_like, lambda g: 1.01 * g, lambda g: g.at[1, 2].multiply(1.1), lambda g: g.T]
    )
    def test_a_broken_rule_of_anyone_comes_apart_at_once(self, wrong):
        result = run(net(affine(wrong)))
        assert not result
        assert result.apart == 1
        assert result.steps[0].worst == "b/kernel"
        assert "COME APART at step 1, first in b/kernel" in str(result)
        assert "APART" in str(result).splitlines()[2]

    def test_a_right_rule_of_anyone_stays(self):
        assert run(net(affine()))

    def test_a_gradient_of_nan_comes_apart_at_once(self):
        result = run(net(affine(lambda g: g * jnp.nan)))
        assert result.apart == 1
        assert json.loads(result.to_json())["steps"][0]["distance"] > 0  # its step is not made

    def test_a_wrong_forward_pass_is_seen_in_the_loss(self):
        @jax.custom_vjp
        def half(x):
            return 0.5 * x

        half.defvjp(lambda x: (0.5 * x + 0.01, None), lambda kept, dy: (0.5 * dy,))
        result = run(fnn.serial(fnn.dense(3), fnn.lift(lambda p, x: half(x), name="half")))
        assert result.apart == 1
        assert result.steps[0].loss_share > 1

    def test_random_numbers_that_belong_to_places_ask_for_other_noise(self):
        result = run(net(fnn.dropout(0.5)))
        assert result
        assert result.noise == "ulp"
        assert "moved by one unit in the last place" in str(result)
        assert 0 < result.steps[0].floor < 1e-6

    def test_two_examples_have_one_order(self):
        assert run(net(fnn.tanh()), [(X[:2], X[:2, :3])], steps=2).noise == "ulp"

    def test_rounding_carried_across_a_kink_is_no_fault(self):
        """w goes from 1 to 0, where relu is flat; one rounding error more and it stays on the slope and goes on."""

        def layer(rounding):
            @jax.custom_vjp
            def f(w):
                return jnp.maximum(w, 0)

            f.defvjp(lambda w: (f(w), w), lambda w, dy: (jnp.where(w > 0, dy * rounding, 0),))

            def apply(p, x):
                return jnp.broadcast_to(f(p["w"]) + 0 * p["anchor"], (len(x), 1))

            return fnn.lift(apply, lambda key, x: {"w": jnp.ones(()), "anchor": jnp.full((), 10.0)}, name="kink")

        def mean(y, t):
            return y[:, 0]

        options = {"key": KEY, "steps": 3, "factor": 30.0}
        right = lockstep(layer(1 - 2.0**-23), mean, BATCHES, optax.sgd(1.0), **options)
        assert right.steps[1].distance > 1e-2
        assert right.magnified[0] == 2
        assert right
        assert "carried across a kink" in str(right)
        wrong = lockstep(layer(0.99), mean, BATCHES, optax.sgd(1.0), **options)
        assert wrong.apart == 1

    def test_stops_being_comparable_where_the_loss_is_not_finite(self):
        result = run(net(fnn.tanh()), optimizer=optax.sgd(1e30), steps=3)
        assert not result
        assert "nothing can be compared; lower the learning rate" in str(result)

    def test_reads_epochs_and_json(self):
        class Epochs:
            def epoch(self, i):
                return [BATCHES[i % 2]]

        result = run(fnn.dense(3), Epochs(), steps=3)
        plain = json.loads(result.to_json())
        assert plain["ok"] is True
        assert plain["noise"] == "order"
        assert plain["steps"][2]["step"] == 3
        np.testing.assert_allclose(plain["steps"][0]["loss"], result.steps[0].loss)

    def test_refuses_what_cannot_be_trained(self):
        with pytest.raises(fnn.InputError, match="steps >= 1; got 0"):
            run(fnn.dense(3), steps=0)
        with pytest.raises(fnn.InputError, match="at least one batch; got none"):
            run(fnn.dense(3), [])
        with pytest.raises(fnn.InputError, match="a model with parameters; got none"):
            run(fnn.tanh())
        with pytest.raises(fnn.InputError, match="3 batches; got 2; pass a list, which is repeated"):
            run(fnn.dense(3), iter(BATCHES), steps=3)
