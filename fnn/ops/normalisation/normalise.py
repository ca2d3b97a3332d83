"""The one formula behind batch, layer and group norm: y = scale xhat + offset, xhat = (x - mean) / sqrt(var + epsilon).

Mean and (biased) variance are taken over the n entries of the axes A; scale and offset are constant over the axes B.

    inv = 1 / sqrt(var + epsilon)      xhat = (x - mean) inv      g = scale dy
    dx = inv (g - Σ_A g / n - xhat Σ_A (g xhat) / n)              dscale = Σ_B dy xhat        doffset = Σ_B dy

All sums over A and over B start from the sums over both, s1 = Σ dy and s2 = Σ dy xhat, since scale is constant there.
The variance takes two passes: E[x²] - E[x]² loses its digits where the mean is large beside the deviation.

Source: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167, section 3.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.broadcast import beside
from fnn.core.dtypes import widen
from fnn.core.errors import real, require, require_floats
from fnn.core.sharding import result_sharding
from fnn.core.sizes import divisor

Axes = tuple[int, ...]
Names = tuple[str, ...]


def affine(x, mean, inv, scale, offset) -> jax.Array:
    """scale (x - mean) inv + offset, in this order: mean folded into the offset would cancel digits."""
    y = (x - beside(mean, x)) * beside(inv, x)
    y = y if scale is None else y * beside(scale.astype(x.dtype), x)
    return y if offset is None else y + beside(offset.astype(x.dtype), x)


def normalise(
    x, scale, offset, axes: Axes, epsilon: float, names: Names = ()
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y like x, mean and var wide with the `axes` kept at size 1; over the mesh axes `names` too."""

    def average(a):
        local = a.mean(axes, keepdims=True)
        return lax.pmean(local, names) if names else local

    wide = widen(x)
    mean = average(wide)
    var = average((wide - mean) ** 2)
    return affine(wide, mean, lax.rsqrt(var + epsilon), scale, offset).astype(x.dtype), mean, var


def normalise_bwd(x, mean, inv, scale, dy, axes: Axes, constant: Axes, names: Names = ()):
    """dx, dscale and doffset by the formula above, all wide.

    Args:
      x, mean, inv, scale: as in the forward pass.
      dy: cotangent of y.
      axes: A, the statistics axes; over the mesh axes `names` too.
      constant: B, the leading axes that scale and offset do not have.
    """
    x, dy = widen(x), widen(dy)
    mean, inv = beside(mean, x), beside(inv, x)
    # The other way round than in the forward pass: else XLA would keep that pass's x - mean alive for this one.
    below = mean - x
    both = tuple(a for a in axes if a in constant)
    s1, s2 = dy.sum(both, keepdims=True), (dy * below).sum(both, keepdims=True) * -inv

    only_b = tuple(b for b in constant if b not in axes)
    doffset, dscale = (s.sum(only_b, keepdims=True).squeeze(constant) for s in (s1, s2))

    factor = None if scale is None else beside(widen(scale), x)
    only_a = tuple(a for a in axes if a not in constant)

    def summed(s: jax.Array, factor: jax.Array | None) -> jax.Array:
        return (s if factor is None else factor * s).sum(only_a, keepdims=True)

    def total(s: jax.Array) -> jax.Array:
        """Σ over the rest of A of scale s."""
        if factor is None or both or scale.ndim > 1 or result_sharding(s) is not None:
            return summed(s, factor)

        def product(s: jax.Array, factor: jax.Array) -> jax.Array:
            return jnp.matmul(s, factor.reshape(-1), precision=lax.Precision.HIGHEST)[..., None]

        # Layer norm: s is large. On CPU a product does not copy it; on a GPU a product would want it copied first.
        return lax.platform_dependent(s, factor, cpu=product, default=summed)

    m1, m2 = (total(s) / count(x, axes, names) for s in (s1, s2))
    if names:
        m1, m2 = lax.psum((m1, m2), names)
    g = dy if factor is None else factor * dy
    return inv * (g - m1 + below * (inv * m2)), dscale, doffset


def count(x: jax.Array, axes: Axes, names: Names = ()) -> float:
    """n: how many entries of x one statistic is taken over."""
    return divisor(*(x.shape[a] for a in axes), lax.axis_size(names) if names else 1)


def all_but_last(x: jax.Array) -> Axes:
    """The axes that scale and offset do not have."""
    return tuple(range(x.ndim - 1))


def like(argument: jax.Array | None, cotangent: jax.Array) -> jax.Array | None:
    """The cotangent in the dtype of its argument, None for an absent one."""
    return None if argument is None else cotangent.astype(argument.dtype)


def check(where: str, shape: str, rank: int, epsilon: float, x, scale, offset, **statistics) -> float:
    """Refuse x of fewer than `rank` axes, vectors that are not (C,), integers, and epsilon <= 0; epsilon as a float."""
    require_floats(where, x=x)
    require(x.ndim >= rank, where, f"x of shape {shape}", x.shape, "add the missing axes, for example x[None]")
    for name, a in {"scale": scale, "offset": offset, **statistics}.items():
        require(a is not None or name not in statistics, where, f"an array for {name}", a, "pass a running average")
        if a is not None:
            require_floats(where, **{name: a})
            require(a.shape == x.shape[-1:], where, f"{name} of shape {x.shape[-1:]}", a.shape, "one entry a channel")
    return check_epsilon(where, epsilon)


def check_epsilon(where: str, epsilon: float) -> float:
    """epsilon as a Python float; what is no number > 0 is refused."""
    return real(where, "epsilon > 0", epsilon, lambda e: e > 0, "use epsilon=1e-5")
