"""What losses and metrics share: what they ask of labels, how a class label meets its axis, one number an example."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from fnn.core.broadcast import beside
from fnn.core.dtypes import wide_dtype
from fnn.core.errors import ARRAYS, InputError, is_floating, require, require_array, require_floats
from fnn.core.values import require_values


def is_integer(labels: jax.Array) -> bool:
    """Whether labels name classes, rather than weigh them."""
    return jnp.issubdtype(labels.dtype, jnp.integer)


def wide_index(labels: jax.Array) -> jax.Array:
    """Labels in int32 at least: in their own uint8, 256 is 0, so that `label < 256` would be false of every label."""
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels


def one_hot(labels: jax.Array, classes: int) -> jax.Array:
    """Labels (...,) -> booleans (..., K), true at the label.

    A comparison, not a gather: its gradient is a select where a gather's is a scatter, and it asks nothing of a sharded
    batch.
    """
    labels = wide_index(labels)
    labels = labels[..., None]
    return labels == beside(jnp.arange(classes, dtype=labels.dtype), labels)


def one_if_a_class(labels: jax.Array, classes: int, dtype: jnp.dtype) -> jax.Array:
    """Labels (...,) -> 1 where 0 <= label < K, else NaN: under jit a bad label cannot raise, but it must not pass."""
    labels = wide_index(labels)
    return jnp.where((labels >= 0) & (labels < classes), 1, jnp.nan).astype(dtype)


def require_logits(where: str, logits: jax.Array, labels: jax.Array) -> None:
    """Refuse logits that are no floating-point array, with a word where labels came in their place."""
    if all(isinstance(a, ARRAYS) for a in (logits, labels)) and is_integer(logits) and is_floating(labels.dtype):
        got = f"logits {logits.dtype} of shape {logits.shape}, labels {labels.dtype} of shape {labels.shape}"
        raise InputError(where, "floating-point logits first, then labels", got, "swap the two, or convert the logits")
    require_floats(where, logits=logits)


def per_example(where: str, values: jax.Array) -> jax.Array:
    """(N, ...) -> (N,): the mean of each example, taken in float32 at least; (N,) and () as they are."""
    require(
        0 not in values.shape[1:], where, "at least one number in each example", values.shape, "leave out empty axes"
    )
    if values.ndim <= 1:
        return values
    return values.mean(tuple(range(1, values.ndim)), dtype=wide_dtype(values)).astype(values.dtype)


@jax.custom_jvp
def weighted(weights: jax.Array, values: jax.Array) -> jax.Array:
    """weights * values, and 0 where a weight of 0 meets an infinity: what counts nothing may be infinitely wrong.

    Slopes are those of the product: of a weight its value, be it infinite, of a value its weight.
    """
    weights, values = jnp.broadcast_arrays(weights, values)
    # Not jnp.where: over no elements JAX cannot batch it inside a custom_jvp under remat and scan.
    return weights * lax.select((weights == 0) & jnp.isinf(values), jnp.zeros_like(values), values)


@partial(weighted.defjvp, symbolic_zeros=True)
def _slopes_of_weighted(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """dw v + w dv without the term that nobody asked for: it would be 0 times infinity again."""
    (w, v), (dw, dv) = primals, tangents
    terms = [a * b for a, b in ((dw, v), (dv, w)) if not isinstance(a, SymbolicZero)]
    return weighted(w, v), sum(terms[1:], terms[0])


def require_classes(where: str, logits: jax.Array, labels: jax.Array) -> None:
    """Refuse labels that are not one integer in [0, K) for each row of logits (..., K)."""
    require(
        logits.ndim >= 1 and logits.shape[-1] >= 1, where, "logits (..., K)", logits.shape, "give them a class axis"
    )
    require_array(where, "labels", labels)
    if not (is_integer(labels) and labels.shape == logits.shape[:-1]):
        expected = f"integer labels of shape {logits.shape[:-1]} for logits {logits.shape}"
        raise InputError(where, expected, f"{labels.dtype} of shape {labels.shape}", to_classes(labels, logits.shape))
    classes = logits.shape[-1]

    def ok(values: np.ndarray) -> np.ndarray:
        wide = values.astype(np.int32) if values.dtype.itemsize < 4 else values
        return (wide >= 0) & (wide < classes)

    require_values(where, labels, ok, f"labels from 0 to {classes - 1}", "count from 0")


def to_classes(labels: jax.Array, shape: tuple[int, ...]) -> str:
    """How such labels become one integer a row of logits of this shape."""
    if labels.shape == shape[:-1]:
        return "cast them to integers: labels.astype(int)"
    if labels.shape == (*shape[:-1], 1):
        cast = "" if is_integer(labels) else ".astype(int)"
        return f"take the last axis away: labels[..., 0]{cast}"
    if labels.shape == shape:
        return "pass one class index a row; one-hot rows become indices with .argmax(-1)"
    return "pass one class index a row"
