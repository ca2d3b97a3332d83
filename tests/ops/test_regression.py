"""Losses number by number against optax's, far away, and where a parabola becomes a line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.helpers import assert_close, normal

P, T = 3 * normal(0, (4, 5)), normal(1, (4, 5))
THEIRS = {
    "absolute_error": lambda p, t: jnp.abs(p - t),
    "huber": optax.huber_loss,
    "smooth_l1": optax.huber_loss,
    "log_cosh": optax.log_cosh,
    "poisson": lambda p, t: jnp.exp(p) - p * t,
}


@pytest.mark.parametrize("name", THEIRS)
def test_the_mean_of_each_example_is_theirs(name):
    assert_close(getattr(fnn, name)(P, T), THEIRS[name](P, T).mean(1), ulps=64)


def test_smooth_l1_far_away_has_slope_1():
    slope = jax.grad(lambda p: fnn.smooth_l1(p, jnp.zeros(3), beta=0.1).sum())(jnp.array([-5.0, 0.05, 5.0]))
    assert_close(slope, jnp.array([-1.0, 0.5, 1.0]))


def test_log_cosh_does_not_overflow():
    value, slope = jax.value_and_grad(lambda p: fnn.log_cosh(p, jnp.array(0.0)))(jnp.array(-3e38))
    assert np.isfinite(value)
    assert slope == -1


@pytest.mark.parametrize(("name", "option"), [("huber", "delta"), ("smooth_l1", "beta")])
def test_a_bend_is_at_a_positive_distance(name, option):
    with pytest.raises(fnn.InputError, match=f"{option} > 0"):
        getattr(fnn, name)(P, T, 0.0)
