"""The automatic derivative of a function full of custom rules: its own program with every such rule dissolved."""

import os
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from fnn import ops
from fnn.core.rule import gradients

# Where JAX keeps the undifferentiated program of a call with a rule of its own.
_RULES = {"custom_vjp_call", "custom_jvp_call", "custom_vjp_call_jaxpr"}
_NOTHING_KNOWN = core.DebugInfo("automatic", "fnn.check", None, None)
# Conventions at kinks live there, such as the slope of relu at 0.
_TRUSTED = (os.path.dirname(jax.__file__), os.path.dirname(ops.__file__))
_PLAIN_CALLS = {"jit", "pjit", "closed_call"}


def automatic(f: Callable) -> Callable:
    """`f` as JAX differentiates it without anyone's `custom_vjp` or `custom_jvp`.

    fnn's own rules run in "auto" mode; all others are replaced by the function they were written for, inside jit, scan,
    while, cond and remat too. The rules inside JAX itself stay: `jax.nn.relu` has slope 0 at 0, not 1/2. A kind of call
    that this does not know keeps its rule.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def square(x):
    ...     return x * x
    >>> square.defvjp(lambda x: (x * x, x), lambda x, dy: (0 * dy,))
    >>> float(jax.grad(square)(3.0)), float(jax.grad(automatic(square))(3.0))
    (0.0, 6.0)
    """

    def dissolved(*args: Any) -> Any:
        with gradients("auto"):
            closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        outs = _run(closed, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), outs)

    return dissolved


def _run(closed: core.ClosedJaxpr, args: list) -> list:
    jaxpr, env = closed.jaxpr, {}

    def read(var: Any) -> Any:
        return var.val if isinstance(var, core.Literal) else env[var]

    env.update(zip(jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        values = [read(var) for var in eqn.invars]
        inner = eqn.params.get("call_jaxpr" if eqn.primitive.name in _RULES else "jaxpr")
        if isinstance(inner, core.ClosedJaxpr) and (_has_a_rule(eqn) or eqn.primitive.name in _PLAIN_CALLS):
            outs = _run(inner, values)
        else:
            outs = _call(eqn, values)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(var) for var in jaxpr.outvars]


def _has_a_rule(eqn: core.JaxprEqn) -> bool:
    """Whether an equation calls a function with somebody's own rule; JAX's and fnn's own are trusted."""
    if eqn.primitive.name not in _RULES:
        return False
    parts = [eqn.params["call_jaxpr"].jaxpr, *(eqn.params.get(name) for name in ("bwd", "jvp_jaxpr_fun"))]
    sources = [getattr(getattr(part, "debug_info", None), "func_filename", None) for part in parts if part is not None]
    return not all(source and source.startswith(_TRUSTED) for source in sources)


def _call(eqn: core.JaxprEqn, values: list) -> list:
    if not _has_a_rule(eqn) and eqn.primitive.name not in _RULES:
        eqn = eqn.replace(params={key: _dissolve(value) for key, value in eqn.params.items()})
    pairs = zip(eqn.invars, values, strict=True)
    distinct = {var: value for var, value in pairs if not isinstance(var, core.Literal)}
    jaxpr = core.Jaxpr((), list(distinct), eqn.outvars, [eqn], effects=eqn.effects, debug_info=_NOTHING_KNOWN)
    return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))(*distinct.values())


def _dissolve(value: Any) -> Any:
    """A program that a scan, loop, branch or checkpoint carries, without custom rules; anything else as it is."""
    if isinstance(value, core.ClosedJaxpr):
        return jax.make_jaxpr(lambda *args: _run(value, list(args)))(*[var.aval for var in value.jaxpr.invars])
    if isinstance(value, core.Jaxpr) and not value.constvars:
        closed = _dissolve(core.ClosedJaxpr(value, ()))
        return closed.jaxpr if not closed.consts else value
    if isinstance(value, tuple) and any(isinstance(v, core.ClosedJaxpr) for v in value):
        return tuple(_dissolve(v) for v in value)
    return value
