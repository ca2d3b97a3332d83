"""Losses and metrics give one number an example, whatever an example is: a number, a vector, a sequence, an image."""

import inspect
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.helpers import assert_close, mostly_long, normal

BODIES = ((), (2, 3))
K = 4


def classes(shape):
    return jnp.asarray(np.random.default_rng(1).integers(0, K, shape), jnp.int32)


def weights(shape):
    return jax.nn.softmax(normal(1, (*shape, K)))


def bits(shape):
    return (normal(1, shape) > 0).astype(jnp.float32)


def signs(shape):
    return 2 * bits(shape) - 1


# The labels that each takes; its scores have an axis of classes for the first two kinds.
TAKES = {
    "softmax_cross_entropy": (classes, weights),
    "hinge": (classes, signs),
    "sigmoid_binary_cross_entropy": (bits,),
    "squared_error": (bits,),
    **dict.fromkeys(("absolute_error", "huber", "smooth_l1", "log_cosh"), (bits,)),
    "accuracy": (classes, bits),
    "zero_one": (classes, signs),
    "top_k_accuracy": (classes,),
}


def parameters(f):
    return list(inspect.signature(f).parameters) if inspect.isfunction(f) else []


def kinds():
    for name, labels in TAKES.items():
        f = getattr(fnn, name)
        f = partial(f, k=2) if "k" in parameters(f) else f
        for draw in labels:
            axes = (K,) if draw in (classes, weights) else ()
            yield pytest.param(f, axes, draw, id=f"{name}-{draw.__name__}")


KINDS = list(kinds())


def test_all_losses_and_metrics_are_swept():
    pairs = (["logits", "labels"], ["predictions", "targets"])
    assert {name for name, f in vars(fnn).items() if parameters(f)[:2] in pairs} == set(TAKES)


@pytest.mark.parametrize(("f", "axes", "labels"), mostly_long(KINDS, 4))
def test_one_number_an_example(f, axes, labels):
    assert f(normal(0, axes), labels(())).shape == ()
    for body in BODIES:
        for n in (0, 2):
            x, y = normal(0, (n, *body, *axes)), labels((n, *body))
            values = f(x, y)
            assert values.shape == (n,)
            # Example by example, position by position: the number of each alone, and their mean.
            size = math.prod(body)
            alone = f(x.reshape(n * size, *axes), y.reshape(n * size, *y.shape[1 + len(body) :]))
            assert_close(values, alone.reshape(n, size).mean(1))
            each = f
            for _ in body:
                each = jax.vmap(each)
            if n:
                np.testing.assert_allclose(each(x, y), alone.reshape(n, *body), rtol=1e-6)


@pytest.mark.parametrize(("f", "axes", "labels"), KINDS)
@pytest.mark.long
def test_half_precision_is_averaged_in_float32(f, axes, labels):
    """700 equal numbers: a sum in bfloat16 stops growing at 256 times the first."""
    x = jnp.ones((1, 700, *axes), jnp.bfloat16) * jnp.arange(max(1, *axes) if axes else 1, dtype=jnp.bfloat16)
    y = labels((1, 1))
    y = jnp.broadcast_to(y, (1, 700, *y.shape[2:]))
    y = y if jnp.issubdtype(y.dtype, jnp.integer) else y.astype(jnp.bfloat16)
    many, one = f(x, y), f(x[:, :1], y[:, :1])
    assert many.dtype == one.dtype
    np.testing.assert_array_equal(many, one)


@pytest.mark.parametrize(("f", "axes", "labels"), KINDS)
def test_examples_of_nothing_are_refused(f, axes, labels):
    with pytest.raises(fnn.InputError, match=r"at least one number in each example; got \(2, 0\)"):
        f(jnp.zeros((2, 0, *axes)), labels((2, 0)))


@pytest.mark.parametrize(("f", "axes", "labels"), KINDS)
@pytest.mark.long
def test_training_and_evaluation_take_them_for_images(f, axes, labels):
    x, y = normal(0, (4, 3, 2, *axes)), labels((4, 3, 2))
    metric = {"m": f}
    layer, optimizer = fnn.identity(), optax.sgd(0.1)
    step = fnn.train.make_step(layer, f, optimizer, metrics=metric, compiler_options={})
    _, measures = step(fnn.train.init_state(layer, optimizer, jax.random.key(0), x), (x, y))
    assert_close(measures["m"], f(x, y).mean())
    measured = fnn.train.evaluate(layer, ({}, {}), [(x, y)], metric)
    np.testing.assert_allclose(measured["m"], f(x, y).mean(), rtol=1e-5)
