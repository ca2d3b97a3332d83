"""Words for errors are made for errors alone: a call that is right writes no array out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import data, train
from fnn.core.words import described
from tests.catalogue import LAYERS, MEASURES, SIZES

ARRAY = type(jnp.zeros(1))


@pytest.fixture
def written(monkeypatch):
    """Of each array that was written out, the shape."""
    shapes, before = [], ARRAY.__repr__

    def count(array):
        shapes.append(array.shape)
        return before(array)

    for name in ("__repr__", "__str__"):
        monkeypatch.setattr(ARRAY, name, count)
    monkeypatch.setattr(ARRAY, "__format__", lambda array, spec: count(array))
    some = jnp.zeros(7)
    assert f"{some}{some!r}{some!s}"
    assert shapes == [(7,)] * 3
    shapes.clear()
    return shapes


def test_training_writes_no_array_out(written):
    x, labels = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    layer, optimizer = fnn.serial(fnn.dense(2), fnn.batch_norm()), optax.adam(0.1)
    batches = data.batches((x, labels), 2)
    step = train.make_step(layer, fnn.softmax_cross_entropy, optimizer, metrics={"accuracy": fnn.accuracy})
    now = train.init_state(layer, optimizer, jax.random.key(0), x)
    test = lambda now: train.evaluate(layer, now, batches, {"loss": fnn.softmax_cross_entropy})  # noqa: E731
    train.fit(step, now, batches, epochs=2, evaluate=test, callbacks=[lambda event: None])
    assert written == []


@pytest.mark.long
def test_layers_and_losses_write_no_array_out(written):
    x = jnp.ones(SIZES)
    for layers in LAYERS.values():
        layer = layers[0]()
        params, state = layer.init(jax.random.key(0), x)
        layer.apply(params, state, x, train=True, key=jax.random.key(1))
    for (measure, outputs, labels), *_ in MEASURES.values():
        measure(outputs(jax.random.key(0), jnp.float32), labels(jax.random.key(1), jnp.float32))
    assert written == []


def test_what_holds_arrays_is_described_without_their_numbers(written):
    assert str(described({"a": jnp.ones(3)})) == "a dict of 1"
    assert str(described((jnp.ones((2, 2)), 3))) == "a tuple of 2"
    assert str(described(jnp.ones(3))) == "an array, float32 of shape (3,)"
    assert str(described({"a": 1})) == "{'a': 1}"
    assert written == []
