"""Batch norm: the formula of `fnn.ops.normalisation.normalise` with statistics over all axes but the last.

Mean and variance are outputs too, so dx has two more terms, with n entries a channel:

    dx = (as in normalise) + (dmean + 2 (x - mean) dvar) / n

In evaluation mean and variance are arguments:

    dx = scale inv dy        dmean = -scale inv Σ dy        dvar = -scale inv² Σ (dy xhat) / 2

Everything is float32 at least inside. The residuals are x, mean and inv; xhat is computed again.

Source: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import gt

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.broadcast import beside
from fnn.core.cases import case, normal, positive
from fnn.core.dtypes import widen
from fnn.core.errors import InputError, require
from fnn.core.rule import Rule
from fnn.core.sharding import align, varying
from fnn.core.sizes import possible
from fnn.core.storage import Storage
from fnn.core.words import described
from fnn.ops.normalisation.normalise import Names, affine, all_but_last, check, count, like, normalise, normalise_bwd


@dataclass(frozen=True)
class BatchNormSpec:
    """Static options: epsilon, and the mesh axes to average over."""

    epsilon: float
    names: Names = ()


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None,
    offset: jax.Array | None,
    *,
    epsilon: float = 1e-5,
    axis_name: str | Sequence[str] | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x: (N, ..., C) -> y (N, ..., C), mean (C,), var (C,): each channel normalised over all other axes.

    Under `jax.jit` the statistics are those of the whole batch however it is sharded. Inside `jax.shard_map` they are
    those of the device's part, unless `axis_name` names the mesh axes that split the batch.

    Args:
      x: at least two axes and one entry a channel; of a single entry y is the offset.
      scale, offset: (C,), any floating dtype; None for 1 and 0.
      epsilon: > 0, added to the variance.
      axis_name: mesh axes of an enclosing `jax.shard_map` over which to average; also the axis of a `jax.vmap`, if the
        gradient is taken inside it.

    Returns:
      y in the dtype of x; mean and biased variance in float32, or float64 for float64. All three can be differentiated.

    Raises:
      InputError: shapes that do not fit, an empty batch, integers, epsilon <= 0, or an `axis_name` that is not bound.

    >>> y, mean, var = batch_norm(jnp.array([[1.0, 0.0], [3.0, 0.0]]), None, None)
    >>> mean.tolist(), var.tolist()
    ([2.0, 0.0], [1.0, 0.0])
    """
    epsilon = check("batch_norm", "(N, ..., C)", 2, epsilon, x, scale, offset)
    require(
        possible(gt, math.prod(x.shape[:-1]), 0),
        "batch_norm",
        "at least one entry a channel to take statistics of",
        f"x of shape {x.shape}",
        "skip empty batches in training; evaluation (batch_norm_inference) takes them",
    )
    names = axis_names(axis_name)
    if names:
        # Even an x that is the same on all devices counts as split: only then do cotangents mean the same everywhere.
        x, _ = align(x, _place("batch_norm", names))
    return _train_rule(BatchNormSpec(epsilon, names), x, scale, offset)


def batch_norm_inference(
    x: jax.Array,
    scale: jax.Array | None,
    offset: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    *,
    epsilon: float = 1e-5,
) -> jax.Array:
    """x: (N, ..., C) -> same: each channel normalised by a given mean and variance.

    Args:
      x: at least two axes.
      scale, offset: (C,), any floating dtype; None for 1 and 0.
      mean, var: (C,), running averages.
      epsilon: > 0, added to the variance.

    Raises:
      InputError: shapes that do not fit, integers, epsilon <= 0.

    >>> x = jnp.array([[1.0], [3.0]])
    >>> batch_norm_inference(x, None, None, jnp.array([1.0]), jnp.array([4.0]), epsilon=1e-12).tolist()
    [[0.0], [1.0]]
    """
    epsilon = check("batch_norm_inference", "(N, ..., C)", 2, epsilon, x, scale, offset, mean=mean, var=var)
    return _inference_rule(epsilon, x, scale, offset, mean, var)


def axis_names(axis_name: str | Sequence[str] | None) -> Names:
    """Names of mesh axes as a tuple; what is no name, sequence of names or None is refused."""
    if axis_name is None or isinstance(axis_name, str):
        return (axis_name,) if axis_name else ()
    ok = isinstance(axis_name, Sequence) and all(isinstance(name, str) for name in axis_name)
    fix = 'name axes of the mesh: axis_name="batch"'
    require(ok, "batch_norm", "a string, a sequence of strings or None for axis_name", described(axis_name), fix)
    return tuple(axis_name)


