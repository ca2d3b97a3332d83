"""Dropout: each entry is dropped with probability r, independently, and the kept ones grow so that the mean stays.

    y = m x / (1 - r)        dx = m dy / (1 - r)        m ~ Bernoulli(1 - r), drawn from the key

Along some axes one draw may count for all: whole channels are dropped, or whole examples of a residual branch.

The map is linear and its own transpose, so one function is both directions. The residual is the key alone: the backward
pass draws the same mask again (inside one compiled program XLA may see that both draws are one and share it).

Sources: Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html (with the growth in training); Tompson
et al., 2014, https://arxiv.org/abs/1411.4280, for channels; Huang et al., 2016, https://arxiv.org/abs/1603.09382, for
stochastic depth.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from fnn.core.cases import case, random_key
from fnn.core.dtypes import widen
from fnn.core.errors import real, require, require_floats, require_key
from fnn.core.rule import Rule
from fnn.core.sharding import result_sharding, varying
from fnn.core.words import described


@dataclass(frozen=True)
class Dropout:
    """Static options: the rate, and the axes along which one draw counts for all."""

    rate: float
    shared: tuple[int, ...] = ()


def dropout(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """x: any shape -> same: a random fraction of the entries set to zero, the others divided by 1 - rate.

    The mask depends on the key and the shape of x, not on how x is laid out over devices. Inside `jax.shard_map` each
    device sees its own part of x alone, so a key that is the same everywhere is folded with the device's place along
    the mesh axes over which x varies, lest all parts lose the same entries.

    Args:
      x: any floating-point array.
      key: a random key; the same key gives the same mask.
      rate: the fraction dropped, a Python number in [0, 1); 0 returns x.

    Raises:
      InputError: rate outside [0, 1), integer x, or no single key.

    >>> y = dropout(jnp.ones(1000), jax.random.key(0), rate=0.75)
    >>> sorted(set(y.tolist()))
    [0.0, 4.0]
    """
    return _called("dropout", x, key, rate, ())


def channel_dropout(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """x: (N, *spatial, C) -> same: `dropout` of whole channels of each example, also called spatial dropout.

    Args:
      x: at least two axes.
      key, rate: as in `dropout`.

    Raises:
      InputError: what `dropout` raises, fewer axes.
    """
    require_floats("channel_dropout", x=x)
    ok = x.ndim >= 2
    require(ok, "channel_dropout", "x of shape (N, *spatial, C)", x.shape, "add the missing axes, for example x[None]")
    return _called("channel_dropout", x, key, rate, tuple(range(1, x.ndim - 1)))


def stochastic_depth(x: jax.Array, key: jax.Array, rate: float, mode: Literal["row", "batch"] = "row") -> jax.Array:
    """x: (N, ...) -> same: `dropout` of whole examples, or of the batch: for the branch of a residual block.

    Args:
      x: at least one axis.
      key, rate: as in `dropout`.
      mode: whether each example is dropped by itself, or all at once.

    Raises:
      InputError: what `dropout` raises, no axes, another mode.
    """
    require_floats("stochastic_depth", x=x)
    check_mode(mode)
    require(x.ndim >= 1, "stochastic_depth", "x of shape (N, ...)", x.shape, "add a batch axis: x[None]")
    return _called("stochastic_depth", x, key, rate, tuple(range(1 if mode == "row" else 0, x.ndim)))


def check_mode(mode: str) -> None:
    """Refuse what is no mode of `stochastic_depth`."""
    ok = isinstance(mode, str) and mode in ("row", "batch")
    require(ok, "stochastic_depth", 'mode "row" or "batch"', described(mode), "choose one of these")


def _called(where: str, x: jax.Array, key: jax.Array, rate: float, shared: tuple[int, ...]) -> jax.Array:
    require_floats(where, x=x)
    rate = check_rate(rate, where)
    require_key(where, key)
    for axis in sorted(varying(x) - varying(key)):
        key = jax.random.fold_in(key, lax.axis_index(axis))
    return rule(Dropout(rate, shared), x, key) if rate else x


def check_rate(rate: float, where: str = "dropout", name: str = "rate") -> float:
    """The rate as a float.

    Raises:
      InputError: rate outside [0, 1).
    """
    expected, fix = f"a {name} in [0, 1), the fraction dropped", f"use {name}=0.5, or 0 to keep all"
    return real(where, expected, rate, lambda r: 0 <= r < 1, fix)


def _drop(spec, x, key):
    wide = widen(x)
    return jnp.where(_keep(spec, x, key), (wide / (1 - spec.rate)).astype(x.dtype), 0)


def _keep(spec, x, key):
    shape = tuple(1 if axis in spec.shared else n for axis, n in enumerate(x.shape))
    # Under explicit mesh axes a new array is replicated (each device draws it whole) unless told where to live.
    sharding = result_sharding(x)
    if sharding is not None:
        places = (None if axis in spec.shared else place for axis, place in enumerate(sharding.spec))
        sharding = sharding.update(spec=PartitionSpec(*places))
    return jax.random.bernoulli(key, jnp.float32(1 - spec.rate), shape, out_sharding=sharding)


def _fwd(spec, x, key):
    return _drop(spec, x, key), key


def _bwd(spec, key, dy):
    # jax_debug_key_reuse asks that a second draw from a key be meant.
    return _drop(spec, dy, jax.random.clone(key)), None


def _reference(spec, x, key):
    shape = tuple(1 if axis in spec.shared else n for axis, n in enumerate(x.shape))
    mask = jax.random.bernoulli(key, jnp.float32(1 - spec.rate), shape)
    return mask * x / (1 - spec.rate)


rule = Rule(
    name="dropout",
    forward=_drop,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=(
        (lambda: dropout(jnp.ones((2, 3)), rate=1.5, key=jax.random.key(0)), r"a rate in \[0, 1\)"),
        (lambda: dropout(jnp.ones((2, 3)), rate=0.5, key=jnp.zeros(3)), "one random key"),
        (lambda: channel_dropout(jnp.ones(3), jax.random.key(0), 0.5), r"x of shape \(N, \*spatial, C\)"),
        (lambda: stochastic_depth(jnp.ones(()), jax.random.key(0), 0.5), r"x of shape \(N, \.\.\.\)"),
        (lambda: stochastic_depth(jnp.ones(3), jax.random.key(0), 0.5, "rows"), 'mode "row" or "batch"'),  # type: ignore[arg-type]
    ),
    cases=(
        case(Dropout(0.5), (8, 3), random_key()),
        case(Dropout(0.1), (2, 3, 4, 2), random_key(), batched=False),
        case(Dropout(0.9), (5,), random_key(), batched=False),
        case(Dropout(0.5, (1,)), (8, 2, 3), random_key()),
        case(Dropout(0.5, (0, 1)), (3, 2), random_key(), batched=False),
        case(Dropout(0.3), (0, 3), random_key(), batched=False),
    ),
)
