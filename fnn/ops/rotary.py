"""Rotary position embedding: pairs of channels are turned by an angle that grows with the position.

    θ_i = position base^(-2 i / D)        a' = a cos θ_i - b sin θ_i        b' = a sin θ_i + b cos θ_i

for D / 2 pairs (a, b) with numbers i. The product of a query and a key then depends on their distance alone. A turn's
transpose is the turn back, so the backward pass is the forward one with -θ.

Source: Su et al., 2021, https://arxiv.org/abs/2104.09864, section 3.4.2.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fnn.core.cases import case, integers
from fnn.core.dtypes import widen
from fnn.core.errors import real, require, require_array, require_flag, require_floats
from fnn.core.rule import Rule


@dataclass(frozen=True)
class Rotary:
    """Static options: the base of the angles, and whether a pair's channels are neighbours."""

    base: float
    interleaved: bool = False


def rotary(
    x: jax.Array, positions: jax.Array | None = None, *, base: float = 10_000.0, interleaved: bool = False
) -> jax.Array:
    """x: (N, T, H, D) -> same: each pair of channels turned by an angle of its own, times the position.

    Args:
      x: queries or keys, D even.
      positions: integers (T,) or (N, T); 0 to T - 1 by default.
      base: > 0; the larger, the slower the last pairs turn.
      interleaved: whether pairs are neighbours (0, 1), (2, 3), ..., as in the paper, or i and i + D / 2, as most
        trained models have them.

    Raises:
      InputError: another rank, D odd, positions of another shape or no integers, base <= 0.

    >>> import jax.numpy as jnp
    >>> rotary(jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2), jnp.array([1])).ravel().round(3).tolist()  # cos 1, sin 1
    [0.5400000214576721, 0.8410000205039978]
    """
    where = "rotary"
    require_floats(where, x=x)
    require_flag(where, "interleaved", interleaved)
    ok = x.ndim == 4 and x.shape[-1] % 2 == 0
    require(ok, where, "x of shape (N, T, H, D), D even", x.shape, "give it heads: x.reshape(*x.shape[:-1], heads, -1)")
    base = check_base(base)
    if positions is None:
        positions = jnp.arange(x.shape[1])
    require_array(where, "positions", positions)
    ok = jnp.issubdtype(positions.dtype, jnp.integer) and positions.shape in (x.shape[1:2], x.shape[:2])
    got = f"{positions.dtype} of shape {positions.shape}"
    require(ok, where, f"positions, integers of shape {x.shape[1:2]} or {x.shape[:2]}", got, "one a position")
    return rule(Rotary(base, bool(interleaved)), x, positions)


def check_base(base: float, where: str = "rotary", name: str = "base") -> float:
    """The base as a Python float; what is no number > 0 is refused."""
    return real(where, f"a number {name} > 0", base, lambda b: b > 0, f"use {name}=10000.0")


def _turn(spec: Rotary, x, positions, sign):
    half = x.shape[-1] // 2
    wide = widen(x)
    rates = spec.base ** (-jnp.arange(half, dtype=wide.dtype) / half)
    angles = positions.astype(wide.dtype)[..., None, None] * rates[(None,) * (positions.ndim + 1)]
    angles = angles if positions.ndim == 2 else angles[None]
    cos, sin = jnp.cos(angles), sign * jnp.sin(angles)
    pairs = wide.reshape(*x.shape[:-1], *((half, 2) if spec.interleaved else (2, half)))
    axis = -1 if spec.interleaved else -2
    a, b = (pairs.take(i, axis) for i in range(2))
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], axis).reshape(x.shape).astype(x.dtype)


def _forward(spec, x, positions):
    return _turn(spec, x, positions, 1)


def _fwd(spec, x, positions):
    return _turn(spec, x, positions, 1), positions


def _bwd(spec, positions, dy):
    return _turn(spec, dy, positions, -1), None


def _reference(spec, x, positions):
    half, y = x.shape[-1] // 2, x
    for i in range(half):
        first, second = (2 * i, 2 * i + 1) if spec.interleaved else (i, i + half)
        angle = (positions * spec.base ** (-2 * i / x.shape[-1]))[..., None]
        angle = angle if positions.ndim == 2 else angle[None]
        a, b = x[..., first], x[..., second]
        y = y.at[..., first].set((a * jnp.cos(angle) - b * jnp.sin(angle)).astype(x.dtype))
        y = y.at[..., second].set((a * jnp.sin(angle) + b * jnp.cos(angle)).astype(x.dtype))
    return y


rule = Rule(
    name="rotary",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=(
        (lambda: rotary(jnp.ones((1, 2, 3))), r"x of shape \(N, T, H, D\), D even"),
        (lambda: rotary(jnp.ones((1, 2, 1, 3))), r"x of shape \(N, T, H, D\), D even"),
        (lambda: rotary(jnp.ones((1, 2, 1, 4)), jnp.arange(3)), r"positions, integers of shape \(2,\) or \(1, 2\)"),
        (lambda: rotary(jnp.ones((1, 2, 1, 4)), base=0.0), "base > 0"),
    ),
    cases=(
        case(Rotary(100.0), (8, 3, 2, 4), integers((3,), 0, 9), batched=False),
        case(Rotary(10_000.0, interleaved=True), (8, 3, 1, 6), integers((8, 3), 0, 9)),
        case(Rotary(10.0), (0, 2, 1, 2), integers((0, 2), 0, 9), batched=False),
    ),
)
