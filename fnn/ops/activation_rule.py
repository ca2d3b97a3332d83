"""What elementwise activations share: one rule of a function, its derivative and what that reads."""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp

from fnn.core.cases import case, normal
from fnn.core.dtypes import wide_dtype
from fnn.core.errors import real
from fnn.core.rule import Rule
from fnn.core.storage import Storage

# An exponential had better be stored than computed again; a comparison had not, after a norm, whose input is stored.
STORED = Storage(kept=True)
COMPARISON = Storage(output="as its input", kept=True)


def activation_rule(
    name: str,
    *,
    f: Callable,
    dx: Callable,
    saves: Literal["x", "y"],
    textbook: Callable,
    options: tuple = (None,),
    storage: Storage = STORED,
    kinks: bool = False,
    refuses: tuple = (),
) -> Rule:
    """A rule from f(option, x) -> y, dx(option, saved, dy) and the textbook's f; option is None where there is none."""

    def fwd(option, x):
        y = f(option, x)
        return y, (y if saves == "y" else x,)

    def bwd(option, residuals, dy):
        (saved,), wide = residuals, wide_dtype(dy)
        return (dx(option, saved.astype(wide), dy.astype(wide)).astype(dy.dtype),)

    cases = (
        case(options[0], (8, 5)),
        case(options[0], (0, 3), batched=False),
        *[case(option, normal((2, 3, 4), 4.0), batched=False) for option in options],
    )

    public = textbook.__globals__  # of the module that defines the operation below its rule
    refuses = ((lambda: public[name](jnp.arange(3)), f"{name} expected a floating-point x; got int32"), *refuses)
    storage = storage._replace(saves_output=0 if saves == "y" else None)
    return Rule(
        name=name,
        forward=f,
        fwd=fwd,
        bwd=bwd,
        reference=textbook,
        cases=cases,
        storage=storage,
        kinks=kinks,
        refuses=refuses,
    )


def saturated(f, bound, x):
    """f(x), and its limits beyond the bound, so that JAX's derivative has them, too."""
    beyond = jnp.abs(x) > bound
    return jnp.where(beyond, jnp.where(x > 0, x, -0.0), f(jnp.where(beyond, 0, x)))


def not_negative(where: str, name: str, value: Any) -> float:
    """The option as a Python float; what is no finite number >= 0 is refused."""
    return real(where, f"a number {name} >= 0", value, lambda v: v >= 0, f"pass {name}=0.01 or another number")
