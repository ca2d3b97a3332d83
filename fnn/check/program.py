"""Reading a traced program: its equations, and where it rounds."""

import dataclasses
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

EPS64 = float(np.finfo(np.float64).eps)
_LONGEST = 500  # characters of a message: JAX says in its last third what came


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
                for part in inner_programs(eqn):
                    run(part, [_is_float_type(v) for v in part.invars])
            if any(v.aval.dtype == np.float64 for v, f in zip(eqn.invars, flags, strict=True) if f):
                found.extend(eps_of(v.aval.dtype.name) for v in eqn.outvars if _is_float_type(v))
            known.update(v for v, is_live in zip(eqn.outvars, outs, strict=True) if is_live)
        return [not isinstance(v, core.Literal) and v in known for v in jaxpr.outvars]

    run(closed.jaxpr, [_is_float_type(v) for v in closed.jaxpr.invars])
    return max(found)


def _is_float_type(var: Any) -> bool:
    return hasattr(var.aval, "dtype") and jnp.issubdtype(var.aval.dtype, jnp.floating)


def float_names(closed: core.ClosedJaxpr) -> set[str]:
    """The floating-point dtypes of all that a program computes."""
    outs = (v for eqn in equations(closed.jaxpr) for v in eqn.outvars)
    return {v.aval.dtype.name for v in outs if _is_float_type(v)}


def equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """All equations of a program, those inside calls, loops and branches included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for part in inner_programs(eqn):
            yield from equations(part)


def inner_programs(eqn: core.JaxprEqn) -> list[core.Jaxpr]:
    """The programs that an equation calls."""
    found: list[core.Jaxpr] = []

    def keep(program: core.Jaxpr | core.ClosedJaxpr) -> core.Jaxpr | core.ClosedJaxpr:
        found.append(getattr(program, "jaxpr", program))
        return program

    map_programs(keep, tuple(eqn.params.values()))
    return found


def map_programs(change: Callable, value: Any) -> Any:
    """A parameter of an equation with every program in it changed, however deep in tuples, named ones, lists, dicts and
    dataclasses; the very same object where nothing changes.

    >>> map_programs(lambda program: 1 / 0, (1, {"name": None}))
    (1, {'name': None})
    """
    if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
        return change(value)
    if isinstance(value, dict):
        parts, make = dict(value), lambda new: {**value, **new}
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts, make = dict(enumerate(value)), lambda new: type(value)(*new.values())
    elif isinstance(value, tuple | list):
        parts, make = dict(enumerate(value)), lambda new: type(value)(new.values())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        make = lambda new: dataclasses.replace(value, **new)  # noqa: E731
    else:
        return value
    new = {key: map_programs(change, part) for key, part in parts.items()}
    return value if all(new[key] is part for key, part in parts.items()) else make(new)


def first_line(error: BaseException) -> str:
    """The kind of an error and the first paragraph of its message."""
    text = (str(error).strip() or "no message").split("\n\n")[0]
    return f"{type(error).__name__}: {textwrap.shorten(text, _LONGEST, placeholder=' ...')}"
