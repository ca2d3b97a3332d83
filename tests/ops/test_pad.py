"""Padding that copies the input: values against NumPy, folded gradients, errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from tests.helpers import assert_close

NUMPY = {"REFLECT": "reflect", "REPLICATE": "edge", "CIRCULAR": "wrap"}
MODES = pytest.mark.parametrize("mode", NUMPY)
BOTH = pytest.mark.parametrize("gradients", ["hand", "auto"])


def pull(f, x, dy):
    return jax.vjp(f, x)[1](dy)[0]


@MODES
@pytest.mark.parametrize(
    ("shape", "pairs"),
    [
        ((2, 4, 2), ((3, 2),)),
        ((1, 4, 3, 2), ((0, 3), (2, 1))),
        ((1, 2, 3, 4, 1), ((1, 0), (0, 0), (3, 3))),
        ((0, 3, 1), ((1, 1),)),
        ((1, 1, 1), ((0, 0),)),
    ],
)
def test_values_are_those_of_numpy(mode, shape, pairs):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    want = np.pad(x, ((0, 0), *pairs, (0, 0)), mode=NUMPY[mode])
    np.testing.assert_array_equal(ops.pad(x, pairs, mode=mode), want)


@pytest.mark.parametrize(
    ("mode", "pair", "values", "gradient"),
    [
        ("REFLECT", (2, 1), [3, 2, 1, 2, 3, 2], [100, 10 + 1000 + 100000, 1 + 10000]),
        ("REFLECT", (0, 2), [1, 2, 3, 2, 1], [1 + 10000, 10 + 1000, 100]),
        ("REPLICATE", (2, 1), [1, 1, 1, 2, 3, 3], [1 + 10 + 100, 1000, 10000 + 100000]),
        ("REPLICATE", (0, 3), [1, 2, 3, 3, 3, 3], [1, 10, 100 + 1000 + 10000 + 100000]),
        ("CIRCULAR", (2, 1), [2, 3, 1, 2, 3, 1], [100 + 100000, 1 + 1000, 10 + 10000]),
        ("CIRCULAR", (3, 0), [1, 2, 3, 1, 2, 3], [1 + 1000, 10 + 10000, 100 + 100000]),
    ],
)
@BOTH
@pytest.mark.long
def test_a_border_sends_its_gradient_to_where_it_came_from(mode, pair, values, gradient, gradients):
    """dy is 1, 10, 100, ...: the digits of dx_j say which outputs copied x_j."""
    x = jnp.array([1.0, 2, 3]).reshape(1, 3, 1)

    def padded(x):
        return ops.pad(x, [pair], mode=mode)

    with fnn.gradients(gradients):
        dy = 10.0 ** jnp.arange(len(values)).reshape(1, -1, 1)
        np.testing.assert_array_equal(padded(x).ravel(), values)
        np.testing.assert_array_equal(pull(padded, x, dy).ravel(), gradient)


@MODES
@BOTH
@pytest.mark.long
def test_gradient_is_that_of_numpy_padding_in_jax(mode, gradients):
    x = jax.random.randint(jax.random.key(0), (2, 4, 5, 2), -9, 10).astype(jnp.float32)
    pairs = ((2, 3), (4, 0))
    dy = jax.random.randint(jax.random.key(1), (2, 9, 9, 2), -9, 10).astype(jnp.float32)
    want = pull(lambda x: jnp.pad(x, ((0, 0), *pairs, (0, 0)), mode=NUMPY[mode]), x, dy)
    with fnn.gradients(gradients):
        np.testing.assert_array_equal(pull(lambda x: ops.pad(x, pairs, mode=mode), x, dy), want)


@MODES
def test_differentiated_twice_and_mapped(mode):
    x = jax.random.normal(jax.random.key(0), (3, 1, 4, 1))

    @jax.jit
    def hessian(x):
        return jax.vmap(jax.jacfwd(jax.grad(lambda x: (ops.pad(x, [(2, 3)], mode=mode) ** 3).sum())))(x)

    with fnn.gradients("auto"):
        want = hessian(x)
    assert_close(hessian(x), want)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_long_replicated_border_sums_in_float32(dtype):
    """Beside 2 / epsilon (256 in bfloat16) one 1 is lost, and so are a hundred if they come one by one."""
    large = 2 / float(jnp.finfo(dtype).eps)
    x, dy = jnp.zeros((1, 1, 1), dtype), jnp.ones((1, 102, 1), dtype).at[0, 0].set(large)
    dx = pull(lambda x: ops.pad(x, [(101, 0)], mode="REPLICATE"), x, dy)
    assert dx.dtype == dtype
    np.testing.assert_allclose(dx.astype(float), large + 101, rtol=float(jnp.finfo(dtype).eps))


@MODES
def test_conv_pads_by_the_amounts_of_same(mode):
    x = np.arange(2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4, 1)
    w = np.arange(12, dtype=np.float32).reshape(3, 4, 1, 1)
    padded = np.pad(x, ((0, 0), (2, 2), (1, 2), (0, 0)), mode=NUMPY[mode])
    y = ops.conv(x, w, dilation=(2, 1), padding=mode)
    np.testing.assert_array_equal(y, ops.conv(padded, w, dilation=(2, 1)))
    assert y.shape == x.shape


X = jnp.ones((1, 4, 3, 2))


@pytest.mark.parametrize(
    ("x", "pairs", "mode", "message"),
    [
        (X.astype(int), ((1, 1), (1, 1)), "REFLECT", "a floating-point x; got int32"),
        ([1.0], ((1, 1), (1, 1)), "REFLECT", "an array for x; got list"),
        (X[0, 0], (), "REFLECT", "x of shape (N, *spatial, C); got (3, 2)"),
        (jnp.ones(3), (), "REFLECT", "x of shape (N, *spatial, C); got (3,)"),
        (jnp.ones((1, 0, 2)), ((0, 0),), "REPLICATE", "spatial sizes >= 1; got x of shape (1, 0, 2)"),
        (X, ((1, 1), (1, 1)), "reflect", "a mode among ('REFLECT', 'REPLICATE', 'CIRCULAR'); got 'reflect'"),
        (X, ((1, 1), (1, 1)), None, "got None; use one of these"),
        (X, ((1, 1),), "REFLECT", "2 pairs (before, after) >= 0 for x (1, 4, 3, 2); got ((1, 1),); give one pair"),
        (X, 1, "REFLECT", "2 pairs (before, after) >= 0 for x (1, 4, 3, 2); got 1"),
        (X, (1, 1), "REFLECT", "got (1, 1); give one pair"),
        (X, ((1, 1), (1, 1, 1)), "REFLECT", "got ((1, 1), (1, 1, 1))"),
        (X, ((1, 1), (0, -1)), "REPLICATE", "got ((1, 1), (0, -1))"),
        (X, ((1, 1), (0.5, 1)), "REPLICATE", "got ((1, 1), (0.5, 1))"),
        (X, ((1, 1), (0, 3)), "REFLECT", "amounts from 0 to 2 to REFLECT an axis of 3; got (0, 3); pad less"),
        (X, ((5, 0), (0, 3)), "CIRCULAR", "amounts from 0 to 4 to CIRCULAR an axis of 4; got (5, 0); pad less"),
    ],
)
def test_bad_inputs(x, pairs, mode, message):
    with pytest.raises(fnn.InputError, match="^pad expected .*" + re.escape(message)):
        ops.pad(x, pairs, mode=mode)


def test_conv_says_when_the_input_is_too_small_to_reflect():
    message = "pad expected amounts from 0 to 1 to REFLECT an axis of 2; got (2, 2)"
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        ops.conv(jnp.ones((1, 2, 1)), jnp.ones((5, 1, 1)), padding="REFLECT")
