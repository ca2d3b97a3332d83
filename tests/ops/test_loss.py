"""Losses, metrics and the L2 penalty: textbook numbers, conventions, extreme values, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.helpers import assert_close


def test_softmax_cross_entropy_of_9_5_0():
    """The lectures' example: softmax of (9, 5, 0) is (0.9819, 0.0180, 0.0001); the gradient is p - y."""
    logits = jnp.array([9.0, 5.0, 0.0])
    for label, y in ((0, (1, 0, 0)), (1, (0, 1, 0)), (2, (0, 0, 1))):
        loss, grad = jax.value_and_grad(fnn.softmax_cross_entropy)(logits, jnp.array(label))
        p = np.array([0.98189, 0.01798, 0.00012])
        np.testing.assert_allclose(grad, p - y, atol=1e-5)
        np.testing.assert_allclose(loss, -np.log(np.exp(logits[label] - 9.0) / 1.018439), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_integer_labels_equal_one_hot_labels(smoothing):
    logits, labels = jax.random.normal(jax.random.key(0), (4, 3)), jnp.array([0, 2, 1, 1])

    def run(labels):
        return jax.vjp(lambda x: fnn.softmax_cross_entropy(x, labels, label_smoothing=smoothing), logits)

    (hard, pull_hard), (soft, pull_soft) = run(labels), run(jax.nn.one_hot(labels, 3))
    assert_close(hard, soft)
    assert_close(pull_hard(jnp.ones(4)), pull_soft(jnp.ones(4)))
    smooth = optax.smooth_labels(jax.nn.one_hot(labels, 3), smoothing)
    assert_close(hard, optax.softmax_cross_entropy(logits, smooth))


def test_a_weighted_row_of_probabilities_is_a_weighted_example():
    logits, q = jnp.array([[1.0, -2.0, 0.5]]), jnp.array([[0.2, 0.3, 0.5]])
    loss, grad = jax.value_and_grad(lambda q: fnn.softmax_cross_entropy(logits, q).sum())(q)
    np.testing.assert_allclose(fnn.softmax_cross_entropy(logits, q / 4), [loss / 4], rtol=1e-6)
    np.testing.assert_allclose(grad, -jax.nn.log_softmax(logits), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_softmax_cross_entropy_at_extreme_logits(dtype):
    big = jnp.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]], dtype)
    loss, pull = jax.vjp(lambda x: fnn.softmax_cross_entropy(x, jnp.array([0, 0, 0])), big)
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss.astype(jnp.float32), [0, 2 * float(big[0, 0]), np.log(2)], rtol=4e-3)
    (grad,) = pull(jnp.ones(3, dtype))
    assert grad.dtype == dtype
    np.testing.assert_array_equal(grad, jnp.array([[0, 0], [-1, 1], [-0.5, 0.5]], dtype))


def test_a_common_shift_of_the_logits_costs_no_digits():
    near, far = jnp.array([[0.0, 0.5]]), jnp.array([[8192.0, 8192.5]])
    np.testing.assert_array_equal(*[fnn.softmax_cross_entropy(x, jnp.array([0])) for x in (near, far)])


def test_masked_classes_have_no_probability_and_no_gradient():
    logits = jnp.array([1.0, -jnp.inf, 1.0])
    loss, grad = jax.value_and_grad(fnn.softmax_cross_entropy)(logits, jnp.array(0))
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(grad, [-0.5, 0, 0.5])


@pytest.mark.parametrize("loss", [fnn.softmax_cross_entropy, fnn.hinge])
@pytest.mark.parametrize("mode", ["hand", "auto"])
def test_a_label_out_of_range_under_jit_gives_nan(loss, mode):
    """It cannot raise there, and must neither pass for some other class nor spoil its neighbours."""
    with fnn.gradients(mode):
        losses = jax.jit(loss)(jnp.ones((3, 2)), jnp.array([-1, 1, 2]))
    np.testing.assert_array_equal(jnp.isnan(losses), [True, False, True])


