"""A user's tests of rules that have nothing to do with fnn, one line each; and what the checker says to bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.check import GradientError, assert_vjp, check_vjp


def with_rule(f, fwd, bwd):
    """A function with a custom VJP, as its author would decorate it."""
    rule = jax.custom_vjp(f)
    rule.defvjp(fwd, bwd)
    return rule


# log |det a|:  da = dy a^-T


def log_det(a):
    return jnp.linalg.slogdet(a)[1]


def log_det_fwd(a):
    return log_det(a), jnp.linalg.inv(a)


good_log_det = with_rule(log_det, log_det_fwd, lambda inverse, dy: (dy * inverse.T,))
bad_log_det = with_rule(log_det, log_det_fwd, lambda inverse, dy: (dy * inverse,))

MATRIX = jnp.array([[2.0, 0.3, -0.5], [0.7, 1.5, 0.2], [-0.1, 0.4, 1.0]])


# One step of Runge and Kutta's fourth order through y' = tanh(W y) + b, differentiated by its own adjoint:
# with the slopes k_i at stages z_i, cotangents travel from the last stage to the first.

HALVES = (0.0, 0.5, 0.5, 1.0)
SHARES = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


def slope(field, z):
    return jnp.tanh(field["W"] @ z) + field["b"]


def stages(field, y, h):
    zs, k = [], jnp.zeros_like(y)
    for half in HALVES:
        zs.append(y + h * half * k)
        k = slope(field, zs[-1])
    return zs


def rk4(field, y, h):
    return y + h * sum(share * slope(field, z) for share, z in zip(SHARES, stages(field, y, h), strict=True))


def rk4_fwd(field, y, h):
    return rk4(field, y, h), (field, y, h)


def rk4_bwd(residuals, dy, shares=SHARES):
    field, y, h = residuals
    zs = stages(field, y, h)
    slopes = [slope(field, z) for z in zs]
    dfield = jax.tree.map(jnp.zeros_like, field)
    dstate, dh, later = dy, dy @ sum(share * k for share, k in zip(SHARES, slopes, strict=True)), jnp.zeros_like(dy)
    for i in reversed(range(4)):
        dk = h * shares[i] * dy + later
        inner = dk * (1 - jnp.tanh(field["W"] @ zs[i]) ** 2)
        dz = field["W"].T @ inner
        dfield = {"W": dfield["W"] + jnp.outer(inner, zs[i]), "b": dfield["b"] + dk}
        dstate, later = dstate + dz, h * HALVES[i] * dz
        dh += HALVES[i] * dz @ slopes[i - 1] if i else 0.0
    return dfield, dstate, dh


good_rk4 = with_rule(rk4, rk4_fwd, rk4_bwd)
bad_rk4 = with_rule(
    rk4,
    rk4_fwd,
    lambda saved, dy: ({**rk4_bwd(saved, dy)[0], "b": -rk4_bwd(saved, dy)[0]["b"]}, *rk4_bwd(saved, dy)[1:]),
)

FIELD = {"W": jnp.array([[0.2, -1.0, 0.4], [0.9, 0.1, -0.3], [0.0, 0.5, -0.6]]), "b": jnp.array([0.1, -0.2, 0.3])}
STATE, STEP = jnp.array([1.0, -0.5, 0.25]), jnp.float32(0.3)


@pytest.mark.long
def test_log_det():
    assert_vjp(good_log_det, MATRIX)


@pytest.mark.long
def test_an_ode_step():
    assert_vjp(good_rk4, FIELD, STATE, STEP)


def test_a_broken_log_det():
    with pytest.raises(GradientError) as caught:
        assert_vjp(bad_log_det, MATRIX, quick=True)
    message = str(caught.value)
    assert "WRONG, says automatic, coordinates, differences, precision" in message
    assert "a: the gradient is transposed" in message


@pytest.mark.long
def test_a_broken_ode_step():
    with pytest.raises(GradientError) as caught:
        assert_vjp(bad_rk4, FIELD, STATE, STEP, quick=True)
    message = str(caught.value)
    assert "WRONG, says automatic" in message
    assert "field/b: the gradient has the wrong sign" in message
    assert "field/W: " not in message.partition("diagnosis:")[2].partition("sensitivity:")[0]


X = jnp.array([0.5, -1.25, 2.0])


def verdict(f, *args):
    report = check_vjp(f, *args, quick=True)
    return report, str(report)


def test_a_function_that_is_not_differentiable():
    report, text = verdict(jnp.round, X)  # differentiable, and flat
    assert report, text
    report, text = verdict(lambda x: jax.lax.while_loop(lambda x: x.sum() < 100, lambda x: 2 * x, x), X)
    assert not report
    assert "NOT CHECKED" in text
    assert "by no fault of a rule: ValueError:" in text
    report, text = verdict(lambda x: jnp.asarray(np.asarray(x)), X)
    assert not report
    assert "the gradient raises TracerArrayConversionError" in text


def test_a_function_of_or_to_integers():
    report, text = verdict(jnp.argmax, X)
    assert not report
    assert "nothing to differentiate: the function returns no floating-point array" in text
    report, text = verdict(lambda n: 2.0 * n, jnp.arange(3))
    assert not report
    assert "nothing to differentiate: no floating-point argument (n: int32)" in text


def test_a_function_that_needs_a_key():
    def noisy(x, key):
        return x * jax.random.normal(key, x.shape)

    report, text = verdict(noisy, X)
    assert not report
    assert "missing 1 required positional argument: 'key'" in text
    assert "Pass all arguments after f, a key for example" in text
    report, text = verdict(noisy, X, jax.random.key(0))
    assert report, text
    assert any(finding.leaf == "key" and "held fixed" in finding.detail for finding in report.findings)


def test_a_function_that_raises():
    def picky(x):
        raise RuntimeError("the data base is down\nsecond line")

    report, text = verdict(picky, X)
    assert not report
    assert "the function raises RuntimeError: the data base is down" in text
    backward = with_rule(lambda x: x, lambda x: (x, None), lambda _, dy: 1 / 0)
    report, text = verdict(backward, X)
    assert not report
    assert "the gradient raises ZeroDivisionError: division by zero" in text


def test_a_function_with_side_effects():
    def chatty(x):
        jax.debug.print("{}", x.sum())
        return x**2

    report, text = verdict(chatty, X)
    assert report, text
    assert "the function has side effects: " in text


def test_hidden_randomness():
    rng = np.random.default_rng(0)
    report, text = verdict(lambda x: x * rng.normal(), X)
    assert not report
    assert "hidden state or randomness" in text
    backward = with_rule(lambda x: x, lambda x: (x, None), lambda _, dy: (dy * (1 + 1e-3 * rng.normal()),))
    report, text = verdict(backward, X)
    assert not report
    assert "hidden state or randomness" in text


def test_a_function_that_branches_on_values():
    def branches(x):
        return x**2 if x.sum() > 0 else -x

    report, text = verdict(branches, X)
    assert report, text
    slow = check_vjp(branches, X, checks=["jit"])
    assert "cannot be compiled: it looks at values" in str(slow)
    wrong = with_rule(branches, lambda x: (branches(x), x), lambda x, dy: (dy * x,))
    report, text = verdict(wrong, X)
    assert not report
    assert "DIFFER (hand)" in text


def test_the_function_itself_is_forgotten():
    with pytest.raises(ValueError, match=r"check_vjp expected a function f\(\*args\); got"):
        assert_vjp(X)
