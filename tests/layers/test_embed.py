"""Embeddings of indices and of positions, and the token in front."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.helpers import assert_close, normal

KEY = jax.random.key(0)
TABLE = normal(0, (5, 3))


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "int8"])
def test_outside_the_table_there_is_nothing(mode, dtype):
    """Inside jit, where nothing can be raised: no row of the table, and no slope."""
    outside = np.array([4, 5, 200 if dtype == "uint8" else -1]).astype(dtype)
    with fnn.gradients(mode):
        y = jax.jit(fnn.ops.embed)(outside, TABLE)
        slope = jax.jit(jax.grad(lambda table, at: fnn.ops.embed(at, table).sum()))(TABLE, outside)
    assert np.isnan(y).all(1).tolist() == [False, True, True]
    assert_close(slope, jnp.zeros((5, 3)).at[4].set(1.0))


def test_repeated_indices_add_up():
    indices = jnp.array([[3, 1, 3], [0, 3, 1]])
    slope = jax.grad(lambda table: fnn.ops.embed(indices, table).sum())(TABLE)
    assert slope[:, 0].tolist() == [1, 2, 0, 3, 0]


def test_a_token_and_positions_make_a_sequence_of_patches():
    model = fnn.serial(fnn.reshape(-1, 6), fnn.class_token(), fnn.position_embedding())
    x = normal(1, (2, 4, 4, 3))
    params, state = model.init(KEY, x)
    y, _ = model.apply(params, state, x)
    assert y.shape == (2, 9, 6)
    assert_close(y[:, 0], jnp.broadcast_to(params["02_position_embedding"]["embedding"][0], (2, 6)))


def test_waves_of_two_axes_are_those_of_each():
    row, column = (fnn.sinusoidal_positions().apply({}, {}, jnp.zeros((1, n, 6)))[0][0] for n in (4, 5))
    y = fnn.sinusoidal_positions().apply({}, {}, jnp.zeros((1, 4, 5, 12)))[0][0]
    for i in range(4):
        for j in range(5):
            assert_close(y[i, j], jnp.concatenate([row[i], column[j]]))


REFUSED = {
    "rows >= 1": lambda: fnn.embed(0, 3),
    "expected integers": lambda: fnn.embed(2, 3).init(KEY, (1, 4)),
    "indices from 0 to 1": lambda: apply(fnn.embed(2, 3), jnp.array([2]), jnp.zeros((1,), int)),
    "x of shape \\(N, \\*places, C\\)": lambda: fnn.position_embedding().init(KEY, (2, 3)),
    "position_embedding expected x": lambda: apply(fnn.position_embedding(), jnp.ones((1, 5, 3)), (1, 4, 3)),
    "x of shape \\(N, T, C\\)": lambda: fnn.class_token().init(KEY, (2, 3)),
    "with C even": lambda: apply(fnn.sinusoidal_positions(), jnp.ones((1, 2, 3)), (1, 2, 3)),
    "base > 0": lambda: fnn.sinusoidal_positions(base=-1.0),
}


def apply(layer, x, example):
    return layer.apply(*layer.init(KEY, example), x)


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_wrong_is_said(message):
    with pytest.raises(fnn.InputError, match=message):
        REFUSED[message]()
