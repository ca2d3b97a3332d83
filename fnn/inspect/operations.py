"""Multiply-adds of a program, read off its jaxpr."""

import math
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn

from fnn.core.program import inner_programs


def multiply_adds(jaxpr: Jaxpr) -> int:
    """Multiply-adds of all matrix products and convolutions in a jaxpr, those inside its calls and loops included.

    A product (m, k) (k, n) costs m k n. A convolution costs, for each number it returns, the taps of its window times
    the channels of a group; taps on padding count, zeros that a dilated input holds (transposed convolution) do not. Of
    alternatives (`cond`) the dearest counts; the body of a `while`, whose length is not known, counts once.

    >>> import jax, jax.numpy as jnp
    >>> multiply_adds(jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 3)), jnp.ones((3, 5))).jaxpr)
    30
    """
    return sum(map(_of, jaxpr.eqns))


def _of(eqn: JaxprEqn) -> int:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        summed = (n for axis, n in enumerate(_shape(eqn.invars[0])) if axis in contracted)
        return _size(eqn.outvars[0]) * math.prod(summed)
    if name == "conv_general_dilated":
        kernel = _shape(eqn.invars[1])
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        taps = math.prod(kernel) // features if features else 0
        spread: int = math.prod(params["lhs_dilation"])
        return _size(eqn.outvars[0]) * taps // spread
    inner = [multiply_adds(jaxpr) for jaxpr in inner_programs(eqn)]
    if name == "cond":
        return max(inner)
    return sum(inner) * params.get("length", 1) if name == "scan" else sum(inner)


def _size(var: Any) -> int:
    return math.prod(_shape(var))


def _shape(var: Any) -> tuple[int, ...]:
    return tuple(var.aval.shape)
