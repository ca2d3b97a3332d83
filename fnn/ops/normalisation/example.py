"""Layer and group norm: the formula of `fnn.ops.normalisation.normalise` for each example alone.

    layer_norm     statistics over the last axis
    group_norm     statistics over the spatial axes and the C/G neighbouring channels of a group

Everything is float32 at least inside; y has the dtype of x. The residuals are x, mean and inv; xhat is computed again.

Sources: Ba et al., 2016, https://arxiv.org/abs/1607.06450; Wu and He, 2018, https://arxiv.org/abs/1803.08494.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.cases import case, normal
from fnn.core.errors import integer, require
from fnn.core.implementation import Implementation, Product
from fnn.core.rule import Rule
from fnn.core.storage import Storage
from fnn.ops.normalisation import compiled
from fnn.ops.normalisation.normalise import all_but_last, check, like, normalise, normalise_bwd


@dataclass(frozen=True)
class GroupNormSpec:
    """Static options: the number of groups G, and epsilon."""

    groups: int
    epsilon: float


def layer_norm(x: jax.Array, scale: jax.Array | None, offset: jax.Array | None, *, epsilon: float = 1e-5) -> jax.Array:
    """x: (..., C) -> same: each vector of channels normalised over itself.

    Args:
      x: at least one axis.
      scale, offset: (C,), any floating dtype; None for 1 and 0.
      epsilon: > 0, added to the variance.

    Raises:
      InputError: shapes that do not fit, integers, epsilon <= 0.

    >>> layer_norm(jnp.array([1.0, 3.0]), None, None, epsilon=1e-12).tolist()
    [-1.0, 1.0]
    """
    epsilon = check("layer_norm", "(..., C)", 1, epsilon, x, scale, offset)
    return _layer_rule(epsilon, x, scale, offset)


def group_norm(
    x: jax.Array, scale: jax.Array | None, offset: jax.Array | None, *, groups: int, epsilon: float = 1e-5
) -> jax.Array:
    """x: (N, *spatial, C) -> same: each example and group of neighbouring channels normalised over itself.

    Args:
      x: at least two axes.
      scale, offset: (C,), any floating dtype; None for 1 and 0.
      groups: number of groups G, a divisor of C; 1 takes all channels together, C each alone (instance norm).
      epsilon: > 0, added to the variance.

    Raises:
      InputError: shapes that do not fit, groups that do not divide C, integers, epsilon <= 0.

    >>> group_norm(jnp.array([[1.0, 3.0, 10.0, 30.0]]), None, None, groups=2, epsilon=1e-12).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    epsilon = check("group_norm", "(N, *spatial, C)", 2, epsilon, x, scale, offset)
    groups = check_groups(groups, x.shape[-1])
    return _group_rule(GroupNormSpec(groups, epsilon), x, scale, offset)


def instance_norm(
    x: jax.Array, scale: jax.Array | None, offset: jax.Array | None, *, epsilon: float = 1e-5
) -> jax.Array:
    """x: (N, *spatial, C) -> same: each channel of each example normalised over itself: `group_norm` of C groups.

    Args:
      x: at least two axes.
      scale, offset: (C,), any floating dtype; None for 1 and 0.
      epsilon: > 0, added to the variance.

    Raises:
      InputError: shapes that do not fit, integers, epsilon <= 0.

    >>> instance_norm(jnp.array([[[1.0, 10.0], [3.0, 30.0]]]), None, None, epsilon=1e-12).tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """
    epsilon = check("instance_norm", "(N, *spatial, C)", 2, epsilon, x, scale, offset)
    groups = check_groups(x.shape[-1], x.shape[-1])
    return _group_rule(GroupNormSpec(groups, epsilon), x, scale, offset)


def check_groups(groups: int, channels: int) -> int:
    """The number of groups as a Python int; one that does not divide the channels is refused."""
    groups = integer("group_norm", "groups", groups, fix="choose a divisor of C")
    ok = channels % groups == 0
    require(ok, "group_norm", f"groups >= 1 that divide {channels} channels", groups, "choose a divisor of C")
    return groups


