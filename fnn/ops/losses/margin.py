"""Hinge losses: nothing to pay beyond the margin D, a straight line before it. At the kink the derivative is 0.

Two classes, score s, label y = -1 or +1:      l = max(0, D - y s)
                                               ds = -dl y [D > y s]        dy = -dl s [D > y s]

K classes, scores s (..., K), label y:         l = sum_{j != y} max(0, s_j - s_y + D)
                                               ds_j = dl [s_j - s_y + D > 0] for j != y,    ds_y = -sum_{j != y} ds_j

Source: Cortes and Vapnik (1995), https://doi.org/10.1007/BF00994018; Weston and Watkins (1999), Support vector machines
for multi-class pattern recognition, as in Stanford's CS231n notes on linear classification.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.cases import case, integers, signs
from fnn.core.dtypes import widen
from fnn.core.errors import ARRAYS, real, require, require_floats
from fnn.core.rule import Rule
from fnn.core.values import require_values
from fnn.ops.losses.labels import (
    one_hot,
    one_if_a_class,
    per_example,
    require_classes,
    require_logits,
    weighted,
    wide_index,
)
from fnn.ops.ramp import plain_relu


def hinge(logits: jax.Array, labels: jax.Array, *, margin: float = 1.0) -> jax.Array:
    """logits: (N, ...) with signs or (N, ..., K) with class labels -> (N,); () or (K,) -> ().

    The mean over the further axes of each example, as for the losses of `fnn.ops.losses.cross_entropy`.
    Computed in float32 at least and returned in the logits' dtype. Inside jit a class label out of range cannot raise:
    its loss is NaN.

    Args:
      logits: scores, of one sign each or of K classes.
      labels: -1 or +1 in the logits' shape and dtype (two classes, element by element), or integers (N, ...) in [0, K).
      margin: how far beyond the border a score must lie to cost nothing, >= 0; 0 is the perceptron's criterion.

    Raises:
      InputError: shapes that do not fit, integer logits, mixed dtypes, a negative margin, labels out of range.

    >>> import jax.numpy as jnp
    >>> print(hinge(jnp.array([0.3, 2.0, -0.5]), jnp.array([1.0, 1.0, 1.0])))
    [0.7 0.  1.5]
    >>> print(hinge(jnp.array([3.0, 5.0, -2.0]), jnp.array(0)))  # max(0, 5 - 3 + 1) + max(0, -2 - 3 + 1)
    3.0
    """
    require_logits("hinge", logits, labels)
    margin = real("hinge", "a finite margin >= 0", margin, lambda m: m >= 0, "use margin=1.0")
    if isinstance(labels, ARRAYS) and jnp.issubdtype(labels.dtype, jnp.floating):
        require_floats("hinge", logits=logits, labels=labels)
        expected = f"labels of the logits' shape {logits.shape}, or integer class indices"
        require(labels.shape == logits.shape, "hinge", expected, labels.shape, "reshape the labels")
        require_values("hinge", labels, lambda a: np.abs(a) == 1, "labels -1 or +1", "map 0/1 labels with 2 y - 1")
        return per_example("hinge", hinge_rule(margin, logits, labels))
    require_classes("hinge", logits, labels)
    return per_example("hinge", multiclass_rule(margin, logits, labels))


def _hinge_forward(margin, logits, labels):
    s, y = widen(logits), widen(labels)
    free = margin - y * s <= 0  # beyond the margin neither counts, be s infinite: no slope is 0 times infinity
    return jnp.where(free, 0, margin - jnp.where(free, 0, y) * jnp.where(free, 0, s)).astype(logits.dtype)


def _hinge_fwd(margin, logits, labels):
    return _hinge_forward(margin, logits, labels), (logits, labels)


def _hinge_bwd(margin, residuals, dl):
    logits, labels = residuals
    s, y = widen(logits), widen(labels)
    dgap = jnp.where(margin - y * s > 0, widen(dl), 0)
    return (-dgap * y).astype(logits.dtype), (-weighted(dgap, s)).astype(labels.dtype)


def _hinge_reference(margin, logits, labels):
    inside = labels * logits < margin
    return inside * (margin - labels * logits)


hinge_rule = Rule(
    name="hinge",
    forward=_hinge_forward,
    fwd=_hinge_fwd,
    bwd=_hinge_bwd,
    reference=_hinge_reference,
    kinks=True,
    refuses=((lambda: hinge(jnp.ones((2, 3)), jnp.ones((3, 2))), "labels of the logits' shape"),),
    cases=(
        case(1.0, (8, 3), signs((8, 3))),
        case(0.5, (), signs(()), batched=False),
        case(0.0, (0,), signs((0,)), batched=False),
    ),
)


def _gaps(margin, logits, labels):
    """s_j - s_y + D, and where j = y."""
    s, hit = widen(logits), one_hot(labels, logits.shape[-1])
    s_y = jnp.where(hit, s, 0).sum(-1) * one_if_a_class(labels, logits.shape[-1], s.dtype)
    # 0 for the label itself, where both may be infinite.
    return jnp.where(hit, 0, s) - jnp.where(hit, 0, s_y[..., None]) + margin, hit


def _multiclass_forward(margin, logits, labels):
    gaps, hit = _gaps(margin, logits, labels)
    return jnp.where(hit, 0, plain_relu(gaps)).sum(-1).astype(logits.dtype)


def _multiclass_fwd(margin, logits, labels):
    return _multiclass_forward(margin, logits, labels), (logits, labels)


def _multiclass_bwd(margin, residuals, dl):
    logits, labels = residuals
    gaps, hit = _gaps(margin, logits, labels)
    others = jnp.where((gaps > 0) & ~hit, widen(dl)[..., None], 0)
    return jnp.where(hit, -others.sum(-1, keepdims=True), others).astype(logits.dtype), None


def _multiclass_reference(margin, logits, labels):
    classes = logits.shape[-1]
    loss, labels = jnp.zeros(labels.shape, logits.dtype), wide_index(labels)
    for y in range(classes):
        for j in range(classes):
            gap = logits[..., j] - logits[..., y] + margin
            loss = loss + (labels == y) * (j != y) * (gap > 0) * gap
    return loss


multiclass_rule = Rule(
    name="multiclass_hinge",
    forward=_multiclass_forward,
    fwd=_multiclass_fwd,
    bwd=_multiclass_bwd,
    reference=_multiclass_reference,
    kinks=True,
    refuses=(
        (lambda: hinge(jnp.ones((2, 3)), jnp.arange(3)), r"integer labels of shape \(2,\)"),
        (lambda: hinge(jnp.ones((2, 3)), jnp.arange(2), margin=-1.0), "a finite margin >= 0"),
    ),
    cases=(
        case(1.0, (8, 5), integers((8,), 0, 5)),
        case(0.5, (1, 3, 4), integers((1, 3), 0, 4), batched=False),
        case(1.0, (0, 3), integers((0,), 0, 3), batched=False),
    ),
)
