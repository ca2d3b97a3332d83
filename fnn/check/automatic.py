"""A function's own program, run with a change: every custom rule dissolved, or every loop run on.

The first is what JAX's automatic derivative is taken of; the second tells how far iterative solvers are from their
limit.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from fnn import ops
from fnn.core.program import PLAIN_CALLS, equations, evaluate, map_programs
from fnn.core.rule import gradients

# Where JAX keeps the undifferentiated program of a call with a rule of its own.
_RULES = {"custom_vjp_call", "custom_jvp_call", "custom_vjp_call_jaxpr"}
_NOTHING_KNOWN = core.DebugInfo("automatic", "fnn.check", None, None)
# Conventions at kinks live there, such as the slope of relu at 0.
_TRUSTED = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in (jax, ops))
# Iterations that a loop is run on: those of a slow solver change too little each to tell how much is missing.
_MORE = 8


def automatic(f: Callable) -> Callable:
    """`f` as JAX differentiates it without anyone's `custom_vjp` or `custom_jvp`.

    fnn's own rules run in "auto" mode; all others are replaced by the function they were written for, inside jit, scan,
    while, cond, remat and linear solves too. The rules inside JAX itself stay: `jax.nn.relu` has slope 0 at 0, not 1/2.
    A kind of call that this does not know keeps its rule.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def square(x):
    ...     return x * x
    >>> square.defvjp(lambda x: (x * x, x), lambda x, dy: (0 * dy,))
    >>> float(jax.grad(square)(3.0)), float(jax.grad(automatic(square))(3.0))
    (0.0, 6.0)
    """
    return _changed(f, _DISSOLVE)


def run_on(f: Callable) -> Callable:
    """`f` with a few more iterations in every `while_loop`: what has converged stays. It cannot be differentiated.

    >>> import jax, jax.numpy as jnp
    >>> def root(x):  # by Newton, until two steps are near each other
    ...     far, step = lambda y: jnp.abs(y * y - x) > 0.5, lambda y: (y + x / y) / 2
    ...     return jax.lax.while_loop(far, step, x)
    >>> float(root(2.0)), round(float(run_on(root)(2.0)), 5)
    (1.5, 1.41421)
    """
    return _changed(f, _RUN_ON)


@dataclass(frozen=True)
class _Change:
    """Which equations are run otherwise, and how: from the values of their inputs to those of their outputs."""

    concerns: Callable[[core.JaxprEqn], bool]
    run: Callable[[core.JaxprEqn, list], list]


def _changed(f: Callable, change: _Change) -> Callable:
    def changed(*args: Any) -> Any:
        with gradients("auto"):
            closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        outs = _run(change, closed, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), outs)

    return changed


def _run(change: _Change, closed: core.ClosedJaxpr, args: list) -> list:
    return evaluate(closed, args, partial(_equation, change))


def _equation(change: _Change, eqn: core.JaxprEqn, values: list) -> list:
    inner = eqn.params.get("jaxpr")
    if change.concerns(eqn):
        return change.run(eqn, values)
    if eqn.primitive.name in PLAIN_CALLS and isinstance(inner, core.ClosedJaxpr):
        return _run(change, inner, values)
    return _call(change, eqn, values)


def _call(change: _Change, eqn: core.JaxprEqn, values: list) -> list:
    if eqn.primitive.name not in _RULES:
        eqn = eqn.replace(params={key: map_programs(partial(_inside, change), v) for key, v in eqn.params.items()})
    pairs = zip(eqn.invars, values, strict=True)
    distinct = {var: value for var, value in pairs if not isinstance(var, core.Literal)}
    jaxpr = core.Jaxpr((), list(distinct), eqn.outvars, [eqn], effects=eqn.effects, debug_info=_NOTHING_KNOWN)
    return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))(*distinct.values())


def _inside(change: _Change, program: Any) -> Any:
    """The change in a program that a scan, loop, branch, checkpoint or solve carries; the same where none is due."""
    if not any(map(change.concerns, equations(getattr(program, "jaxpr", program)))):
        return program
    if isinstance(program, core.ClosedJaxpr):
        return jax.make_jaxpr(lambda *args: _run(change, program, list(args)))(*[v.aval for v in program.jaxpr.invars])
    closed = None if program.constvars else _inside(change, core.ClosedJaxpr(program, ()))
    return program if closed is None or closed.consts else closed.jaxpr


def has_a_rule(eqn: core.JaxprEqn) -> bool:
    """Whether an equation calls a function with somebody's own rule; JAX's and fnn's own are trusted."""
    if eqn.primitive.name not in _RULES:
        return False
    parts = [eqn.params["call_jaxpr"].jaxpr, *(eqn.params.get(name) for name in ("bwd", "jvp_jaxpr_fun"))]
    sources = [getattr(getattr(part, "debug_info", None), "func_filename", None) for part in parts if part is not None]
    return not all(source and source.startswith(_TRUSTED) for source in sources)


def _without_rule(eqn: core.JaxprEqn, values: list) -> list:
    return _run(_DISSOLVE, eqn.params["call_jaxpr"], values)


def _run_on(eqn: core.JaxprEqn, values: list) -> list:
    if eqn.primitive.name in _RULES:
        return _run(_RUN_ON, eqn.params["call_jaxpr"], values)
    done = _call(_DISSOLVE, eqn, values)
    skipped, count = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    body, consts = core.jaxpr_as_fun(eqn.params["body_jaxpr"]), values[skipped : skipped + count]

    def once(_: int, carry: list) -> list:
        there = body(*consts, *carry)
        # A residual of exactly zero is where solvers divide by it.
        fine = jnp.all(jnp.array([jnp.all(jnp.isfinite(a)) for a in there if jnp.issubdtype(a.dtype, jnp.inexact)]))
        return [lax.select(jnp.broadcast_to(fine, a.shape), a, b) for a, b in zip(there, carry, strict=True)]

    return lax.fori_loop(0, _MORE, once, done)


_DISSOLVE = _Change(has_a_rule, _without_rule)
_RUN_ON = _Change(lambda eqn: eqn.primitive.name in {"while", *_RULES}, _run_on)
