"""Blocks of transformers: against their formula, with padding, with a context, and repeated."""

import jax
import jax.numpy as jnp
import pytest

import fnn
from tests.helpers import assert_close, normal

KEY = jax.random.key(0)
X, CONTEXT = normal(0, (2, 5, 8)), normal(1, (2, 3, 6))


@pytest.mark.parametrize("norm_first", [True, False])
def test_it_is_its_formula(norm_first):
    layer = fnn.transformer_block(8, 2, 12, norm_first=norm_first)
    params, state = layer.init(KEY, X)

    def part(name, x):
        layers = {"attention": fnn.multi_head_attention(8, 2), "feed_forward": fnn.feed_forward(8, 12)}
        return layers[name].apply(params[name], {}, x)[0]

    want = X
    for name in ("attention", "feed_forward"):
        scale, offset = params[f"{name}_norm"]["scale"], params[f"{name}_norm"]["offset"]
        if norm_first:
            want = want + part(name, fnn.ops.layer_norm(want, scale, offset))
        else:
            want = fnn.ops.layer_norm(want + part(name, want), scale, offset)
    assert_close(layer.apply(params, state, X)[0], want, ulps=64)


def test_padding_changes_nothing_through_several_blocks():
    model = fnn.repeat(fnn.transformer_block(8, 4, 12, key_heads=2, rotary=100.0, norm=fnn.rms_norm(), bias=False), 2)
    x = {"x": X, "lengths": jnp.array([5, 2])}
    params, state = model.init(KEY, x)
    y, _ = model.apply(params, state, x)
    assert y["lengths"] is x["lengths"] or (y["lengths"] == x["lengths"]).all()
    other, _ = model.apply(params, state, x | {"x": X.at[1, 2:].set(9.0)})
    assert_close(other["x"][1, :2], y["x"][1, :2])
    alone, _ = model.apply(params, state, X[1:, :2])
    assert_close(y["x"][1:, :2], alone, ulps=64)


def test_a_decoder_reads_its_context():
    layer = fnn.transformer_block(8, 2, 12, causal=True, cross=True)
    x = {"x": X, "context": CONTEXT, "context_lengths": jnp.array([3, 1])}
    params, state = layer.init(KEY, x)
    assert params["cross_attention"]["key"]["kernel"].shape == (6, 8)
    y, _ = layer.apply(params, state, x)
    later, _ = layer.apply(params, state, x | {"x": X.at[:, 3:].set(0.0)})
    assert_close(later["x"][:, :3], y["x"][:, :3])
    other, _ = layer.apply(params, state, x | {"context": CONTEXT.at[1, 1:].set(9.0)})
    assert_close(other["x"], y["x"])


def test_a_gate_multiplies():
    layer = fnn.feed_forward(4, 16, activation=fnn.silu(), gated=True, bias=False)
    params, state = layer.init(KEY, X)
    gate, into = params["hidden"]["gate"]["dense"]["kernel"], params["hidden"]["in"]["kernel"]
    want = (jax.nn.silu(X @ gate) * (X @ into)) @ params["out"]["kernel"]
    assert_close(layer.apply(params, state, X)[0], want, ulps=64)


def test_it_drops_in_training_alone():
    layer = fnn.transformer_block(8, 2, 12, dropout_rate=0.5)
    params, state = layer.init(KEY, X)
    a, b = (layer.apply(params, state, X, train=True, key=jax.random.key(i))[0] for i in range(2))
    assert not jnp.allclose(a, b)
    assert_close(*(layer.apply(params, state, X)[0] for _ in range(2)))


REFUSED = {
    'a dict with "x" and "context"': lambda: fnn.transformer_block(8, 2, 12, cross=True).init(KEY, X),
    "heads that divide 8": lambda: fnn.transformer_block(8, 3, 12),
    "a Layer for norm": lambda: fnn.transformer_block(8, 2, 12, norm=fnn.layer_norm),
    "a Layer for activation": lambda: fnn.feed_forward(8, 12, activation=jax.nn.gelu),
    "hidden >= 1": lambda: fnn.feed_forward(8, 0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_wrong_is_said(message):
    with pytest.raises(fnn.InputError, match=message):
        REFUSED[message]()
