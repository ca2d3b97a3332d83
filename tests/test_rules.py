"""Sweeps over every registered rule: no operation can be added without passing here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.helpers import DTYPES, assert_close, cotangent_like, float_vjp

RULES = fnn.rules()
CASES = [(name, i) for name, rule in RULES.items() for i in range(len(rule.cases))]
each_case = pytest.mark.parametrize(("name", "i"), CASES, ids=[f"{name}-{i}" for name, i in CASES])


@functools.cache
def _pullback(name, i, mode):
    """One jitted function an (operation, case, mode): the four dtypes share the Python work."""
    rule, spec = RULES[name], RULES[name].cases[i].spec

    @jax.jit
    def run(args, dy):
        with fnn.gradients(mode):
            y, pull = float_vjp(functools.partial(rule, spec), args)
            return y, pull(dy)

    return run


def _sample(name, i, dtype):
    case = RULES[name].cases[i]
    args = case.sample(i, dtype)
    y = jax.eval_shape(lambda: RULES[name].forward(case.spec, *args))
    return args, cotangent_like(y)


@each_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_hand_equals_auto(name, i, dtype):
    with jax.enable_x64(dtype == "float64"):
        args, dy = _sample(name, i, dtype)
        hand, auto = (_pullback(name, i, mode)(args, dy) for mode in ("hand", "auto"))
        # Half precision rounds between operations, and the two programs have different operations between.
        assert_close(hand, auto, ulps=64 if dtype in ("float64", "float32") else 16, names=f"{name} case {i}")


@each_case
def test_forward_equals_the_textbook_formula(name, i):
    with jax.enable_x64(True):
        rule, (args, _) = RULES[name], _sample(name, i, "float64")
        spec = rule.cases[i].spec
        want = rule.reference(spec, *args)
        both = jax.jit(lambda *args: (rule.forward(spec, *args), rule.fwd(spec, *args)[0]))(*args)
        assert_close(both, (want, want), names="forward and fwd")


@each_case
def test_hand_equals_finite_differences(name, i):
    """Central differences along a random +-1 direction of each argument alone, float64."""
    with jax.enable_x64(True):
        rule, (args, dy) = RULES[name], _sample(name, i, "float64")
        spec = rule.cases[i].spec
        if any(a.size == 0 for a in jax.tree.leaves(dy)):
            pytest.skip("nothing to difference")
        _, grads = _pullback(name, i, "hand")(args, dy)
        floats = [k for k, a in enumerate(args) if a is not None and jnp.issubdtype(a.dtype, jnp.floating)]
        step = 1e-6

        @jax.jit
        def along(args, dy):
            y = rule.forward(spec, *args)
            return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(dy), jax.tree.leaves(y), strict=True))

        for k, grad in zip(floats, grads, strict=True):
            v = jax.random.rademacher(jax.random.key(k), args[k].shape, "float64")
            up, down = ([*args[:k], args[k] + s * v, *args[k + 1 :]] for s in (step, -step))
            want = (along(up, dy) - along(down, dy)) / (2 * step)
            got = jnp.vdot(grad, v)
            scale = sum(float(jnp.linalg.norm(a)) for a in (grad, *jax.tree.leaves(dy)))
            np.testing.assert_allclose(got, want, atol=1e-7 * scale, rtol=1e-6, err_msg=f"{name} case {i} argument {k}")


@each_case
def test_auto_mode_leaves_no_custom_rule_in_the_program(name, i):
    rule, (args, _) = RULES[name], _sample(name, i, "float32")
    spec = rule.cases[i].spec
    call = functools.partial(rule, spec)
    assert "custom_vjp" in str(jax.make_jaxpr(call)(*args))
    with fnn.gradients("auto"):
        assert "custom_vjp" not in str(jax.make_jaxpr(call)(*args))
