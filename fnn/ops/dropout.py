"""Dropout: each entry is dropped with probability r, independently, and the kept ones grow so that the mean stays.

    y = m x / (1 - r)        dx = m dy / (1 - r)        m ~ Bernoulli(1 - r), drawn from the key

The map is linear and its own transpose, so one function is both directions. The residual is the key alone: the backward
pass draws the same mask again (inside one compiled program XLA may see that both draws are one and share it).

Source: Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html (with the growth in training).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType

from fnn.core.cases import case, random_key
from fnn.core.dtypes import widen
from fnn.core.errors import real, require_floats, require_key
from fnn.core.rule import Rule
from fnn.core.sharding import varying


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
    require_floats("dropout", x=x)
    rate = check_rate(rate)
    require_key("dropout", key)
    for axis in sorted(varying(x) - varying(key)):
        key = jax.random.fold_in(key, lax.axis_index(axis))
    return rule(rate, x, key) if rate else x


def check_rate(rate: float, where: str = "dropout", name: str = "rate") -> float:
    """The rate as a float.

    Raises:
      InputError: rate outside [0, 1).
    """
    expected, fix = f"a {name} in [0, 1), the fraction dropped", f"use {name}=0.5, or 0 to keep all"
    return real(where, expected, rate, lambda r: 0 <= r < 1, fix)


def _drop(rate, x, key):
    wide = widen(x)
    return jnp.where(_keep(rate, x, key), (wide / (1 - rate)).astype(x.dtype), 0)


def _keep(rate, x, key):
    # Under explicit mesh axes a new array is replicated (each device draws it whole) unless told where to live.
    sharding = jax.typeof(x).sharding
    explicit = AxisType.Explicit in sharding.mesh.axis_types
    return jax.random.bernoulli(key, jnp.float32(1 - rate), x.shape, out_sharding=sharding if explicit else None)


def _fwd(rate, x, key):
    return _drop(rate, x, key), key


def _bwd(rate, key, dy):
    # jax_debug_key_reuse asks that a second draw from a key be meant.
    return _drop(rate, dy, jax.random.clone(key)), None


def _reference(rate, x, key):
    mask = jax.random.bernoulli(key, jnp.float32(1 - rate), x.shape)
    return mask * x / (1 - rate)


rule = Rule(
    name="dropout",
    forward=_drop,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=(
        (lambda: dropout(jnp.ones((2, 3)), rate=1.5, key=jax.random.key(0)), r"a rate in \[0, 1\)"),
        (lambda: dropout(jnp.ones((2, 3)), rate=0.5, key=jnp.zeros(3)), "one random key"),
    ),
    cases=(
        case(0.5, (8, 3), random_key()),
        case(0.1, (2, 3, 4, 2), random_key(), batched=False),
        case(0.9, (5,), random_key(), batched=False),
        case(0.3, (0, 3), random_key(), batched=False),
    ),
)
