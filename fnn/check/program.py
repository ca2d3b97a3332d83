"""Reading a traced program: its equations, and where it rounds."""

import textwrap
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

EPS64 = float(np.finfo(np.float64).eps)


def eps_of(name: str) -> float:
    """The distance from 1 to the next number of a dtype."""
    return float(jnp.finfo(name).eps)


def narrowest(closed: core.ClosedJaxpr) -> float:
    """The largest epsilon to which a program rounds what it computes from float inputs of 64 bits."""
    found = [EPS64]

    def run(jaxpr: core.Jaxpr, live: list[bool]) -> list[bool]:
        known = {v for v, is_live in zip(jaxpr.invars, live, strict=True) if is_live}
        for eqn in jaxpr.eqns:
            flags = [not isinstance(v, core.Literal) and v in known for v in eqn.invars]
            outs = [any(flags)] * len(eqn.outvars)
            if eqn.primitive.name in ("jit", "pjit"):
                outs = run(eqn.params["jaxpr"].jaxpr, flags)
            elif any(flags):
                for part in filter(_is_program, jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_program)):
                    part = getattr(part, "jaxpr", part)
                    run(part, [_is_float_type(v) for v in part.invars])
            if any(v.aval.dtype == np.float64 for v, f in zip(eqn.invars, flags, strict=True) if f):
                found.extend(eps_of(v.aval.dtype.name) for v in eqn.outvars if _is_float_type(v))
            known.update(v for v, is_live in zip(eqn.outvars, outs, strict=True) if is_live)
        return [not isinstance(v, core.Literal) and v in known for v in jaxpr.outvars]

    run(closed.jaxpr, [_is_float_type(v) for v in closed.jaxpr.invars])
    return max(found)


def _is_float_type(var: Any) -> bool:
    return hasattr(var.aval, "dtype") and jnp.issubdtype(var.aval.dtype, jnp.floating)


def equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """All equations of a program, those inside calls, loops and branches included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_program):
            if _is_program(value):
                yield from equations(getattr(value, "jaxpr", value))


def _is_program(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    line = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {textwrap.shorten(line, 160, placeholder=' ...')}"