def _layer_forward(epsilon, x, scale, offset):
    return normalise(x, scale, offset, (x.ndim - 1,), epsilon)[0]


def _layer_fwd(epsilon, x, scale, offset):
    y, mean, inv = FORWARD(epsilon, x, scale, offset)
    return y, (x, mean, inv, scale, offset)


def _layer_bwd(epsilon, residuals, dy):
    x, mean, inv, scale, offset = residuals
    dx, dscale, doffset = BACKWARD(epsilon, x, mean, inv, scale, dy)
    return dx.astype(x.dtype), like(scale, dscale), like(offset, doffset)


def _layer_forward_plain(epsilon, x, scale, offset):
    y, mean, var = normalise(x, scale, offset, (x.ndim - 1,), epsilon)
    return y, mean, lax.rsqrt(var + epsilon)


def _layer_backward_plain(epsilon, x, mean, inv, scale, dy):
    return normalise_bwd(x, mean, inv, scale, dy, (x.ndim - 1,), all_but_last(x))


def _layer_forward_loops(epsilon, x, scale, offset):
    scale, offset = (_channels(x, a, value) for a, value in ((scale, 1), (offset, 0)))
    y, mean, inv = compiled.normalise(epsilon, compiled.rows_of(x), scale, offset)
    return y.reshape(x.shape), *(a.reshape(*x.shape[:-1], 1) for a in (mean, inv))


def _layer_backward_loops(epsilon, x, mean, inv, scale, dy):
    rows = (compiled.rows_of(a) for a in (x, mean, inv))
    dx, dscale, doffset = compiled.normalise_back(*rows, _channels(x, scale, 1), compiled.rows_of(dy))
    return dx.reshape(x.shape), dscale, doffset


def _channels(x, a, otherwise):
    return jnp.full(x.shape[-1:], otherwise, x.dtype) if a is None else a.astype(x.dtype)


FORWARD = Product("forward", compiled.row(_layer_forward_loops), Implementation(name="plain", run=_layer_forward_plain))
BACKWARD = Product(
    "backward", compiled.row(_layer_backward_loops), Implementation(name="plain", run=_layer_backward_plain)
)


def _split(spec, a):
    """The last axis C as (G, C/G)."""
    return None if a is None else compiled.split(spec.groups, a)


def _group_axes(x):
    return (*range(1, x.ndim - 1), x.ndim)


def _group_forward(spec, x, scale, offset):
    return _group_forward_plain(spec, x, scale, offset)[0]


def _group_fwd(spec, x, scale, offset):
    y, mean, inv = GROUP_FORWARD(spec, x, scale, offset)
    return y, (x, mean, inv, scale, offset)


def _group_bwd(spec, residuals, dy):
    x, mean, inv, scale, offset = residuals
    dx, dscale, doffset = GROUP_BACKWARD(spec, x, mean, inv, scale, dy)
    return dx.astype(x.dtype), like(scale, dscale), like(offset, doffset)


def _group_forward_plain(spec, x, scale, offset):
    xs, axes = _split(spec, x), _group_axes(x)
    y, mean, var = normalise(xs, _split(spec, scale), _split(spec, offset), axes, spec.epsilon)
    return y.reshape(x.shape), mean, lax.rsqrt(var + spec.epsilon)


def _group_backward_plain(spec, x, mean, inv, scale, dy):
    xs, scales, dys = (_split(spec, a) for a in (x, scale, dy))
    dx, dscale, doffset = normalise_bwd(xs, mean, inv, scales, dys, _group_axes(x), all_but_last(x))
    return dx.reshape(x.shape), dscale.ravel(), doffset.ravel()


def _group_forward_loops(spec, x, scale, offset):
    scale, offset = (_channels(x, a, value) for a, value in ((scale, 1), (offset, 0)))
    y, mean, inv = compiled.normalise_groups(spec.groups, spec.epsilon, _positions(x), scale, offset)
    return y.reshape(x.shape), *(a.reshape(-1, *[1] * (x.ndim - 2), spec.groups, 1) for a in (mean, inv))


