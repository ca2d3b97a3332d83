"""Multi-head attention: cross-attention, grouped keys, decoding step by step, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.helpers import assert_close, normal

X, CONTEXT = normal(0, (2, 5, 6)), normal(1, (2, 3, 4))
CONTEXT_6 = normal(2, (2, 3, 6))
KEY = jax.random.key(0)


def test_it_is_attention_between_projections():
    layer = fnn.multi_head_attention(8, 2, bias=False, bias_init=jax.nn.initializers.ones)
    params, state = layer.init(KEY, X)
    y, _ = layer.apply(params, state, X)
    q, k, v = ((X @ params[name]["kernel"]).reshape(2, 5, 2, 4) for name in ("query", "key", "value"))
    want = jax.nn.dot_product_attention(q, k, v).reshape(2, 5, 8) @ params["out"]["kernel"]
    assert_close(y, want, ulps=64)


def test_another_sequence_is_the_context():
    layer = fnn.multi_head_attention(8, 4, key_heads=2, norm=fnn.rms_norm())
    x = {"x": X, "context": CONTEXT, "context_lengths": jnp.array([3, 1])}
    params, state = layer.init(KEY, x)
    assert {name: p.get("kernel", p.get("scale")).shape for name, p in params.items()} == {
        "query": (6, 8),
        "key": (4, 4),
        "value": (4, 4),
        "out": (8, 8),
        "query_norm": (2,),
        "key_norm": (2,),
    }
    y, _ = layer.apply(params, state, x)
    other, _ = layer.apply(params, state, x | {"context": CONTEXT.at[1, 1:].set(9.0)})
    assert_close(y, other)
    slope = jax.grad(lambda params: (layer.apply(params, state, x)[0] ** 2).sum())(params)
    with fnn.gradients("auto"):
        want = jax.grad(lambda params: (layer.apply(params, state, x)[0] ** 2).sum())(params)
    assert_close(slope, want, ulps=512)


@pytest.mark.parametrize("window", [None, (1, 0)])
@pytest.mark.parametrize("steps", [(1, 1, 1, 1, 1), (2, 3), (5,)])
def test_step_by_step_is_the_full_pass(steps, window):
    options = {"key_heads": 1, "causal": True, "window": window, "rotary": 100.0}
    full = fnn.multi_head_attention(8, 2, **options)
    params, _ = full.init(KEY, X)
    want, _ = full.apply(params, {}, X)
    decoding = fnn.multi_head_attention(8, 2, cache=5, **options)
    same, state = decoding.init(KEY, X[:, :1])
    assert_close(same, params)
    step, at, found = jax.jit(decoding.apply), 0, []
    for n in steps:
        y, state = step(params, state, X[:, at : at + n])
        at += n
        found.append(y)
    assert_close(jnp.concatenate(found, 1), want, ulps=64)
    assert int(state["attention"]["length"]) == 5


def test_a_full_cache_is_refused_and_in_jit_it_is_nan():
    layer = fnn.multi_head_attention(8, 2, causal=True, cache=4)
    params, state = layer.init(KEY, X[:, :1])
    with pytest.raises(fnn.InputError, match="attention: multi_head_attention expected at most 4 positions"):
        layer.apply(params, state, X)
    y, state = jax.jit(layer.apply)(params, state, X[:, :3])
    assert np.isfinite(y).all()
    assert np.isnan(jax.jit(layer.apply)(params, state, X[:, :2])[0]).all()


def test_it_drops_in_training_alone():
    layer = fnn.multi_head_attention(8, 2, dropout_rate=0.5)
    params, state = layer.init(KEY, X)
    calm = [layer.apply(params, state, X, key=key)[0] for key in (None, KEY)]
    assert_close(*calm)
    a, b = (layer.apply(params, state, X, train=True, key=jax.random.key(i))[0] for i in range(2))
    assert not np.allclose(a, b)
    assert not np.allclose(a, calm[0])


def test_rotary_depends_on_distances_alone():
    layer = fnn.multi_head_attention(8, 2, rotary=100.0)
    params, state = layer.init(KEY, X)
    q, k, v = ((X @ params[name]["kernel"]).reshape(2, 5, 2, 4) for name in ("query", "key", "value"))
    q, k = (fnn.ops.rotary(a, jnp.arange(7, 12), base=100.0) for a in (q, k))
    want = fnn.ops.attention(q, k, v).reshape(2, 5, 8) @ params["out"]["kernel"]
    assert_close(layer.apply(params, state, X)[0], want, ulps=256)


REFUSED = {
    "heads that divide 8": lambda: fnn.multi_head_attention(8, 3),
    "key_heads that divide 4": lambda: fnn.multi_head_attention(8, 4, key_heads=3),
    "a causal layer for a cache": lambda: fnn.multi_head_attention(8, 2, cache=4),
    "a dropout_rate in": lambda: fnn.multi_head_attention(8, 2, dropout_rate=1.0),
    "a Layer for norm": lambda: fnn.multi_head_attention(8, 2, norm=fnn.layer_norm),
    "rotary > 0": lambda: fnn.multi_head_attention(8, 2, rotary=0.0),
    "window >= 0": lambda: fnn.multi_head_attention(8, 2, window=-2),
    "x of shape": lambda: run(jnp.ones((5, 6))),
    "a dict of x and any of context": lambda: run({"x": X, "masks": None}),
    "context_lengths beside a context": lambda: run({"x": X, "context_lengths": jnp.array([1, 2])}),
    "query_lengths from 0 to 5": lambda: run({"x": X, "lengths": jnp.array([1, 6])}),
    "a mask of booleans": lambda: run({"x": X, "mask": jnp.ones((1, 1, 5, 5))}),
    "a key in training": lambda: run(X, train=True),
    "evaluation of a layer with a cache": lambda: run(X, train=True, causal=True, cache=9),
    "no context beside a cache": lambda: run({"x": X, "context": CONTEXT_6}, causal=True, cache=9),
    "no mask and no lengths": lambda: run({"x": X, "lengths": jnp.array([1, 2])}, causal=True, cache=9),
}


def run(x, train=False, **options):
    layer = fnn.multi_head_attention(8, 2, dropout_rate=0.5, **options)
    params, state = layer.init(KEY, X)
    return layer.apply(params, state, x, train=train)


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_wrong_is_said(message):
    with pytest.raises(fnn.InputError, match=message):
        REFUSED[message]()
