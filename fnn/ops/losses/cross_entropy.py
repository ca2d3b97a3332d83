"""Losses of smooth models, one number an example; callers take the mean.

Axis 0 of what is compared is the examples; a loss is the mean over all further axes (pixels, tokens, outputs), in
float32 at least, so that the mean over a batch is the mean over everything. `jax.vmap` makes one of the further axes
the examples in turn: `jax.vmap(softmax_cross_entropy)` of (N, T, K) gives (N, T), a number a token.

Softmax cross-entropy, logits x (..., K), target q (..., K), with z = x - max x so that nothing overflows or cancels:

    l = log(sum_k e^z_k) sum_k q_k - sum_k q_k z_k        dx = dl (p sum_k q_k - q),  p = e^z / sum_k e^z_k
                                                          dq = dl (log(sum_k e^z_k) - z)

An integer label y means q_k = [k = y]; smoothing by e replaces q with (1 - e) q + e / K.

Sigmoid binary cross-entropy, logit x, label z:    l = max(x, 0) - x z + log(1 + e^-|x|)
                                                   dx = dl (sigma(x) - z)        dz = -dl x

Squared error, prediction p, target t:             l = (p - t)^2        dp = 2 dl (p - t)        dt = -dp

0 times infinity is 0: a class of logit -inf and weight 0, a certain and right logit; by hand also an example whose
cotangent is 0, as behind a mask. All else with infinities is the limit, so that p_k - q_k is the slope at a logit of
-inf, also where the loss is inf; where there is no limit (nothing but -inf, a logit of +inf among classes, inf - inf)
it is NaN.

Source: Goodfellow, Bengio and Courville, Deep Learning (2016), sections 5.5 and 6.2.2; label smoothing: Szegedy et al.
(2016), https://arxiv.org/abs/1512.00567, section 7.
"""

import jax
import jax.numpy as jnp

from fnn.core.cases import case, integers, normal, positive, probabilities
from fnn.core.dtypes import widen
from fnn.core.errors import ARRAYS, real, require, require_floats
from fnn.core.rule import Rule
from fnn.core.values import require_values
from fnn.ops.losses.labels import (
    is_integer,
    one_hot,
    one_if_a_class,
    per_example,
    require_classes,
    require_logits,
    to_classes,
    weighted,
    wide_index,
)
from fnn.ops.ramp import plain_softplus


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """logits: (N, ..., K) -> (N,), or (K,) -> (): the cross-entropy of softmax(logits) under the labels, in nats.

    The mean over the axes between, if there are some: over the tokens of a sequence, the pixels of an image.

    Computed in float32 at least and returned in the logits' dtype. A class of weight 0 may have a logit of -inf: it
    costs nothing; any weight, smoothing too, makes its loss inf. Inside jit a label out of range cannot raise: its loss
    is NaN.

    Args:
      logits: (N, ..., K), unnormalised log-probabilities.
      labels: integers (N, ...) in [0, K), or probabilities (N, ..., K) in the logits' dtype. Rows of probabilities
        need not sum to one: a row times a weight is a weighted example.
      label_smoothing: in [0, 1), the share of the target that is spread evenly over all K classes.

    Raises:
      InputError: shapes that do not fit, integer logits, mixed dtypes, smoothing or labels out of range.

    >>> import jax, jax.numpy as jnp
    >>> logits, label = jnp.array([9.0, 5.0, 0.0]), jnp.array(0)
    >>> print(f"{softmax_cross_entropy(logits, label):.4f}")
    0.0183
    >>> print(jax.grad(softmax_cross_entropy)(logits, label).round(4))  # p - y
    [-0.0181  0.018   0.0001]

    Sequences of three tokens, and each token alone:

    >>> logits, labels = jnp.zeros((2, 3, 4)), jnp.zeros((2, 3), int)
    >>> softmax_cross_entropy(logits, labels).shape, jax.vmap(softmax_cross_entropy)(logits, labels).shape
    ((2,), (2, 3))
    """
    where = "softmax_cross_entropy"
    require_logits(where, logits, labels)
    fix = "use a small fraction, such as 0.1"
    smoothing = real(where, "label_smoothing in [0, 1)", label_smoothing, lambda e: 0 <= e < 1, fix)
    if isinstance(labels, ARRAYS) and jnp.issubdtype(labels.dtype, jnp.floating):
        require(
            logits.ndim >= 1 and logits.shape[-1] >= 1 and labels.shape == logits.shape,
            where,
            f"probabilities of the logits' shape {logits.shape}, or integers of shape {logits.shape[:-1]}",
            f"labels {labels.dtype} of shape {labels.shape}",
            to_classes(labels, logits.shape),
        )
        require_floats(where, logits=logits, labels=labels)
        require_values(where, labels, _in_unit_interval, "probabilities in [0, 1]", "normalise the labels")
    else:
        require_classes(where, logits, labels)
    return per_example(where, cross_entropy_rule(smoothing, logits, labels))


