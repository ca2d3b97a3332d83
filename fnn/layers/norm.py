"""Normalisation layers: `ops` with scale (ones) and offset (zeros), and the running averages of batch norm.

At step t of training, with batch mean μ and unbiased batch variance v = var n / (n - 1), batch norm updates

    mean <- mean + w (μ - mean)        var <- var + w (v - var)        w = max(1 - momentum, 1 / t)

so the first steps are a plain average of all batches so far, exact from step 1 on, and later ones the usual exponential
average. It never remembers the initial mean 0 and variance 1, which evaluation uses if there was no training.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn import ops
from fnn.core.dtypes import wide_dtype
from fnn.core.errors import (
    InputError,
    integer,
    is_floating,
    real,
    require,
    require_flag,
    require_float_spec,
    require_floats,
)
from fnn.core.layer import Layer, Params, State, shown, weights
from fnn.core.lift import lift
from fnn.core.spec import Spec
from fnn.layers.initial import full
from fnn.ops.normalisation.batch import axis_names
from fnn.ops.normalisation.example import check_groups
from fnn.ops.normalisation.local import check_options
from fnn.ops.normalisation.normalise import check_epsilon


@shown
def batch_norm(*, momentum: float = 0.9, epsilon: float = 1e-5, axis_name: str | Sequence[str] | None = None) -> Layer:
    """x: (N, ..., C) -> same: normalised by the batch in training, by running averages in evaluation.

    params: scale (C,), offset (C,). state: mean (C,) and var (C,) in float32 (float64 for float64), count () int32, the
    number of training steps.

    Args:
      momentum: in [0, 1], the weight of the old averages once warm (torch's momentum is 1 minus this); 1 keeps the
        plain average of all batches.
      epsilon: > 0, added to the variance.
      axis_name: mesh axes over which to average inside `jax.shard_map`; without it each device has statistics, and so a
        state, of its own. Not needed under `jax.jit`.

    The running variance is unbiased, as in torch, whose trained weights thus fit; the one that normalises the batch is
    not. Of a single entry a channel (n = 1) the variance counts as 0.

    Raises:
      InputError: momentum outside [0, 1]; a state that init did not make; and what `ops.batch_norm` raises.

    >>> import jax, fnn
    >>> layer, x = fnn.batch_norm(), jax.numpy.array([[1.0], [3.0]])
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> y, state = layer.apply(params, state, x, train=True)
    >>> state["mean"].tolist(), state["var"].tolist()
    ([2.0], [2.0])
    """
    fix = "use 0.9, which torch calls 0.1"
    momentum = real("batch_norm", "momentum in [0, 1]", momentum, lambda m: 0 <= m <= 1, fix)
    epsilon, axis_name = check_epsilon("batch_norm", epsilon), axis_names(axis_name) or None

    def init(key: jax.Array, x: Spec) -> tuple[Params, State]:
        params = _affine("batch_norm", x)
        require(x.ndim >= 2, "batch_norm", "x of shape (N, ..., C)", x.shape, "add the missing axes")
        c, wide = x.shape[-1:], wide_dtype(x)
        state = {"mean": full(c, 0, wide), "var": full(c, 1, wide), "count": full((), 0, jnp.int32)}
        return params, state

    def apply(
        params: Params, state: State, x: jax.Array, *, train: bool = False, key: Any = None
    ) -> tuple[jax.Array, State]:
        scale, offset = weights("batch_norm", params, "scale", "offset")
        require_floats("batch_norm", x=x)
        _check_state(state, x)
        if not train:
            y = ops.batch_norm_inference(x, scale, offset, state["mean"], state["var"], epsilon=epsilon)
            return y, state
        y, mean, var = ops.batch_norm(x, scale, offset, epsilon=epsilon, axis_name=axis_name)
        n = math.prod(x.shape[:-1]) * (lax.axis_size(axis_name) if axis_name else 1)
        return y, _update(state, momentum, mean, var * (n / jax.core.max_dim(n - 1, 1)))

    return Layer(init, apply, "batch_norm")


@shown
def layer_norm(*, epsilon: float = 1e-5) -> Layer:
    """x: (..., C) -> same: each vector of channels normalised over itself. params: scale (C,), offset (C,).

    Args:
      epsilon: > 0, added to the variance.

    Raises:
      InputError: what `ops.layer_norm` raises.
    """

    epsilon = check_epsilon("layer_norm", epsilon)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return ops.layer_norm(x, *weights("layer_norm", params, "scale", "offset"), epsilon=epsilon)

    return lift(apply, lambda key, x: _affine("layer_norm", x), name="layer_norm")


@shown
def group_norm(groups: int, *, epsilon: float = 1e-5) -> Layer:
    """x: (N, *spatial, C) -> same: each example and group of channels normalised over itself.

    params: scale (C,), offset (C,).

    Args:
      groups: number of groups G, a divisor of C; 1 takes all channels together, C each alone (instance norm).
      epsilon: > 0, added to the variance.

    Raises:
      InputError: groups that do not divide C; and what `ops.group_norm` raises.
    """

    groups = integer("group_norm", "groups", groups, fix="choose a divisor of C")
    epsilon = check_epsilon("group_norm", epsilon)

    def init(key: jax.Array, x: Spec) -> Params:
        params = _affine("group_norm", x)
        check_groups(groups, x.shape[-1])
        return params

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return ops.group_norm(x, *weights("group_norm", params, "scale", "offset"), groups=groups, epsilon=epsilon)

    return lift(apply, init, name="group_norm")


@shown
def instance_norm(*, epsilon: float = 1e-5) -> Layer:
    """x: (N, *spatial, C) -> same: each channel of each example normalised over itself.

    params: scale (C,), offset (C,).

    Args:
      epsilon: > 0, added to the variance.

    Raises:
      InputError: what `ops.instance_norm` raises.
    """
    epsilon = check_epsilon("instance_norm", epsilon)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return ops.instance_norm(x, *weights("instance_norm", params, "scale", "offset"), epsilon=epsilon)

    return lift(apply, lambda key, x: _affine("instance_norm", x), name="instance_norm")


@shown
def local_response_norm(
    size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, across_channels: bool = True
) -> Layer:
    """x: (N, *spatial, C) -> same: each number divided by (k + alpha * mean of squares around it)^beta.

    The options are those of `ops.local_response_norm`.

    Raises:
      InputError: what `ops.local_response_norm` raises.
    """
    where = "local_response_norm"
    require_flag(where, "across_channels", across_channels)
    spec = check_options(where, size, alpha, beta, k, bool(across_channels))

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return ops.local_response_norm(
            x, spec.size, alpha=spec.alpha, beta=spec.beta, k=spec.k, across_channels=spec.across
        )

    return lift(apply, name=where)


@shown
def rms_norm(*, epsilon: float = 1e-6) -> Layer:
    """x: (..., C) -> same: each vector of channels divided by its root mean square. params: scale (C,).

    Args:
      epsilon: > 0, added to the mean square.

    Raises:
      InputError: what `ops.rms_norm` raises.
    """
    epsilon = check_epsilon("rms_norm", epsilon)

    def init(key: jax.Array, x: Spec) -> Params:
        return {"scale": _affine("rms_norm", x)["scale"]}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return ops.rms_norm(x, *weights("rms_norm", params, "scale"), epsilon=epsilon)

    return lift(apply, init, name="rms_norm")


def _affine(where: str, x: Spec) -> Params:
    require_float_spec(where, x)
    require(x.ndim >= 1, where, "x of shape (..., C)", x.shape, "give x a last axis")
    return {"scale": full(x.shape[-1:], 1, x.dtype), "offset": full(x.shape[-1:], 0, x.dtype)}


def _check_state(state: State, x: jax.Array) -> None:
    names = {"mean", "var", "count"}
    if not isinstance(state, Mapping) or set(state) != names:
        got = sorted(state) if isinstance(state, Mapping) else type(state).__name__
        raise InputError("batch_norm", f"state with {sorted(names)}", str(got), "pass the state that init returned")
    wanted = {"mean": x.shape[-1:], "var": x.shape[-1:], "count": ()}
    shapes = {name: getattr(state[name], "shape", type(state[name]).__name__) for name in wanted}
    require(shapes == wanted, "batch_norm", f"a state of shapes {wanted}", shapes, "init with an input like this one")
    ok = is_floating(state["mean"].dtype) and is_floating(state["var"].dtype)
    ok = ok and jnp.issubdtype(state["count"].dtype, jnp.integer)
    dtypes = {name: state[name].dtype.name for name in wanted}
    require(ok, "batch_norm", "floating-point mean and var, an integer count", dtypes, "init makes such a state")


def _update(state: State, momentum: float, mean: jax.Array, var: jax.Array) -> State:
    most = jnp.iinfo(state["count"].dtype).max  # there the count stays: it would wrap
    count = state["count"] + (state["count"] < most).astype(state["count"].dtype)

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        weight = jnp.maximum(1 - momentum, 1 / count.astype(old.dtype))
        return (old + weight * (new - old)).astype(old.dtype)

    return {"mean": move(state["mean"], mean), "var": move(state["var"], var), "count": count}
