"""Reading a traced program: its equations, the programs inside them, what depends on what, where it rounds."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

PLAIN_CALLS = ("jit", "pjit", "closed_call")  # a program in the place of an equation, and nothing else


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
        found.append(program.jaxpr if isinstance(program, core.ClosedJaxpr) else program)
        return program

    map_programs(keep, tuple(eqn.params.values()))
    return found


def custom_vjps(jaxpr: core.Jaxpr) -> int:
    """How many calls of functions with a backward pass of their own (`jax.custom_vjp`) a program holds."""
    return sum(eqn.primitive.name.startswith("custom_vjp_call") for eqn in equations(jaxpr))


def map_programs(change: Callable[..., Any], value: Any) -> Any:
    """A parameter of an equation with every program in it changed, however deep in tuples, named ones, lists, dicts and
    dataclasses; the very same object where nothing changes.

    >>> map_programs(lambda program: 1 / 0, (1, {"name": None}))
    (1, {'name': None})
    """
    if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
        return change(value)
    make: Callable[[dict[Any, Any]], Any]
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


def evaluate(
    closed: core.ClosedJaxpr, args: Sequence[Any], run: Callable[[core.JaxprEqn, list[Any]], list[Any]]
) -> list[Any]:
    """The outputs of a program at `args`, each equation computed by `run(equation, values of its inputs)`."""
    jaxpr = closed.jaxpr
    env: dict[Any, Any] = {}

    def read(var: Any) -> Any:
        return var.val if isinstance(var, core.Literal) else env[var]

    env.update(zip(jaxpr.constvars, map(_constant, closed.consts), strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        env.update(zip(eqn.outvars, run(eqn, [read(var) for var in eqn.invars]), strict=True))
    return [read(var) for var in jaxpr.outvars]


def _constant(value: Any) -> Any:
    """A NumPy array among them could not be indexed by a traced number."""
    return jnp.asarray(value) if isinstance(value, np.ndarray | np.generic) else value


def depends(
    jaxpr: core.Jaxpr,
    inputs: Sequence[bool],
    visit: Callable[[core.JaxprEqn, list[bool]], None] = lambda eqn, flags: None,
) -> list[bool]:
    """Which outputs of a program depend on the marked inputs; looks into nested calls of `jax.jit`.

    `visit` sees every equation on the way, with the marks of its inputs.

    >>> import jax
    >>> depends(jax.make_jaxpr(lambda x, y: (x * y, jnp.sin(y)))(1.0, 2.0).jaxpr, [True, False])
    [True, False]
    """
    known = {var for var, marked in zip(jaxpr.invars, inputs, strict=True) if marked}

    def is_known(var: Any) -> bool:
        return not isinstance(var, core.Literal) and var in known

    for eqn in jaxpr.eqns:
        flags = [is_known(var) for var in eqn.invars]
        outs = [any(flags)] * len(eqn.outvars)
        if eqn.primitive.name in ("jit", "pjit"):
            outs = depends(eqn.params["jaxpr"].jaxpr, flags, visit)
        visit(eqn, flags)
        known.update(var for var, marked in zip(eqn.outvars, outs, strict=True) if marked)
    return [is_known(var) for var in jaxpr.outvars]


def narrowest(closed: core.ClosedJaxpr) -> float:
    """The largest epsilon to which a program rounds what it computes from float inputs of 64 bits.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     narrowest(jax.make_jaxpr(lambda x: x.astype("float32").astype(x.dtype))(1.0)) == 2.0**-23
    True
    """
    found = [float(np.finfo(np.float64).eps)]

    def visit(eqn: core.JaxprEqn, flags: list[bool]) -> None:
        if any(flags) and eqn.primitive.name not in ("jit", "pjit"):
            for part in inner_programs(eqn):
                depends(part, list(map(_is_float, part.invars)), visit)
        if any(_dtype(var) == np.float64 for var, marked in zip(eqn.invars, flags, strict=True) if marked):
            found.extend(float(jnp.finfo(_dtype(var)).eps) for var in eqn.outvars if _is_float(var))

    depends(closed.jaxpr, list(map(_is_float, closed.jaxpr.invars)), visit)
    return max(found)


def float_names(closed: core.ClosedJaxpr) -> set[str]:
    """The floating-point dtypes of all that a program computes."""
    return {_dtype(var).name for eqn in equations(closed.jaxpr) for var in eqn.outvars if _is_float(var)}


def _dtype(var: Any) -> np.dtype:
    dtype: np.dtype = var.aval.dtype
    return dtype


def _is_float(var: Any) -> bool:
    return hasattr(var.aval, "dtype") and bool(jnp.issubdtype(_dtype(var), jnp.floating))


def bytes_of(var: Any) -> int:
    """The size of one value of a program; 0 of what is no array."""
    return getattr(var.aval, "size", 0) * getattr(getattr(var.aval, "dtype", None), "itemsize", 0)
