"""Attention against JAX's, at its edges, and in blocks: what a query may not see changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.ops import attention
from fnn.ops.attention.rule import BACKWARD, FORWARD
from tests.helpers import assert_close, normal

Q, K, V = normal(0, (2, 5, 4, 3)), normal(1, (2, 6, 2, 3)), normal(2, (2, 6, 2, 3))
DY = normal(3, (2, 5, 4, 3))
MASK = (normal(4, (2, 1, 5, 6)) > -0.5) | jnp.eye(5, 6, dtype=bool)  # of a query that sees nothing JAX's is the mean
BIAS = normal(5, (1, 4, 5, 6))
LENGTHS = {"query_lengths": jnp.array([5, 2]), "key_lengths": jnp.array([1, 6])}
THEIRS = {"causal": "is_causal", "window": "local_window_size", "query_lengths": "query_seq_lengths"}
THEIRS |= {"key_lengths": "key_value_seq_lengths"}
OPTIONS = {
    "none": {},
    "scale": {"scale": 0.3},
    "mask": {"mask": MASK},
    "bias": {"bias": BIAS},
    "causal": {"causal": True},
    "one window": {"window": 1},
    "two windows": {"window": (2, 0)},
    "all": {"mask": MASK, "bias": BIAS, "causal": True, "window": 3},
}


def slopes(f, *args):
    return jax.jit(lambda *args: jax.vjp(f, *args)[1](DY))(*args)


@pytest.mark.parametrize("implementation", ["plain", "chunked"])
@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_that_of_jax(name, implementation):
    options = OPTIONS[name]
    ours = lambda *args: attention(*args, **options)  # noqa: E731
    renamed = {THEIRS.get(key, key): value for key, value in options.items()}
    theirs = lambda *args: jax.nn.dot_product_attention(*args, **renamed)  # noqa: E731
    with fnn.gradients({"attention": implementation}):
        assert_close(jax.jit(ours)(Q, K, V), theirs(Q, K, V), ulps=64)
        assert_close(slopes(ours, Q, K, V), slopes(theirs, Q, K, V), ulps=256)


@pytest.mark.parametrize("mode", ["hand", "auto", {"attention": "chunked"}])
def test_padding_changes_nothing(mode):
    """What lies behind the lengths is read by nobody, reads nothing, and has no slope."""
    with fnn.gradients(mode):
        f = lambda *args: attention(*args, **LENGTHS)  # noqa: E731
        y, (dq, dk, dv) = f(Q, K, V), slopes(f, Q, K, V)
        other = f(Q.at[1, 2:].set(9.0), K.at[0, 1:].set(-9.0), V.at[0, 1:].set(9.0))
    assert_close(other, y)
    for a in (y[1, 2:], dq[1, 2:], dk[0, 1:], dv[0, 1:]):
        assert not a.any()
    alone = attention(Q[1:, :2], K[1:], V[1:])
    assert_close(y[1:, :2], alone)


@pytest.mark.parametrize("mode", ["hand", "auto", {"attention": "chunked"}])
@pytest.mark.parametrize(
    "hidden", [{"mask": MASK.at[0].set(False)}, {"bias": jnp.zeros((2, 1, 1, 6)).at[0].set(-jnp.inf)}]
)
def test_a_query_that_sees_nothing_finds_nothing(hidden, mode):
    with fnn.gradients(mode):
        f = lambda *args: attention(*args, **hidden)  # noqa: E731
        y, came = f(Q, K, V), slopes(f, Q, K, V)
    assert not y[0].any()
    assert all(not a[0].any() and np.isfinite(a).all() and a[1].any() for a in came)


def test_large_scores_do_not_overflow():
    y = attention(1e4 * Q, 1e4 * K, V)
    assert np.isfinite(y).all()
    assert all(np.isfinite(a).all() for a in slopes(attention, 1e4 * Q, 1e4 * K, V))


def test_dropout_keeps_the_mean_and_draws_the_same_in_blocks():
    ones = jnp.ones((1, 300, 2, 1))
    options = {"dropout_rate": 0.25, "dropout_key": jax.random.key(0)}
    y = attention(ones, ones, ones, **options)
    assert abs(float(y.mean()) - 1) < 0.01
    assert float(y.std()) > 0.01
    with fnn.gradients({"attention": "chunked"}):
        assert_close(attention(ones, ones, ones, **options), y)


def test_one_sequence_needs_no_batch_axis():
    assert_close(attention(Q[0], K[0], V[0]), attention(Q, K, V)[0])


def compiled(t, mode):
    x = jax.ShapeDtypeStruct((1, t, 8, 64), jnp.float32)
    with fnn.gradients(mode):
        slope = jax.grad(lambda *args: attention(*args).sum(), (0, 1, 2))
        return jax.jit(slope).lower(x, x, x).compile()


def test_long_sequences_need_a_tenth_of_the_memory():
    by_hand, auto = (compiled(4096, mode).memory_analysis().temp_size_in_bytes for mode in ("hand", "auto"))
    assert by_hand < auto / 10
    assert "4096,4096" not in compiled(4096, "hand").as_text()


def test_blocks_are_for_long_sequences_alone():
    def chosen(*shape):
        with fnn.core.implementation.observed() as watch:
            x = jnp.zeros(shape)
            jax.eval_shape(jax.grad(lambda *args: attention(*args).sum(), (0, 1, 2)), x, x, x)
        return {row.name for table, row in watch.run_on("cpu") if table in (FORWARD, BACKWARD)}

    assert chosen(2, 512, 8, 4) == {"chunked"}
    assert chosen(1, 512, 8, 4) == chosen(64, 256, 8, 4) == {"plain"}
