"""Layer and group norm by compiled loops, see `fnn.kernels.loops`: what is normalised lies in the cache meanwhile.

Arrays come in float32, as rows of channels for layer norm, where (..., C) is (R, C), and as (N, S, C) for group norm.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.implementation import Implementation
from fnn.core.placement import whole_batch
from fnn.core.sizes import fixed
from fnn.kernels import plan as p
from fnn.kernels.call import bound, call
from fnn.kernels.library import lacking
from fnn.kernels.plan import Memory, Plan, dense
from fnn.ops.normalisation import normalise as formula


def fits(x: jax.Array) -> bool:
    """Float32, not split, of known sizes, none of them 0."""
    return x.ndim > 1 and x.dtype == jnp.float32 and fixed(*x.shape) and min(x.shape) > 0 and whole_batch(x)


def row(run: Callable[..., Any]) -> Implementation:
    """A row of a table for what is asked with x first."""

    def suits(spec: Any, x: jax.Array, *rest: Any) -> bool:
        return fits(x)

    return Implementation(name="loops", run=run, when=suits, fits=suits, platform="cpu", missing=lacking)


def rows_of(a: jax.Array) -> jax.Array:
    """(..., C) -> (R, C)."""
    return a.reshape(-1, a.shape[-1])


def normalise(epsilon: float, x: jax.Array, scale: jax.Array, offset: jax.Array) -> tuple[jax.Array, ...]:
    """x (R, C), scale and offset (C,) -> y (R, C), mean (R, 1), inv (R, 1)."""
    plan, plain = bound(_plan, p.NORMALISE, "rww", "rvv", epsilon), bound(_normalise, epsilon)
    return call(plan, plain, bound(_fold, plain), x, scale, offset)


def normalise_back(
    x: jax.Array, mean: jax.Array, inv: jax.Array, scale: jax.Array, dy: jax.Array
) -> tuple[jax.Array, ...]:
    """x, dy (R, C), mean and inv (R, 1), scale (C,) -> dx (R, C), dscale and doffset (C,)."""
    plan = bound(_plan, p.NORMALISE_BACK, "rvvwr", "rss", 0.0)
    return call(plan, _normalise_back, bound(_fold, _normalise_back), x, mean, inv, scale, dy)


def _normalise(epsilon: float, x: jax.Array, scale: jax.Array, offset: jax.Array) -> tuple[jax.Array, ...]:
    y, mean, var = formula.normalise(x, scale, offset, (1,), epsilon)
    return y, mean, lax.rsqrt(var + epsilon)


def _normalise_back(
    x: jax.Array, mean: jax.Array, inv: jax.Array, scale: jax.Array, dy: jax.Array
) -> tuple[jax.Array, ...]:
    return formula.normalise_bwd(x, mean, inv, scale, dy, (1,), (0,))


def normalise_groups(
    groups: int, epsilon: float, x: jax.Array, scale: jax.Array, offset: jax.Array
) -> tuple[jax.Array, ...]:
    """x (N, S, C), scale and offset (C,) -> y (N, S, C), mean (N, G), inv (N, G)."""
    plan, plain = (
        bound(_plan_groups, groups, p.NORMALISE_GROUPS, "rww", "rvv", epsilon),
        bound(_groups, groups, epsilon),
    )
    return call(plan, plain, bound(_fold, plain), x, scale, offset)


def normalise_groups_back(
    groups: int, x: jax.Array, mean: jax.Array, inv: jax.Array, scale: jax.Array, dy: jax.Array
) -> tuple[jax.Array, ...]:
    """x, dy (N, S, C), mean and inv (N, G), scale (C,) -> dx (N, S, C), dscale and doffset (C,)."""
    plan, plain = bound(_plan_groups, groups, p.NORMALISE_GROUPS_BACK, "rvvwr", "rss", 0.0), bound(_groups_back, groups)
    return call(plan, plain, bound(_fold, plain), x, mean, inv, scale, dy)


def _groups(groups: int, epsilon: float, x: jax.Array, scale: jax.Array, offset: jax.Array) -> tuple[jax.Array, ...]:
    xs, scale, offset = (split(groups, a) for a in (x, scale, offset))
    y, mean, var = formula.normalise(xs, scale, offset, (1, 3), epsilon)
    return y.reshape(x.shape), *(a.reshape(-1, groups) for a in (mean, lax.rsqrt(var + epsilon)))


def _groups_back(
    groups: int, x: jax.Array, mean: jax.Array, inv: jax.Array, scale: jax.Array, dy: jax.Array
) -> tuple[jax.Array, ...]:
    xs, scales, dys = (split(groups, a) for a in (x, scale, dy))
    mean, inv = (a.reshape(-1, 1, groups, 1) for a in (mean, inv))
    dx, *pair = formula.normalise_bwd(xs, mean, inv, scales, dys, (1, 3), (0, 1))
    return dx.reshape(x.shape), *(a.ravel() for a in pair)


def split(groups: int, a: jax.Array) -> jax.Array:
    """The last axis C as (G, C/G)."""
    return a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)


def _fold(plain: Any, args: tuple[Any, ...], mapped: tuple[bool, ...]) -> Any:
    """Many members are small: XLA takes them all at once."""
    return jax.vmap(plain, tuple(0 if m else None for m in mapped))(*args)


_ROLES = {"r": p.SLICED, "v": p.SLICED, "w": p.WHOLE, "s": p.PARTIAL}


def _plan(kind: int, reads: str, makes: str, epsilon: float, x: Any, *args: Any) -> Plan:
    rows, c = x.shape
    return _planned(kind, reads + makes, epsilon, {"r": (rows, c), "v": (rows, 1), "w": (1, c), "s": (1, c)})


def _plan_groups(groups: int, kind: int, reads: str, makes: str, epsilon: float, x: Any, *args: Any) -> Plan:
    n, positions, c = x.shape
    sizes = {"r": (n, positions * c), "v": (n, groups), "w": (1, c), "s": (1, c)}
    return _planned(kind, reads + makes, epsilon, sizes)


def _planned(kind: int, letters: str, epsilon: float, sizes: dict[str, tuple[int, int]]) -> Plan:
    """Letters: rows, moments of each row, all channels for every slice, a sum of each slice."""
    memories = tuple(
        Memory(argument=0, buffer=i, sizes=sizes[letter], steps=dense(sizes[letter]), role=_ROLES[letter])
        for i, letter in enumerate(letters)
    )
    return Plan(kind=kind, memories=memories, batch=sizes["r"][0], epsilon=epsilon)
