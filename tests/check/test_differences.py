"""Slopes from function values alone, with an honest error; and the derivative of a function without anyone's rules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from fnn.check.automatic import automatic
from fnn.check.differences import slope, steps_for

EPS = 2.0**-52


def slope_at(f, x, eps=EPS):
    """The slope of an elementwise f at every entry of x, moved together."""
    x = np.asarray(x, np.float64)
    h = steps_for(x)
    column = h.reshape(-1, *[1] * x.ndim)
    with np.errstate(invalid="ignore"):  # large steps may leave the domain
        return slope(f(x), f(x + column), f(x - column), h, eps)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_slope(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2))) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def relu(x):
    return np.maximum(x, 0.0)


SMOOTH = {
    "sin": (np.sin, np.cos, 1.0),
    "exp": (np.exp, np.exp, 0.3),
    "square": (np.square, lambda x: 2 * x, 1.0),
    "line": (lambda x: 3 * x - 1, lambda x: 3 + 0 * x, 1.0),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2, 1.0),
    "sin at 1e3": (np.sin, np.cos, 1e3),
    "square at 1e3": (np.square, lambda x: 2 * x, 1e3),
    "sqrt at 1e3": (np.sqrt, lambda x: 0.5 / np.sqrt(x), 1e3),
    "log at 1e-6": (np.log, lambda x: 1 / x, 1e-6),
    "reciprocal at 1e-6": (lambda x: 1 / x, lambda x: -1 / x**2, 1e-6),
    "square at 1e-6": (np.square, lambda x: 2 * x, 1e-6),
    "fast sine": (lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x), 1.0),
    "large values": (lambda x: 1e20 * np.sin(x), lambda x: 1e20 * np.cos(x), 1.0),
    "small values": (lambda x: 1e-20 * np.sin(x), lambda x: 1e-20 * np.cos(x), 1.0),
}


class TestSlope:
    @pytest.mark.parametrize("name", SMOOTH)
    def test_smooth_functions(self, name):
        f, derivative, scale = SMOOTH[name]
        x = scale * np.linspace(0.7, 1.4, 8)
        s, true = slope_at(f, x), derivative(x)
        assert not s.kink.any()
        assert (np.abs(s.value - true) <= s.error).all(), "the bound is broken"
        assert (s.error <= 1e-6 * np.max(np.abs(true)) + 64 * EPS * np.max(np.abs(f(x))) / steps_for(x)[0]).all()
        for side in (s.left, s.right):
            np.testing.assert_allclose(side, true, rtol=0, atol=1e-8 * np.max(np.abs(true)))

    def test_each_output_has_its_own_error(self):
        h = steps_for(np.ones(1))

        def f(t):
            return np.array([np.sin(t), np.sin(50 * t), 0.0 * t])

        s = slope(f(1.0), *(np.stack([f(1 + sign * step) for step in h]) for sign in (1, -1)), h, EPS)
        true = np.array([math.cos(1), 50 * math.cos(50), 0.0])
        assert (np.abs(s.value - true) <= s.error).all()
        assert s.error[0] < 1e-9
        assert s.error[0] < s.error[1] < 1e-4

    def test_the_precision_of_the_values_counts(self):
        def narrow(x):
            return np.sin(x).astype(np.float32).astype(np.float64)

        s = slope_at(narrow, [1.0], eps=2.0**-23)
        assert abs(s.value[0] - math.cos(1)) <= s.error[0] < 0.05
        assert not s.kink[0]
        assert s.error[0] > 100 * slope_at(np.sin, [1.0]).error[0]

    def test_constants_have_slope_zero(self):
        for constant in (0.0, 1.0, -1e30):
            s = slope_at(lambda x, c=constant: c + 0 * x, [1e-6, 1.0, 1e3])
            assert not s.value.any()
            assert not s.kink.any()
            assert np.isfinite(s.error).all()

    def test_cancellation_is_no_kink_and_is_bounded(self):
        x = np.array([-6.26, -5.5, 0.1, 1.0])  # at -6.26 all but seven digits of 1 + erf cancel
        s = slope_at(gelu, x)
        true = np.array(list(map(gelu_slope, x)))
        assert not s.kink.any()
        assert (np.abs(s.value - true) <= s.error).all()
        assert (s.error < 1e-8).all()

    def test_many_points_keep_the_bound(self):
        x = np.random.default_rng(0).normal(size=2000) * 2
        for f, derivative in (
            (np.sin, np.cos),
            (gelu, np.vectorize(gelu_slope)),
            (np.cbrt, lambda x: np.cbrt(x) / x / 3),
        ):
            s = slope_at(f, x)
            judged = np.isfinite(s.error)
            assert judged.mean() > 0.95
            assert (np.abs(s.value - derivative(x)) <= s.error)[judged & ~s.kink].all()
            assert not s.kink[np.abs(x) > 0.05].any()


class TestKinks:
    def test_both_sides_of_a_kink(self):
        s = slope_at(relu, [0.0])
        assert s.kink[0]
        assert (s.left[0], s.right[0]) == pytest.approx((0.0, 1.0), abs=1e-9)
        assert s.error[0] == np.inf  # central differences converge to 1/2, which proves nothing
        s = slope_at(lambda x: np.abs(x - 1) + np.sin(x), [1.0])
        assert s.kink[0]
        assert (s.left[0], s.right[0]) == pytest.approx((math.cos(1) - 1, math.cos(1) + 1), abs=1e-6)

    @pytest.mark.parametrize("slopes", [(1.0, 1.01), (0.01, 1.0), (-1.0, 1.0), (1e-6, 3e-6), (1e6, 2e6)])
    def test_kinks_of_any_size(self, slopes):
        below, above = slopes
        s = slope_at(lambda x: np.where(x > 0, above, below) * x, [0.0])
        assert s.kink[0]
        assert (s.left[0], s.right[0]) == pytest.approx(slopes, rel=1e-6)

    @pytest.mark.parametrize("x", [1e-4, -1e-4, 1e-5, -3e-3])
    def test_a_kink_nearby_belongs_to_neither_side(self, x):
        s = slope_at(relu, [x])
        assert not s.kink[0]
        assert abs(s.value[0] - (x > 0)) <= s.error[0] < 1e-6

    def test_curvature_is_no_kink(self):
        for f in (lambda x: 1e4 * x**2, np.exp, lambda x: np.sin(30 * x), lambda x: np.abs(x) ** 2 * np.sign(x)):
            assert not slope_at(f, [0.0, 0.3]).kink.any()

    def test_a_cusp_has_no_slope(self):
        root = slope_at(lambda x: np.sqrt(np.abs(x)), [0.0])
        assert root.error[0] == np.inf or root.error[0] > 10

    @pytest.mark.parametrize(
        "f",
        [
            lambda x: (x > 0) * 1.0,
            lambda x: np.floor(20 * x),
            lambda x: np.sign(x) * 1e-3,
            lambda x: np.sin(1 / (x or 1.0)),
        ],
        ids=["jump", "staircase", "small jump", "oscillation"],
    )
    def test_what_has_no_derivative_has_no_bound(self, f):
        s = slope_at(np.vectorize(f, otypes=[float]), [0.0])
        assert s.error[0] > 0.05 * abs(s.value[0])
        assert s.error[0] == np.inf or s.error[0] > abs(s.value[0])

    def test_values_that_are_not_finite(self):
        for f in (np.log, lambda x: np.where(x > 0, x, np.nan), lambda x: x * np.inf):
            with np.errstate(all="ignore"):
                assert slope_at(f, [0.0]).error[0] == np.inf
        with np.errstate(all="ignore"):  # what leaves the domain at large steps alone is judged by small ones
            s = slope_at(np.log, [1e-3, 1.0])
        assert (np.abs(s.value - [1e3, 1.0]) <= s.error).all()
        assert s.error[0] < 1


class TestSteps:
    def test_span_the_scale_and_one(self):
        for scale in (1e-6, 1.0, 1e3):
            h = steps_for(np.full(3, scale))
            assert h[0] == pytest.approx(0.03 * max(scale, 1))
            assert h[-1] == pytest.approx(1e-9 * min(scale, 1))
            ratios = h[:-1] / h[1:]
            np.testing.assert_allclose(ratios, ratios[0])

    def test_any_array_has_steps(self):
        for odd in (np.zeros(3), np.zeros((0, 2)), np.array([np.nan, np.inf]), np.ones(2, np.float16)):
            h = steps_for(odd)
            assert h.dtype == np.float64
            assert (h[:-1] > h[1:]).all()
            assert (h > 0).all()
        np.testing.assert_array_equal(steps_for(np.array([np.inf, 1.0])), steps_for(np.ones(1)))


@jax.custom_vjp
def triple(x):
    return 3 * x


triple.defvjp(lambda x: (3 * x, None), lambda _, dy: (100 * dy,))


@jax.custom_jvp
def quadruple(x):
    return 4 * x


quadruple.defjvp(lambda primals, tangents: (4 * primals[0], 100 * tangents[0]))

INSIDE = {
    "plain": triple,
    "jvp rule": quadruple,
    "jit": jax.jit(lambda x: triple(x) + 1),
    "nested jit": jax.jit(lambda x: jax.jit(triple)(x)),
    "scan": lambda x: lax.scan(lambda c, _: (triple(c), c), x, None, length=2)[0],
    "map": lambda x: lax.map(triple, x),
    "while": lambda x: lax.fori_loop(0, 2, lambda _, c: triple(c), x),
    "cond": lambda x: lax.cond(jnp.sum(x) > 0, triple, jnp.sin, x),
    "switch": lambda x: lax.switch(1, [jnp.sin, triple], x),
    "remat": jax.checkpoint(triple),
    "remat in scan": lambda x: lax.scan(lambda c, _: (jax.checkpoint(triple)(c), None), x, None, length=2)[0],
    "jit in cond in scan": lambda x: lax.scan(
        lambda c, _: (lax.cond(True, jax.jit(triple), jnp.sin, c), None), x, None, length=2
    )[0],
    "vmap": jax.vmap(triple),
    "same argument twice": lambda x: jnp.add(triple(x), triple(x)),
    "rule in a rule": None,
}


@jax.custom_vjp
def nine(x):
    return triple(triple(x))


nine.defvjp(lambda x: (9 * x, None), lambda _, dy: (200 * dy,))
INSIDE["rule in a rule"] = nine
TRUE = {"jvp rule": 4, "scan": 9, "while": 9, "remat in scan": 9, "jit in cond in scan": 9, "same argument twice": 6}
TRUE["rule in a rule"] = 9


class TestAutomatic:
    @pytest.mark.parametrize("where", INSIDE)
    def test_rules_dissolve(self, where):
        f, x = INSIDE[where], jnp.array([1.0, 2.0])
        plain = automatic(f)
        np.testing.assert_allclose(plain(x), f(x))
        if where == "while":  # reverse mode does not exist there, forward mode does
            slopes = jax.jvp(plain, (x,), (jnp.ones(2),))[1]
        else:
            slopes = jax.grad(lambda x: jnp.sum(plain(x)))(x)
        np.testing.assert_allclose(slopes, TRUE.get(where, 3))

    def test_survives_transformations(self):
        plain, x = automatic(lambda x: jnp.sum(triple(x) ** 2)), jnp.array([1.0, 2.0])
        np.testing.assert_allclose(jax.jit(jax.grad(plain))(x), 18 * x)
        np.testing.assert_allclose(jax.vmap(jax.grad(plain))(x[:, None]), 18 * x[:, None])
        np.testing.assert_allclose(jax.hessian(plain)(x), 18 * np.eye(2))

    def test_pytrees_and_constants(self):
        table = jnp.array([1.0, 5.0])

        def f(p, n):
            return {"a": triple(p["x"]) * table, "b": (n, None)}

        out = automatic(f)({"x": jnp.ones(2)}, jnp.arange(3))
        assert jax.tree.structure(out) == jax.tree.structure({"a": 0, "b": (0, None)})
        np.testing.assert_array_equal(out["b"][0], [0, 1, 2])
        grads = jax.grad(lambda p: jnp.sum(automatic(f)(p, jnp.arange(3))["a"]))({"x": jnp.ones(2)})
        np.testing.assert_allclose(grads["x"], [3, 15])

    def test_rules_of_fnn_run_their_plain_form(self):
        rule = fnn.rules()["max_pool"]
        case = rule.cases[0]
        f, args = rule.of(case), case.sample(0, "float32")
        with fnn.gradients("auto"):
            plain = str(jax.make_jaxpr(f)(*args))
        assert str(jax.make_jaxpr(automatic(f))(*args)) == plain

    def test_jax_keeps_its_own_conventions(self):
        assert float(jax.grad(automatic(jax.nn.relu))(0.0)) == 0.0
        assert float(jax.grad(automatic(lambda x: jnp.maximum(x, 0.0)))(0.0)) == 0.5
        assert float(jax.grad(automatic(lambda x: lax.map(jax.nn.relu, x[None])[0]))(0.0)) == 0.0
        assert np.isfinite(jax.grad(automatic(jax.nn.logsumexp))(jnp.array([-jnp.inf, 0.0]))).all()
