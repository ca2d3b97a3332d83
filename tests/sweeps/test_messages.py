"""What errors say: never that what came is what was wanted. Each test's errors are held against this, see conftest."""

import array

import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.errors import InputError
from tests.conftest import contradicts


class Layer:
    """Of another library."""


class Figure:
    """Of another library."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnn.data.batches(((1, 2), (3, 4)), 2), r"at \[0\]\[0\]; got int 1"),
        (lambda: fnn.data.batches(array.array("f", [1, 2]), 2), "an array .* got array.array"),
        (lambda: fnn.ops.relu(array.array("f", [1, 2])), "got array.array"),
        (lambda: fnn.softmax_cross_entropy(jnp.ones((2, 3)), array.array("i", [1, 2])), "got array.array"),
        (lambda: fnn.serial(Layer()), "got"),
        (lambda: fnn.summary(Layer(), (1, 2)), "got"),
        (
            lambda: fnn.inspect.save_figure(Figure(), "x.png"),
            "a matplotlib Figure; got tests.sweeps",
        ),
        (
            lambda: fnn.train.evaluate(fnn.identity(), ({}, {}), [(np.ones(3),)], {}),
            r"a batch \(x, labels\); got a tuple of 1",
        ),
        (lambda: fnn.train.evaluate(fnn.identity(), ({}, {}), [{"x": np.ones(3)}], {}), r"a batch .*; got a dict of 1"),
    ],
)
def test_messages_do_not_contradict_themselves(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_contradictions():
    for expected, got in [("a tuple of arrays", "tuple"), ("an array (N, ...)", "array"), ("Figure", "a Figure")]:
        assert contradicts(expected, got)
    for expected, got in [("a batch (x, labels)", "tuple of 3"), ("size >= 1", "0"), ("1 to 9 tiles", "10"), ("a", "")]:
        assert not contradicts(expected, got)
