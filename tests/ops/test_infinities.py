"""Infinities in losses, metrics and softmax: 0 times infinity is 0, all else the limit, NaN where there is none.

Expected values come from NumPy, written with cases instead of products: nothing is multiplied by infinity there.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops

INF, NAN = np.inf, np.nan
SPECIAL = (0.0, -INF, INF, 1.5)
DTYPES = ("float32", *(pytest.param(d, marks=pytest.mark.long) for d in ("float16", "bfloat16")))


def no_limit(x):
    return (x == INF).any() or (x == -INF).all()


def cross_entropy(x, q):
    """Value, slopes of the logits, slopes of the weights."""
    if no_limit(x):
        return NAN, np.full(x.shape, NAN), np.full(x.shape, NAN)
    cost = np.log(np.exp(x).sum()) - x  # of each class, inf where the logit is -inf
    return sum(w * c for w, c in zip(q, cost, strict=True) if w), np.exp(-cost) * q.sum() - q, cost


def binary(x, z):
    certain = np.array(np.isinf(x))
    s = 0.5 * (1 + np.tanh(x / 2))
    finite = np.maximum(x, 0) - x * z + np.log1p(np.exp(-abs(x))) if not certain else NAN
    return np.where(certain, np.where(z == s, 0.0, INF), finite), s - z, -x


def hinge(s, y):
    inside = 1 - y * s > 0
    return np.where(inside, 1 - y * s, 0.0), np.where(inside, -y, 0.0), np.where(inside, -s, 0.0)


def squared(p, t):
    gap = NAN if np.isinf(p) and p == t else p - t
    return gap * gap, 2 * gap, -2 * gap


def rows(size, values=SPECIAL):
    return np.array(list(itertools.product(values, repeat=size)))


def pairs(a, b):
    return np.array(list(itertools.product(a, b))).T


def soft():
    x = np.concatenate([rows(2), rows(3)[::5, :2]])
    q = np.array([[1.0, 0], [0, 1], [0.5, 0.5], [0.25, 0], [0, 0]])
    return np.repeat(x, len(q), 0), np.tile(q, (len(x), 1))


# name: the loss, its arguments, and what one example must give.
LOSSES = {
    "softmax_cross_entropy": (fnn.softmax_cross_entropy, soft(), cross_entropy),
    "sigmoid_binary_cross_entropy": (
        fnn.sigmoid_binary_cross_entropy,
        pairs((*SPECIAL, -3.0), (0.0, 1.0, 0.5)),
        binary,
    ),
    "hinge": (fnn.hinge, pairs((*SPECIAL, -3.0), (-1.0, 1.0)), hinge),
    "squared_error": (fnn.squared_error, pairs(SPECIAL, SPECIAL), squared),
}


def measured(f, mode, *args):
    with fnn.gradients(mode):
        y, pull = jax.vjp(f, *args)
        return y, *pull(jnp.ones_like(y))


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_special_values_in_every_place(name, dtype, mode):
    loss, args, textbook = LOSSES[name]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        want = [np.array(column) for column in zip(*map(textbook, *args), strict=True)]
    got = measured(loss, mode, *(jnp.asarray(a, dtype) for a in args))
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.dtype == dtype
        np.testing.assert_allclose(np.asarray(a, np.float32), b, rtol=0.02, atol=0.01, err_msg=f"{name}, {i}")


@pytest.mark.parametrize("mode", ["hand", "auto"])
def test_integer_labels_are_one_hot_weights(mode):
    x = jnp.asarray(rows(3, (0.0, -INF, INF)), jnp.float32)
    for label in range(3):
        labels = jnp.full(len(x), label)
        hard = measured(lambda x, labels=labels: fnn.softmax_cross_entropy(x, labels), mode, x)
        q = jax.nn.one_hot(labels, 3)
        soft = measured(lambda x, q=q: fnn.softmax_cross_entropy(x, q), mode, x)
        jax.tree.map(np.testing.assert_allclose, hard, soft)


@pytest.mark.parametrize("mode", ["hand", "auto"])
def test_smoothing_makes_an_impossible_class_cost_infinity(mode):
    """Each class has a weight then; its slope p - q is finite all the same."""
    x = jnp.array([0.0, -INF, 0.0])
    for label in (jnp.array(0), jnp.array([1.0, 0, 0])):
        loss, slope = measured(lambda x, q=label: fnn.softmax_cross_entropy(x, q, label_smoothing=0.3), mode, x)
        assert loss == INF
        np.testing.assert_allclose(slope, [0.5 - 0.8, -0.1, 0.5 - 0.1], atol=1e-6)


@pytest.mark.parametrize("mode", ["hand", "auto"])
def test_class_hinge_with_infinite_scores(mode):
    for scores, loss, slope in (
        ([INF, 0.0, -INF], 0, [0, 0, 0]),
        ([0.0, -INF, 0.5], 1.5, [-1, 0, 1]),
        ([-INF, 0.0, 1.0], INF, [-2, 1, 1]),
        ([0.0, INF, 0.0], INF, [-2, 1, 1]),
    ):
        got = measured(lambda x: fnn.hinge(x, jnp.array(0)), mode, jnp.array(scores))
        np.testing.assert_array_equal(got[0], loss)
        np.testing.assert_array_equal(got[1], slope)


@pytest.mark.parametrize("name", LOSSES)
def test_an_example_that_does_not_count_has_no_gradient(name):
    """Cotangent 0, as behind a mask, by hand: whatever has an infinite slope there."""
    loss, args, _ = LOSSES[name]
    y, pull = jax.vjp(loss, *(jnp.asarray(a, jnp.float32) for a in args))
    fine = ~jnp.isnan(y)
    for slope in pull(jnp.zeros_like(y)):
        np.testing.assert_array_equal(slope[fine], 0)


@pytest.mark.parametrize("mode", ["hand", pytest.param("auto", marks=pytest.mark.long)])
def test_finite_losses_pass_debug_nans(mode):
    """Not even on the way is there a NaN."""
    calls = [
        (fnn.softmax_cross_entropy, jnp.array([0.0, -INF]), jnp.array([1.0, 0.0])),
        (fnn.softmax_cross_entropy, jnp.array([0.0, -INF]), jnp.array(0)),
        (fnn.sigmoid_binary_cross_entropy, jnp.array([INF, -INF]), jnp.array([1.0, 0.0])),
        (fnn.hinge, jnp.array([INF, 0.0]), jnp.array(0)),
        (fnn.hinge, jnp.array([INF, -INF]), jnp.array([1.0, -1.0])),
    ]
    with jax.debug_nans(True), fnn.gradients(mode):
        for f, x, labels in calls:
            for run in (jax.jit(f), f):
                slope = jax.grad(lambda x, run=run, labels=labels: run(x, labels).sum())(x)
                assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("f", [ops.softmax, ops.log_softmax])
def test_softmax_of_entries_that_are_minus_infinity(f, mode):
    x = jnp.asarray(rows(3), jnp.float32)
    y, slope = measured(lambda x: f(x).at[:, 0].mul(2.0), mode, x)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.exp(np.asarray(x) - x.max(-1, keepdims=True))
        p = p / p.sum(-1, keepdims=True)
        cotangent = np.array([2.0, 1.0, 1.0])
        sum_ = (p * cotangent).sum(-1, keepdims=True) if f is ops.softmax else cotangent.sum()
        want = (p, p * (cotangent - sum_)) if f is ops.softmax else (np.log(p), cotangent - p * sum_)
    broken = np.array([no_limit(row) for row in np.asarray(x)])
    np.testing.assert_allclose(y[~broken], (want[0] * cotangent)[~broken], rtol=1e-5)
    np.testing.assert_allclose(slope[~broken], want[1][~broken], atol=1e-6)
    assert np.isnan(y[broken]).any(-1).all()
    assert np.isnan(slope[broken]).any(-1).all()


def test_infinite_scores_are_ranked_like_others():
    x = jnp.array([[0.0, -INF, INF]] * 3)
    np.testing.assert_array_equal(fnn.accuracy(x, jnp.arange(3)), [0, 0, 1])
    np.testing.assert_array_equal(fnn.top_k_accuracy(x, jnp.arange(3), 2), [1, 0, 1])
    np.testing.assert_array_equal(fnn.zero_one(jnp.array([INF, -INF]), jnp.array([1, 1])), [0, 1])


def test_slopes_at_a_weight_of_zero_stay_in_second_derivatives():
    """What is taken out is the infinity, not the product: d/dw of w times the gradient, at w = 0."""
    x, t = jnp.array([3.0]), jnp.array([1.0])
    slope = jax.grad(lambda w: jax.grad(lambda x: (w * fnn.squared_error(x, t)).sum())(x)[0])
    np.testing.assert_array_equal(slope(0.0), 4.0)
    q = jnp.array([1.0, 0.0])
    mixed = jax.jacrev(jax.grad(fnn.softmax_cross_entropy), 1)(jnp.zeros(2), q)
    np.testing.assert_allclose(mixed, [[-0.5, 0.5], [0.5, -0.5]], atol=1e-6)