def _group_backward_loops(spec, x, mean, inv, scale, dy):
    moments = (a.reshape(-1, spec.groups) for a in (mean, inv))
    dx, dscale, doffset = compiled.normalise_groups_back(
        spec.groups, _positions(x), *moments, _channels(x, scale, 1), _positions(dy)
    )
    return dx.reshape(x.shape), dscale, doffset


def _positions(x):
    """(N, *spatial, C) as (N, S, C)."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


GROUP_FORWARD = Product(
    "forward", compiled.row(_group_forward_loops), Implementation(name="plain", run=_group_forward_plain)
)
GROUP_BACKWARD = Product(
    "backward", compiled.row(_group_backward_loops), Implementation(name="plain", run=_group_backward_plain)
)


def _moments_reference(values, epsilon):
    mean = sum(values) / len(values)
    var = sum((v - mean) ** 2 for v in values) / len(values)
    return mean, jnp.sqrt(var + epsilon)


def _layer_reference(epsilon, x, scale, offset):
    c = range(x.shape[-1])
    mean, deviation = _moments_reference([x[..., i] for i in c], epsilon)
    y = jnp.stack([(x[..., i] - mean) / deviation for i in c], -1)
    y = y if scale is None else y * scale
    return y if offset is None else y + offset


def _group_reference(spec, x, scale, offset):
    size = x.shape[-1] // spec.groups
    y = []
    for n in range(x.shape[0]):
        parts = [x[n, ..., g * size : (g + 1) * size] for g in range(spec.groups)]
        pairs = [_moments_reference(list(part.ravel()), spec.epsilon) for part in parts]
        y.append(jnp.concatenate([(p - mean) / d for p, (mean, d) in zip(parts, pairs, strict=True)], -1))
    y = jnp.stack(y) if y else x
    y = y if scale is None else y * scale
    return y if offset is None else y + offset


_layer_rule = Rule(
    name="layer_norm",
    forward=_layer_forward,
    fwd=_layer_fwd,
    bwd=_layer_bwd,
    reference=_layer_reference,
    storage=Storage(output="recomputable"),
    products=(FORWARD, BACKWARD),
    refuses=(
        (lambda: layer_norm(jnp.ones((2, 3)), jnp.ones(2), None), r"scale of shape \(3,\)"),
        (lambda: layer_norm(jnp.ones(()), None, None), r"x of shape \(\.\.\., C\)"),
    ),
    cases=(
        case(1e-5, normal((8, 3, 4), 2.0, 1.0), (4,), (4,)),
        case(1e-2, (8, 5), None, None),
        case(1e-5, normal((8, 3, 4), 2.0, 1.0), (4,), (4,), implementation="loops"),
        case(1e-5, (4,), (4,), None, batched=False),
        case(1e-1, (2, 1), (1,), (1,), batched=False),
        case(1e-5, (0, 3), (3,), (3,), batched=False),
    ),
)
_group_rule = Rule(
    name="group_norm",
    forward=_group_forward,
    fwd=_group_fwd,
    bwd=_group_bwd,
    reference=_group_reference,
    storage=Storage(output="recomputable"),
    products=(GROUP_FORWARD, GROUP_BACKWARD),
    refuses=((lambda: group_norm(jnp.ones((2, 3)), None, None, groups=2), "groups >= 1 that divide 3 channels"),),
    cases=(
        case(GroupNormSpec(2, 1e-5), normal((8, 2, 3, 4), 2.0, 1.0), (4,), (4,)),
        case(GroupNormSpec(2, 1e-5), normal((8, 2, 3, 4), 2.0, 1.0), (4,), (4,), implementation="loops"),
        case(GroupNormSpec(3, 1e-2), (2, 6), None, (6,), batched=False),
        case(GroupNormSpec(1, 1e-5), (2, 2, 2, 1, 3), (3,), None, batched=False),
        case(GroupNormSpec(3, 1e-5), (1, 4, 3), (3,), (3,), batched=False),
        case(GroupNormSpec(2, 1e-5), (0, 2, 4), (4,), (4,), batched=False),
    ),
)
