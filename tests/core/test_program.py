"""Walks over traced programs: what is inside, what depends on what, where it rounds, and running them again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fnn.core.program import bytes_of, custom_vjps, depends, equations, evaluate, float_names, narrowest


def traced(f, *args):
    return jax.make_jaxpr(f)(*args)


NESTED = {
    "jit": lambda x: jax.jit(jnp.sin)(x),
    "scan": lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=2)[0],
    "while": lambda x: lax.while_loop(lambda c: c < 0, jnp.sin, x),
    "cond": lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x),
    "checkpoint": lambda x: jax.checkpoint(jnp.sin)(x),
    "solve": lambda x: lax.custom_linear_solve(lambda y: y * jnp.sin(2.0), x, lambda f, b: b / jnp.sin(x)),
}


@pytest.mark.parametrize("name", NESTED)
def test_equations_inside_are_found(name):
    assert "sin" in {eqn.primitive.name for eqn in equations(traced(NESTED[name], 1.0).jaxpr)}


@pytest.mark.parametrize("name", sorted(NESTED.keys() - {"solve"}))
def test_a_program_is_run_again(name):
    closed, seen = traced(NESTED[name], 1.0), []

    def run(eqn, values):
        seen.append(eqn.primitive.name)
        out = eqn.primitive.bind(*values, **eqn.params)
        return out if eqn.primitive.multiple_results else [out]

    (got,) = evaluate(closed, [jnp.float32(1.0)], run)
    np.testing.assert_allclose(got, NESTED[name](1.0), rtol=1e-6)
    assert seen == [eqn.primitive.name for eqn in closed.jaxpr.eqns]


def test_what_depends_on_what():
    closed = traced(lambda x, y, z: (x + y, jnp.ones(3), jax.jit(lambda a, b: (a, b))(y, z)[1]), 1.0, 2.0, 3.0)
    assert depends(closed.jaxpr, [True, False, False]) == [True, False, False]
    assert depends(closed.jaxpr, [False, True, False]) == [True, False, False]
    assert depends(closed.jaxpr, [False, False, True]) == [False, False, True]


def test_where_it_rounds():
    with jax.enable_x64(True):
        assert narrowest(traced(jnp.sin, 1.0)) == 2.0**-52
        inside = traced(lambda x: lax.map(lambda v: v.astype("bfloat16").astype("float64"), x), np.ones(2))
        assert narrowest(inside) == 2.0**-7
        constant = traced(lambda x: x * jnp.ones((), "bfloat16").astype("float64"), 1.0)
        assert narrowest(constant) == 2.0**-52  # what is no input may have been rounded anyway
        assert float_names(inside) == {"float64", "bfloat16"}


def test_sizes():
    (out,) = traced(lambda x: x.astype("bfloat16"), np.ones((2, 3), np.float32)).jaxpr.outvars
    assert bytes_of(out) == 12
    assert bytes_of(traced(lambda k: k, jax.random.key(0)).jaxpr.outvars[0]) > 0


def test_custom_vjps_are_counted_inside_loops_too():
    twice = jax.custom_vjp(lambda x: 2 * x)
    twice.defvjp(lambda x: (2 * x, None), lambda _, dy: (2 * dy,))
    assert custom_vjps(traced(lambda x: twice(x) + lax.map(twice, jnp.ones(3) * x).sum(), 1.0).jaxpr) == 2
    assert custom_vjps(traced(jnp.sin, 1.0).jaxpr) == 0
