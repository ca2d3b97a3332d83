"""Flatten and reshape: the batch axis stays, the elements keep their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn


def run(layer, x):
    params, state = layer.init(jax.random.key(0), x.shape)
    y, new_state = layer.apply(params, state, x)
    assert params == state == new_state == {}
    return y


@pytest.mark.parametrize(
    ("layer", "shape", "want"),
    [
        (fnn.flatten(), (2, 3, 4), (2, 12)),
        (fnn.flatten(), (2,), (2, 1)),
        (fnn.flatten(), (0, 3, 4), (0, 12)),
        (fnn.flatten(), (2, 0, 4), (2, 0)),
        (fnn.reshape(4, 3), (2, 3, 4), (2, 4, 3)),
        (fnn.reshape(2, -1, 1), (2, 3, 4), (2, 2, 6, 1)),
        (fnn.reshape(2, -1), (0, 3, 4), (0, 2, 6)),
        (fnn.reshape(-1), (2, 0), (2, 0)),
        (fnn.reshape(), (2, 1), (2,)),
    ],
)
def test_shapes(layer, shape, want):
    x = jnp.arange(np.prod(shape, dtype=int), dtype=jnp.float32).reshape(shape)
    y = run(layer, x)
    assert y.shape == want
    np.testing.assert_array_equal(y.ravel(), x.ravel())


def test_they_compose():
    net = fnn.serial(fnn.reshape(2, 2, 1), fnn.flatten(), fnn.dense(3))
    params, state = net.init(jax.random.key(0), (5, 4))
    assert net.apply(params, state, jnp.ones((5, 4)))[0].shape == (5, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run(fnn.flatten(), jnp.ones(())), r"flatten expected x of shape \(N, ...\); got \(\)"),
        (lambda: run(fnn.reshape(1), jnp.ones(())), r"reshape expected x of shape \(N, ...\); got \(\)"),
        (lambda: fnn.reshape(-1, -1), r"at most one of them -1; got \(-1, -1\)"),
        (lambda: fnn.reshape(0, 4), r"sizes >= 1.*got \(0, 4\)"),
        (lambda: fnn.reshape((4, 4)), r"sizes >= 1.*got \(\(4, 4\),\); write reshape\(4, 4, 1\)"),
        (lambda: run(fnn.reshape(3), jnp.ones((2, 4))), r"examples of 3 elements for the shape \(3,\); got 4 in each"),
        (lambda: run(fnn.reshape(3, -1), jnp.ones((2, 4))), r"a multiple of 3 elements.*got 4 in each of \(2, 4\)"),
        (
            lambda: fnn.serial(head=fnn.reshape(3)).init(jax.random.key(0), (2, 4)),
            r"in head: reshape expected examples of 3 elements",
        ),
    ],
)
def test_errors_say_what_came(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()
