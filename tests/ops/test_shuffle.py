"""Numbers in other places, whole channels and examples dropped, channels scaled and compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from tests.helpers import assert_close, normal

X = normal(0, (4, 6, 4, 12))
KEY = jax.random.key(3)


def test_pixels_and_channels_change_places():
    y = ops.pixel_shuffle(X, 2)
    assert y.shape == (4, 12, 8, 3)
    for c, i, j in ((0, 0, 0), (1, 0, 1), (2, 1, 0)):
        assert_close(y[:, i::2, j::2, c], X[..., 4 * c + 2 * i + j])
    assert_close(ops.pixel_unshuffle(y, 2), X)


def test_shuffled_twice_by_complementary_groups_is_the_same():
    assert_close(ops.channel_shuffle(ops.channel_shuffle(X, 3), 4), X)


@pytest.mark.parametrize(
    ("f", "axes"),
    [
        (ops.channel_dropout, (1, 2)),
        (ops.stochastic_depth, (1, 2, 3)),
        (lambda *args: ops.stochastic_depth(*args, "batch"), (0, 1, 2, 3)),
    ],
)
def test_what_shares_a_draw_is_dropped_together(f, axes):
    kept = [np.asarray(f(jnp.ones((6, 3, 2, 5)), jax.random.key(seed), 0.5)) for seed in range(12)]
    for y in kept:
        assert set(np.unique(y)) <= {0.0, 2.0}
        assert (y.max(axes) == y.min(axes)).all()
    assert 0.2 < np.mean(kept) / 2 < 0.8


def test_squeeze_excite_is_its_formula():
    layer = fnn.squeeze_excite(12, 3, activation=fnn.silu())
    params, state = layer.init(KEY, X)
    s = X.mean((1, 2))
    for name, f in (("reduce", jax.nn.silu), ("expand", jax.nn.sigmoid)):
        s = f(s @ params[name]["kernel"] + params[name]["bias"])
    assert_close(layer.apply(params, state, X)[0], X * s[:, None, None], ulps=64)
    again = layer.rebuild([child for _, child in layer.children])
    assert_close(again.apply(params, state, X)[0], layer.apply(params, state, X)[0])


REFUSED = {
    "groups that divide": lambda: ops.channel_shuffle(X, 5),
    "channels that 5² divides": lambda: ops.pixel_shuffle(X, 5),
    "sides that 5 divides": lambda: ops.pixel_unshuffle(X, 5),
    "pixel_shuffle expected x of shape": lambda: ops.pixel_shuffle(X[0], 2),
    "squeeze_excite expected x of shape": lambda: fnn.squeeze_excite(8, 2).init(KEY, X),
    "a Layer for gate": lambda: fnn.squeeze_excite(8, 2, gate=fnn.sigmoid),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_wrong_is_said(message):
    with pytest.raises(fnn.InputError, match=message):
        REFUSED[message]()


@pytest.mark.parametrize("name", ["relu6", "hard_tanh", "hard_sigmoid", "hard_swish", "selu", "celu", "mish", "glu"])
def test_activations_are_those_of_jax(name):
    x = 4 * normal(1, (7, 10))
    assert_close(getattr(ops, name)(x), getattr(jax.nn, name)(x), ulps=64)


def test_quick_gelu_softsign_maxout_and_prelu():
    x = 4 * normal(1, (7, 10))
    assert_close(ops.quick_gelu(x), x * jax.nn.sigmoid(1.702 * x), ulps=64)
    assert_close(ops.softsign(x), jax.nn.soft_sign(x))
    assert_close(ops.maxout(x, 5), jnp.stack([x[:, :5].max(1), x[:, 5:].max(1)], 1))
    assert_close(ops.prelu(x, jnp.array(0.1)), jax.nn.leaky_relu(x, 0.1))
