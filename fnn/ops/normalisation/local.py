"""Local response normalisation: each number divided by a power of the squares around it.

    d = k + α / n Σ x²        y = x d^-β        sums over a window of n numbers around each

    dx = dy d^-β - 2 α β / n x Σ' dy x d^(-β - 1)        Σ' over the windows that hold x: the window, turned round

Sources: Krizhevsky et al., 2012, section 3.3, across channels, with α for the whole sum; its division by n is that of
Caffe and torch. Within a channel, the window is a square of the image.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.core.cases import case, normal
from fnn.core.dtypes import widen
from fnn.core.errors import integer, real, require, require_flag, require_floats
from fnn.core.rule import Rule


@dataclass(frozen=True)
class LocalResponse:
    """Static options: the window's size n, α, β and k, and whether the window lies across the channels."""

    size: int
    alpha: float
    beta: float
    k: float
    across: bool = True

    def total(self, a: jax.Array, turned: bool = False) -> jax.Array:
        """Σ over the window of each number, or of those windows that hold it."""
        before, after = self.size // 2, (self.size - 1) // 2
        pads = (after, before) if turned else (before, after)
        inside = [i == a.ndim - 1 if self.across else 0 < i < a.ndim - 1 for i in range(a.ndim)]
        window = [self.size if here else 1 for here in inside]
        padding = [pads if here else (0, 0) for here in inside]
        return lax.reduce_window(a, np.zeros((), a.dtype), lax.add, window, [1] * a.ndim, padding)

    def count(self, ndim: int) -> int:
        """The numbers in a window."""
        return self.size if self.across else self.size ** (ndim - 2)


def local_response_norm(
    x: jax.Array,
    size: int = 5,
    *,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    across_channels: bool = True,
) -> jax.Array:
    """x: (N, *spatial, C) -> same: each number divided by (k + alpha * mean of squares around it)^beta.

    Args:
      x: (N, *spatial, C); spatial axes only where the window lies within them.
      size: of the window n, around each number; of an even one, more lies before it.
      alpha, beta: any numbers; AlexNet's 1e-4 for the sum of 5 is alpha=5e-4 for their mean.
      k: > 0; torch has 1 by default.
      across_channels: whether the window holds neighbouring channels, or a square of neighbours in the same channel.

    Raises:
      InputError: another rank, integers, size < 1, k <= 0.

    >>> local_response_norm(jnp.array([[3.0, 4.0]]), 3, alpha=3.0, beta=1.0, k=1.0).round(4).tolist()
    [[0.11539999395608902, 0.15379999577999115]]
    """
    where = "local_response_norm"
    require_floats(where, x=x)
    require_flag(where, "across_channels", across_channels)
    spec = check_options(where, size, alpha, beta, k, bool(across_channels))
    ok = x.ndim >= (2 if across_channels else 3)
    shape = "(N, *spatial, C)" if across_channels else "(N, *spatial, C) with a spatial axis"
    require(ok, where, f"x of shape {shape}", x.shape, "add the missing axes, for example x[None]")
    return rule(spec, x)


def check_options(where: str, size: int, alpha: float, beta: float, k: float, across: bool) -> LocalResponse:
    """The options as Python's numbers; what is no window, or could divide by 0, is refused."""
    numbers = {"alpha": alpha, "beta": beta}
    alpha, beta = (real(where, f"a number {name}", n, lambda n: True, "pass a number") for name, n in numbers.items())
    k = real(where, "a number k > 0", k, lambda n: n > 0, "use k=1.0 or k=2.0")
    return LocalResponse(integer(where, "size", size), alpha, beta, k, across)


def _divisor(spec, wide):
    return spec.k + spec.alpha / spec.count(wide.ndim) * spec.total(wide * wide)


def _forward(spec, x):
    wide = widen(x)
    return (wide * _divisor(spec, wide) ** -spec.beta).astype(x.dtype)


def _fwd(spec, x):
    return _forward(spec, x), (x,)


def _bwd(spec, residuals, dy):
    (x,) = residuals
    wide, dy_wide = widen(x), widen(dy)
    d = _divisor(spec, wide)
    direct = dy_wide * d**-spec.beta
    shared = spec.total(wide * direct / d, turned=True)
    return ((direct - 2 * spec.alpha * spec.beta / spec.count(x.ndim) * wide * shared).astype(dy.dtype),)


def _reference(spec, x):
    axes = [x.ndim - 1] if spec.across else range(1, x.ndim - 1)
    total = x * x
    for axis in axes:
        n = x.shape[axis]
        parts = []
        for i in range(n):
            near = range(max(0, i - spec.size // 2), min(n, i + (spec.size - 1) // 2 + 1))
            parts.append(sum(total.take(j, axis) for j in near))
        total = jnp.stack(parts, axis)
    return x / (spec.k + spec.alpha / spec.count(x.ndim) * total) ** spec.beta


rule = Rule(
    name="local_response_norm",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=(
        (lambda: local_response_norm(jnp.ones(3)), r"x of shape \(N, \*spatial, C\)"),
        (lambda: local_response_norm(jnp.ones((2, 3)), across_channels=False), "with a spatial axis"),
        (lambda: local_response_norm(jnp.ones((2, 3)), 0), "size >= 1"),
        (lambda: local_response_norm(jnp.ones((2, 3)), k=0.0), "k > 0"),
    ),
    cases=(
        case(LocalResponse(3, 1.0, 0.75, 2.0), normal((8, 2, 5), 2.0)),
        case(LocalResponse(2, 0.5, 0.5, 1.0), (8, 4)),
        case(LocalResponse(3, 2.0, 0.75, 1.0, across=False), (2, 4, 3, 2), batched=False),
        case(LocalResponse(4, 1.0, 1.5, 0.5, across=False), (1, 5, 2), batched=False),
        case(LocalResponse(5, 1.0, 0.75, 2.0), (0, 2, 3), batched=False),
    ),
)
