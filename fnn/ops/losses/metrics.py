"""How often a classifier is right, one number an example; callers take the mean. Not for differentiation.

The rank of the true class y among scores s is the number of classes ahead of it: those with s_j > s_y, and equals that
come before it. The prediction (the first largest score) is right when this rank is 0, and among the best k when it is
below k. A NaN score counts as ahead of all and as beaten by all, so a broken model is never right.
"""

import jax
import jax.numpy as jnp

from fnn.core.broadcast import beside
from fnn.core.errors import ARRAYS, integer
from fnn.ops.losses.labels import one_hot, per_example, require_classes, require_logits, wide_index


def zero_one(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """logits: (N, ..., K) with class labels (N, ...), or logits and labels (N, ...) -> (N,): 1 where wrong, else 0.

    With axes between, the fraction that is wrong of each example: of the tokens of a sequence, the pixels of an image.

    Args:
      logits: scores of K classes, or of one class against another: positive for the second.
      labels: integers (N, ...) in [0, K); or, in the logits' shape, 0/1 or -1/+1 of any dtype.

    Returns:
      float32; the prediction is the first of equal largest scores, or the second of two classes where the logit > 0.

    Raises:
      InputError: shapes that do not fit, integer logits, class labels out of range.

    >>> import jax.numpy as jnp
    >>> print(zero_one(jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([1, 1])))
    [0. 1.]
    >>> print(zero_one(jnp.array([0.2, -3.0]), jnp.array([-1, -1])))
    [1. 0.]
    """
    return _zero_one("zero_one", logits, labels)


def _zero_one(where: str, logits: jax.Array, labels: jax.Array) -> jax.Array:
    require_logits(where, logits, labels)
    if isinstance(labels, ARRAYS) and labels.shape == logits.shape:
        second = labels if labels.dtype == jnp.bool_ else labels > 0
        right = jnp.where(second, logits > 0, logits <= 0)
        return per_example(where, (~right).astype(jnp.float32))
    require_classes(where, logits, labels)
    return per_example(where, (_rank(logits, labels) > 0).astype(jnp.float32))


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 - `zero_one(logits, labels)`: 1 where the prediction is right, else 0, or the fraction that is right.

    >>> import jax.numpy as jnp
    >>> print(accuracy(jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([1, 1])).mean())
    0.5
    """
    return 1 - _zero_one("accuracy", logits, labels)


def top_k_accuracy(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """logits: (N, ..., K) with labels (N, ...) -> (N,): 1 where the label is among the k largest scores, else 0.

    In float32; with axes between, the fraction of each example. Of equal scores the first come first, so
    `top_k_accuracy(logits, labels, 1)` is `accuracy(logits, labels)`.

    Args:
      logits: (N, ..., K).
      labels: integers (N, ...) in [0, K).
      k: 1 to K.

    Raises:
      InputError: k out of range, shapes that do not fit, integer logits, labels out of range.

    >>> import jax.numpy as jnp
    >>> print(top_k_accuracy(jnp.array([[0.1, 0.5, 0.4]]), jnp.array([2]), k=2))
    [1.]
    """
    require_logits("top_k_accuracy", logits, labels)
    require_classes("top_k_accuracy", logits, labels)
    k = integer("top_k_accuracy", "k", k, 1, logits.shape[-1], fix="use at most the number of classes")
    return per_example("top_k_accuracy", (_rank(logits, labels) < k).astype(jnp.float32))


def _rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    classes, labels = logits.shape[-1], wide_index(labels)
    hit = one_hot(labels, classes)
    score = jnp.where(hit, logits, 0).sum(-1, keepdims=True)
    later = beside(jnp.arange(classes, dtype=labels.dtype), score) >= labels[..., None]
    behind = (logits < score) | ((logits == score) & later)
    # A label that is no class, which cannot raise under jit, is behind all of them.
    return (~(behind & hit.any(-1, keepdims=True))).sum(-1)