def _place(where: str, names: Names) -> jax.Array:
    try:
        return lax.axis_index(names)
    except NameError as error:
        raise InputError(
            where,
            f"mesh axes {names} of an enclosing jax.shard_map",
            str(error),
            "under jax.jit leave axis_name out: statistics are those of the whole batch anyway",
        ) from error


def _forward(spec, x, scale, offset):
    axes = all_but_last(x)
    y, mean, var = normalise(x, scale, offset, axes, spec.epsilon, spec.names)
    return y, mean.squeeze(axes), var.squeeze(axes)


def _fwd(spec, x, scale, offset):
    y, mean, var = _forward(spec, x, scale, offset)
    return (y, mean, var), (x, mean, lax.rsqrt(var + spec.epsilon), scale, offset)


def _bwd(spec, residuals, cotangents):
    x, mean, inv, scale, offset = residuals
    dy, dmean, dvar = cotangents
    axes = all_but_last(x)
    dx, dscale, doffset = normalise_bwd(x, mean, inv, scale, dy, axes, axes, spec.names)
    # Where shard_map does not track what varies (and under vmap), the cotangent of a shared mean arrives in parts.
    parts = tuple(name for name in spec.names if name not in varying(dy))
    if parts:
        dmean, dvar = lax.psum((dmean, dvar), parts)
    dx += (beside(dmean, x) + 2 * (widen(x) - beside(mean, x)) * beside(dvar, x)) / count(x, axes, spec.names)
    return dx.astype(x.dtype), like(scale, dscale), like(offset, doffset)


def _inference_forward(epsilon, x, scale, offset, mean, var):
    inv = lax.rsqrt(widen(var) + epsilon)
    return affine(widen(x), widen(mean), inv, scale, offset).astype(x.dtype)


def _inference_fwd(epsilon, x, scale, offset, mean, var):
    return _inference_forward(epsilon, x, scale, offset, mean, var), (x, scale, offset, mean, var)


def _inference_bwd(epsilon, residuals, dy):
    x, scale, offset, mean, var = residuals
    inv = lax.rsqrt(widen(var) + epsilon)
    dy, axes = widen(dy), all_but_last(x)
    s1, s2 = dy.sum(axes), (dy * (widen(x) - beside(widen(mean), x))).sum(axes) * inv
    slope = inv if scale is None else inv * widen(scale)
    dmean, dvar = -slope * s1, -0.5 * slope * inv * s2
    return (
        (dy * beside(slope, x)).astype(x.dtype),
        like(scale, s2),
        like(offset, s1),
        like(mean, dmean),
        like(var, dvar),
    )


def _reference(spec, x, scale, offset):
    c = range(x.shape[-1])
    mean = jnp.stack([x[..., i].sum() / x[..., i].size for i in c])
    var = jnp.stack([((x[..., i] - mean[i]) ** 2).sum() / x[..., i].size for i in c])
    return _inference_reference(spec.epsilon, x, scale, offset, mean, var), mean, var


def _inference_reference(epsilon, x, scale, offset, mean, var):
    y = jnp.stack([(x[..., i] - mean[i]) / jnp.sqrt(var[i] + epsilon) for i in range(x.shape[-1])], -1)
    y = y if scale is None else y * scale
    return y if offset is None else y + offset


_train_rule = Rule(
    name="batch_norm",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    storage=Storage(output="recomputable"),
    refuses=(
        (lambda: batch_norm(jnp.ones((2, 3)), jnp.ones(2), None), r"scale of shape \(3,\)"),
        (lambda: batch_norm(jnp.ones((2, 3)), None, None, epsilon=-1.0), "epsilon > 0"),
    ),
    cases=(
        case(BatchNormSpec(1e-5), normal((8, 2, 3, 4), 2.0, 1.0), (4,), (4,)),
        case(BatchNormSpec(1e-2), (8, 3), None, (3,)),
        case(BatchNormSpec(1e-5), (2, 3, 2, 2, 3), (3,), None, batched=False),
        case(BatchNormSpec(1e-1), (1, 3), (3,), (3,), batched=False),
    ),
)
_inference_rule = Rule(
    name="batch_norm_inference",
    forward=_inference_forward,
    fwd=_inference_fwd,
    bwd=_inference_bwd,
    reference=_inference_reference,
    storage=Storage(output="recomputable"),
    refuses=(
        (lambda: batch_norm_inference(jnp.ones((2, 3)), None, None, jnp.ones(2), jnp.ones(3)), r"mean of shape \(3,\)"),
    ),
    cases=(
        case(1e-5, (8, 2, 3, 4), (4,), (4,), (4,), positive((4,))),
        case(1e-2, (2, 3), None, None, (3,), positive((3,)), batched=False),
        case(1e-5, (0, 2, 3), (3,), (3,), (3,), positive((3,)), batched=False),
    ),
)