def sigmoid_binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """logits, labels: (N, ...) -> (N,), or () -> (): the cross-entropy of sigmoid(logit) under each label, in nats.

    The mean over all axes but the first, as of several yes-or-no questions about each example.

    Args:
      logits: (N, ...); the log-odds of class 1, infinite where it is certain: 0 for its own label, else inf.
      labels: the same shape and dtype, in [0, 1].

    Raises:
      InputError: shapes that differ, integer or mixed dtypes, labels out of range.

    >>> import jax.numpy as jnp
    >>> print(sigmoid_binary_cross_entropy(jnp.array([0.0, 1e4]), jnp.array([1.0, 1.0])).round(4))
    [0.6931 0.    ]
    """
    where = "sigmoid_binary_cross_entropy"
    require_floats(where, logits=logits, labels=labels)
    require(labels.shape == logits.shape, where, f"labels of shape {logits.shape}", labels.shape, "reshape the labels")
    require_values(where, labels, _in_unit_interval, "labels in [0, 1]", "map -1/+1 labels with (y + 1) / 2")
    return per_example(where, binary_rule(None, logits, labels))


def squared_error(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """predictions, targets: (N, ...) -> (N,), or () -> (): the mean of (p - t)^2 over each example.

    Args:
      predictions: (N, ...).
      targets: the same shape and dtype. Shapes are never broadcast: (N, 1) against (N,) would compare all pairs.

    Raises:
      InputError: shapes that differ, integer or mixed dtypes.

    >>> import jax.numpy as jnp
    >>> print(squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0])))
    [0. 9.]
    >>> print(squared_error(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 5.0]])))
    [4.5]
    """
    require_floats("squared_error", predictions=predictions, targets=targets)
    expected = f"targets of the predictions' shape {predictions.shape}"
    require(targets.shape == predictions.shape, "squared_error", expected, targets.shape, "reshape one of the two")
    return per_example("squared_error", squared_rule(None, predictions, targets))


def _in_unit_interval(values):
    return (values >= 0) & (values <= 1)


def _cross_entropy_parts(smoothing, logits, labels):
    """max x, sum e^z, sum q and sum q z, without the class axis."""
    x, classes = widen(logits), logits.shape[-1]
    peak = jax.lax.stop_gradient(x.max(-1))
    z = x - peak[..., None]
    total = jnp.exp(z).sum(-1)
    if is_integer(labels):
        q_sum = one_if_a_class(labels, classes, x.dtype)
        q_dot_z = jnp.where(one_hot(labels, classes), z, 0).sum(-1)
    else:
        q = widen(labels)
        q_sum, q_dot_z = q.sum(-1), weighted(q, z).sum(-1)
    if smoothing:
        q_sum, q_dot_z = (1 - smoothing) * q_sum + smoothing, (1 - smoothing) * q_dot_z + smoothing * z.mean(-1)
    return peak, total, q_sum, q_dot_z


def _cross_entropy_forward(smoothing, logits, labels):
    _, total, q_sum, q_dot_z = _cross_entropy_parts(smoothing, logits, labels)
    return (jnp.log(total) * q_sum - q_dot_z).astype(logits.dtype)


def _cross_entropy_fwd(smoothing, logits, labels):
    peak, total, q_sum, q_dot_z = _cross_entropy_parts(smoothing, logits, labels)
    loss = (jnp.log(total) * q_sum - q_dot_z).astype(logits.dtype)
    # Numbers an example, never the (..., K) probabilities; and not max x + log(total) in one, which would lose digits.
    return loss, (logits, labels, peak, total, q_sum)


def _cross_entropy_bwd(smoothing, residuals, dl):
    logits, labels, peak, total, q_sum = residuals
    dl, classes = widen(dl), logits.shape[-1]
    z = widen(logits) - peak[..., None]
    q = (one_hot(labels, classes) if is_integer(labels) else labels).astype(z.dtype)
    if smoothing:
        q = (1 - smoothing) * q + smoothing / classes
    # p q_sum dl with all that belongs to the example multiplied first; e^z as in the forward, so that XLA may share it.
    dlogits = jnp.exp(z) * (dl * q_sum / total)[..., None] - dl[..., None] * q
    if is_integer(labels):
        return dlogits.astype(logits.dtype), None
    dlabels = (1 - smoothing) * weighted(dl[..., None], jnp.log(total)[..., None] - z)
    return dlogits.astype(logits.dtype), dlabels.astype(labels.dtype)


def _cross_entropy_reference(smoothing, logits, labels):
    classes = logits.shape[-1]
    total = sum(jnp.exp(logits[..., k]) for k in range(classes))
    loss = jnp.zeros(logits.shape[:-1], logits.dtype)
    for k in range(classes):
        q = (wide_index(labels) == k) * 1.0 if is_integer(labels) else labels[..., k]
        q = (1 - smoothing) * q + smoothing / classes
        loss = loss - q * jnp.log(jnp.exp(logits[..., k]) / total)
    return loss.astype(logits.dtype)


cross_entropy_rule = Rule(
    name="softmax_cross_entropy",
    forward=_cross_entropy_forward,
    fwd=_cross_entropy_fwd,
    bwd=_cross_entropy_bwd,
    reference=_cross_entropy_reference,
    refuses=(
        (lambda: softmax_cross_entropy(jnp.ones((2, 3)), jnp.arange(3)), r"integer labels of shape \(2,\)"),
        (lambda: softmax_cross_entropy(jnp.ones((2, 3)), jnp.arange(2), label_smoothing=2.0), "label_smoothing in"),
    ),
    cases=(
        case(0.0, normal((8, 5), scale=3.0), integers((8,), 0, 5)),
        case(0.1, normal((8, 3, 4)), integers((8, 3), 0, 4)),
        case(0.0, normal((8, 5), scale=3.0), probabilities((8, 5))),
        # Rows that do not sum to one.
        case(0.2, (8, 3), positive((8, 3))),
        case(0.0, (1, 3), positive((1, 3)), batched=False),
        case(0.0, (3,), integers((), 0, 3), batched=False),
        case(0.1, (0, 3), integers((0,), 0, 3), batched=False),
    ),
)


def _binary_forward(spec, logits, labels):
    x, z = widen(logits), widen(labels)
    return (weighted(z, plain_softplus(-x)) + weighted(1 - z, plain_softplus(x))).astype(logits.dtype)


def _binary_fwd(spec, logits, labels):
    x, z = widen(logits), widen(labels)
    # One logarithm instead of two: max(x, 0) - x z is |x| times what is missing to certainty on the side of x. At 0 all
    # choices fall to the side of positive x, so that JAX finds the right slope there, too.
    size = jnp.where(x >= 0, x, -x)
    y = weighted(jnp.where(x >= 0, 1 - z, z), size) + jnp.log1p(jnp.exp(-size))
    return y.astype(logits.dtype), (logits, labels)


def _binary_bwd(spec, residuals, dl):
    logits, labels = residuals
    x, z, dl = widen(logits), widen(labels), widen(dl)
    e = jnp.exp(-jnp.abs(x))  # the forward's, which XLA computes once for both
    sigma = jnp.where(x >= 0, 1, e) / (1 + e)
    return (dl * (sigma - z)).astype(logits.dtype), (-weighted(dl, x)).astype(labels.dtype)


def _binary_reference(spec, logits, labels):
    p1, p0 = 1 / (1 + jnp.exp(-logits)), 1 / (1 + jnp.exp(logits))
    return -(labels * jnp.log(p1) + (1 - labels) * jnp.log(p0))


binary_rule = Rule(
    name="sigmoid_binary_cross_entropy",
    forward=_binary_forward,
    fwd=_binary_fwd,
    bwd=_binary_bwd,
    reference=_binary_reference,
    refuses=((lambda: sigmoid_binary_cross_entropy(jnp.ones((2, 3)), jnp.ones((3, 2))), r"labels of shape \(2, 3\)"),),
    cases=(
        case(None, normal((8, 3), scale=3.0), probabilities((8, 3))),
        case(None, (1,), probabilities((1,)), batched=False),
        case(None, (0,), probabilities((0,)), batched=False),
    ),
)


def _squared_forward(spec, predictions, targets):
    return jnp.square(widen(predictions) - widen(targets)).astype(predictions.dtype)


def _squared_fwd(spec, predictions, targets):
    return _squared_forward(spec, predictions, targets), (predictions, targets)


def _squared_bwd(spec, residuals, dl):
    predictions, targets = residuals
    dp = 2 * weighted(widen(dl), widen(predictions) - widen(targets))
    return dp.astype(predictions.dtype), (-dp).astype(targets.dtype)


def _squared_reference(spec, predictions, targets):
    return predictions * predictions - 2 * predictions * targets + targets * targets


squared_rule = Rule(
    name="squared_error",
    forward=_squared_forward,
    fwd=_squared_fwd,
    bwd=_squared_bwd,
    reference=_squared_reference,
    refuses=((lambda: squared_error(jnp.ones((2, 3)), jnp.ones((3, 2))), "targets of the predictions' shape"),),
    cases=(
        case(None, (8, 3), (8, 3)),
        case(None, (), (), batched=False),
        case(None, (0, 2), (0, 2), batched=False),
    ),
)