def test_sigmoid_binary_cross_entropy_values_and_delta_recursion():
    """-log a for y = 1, -log(1 - a) for y = 0; squared error instead has the factor a(1 - a) (Nielsen, chapter 3)."""
    x, y = jnp.array([0.7, -1.3]), jnp.array([1.0, 0.0])
    a = 1 / (1 + np.exp(-np.array(x)))
    loss, pull = jax.vjp(lambda x: fnn.sigmoid_binary_cross_entropy(x, y), x)
    np.testing.assert_allclose(loss, [-np.log(a[0]), -np.log(1 - a[1])], rtol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones(2))[0], a - y, rtol=1e-6)
    delta = jax.grad(lambda x: fnn.squared_error(fnn.ops.sigmoid(x), y).sum() / 2)(x)
    np.testing.assert_allclose(delta, (a - y) * a * (1 - a), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_sigmoid_binary_cross_entropy_at_extreme_logits(dtype):
    x, y = jnp.array([1e4, 1e4, -1e4, -1e4, 0.0], dtype), jnp.array([1, 0, 1, 0, 1], dtype)
    loss, pull = jax.vjp(lambda x: fnn.sigmoid_binary_cross_entropy(x, y), x)
    big = float(x[0])
    np.testing.assert_allclose(loss.astype(jnp.float32), [0, big, big, 0, np.log(2)], rtol=4e-3)
    np.testing.assert_array_equal(pull(jnp.ones(5, dtype))[0], jnp.array([0, 1, -1, 0, -0.5], dtype))


def test_sigmoid_binary_cross_entropy_keeps_tiny_losses():
    loss = fnn.sigmoid_binary_cross_entropy(jnp.array([30.0]), jnp.array([1.0]))
    np.testing.assert_allclose(loss, [np.exp(-30.0)], rtol=1e-5)


def test_squared_error_takes_the_difference_in_float32():
    """256 - 0.5 is 256 in bfloat16, and its square off by 0.4 %."""
    p, t = jnp.array([256.0], jnp.bfloat16), jnp.array([0.5], jnp.bfloat16)
    loss, pull = jax.vjp(fnn.squared_error, p, t)
    assert float(loss[0]) == float(jnp.bfloat16(255.5**2)) == 65280
    np.testing.assert_array_equal(jnp.stack(pull(jnp.ones(1, jnp.bfloat16))), jnp.array([[511], [-511]], jnp.bfloat16))


def test_hinge_of_two_classes_and_its_kink():
    s, y = jnp.array([2.0, 1.0, 0.5, -1.0]), jnp.array([1.0, 1.0, 1.0, 1.0])
    loss, pull = jax.vjp(fnn.hinge, s, y)
    np.testing.assert_allclose(loss, [0, 0, 0.5, 2])
    ds, dy = pull(jnp.ones(4))
    np.testing.assert_array_equal(ds, [0, 0, -1, -1])
    np.testing.assert_array_equal(dy, [0, 0, -0.5, 1])
    perceptron = jax.grad(lambda s: fnn.hinge(s, -y, margin=0.0).sum())(s)
    np.testing.assert_array_equal(perceptron, [1, 1, 1, 0])


def test_multiclass_hinge_of_cs231n():
    """Cat, car, frog: losses 2.9, 0 and 12.9; the true class collects minus the number of classes inside the margin."""
    s = jnp.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    loss, pull = jax.vjp(lambda s: fnn.hinge(s, jnp.array([0, 1, 2])), s)
    np.testing.assert_allclose(loss, [2.9, 0, 12.9], atol=1e-5)
    np.testing.assert_array_equal(pull(jnp.ones(3))[0], [[-1, 1, 0], [0, 0, 0], [1, 1, -2]])
    at_the_kink = jax.grad(lambda s: fnn.hinge(s, jnp.array(0)))(jnp.array([2.0, 1.0]))
    np.testing.assert_array_equal(at_the_kink, [0, 0])


def test_broken_logits_give_broken_losses():
    nan, label, signs = jnp.full((1, 2), jnp.nan), jnp.array([0]), jnp.array([[1.0, -1.0]])
    for loss in (fnn.softmax_cross_entropy(nan, label), fnn.hinge(nan, label), fnn.hinge(nan, signs)):
        assert jnp.isnan(loss).all()


@pytest.mark.long
def test_second_derivatives():
    """The Hessian of cross-entropy is diag(p) - p p^T, of the sigmoid loss a(1 - a), of the squared error 2."""

    def hessian(f, x):
        return jax.jacrev(jax.grad(f))(x)

    x = jnp.array([0.3, -1.0, 2.0])
    p = jax.nn.softmax(x)
    got = hessian(lambda x: fnn.softmax_cross_entropy(x, jnp.array(1)), x)
    np.testing.assert_allclose(got, jnp.diag(p) - jnp.outer(p, p), atol=1e-6)
    got = hessian(lambda x: fnn.sigmoid_binary_cross_entropy(x, jnp.ones(())), jnp.zeros(()))
    np.testing.assert_allclose(got, 0.25)
    np.testing.assert_allclose(hessian(lambda x: fnn.squared_error(x, jnp.ones(())), jnp.zeros(())), 2)
    np.testing.assert_allclose(hessian(fnn.l2_penalty, x), np.eye(3))


LOGITS, CLASSES = jnp.ones((2, 3)), jnp.array([0, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnn.softmax_cross_entropy(CLASSES, CLASSES), r"floating-point logits.*int32 of shape \(2,\)"),
        (lambda: fnn.softmax_cross_entropy(LOGITS, [0, 1]), r"array for labels; got list"),
        (lambda: fnn.softmax_cross_entropy(LOGITS, jnp.array([0, 3])), r"labels from 0 to 2; got 3 at index \(1,\)"),
        (lambda: fnn.softmax_cross_entropy(LOGITS, jnp.array([-1, 0])), r"labels from 0 to 2; got -1 at index \(0,\)"),
        (lambda: fnn.softmax_cross_entropy(LOGITS, jnp.ones((2, 3), int)), r"integer labels of shape \(2,\).*argmax"),
        (
            lambda: fnn.softmax_cross_entropy(LOGITS, jnp.ones(2)),
            r"probabilities of the logits' shape \(2, 3\), or integers of shape \(2,\); got labels float32 of shape "
            r"\(2,\); cast them to integers: labels.astype\(int\)",
        ),
        (
            lambda: fnn.softmax_cross_entropy(LOGITS, CLASSES[:, None]),
            r"got int32 of shape \(2, 1\); take the last axis away: labels\[..., 0\]$",
        ),
        (lambda: fnn.accuracy(LOGITS, jnp.ones((2, 1))), r"take the last axis away: labels\[..., 0\].astype\(int\)"),
        (lambda: fnn.hinge(LOGITS, CLASSES[:1]), r"got int32 of shape \(1,\); pass one class index a row$"),
        (
            lambda: fnn.softmax_cross_entropy(LOGITS, 2 * LOGITS),
            r"probabilities in \[0, 1\]; got 2.0 at index \(0, 0\)",
        ),
        (lambda: fnn.softmax_cross_entropy(LOGITS, LOGITS.astype("bfloat16")), r"one dtype.*bfloat16"),
        (
            lambda: fnn.softmax_cross_entropy(LOGITS, CLASSES, label_smoothing=1.0),
            r"label_smoothing in \[0, 1\); got 1.0",
        ),
        (lambda: fnn.softmax_cross_entropy(jnp.ones(()), jnp.array(0)), r"logits \(..., K\); got \(\)"),
        (lambda: fnn.sigmoid_binary_cross_entropy(LOGITS, CLASSES), r"floating-point labels"),
        (lambda: fnn.sigmoid_binary_cross_entropy(LOGITS, jnp.ones(2)), r"labels of shape \(2, 3\); got \(2,\)"),
        (lambda: fnn.sigmoid_binary_cross_entropy(LOGITS, -LOGITS), r"labels in \[0, 1\]; got -1.0 at index \(0, 0\)"),
        (lambda: fnn.sigmoid_binary_cross_entropy(LOGITS, LOGITS * jnp.nan), r"labels in \[0, 1\]; got nan"),
        (lambda: fnn.squared_error(LOGITS[:, :1], jnp.ones(2)), r"predictions' shape \(2, 1\); got \(2,\)"),
        (lambda: fnn.squared_error(LOGITS, CLASSES), r"floating-point targets"),
        (lambda: fnn.hinge(LOGITS, 0 * LOGITS), r"labels -1 or \+1; got 0.0 at index \(0, 0\); map 0/1"),
        (lambda: fnn.hinge(LOGITS, jnp.ones(2)), r"labels of the logits' shape \(2, 3\), or integer.*got \(2,\)"),
        (lambda: fnn.hinge(LOGITS, jnp.array([0, 3])), r"labels from 0 to 2; got 3"),
        (lambda: fnn.hinge(LOGITS, CLASSES, margin=-1.0), r"margin >= 0; got -1.0"),
        (lambda: fnn.zero_one(LOGITS, jnp.array([0, 3])), r"zero_one expected labels from 0 to 2; got 3"),
        (lambda: fnn.accuracy(LOGITS, jnp.array([0, 3])), "accuracy expected labels from 0 to 2; got 3"),
        (lambda: fnn.zero_one(CLASSES, CLASSES), r"floating-point logits"),
        (lambda: fnn.top_k_accuracy(LOGITS, CLASSES, 4), r"k from 1 to 3; got 4"),
        (lambda: fnn.top_k_accuracy(LOGITS, CLASSES, 0), r"k from 1 to 3; got 0"),
        (lambda: fnn.l2_penalty({"a": {"kernel": CLASSES}}), r"floating-point params/a/kernel"),
    ],
)
def test_errors_say_what_came(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()


def test_zero_one_and_accuracy():
    logits = jnp.array([[1.0, 2.0, 0.0], [3.0, 3.0, 0.0], [0.0, 3.0, 3.0]])
    np.testing.assert_array_equal(fnn.zero_one(logits, jnp.array([1, 0, 2])), [0, 0, 1])
    np.testing.assert_array_equal(fnn.accuracy(logits, jnp.array([1, 0, 2])), [1, 1, 0])
    assert fnn.zero_one(logits.astype(jnp.bfloat16), jnp.array([1, 0, 2])).dtype == jnp.float32
    scores = jnp.array([0.5, -0.5, 0.0, 0.0])
    for labels in (jnp.array([1, 1, 0, 1]), jnp.array([1.0, 1.0, 0.0, 1.0]), jnp.array([1.0, 1.0, -1.0, 1.0])):
        np.testing.assert_array_equal(fnn.zero_one(scores, labels), [0, 1, 0, 1])


def test_top_k_accuracy():
    logits = jnp.array([[0.1, 0.4, 0.3, 0.2]] * 4)
    for k, want in ((1, [0, 1, 0, 0]), (2, [0, 1, 1, 0]), (3, [0, 1, 1, 1]), (4, [1, 1, 1, 1])):
        np.testing.assert_array_equal(fnn.top_k_accuracy(logits, jnp.arange(4), k), want)


def test_top_k_agrees_with_lax_top_k_when_scores_tie():
    logits = jax.random.randint(jax.random.key(0), (50, 5), 0, 3).astype(jnp.float32)
    labels = jax.random.randint(jax.random.key(1), (50,), 0, 5)
    for k in (1, 2, 4):
        want = (jax.lax.top_k(logits, k)[1] == labels[:, None]).any(-1)
        np.testing.assert_array_equal(fnn.top_k_accuracy(logits, labels, k), want)
    np.testing.assert_array_equal(fnn.accuracy(logits, labels), logits.argmax(-1) == labels)


def test_nan_scores_are_never_right():
    for row in ([jnp.nan, jnp.nan], [jnp.nan, 1.0], [1.0, jnp.nan]):
        for label in (0, 1):
            assert fnn.zero_one(jnp.array(row), jnp.array(label)) == 1
    assert fnn.zero_one(jnp.array([jnp.nan]), jnp.array([0])) == fnn.zero_one(jnp.array([jnp.nan]), jnp.array([1])) == 1


PARAMS = {
    "00_conv": {"kernel": jnp.array([1.0, 2.0]), "bias": jnp.array([10.0])},
    "01_norm": {"scale": jnp.array([10.0]), "offset": jnp.array([10.0])},
    "bias": {"table": jnp.array([2.0], jnp.bfloat16)},
}


def test_l2_penalty_spares_biases_and_norms():
    penalty, grads = jax.value_and_grad(fnn.l2_penalty)(PARAMS)
    assert penalty == 0.5 * (1 + 4 + 4)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        leaf = PARAMS[path[0].key][path[1].key]
        counts = path[1].key in ("kernel", "table")
        assert_close(grad, leaf if counts else jnp.zeros_like(leaf), names=str(path))
    assert fnn.l2_penalty({}) == 0


def test_l2_penalty_sums_half_precision_in_float32():
    ones = jnp.ones(3000, jnp.bfloat16)
    assert fnn.l2_penalty({"kernel": ones}) == 1500
    assert fnn.l2_penalty({"kernel": 300 * jnp.ones(1, jnp.float16)}) == 45000


def test_decay_mask_is_the_same_choice_for_optax():
    optimizer = optax.chain(optax.add_decayed_weights(1.0, mask=fnn.decay_mask))
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = optimizer.update(zeros, optimizer.init(PARAMS), PARAMS)
    assert_close(updates, jax.grad(fnn.l2_penalty)(PARAMS))


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_sigmoid_binary_cross_entropy_at_a_logit_of_zero(mode, zero):
    with fnn.gradients(mode):
        slope = jax.grad(lambda x: fnn.sigmoid_binary_cross_entropy(x, jnp.array([1.0]))[0])(jnp.array([zero]))
    np.testing.assert_array_equal(slope, [-0.5])
