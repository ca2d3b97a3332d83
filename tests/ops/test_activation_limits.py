"""Activations at 0, at tiny and huge numbers, at infinity and NaN: value and slope are the limits, by hand and not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.ops import activation
from fnn.ops.activation_gated import ALPHA, SCALE

X = (0.0, -0.0, 1e-7, -1e-7, 6e4, -6e4, np.inf, -np.inf)
# At 0, far right, far left: the value there as a multiple of x or a number, and the slope.
LIMITS = {
    ("relu", None): ((0, 0, 0), (0, 1, 0)),
    ("leaky_relu", 0.01): ((0, 1, 0.01), (0.01, 1, 0.01)),
    ("leaky_relu", 0.0): ((0, 0, 0), (0, 1, 0)),
    ("sigmoid", None): ((0.5, 1, 0), (0.25, 0, 0)),
    ("tanh", None): ((0, 1, -1), (1, 0, 0)),
    ("elu", 1.0): ((0, 0, -1), (1, 1, 0)),
    ("elu", 0.0): ((0, 0, 0), (0, 1, 0)),
    ("softplus", None): ((np.log(2), 0, 0), (0.5, 1, 0)),
    ("silu", None): ((0, 0, 0), (0.5, 1, 0)),
    ("gelu", True): ((0, 0, 0), (0.5, 1, 0)),
    ("gelu", False): ((0, 0, 0), (0.5, 1, 0)),
    ("selu", None): ((0, SCALE, -SCALE * ALPHA), (SCALE * ALPHA, SCALE, 0)),
    ("celu", 0.5): ((0, 0, -0.5), (1, 1, 0)),
    ("softsign", None): ((0, 1, -1), (1, 0, 0)),
    ("mish", None): ((0, 0, 0), (0.6, 1, 0)),
    ("quick_gelu", None): ((0, 0, 0), (0.5, 1, 0)),
    ("relu6", None): ((0, 6, 0), (0, 0, 0)),
    ("hard_tanh", None): ((0, 1, -1), (1, 0, 0)),
    ("hard_sigmoid", None): ((0.5, 1, 0), (1 / 6, 0, 0)),
    ("hard_swish", None): ((0, 0, 0), (0.5, 1, 0)),
}
COMPARED = ("relu", "leaky_relu", "relu6", "hard_tanh", "hard_sigmoid")
BESIDE = {"relu": (1, 0), "relu6": (1, 0), "selu": (SCALE, SCALE * ALPHA)}  # slopes right and left of a kink at 0
GROW = (
    "relu",
    "leaky_relu",
    "elu",
    "softplus",
    "silu",
    "gelu",
    "celu",
    "mish",
    "quick_gelu",
    "hard_swish",
)  # f(x) = x far to the right


def measured(name, option, mode, x):
    rule = fnn.rules()[name]

    @jax.jit
    def run(x):
        y, pull = jax.vjp(lambda x: rule(option, x), x)
        return y, *pull(jnp.ones_like(y))

    with fnn.gradients(mode):
        return [np.asarray(a, np.float64) for a in run(x)]


def test_every_activation_has_its_limits():
    here = {name for name, rule in fnn.rules().items() if rule.fwd.__module__ == "fnn.ops.activation_rule"}
    assert {name for name, _ in LIMITS} == here


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize(("name", "option"), LIMITS)
@pytest.mark.parametrize(
    "dtype", ["float32", *(pytest.param(d, marks=pytest.mark.long) for d in ("float16", "bfloat16", "float64"))]
)
def test_values_and_slopes_are_the_limits(name, option, mode, dtype):
    with jax.enable_x64(dtype == "float64"):
        largest = float(jnp.finfo(dtype).max)
        x = jnp.array([*X, largest, -largest, np.nan], dtype)
        y, slope = measured(name, option, mode, x)
    x = np.asarray(x, np.float64)
    (zero, right, left), slopes = LIMITS[name, option]
    far = np.abs(x) > 1
    with np.errstate(invalid="ignore"):
        scaled = np.where(right * x > largest, np.inf, right * x)
        ahead = x if name in GROW else scaled if name == "selu" else right
        side = np.where(x > 0, ahead, left * x if option == 0.01 else left)
    want = np.where(far, side, zero)
    want_slope = np.where(far, np.where(x > 0, slopes[1], slopes[2]), slopes[0])
    kink = (x != 0) & ~far  # beside 0, where a kink has the slope of its side
    if name in ("leaky_relu", *BESIDE) or (name, option) == ("elu", 0.0):
        right, left = BESIDE.get(name, slopes[1:])
        want_slope = np.where(kink, np.where(x > 0, right, left), want_slope)
    np.testing.assert_allclose(y[:-1], want[:-1], rtol=0.01, atol=1e-6)
    np.testing.assert_allclose(slope[:-1], want_slope[:-1], rtol=0.01, atol=1e-6)
    assert np.isnan(y[-1])
    assert np.isnan(slope[-1]) or name in COMPARED  # a comparison with NaN is false


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_no_step_where_the_limit_takes_over(name):
    f = getattr(fnn.ops, name)
    for bound in (activation._GELU_SATURATES, activation._SILU_SATURATES):
        x = np.array([bound * 0.999, bound, bound * 1.001] * 2, np.float32) * [1, 1, 1, -1, -1, -1]
        np.testing.assert_allclose(f(jnp.asarray(x, jnp.float32)), np.maximum(x, 0), atol=1e-12)
