"""Activations: textbook numbers, conventions at kinks, extreme values, precision, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from tests.helpers import assert_close

# name: operation, f' far to the left and far to the right.
LIMITS = {
    "relu": (ops.relu, 0, 1),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.25), 0.25, 1),
    "sigmoid": (ops.sigmoid, 0, 0),
    "tanh": (ops.tanh, 0, 0),
    "elu": (lambda x: ops.elu(x, 1.5), 0, 1),
    "softplus": (ops.softplus, 0, 1),
    "silu": (ops.silu, 0, 1),
    "gelu": (ops.gelu, 0, 1),
    "exact_gelu": (lambda x: ops.gelu(x, approximate=False), 0, 1),
}
each = pytest.mark.parametrize("name", LIMITS)


def slope(f, x):
    return jax.vjp(f, x)[1](jnp.ones_like(x))[0]


@pytest.mark.parametrize(
    ("f", "x", "y", "dy"),
    [
        (ops.sigmoid, 0.0, 0.5, 0.25),
        (ops.sigmoid, 1.0, 0.7310586, 0.1966119),
        (ops.tanh, 1.0, 0.7615942, 0.4199743),
        (ops.elu, -1.0, -0.6321206, 0.3678794),
        (ops.softplus, 0.0, 0.6931472, 0.5),
        (ops.silu, 1.0, 0.7310586, 0.9276705),
        (ops.gelu, 1.0, 0.8411920, 1.0829641),
        (lambda x: ops.gelu(x, approximate=False), 1.0, 0.8413447, 1.0833155),
    ],
)
def test_textbook_numbers(f, x, y, dy):
    x = jnp.float32(x)
    np.testing.assert_allclose((f(x), slope(f, x)), (y, dy), rtol=1e-6)


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize(
    ("f", "at_zero"),
    [
        (ops.relu, 0.0),
        (lambda x: ops.leaky_relu(x, 0.25), 0.25),
        (lambda x: ops.leaky_relu(x, 0.0), 0.0),
        (lambda x: ops.elu(x, 1.5), 1.5),
        (lambda x: ops.elu(x, 0.0), 0.0),
    ],
)
def test_derivative_at_the_kink(f, at_zero, mode):
    with fnn.gradients(mode):
        zeros = jnp.array([0.0, -0.0])
        assert slope(f, zeros).tolist() == [at_zero, at_zero]
        # The value that a pullback comes with, differentiated in its turn.
        assert slope(lambda x: jax.vjp(f, x)[0], zeros).tolist() == [at_zero, at_zero]


@each
@pytest.mark.parametrize(
    ("dtype", "far"), [("float32", 1e4), ("float32", 3e38), ("float16", 6e4), ("bfloat16", 3e38), ("float64", 1e300)]
)
def test_values_and_derivatives_far_out(name, dtype, far):
    f, left, right = LIMITS[name]
    with jax.enable_x64(dtype == "float64"):
        x = jnp.array([-far, far], dtype)
        assert jnp.isfinite(f(x)).all()
        assert slope(f, x).tolist() == [left, right]


@each
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.long
def test_half_precision_derivative_is_computed_in_float32(name, dtype):
    """Against float64 at the same x: one rounding of what is saved and one of the result."""
    f, _, _ = LIMITS[name]
    x = jnp.linspace(-6, 6, 101).astype(dtype)
    with jax.enable_x64(True):
        want = slope(f, x.astype("float64"))
    got = np.asarray(slope(f, x), np.float64)
    np.testing.assert_allclose(got, want, atol=1.5 * float(jnp.finfo(dtype).eps))


@each
def test_second_derivative_equals_automatic(name):
    f, _, _ = LIMITS[name]
    x = jnp.array([-3.0, -0.5, 0.25, 2.0])

    def second(mode):
        with fnn.gradients(mode):
            return slope(lambda x: slope(f, x), x)

    np.testing.assert_allclose(second("hand"), second("auto"), atol=2e-6)


def test_softmax_of_nine_five_zero():
    y = ops.softmax(jnp.array([9.0, 5.0, 0.0]))
    np.testing.assert_allclose(y, [0.981894, 0.0179841, 0.000121175], rtol=1e-5)
    np.testing.assert_allclose(jnp.log(y), ops.log_softmax(jnp.array([9.0, 5.0, 0.0])), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_softmax_far_out(dtype):
    x = jnp.array([1e4, -1e4, 0.0], dtype)
    assert ops.softmax(x).tolist() == [1, 0, 0]
    assert slope(ops.softmax, x).tolist() == [0, 0, 0]
    want = jnp.array([0.0, -2e4, -1e4], dtype)
    assert_close(ops.log_softmax(x), want, ulps=1)
    # d log p_1 / dx = onehot(1) - p
    assert jax.grad(lambda x: ops.log_softmax(x)[1])(x).tolist() == [-1, 1, 0]


def test_a_masked_logit_gets_probability_and_gradient_zero():
    x = jnp.array([0.0, -jnp.inf, 0.0])
    np.testing.assert_allclose(ops.softmax(x), [0.5, 0, 0.5])
    np.testing.assert_allclose(jax.grad(lambda x: ops.softmax(x)[0])(x), [0.25, 0, -0.25])
    np.testing.assert_allclose(jax.grad(lambda x: ops.log_softmax(x)[0])(x), [0.5, 0, -0.5])


@pytest.mark.parametrize("f", [ops.softmax, ops.log_softmax])
def test_softmax_second_derivative_equals_automatic(f):
    x, v = jnp.array([[0.5, -1.0, 2.0]]), jnp.array([[1.0, -2.0, 0.5]])

    def second(mode):
        with fnn.gradients(mode):
            return jax.grad(lambda x: (jax.grad(lambda x: (f(x) * v).sum())(x) ** 2).sum())(x)

    np.testing.assert_allclose(second("hand"), second("auto"), rtol=1e-5)


@pytest.mark.parametrize("f", [f for f, _, _ in LIMITS.values()] + [ops.softmax, ops.log_softmax])
def test_integers_are_refused(f):
    with pytest.raises(fnn.InputError, match=r"expected a floating-point x; got int32 .*x.astype\(jnp.float32\)"):
        f(jnp.arange(3))
    with pytest.raises(fnn.InputError, match="expected an array for x; got float; pass a jax or numpy array"):
        f(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ops.leaky_relu(x, -0.1), "leaky_relu expected a number slope >= 0; got -0.1; pass slope="),
        (lambda x: ops.leaky_relu(x, float("nan")), "leaky_relu expected a number slope >= 0; got nan"),
        (lambda x: ops.elu(x, -1), "elu expected a number alpha >= 0; got -1; pass alpha="),
        (lambda x: ops.elu(x, "a"), "elu expected a number alpha >= 0; got 'a'"),
        (
            lambda x: ops.softmax(x, 1),
            r"softmax expected one of the axes of x; got axis=1 for x of shape \(3,\); use",
        ),
        (lambda x: ops.log_softmax(x, None), "log_softmax expected one of the axes of x; got axis=None"),
        (lambda x: ops.softmax(x[0]), r"softmax expected one of the axes of x; got axis=-1 for x of shape \(\)"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call(jnp.ones(3))


@pytest.mark.parametrize(
    ("layer", "f"),
    [
        (fnn.relu(), ops.relu),
        (fnn.leaky_relu(0.25), lambda x: ops.leaky_relu(x, 0.25)),
        (fnn.sigmoid(), ops.sigmoid),
        (fnn.tanh(), ops.tanh),
        (fnn.elu(1.5), lambda x: ops.elu(x, 1.5)),
        (fnn.softplus(), ops.softplus),
        (fnn.silu(), ops.silu),
        (fnn.gelu(), ops.gelu),
        (fnn.gelu(approximate=False), lambda x: ops.gelu(x, approximate=False)),
        (fnn.softmax(0), lambda x: ops.softmax(x, 0)),
        (fnn.log_softmax(0), lambda x: ops.log_softmax(x, 0)),
    ],
    ids=lambda a: a.name if isinstance(a, fnn.Layer) else "",
)
def test_layer_is_the_function_without_parameters(layer, f):
    x = jnp.array([[-1.0, 2.0], [0.5, -3.0]])
    assert layer.init(jax.random.key(0), x) == ({}, {})
    y, state = layer.apply({}, {}, x, train=True)
    assert state == {}
    assert y.tolist() == f(x).tolist()
    with pytest.raises(fnn.InputError, match=f"in 00_{layer.name}: {layer.name} expected a floating-point x"):
        fnn.serial(layer).apply({}, {}, jnp.ones((2, 2), int))


def test_log_softmax_in_half_precision_keeps_gradients_of_unlikely_classes():
    x, dy = jnp.array([0.0, -18.0], "float16"), jnp.array([2.0**15, 0.0], "float16")
    _, pull = jax.vjp(ops.log_softmax, x)
    np.testing.assert_allclose(pull(dy)[0][1], -(2.0**15) * np.exp(-18.0), rtol=1e-3)
