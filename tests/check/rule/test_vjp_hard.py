"""Hard cases: wrong rules that hide behind kinks, NaN and rounding, and right code at the edge of its domain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import check
from tests.broken import VALUES, findings, on_the_host, relu, ruled, sine, times, unary

X = jnp.array([0.3, -1.2, 2.0])


def wrapped_sine():
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (dy * jnp.cos(x),))
    return f


def one_wrong_beside_many_kinks():
    x = jnp.where(jnp.arange(3000) % 3 == 0, 0.0, jnp.linspace(-1, 1, 3000)).at[100].set(2.0)
    return unary(lambda x: jnp.maximum(x, 0), lambda x, dy: (dy * (x > 0)).at[100].multiply(0.5)), x


# Wrong rules.
MISSES = {
    "twice the slope, a kink away from 0": (
        unary(lambda x: jnp.maximum(x - X[0], 0), lambda x, dy: 2 * dy * (x > X[0]).astype(x.dtype)),
        X,
        ("automatic", "differences", "coordinates", "kinks", "jacobian"),
    ),
    "one entry beside a thousand kinks": (*one_wrong_beside_many_kinks(), ("automatic", "differences", "kinks")),
    "both of two tied maxima": (
        unary(lambda x: jnp.max(x), lambda x, dy: dy * (x == x.max())),
        jnp.array([1.0, 3.0, 3.0]),
        (*VALUES, "kinks"),
    ),
    "NaN in bfloat16": (times(np.nan, lambda x, dy: x.dtype == jnp.bfloat16), X, ("precision",)),
    "one NaN": (sine(lambda x, dy: (dy * jnp.cos(x)).at[1].set(jnp.nan)), X, ("precision",)),
    "NaN at a coordinate": (sine(lambda x, dy: dy * jnp.nan), X, ("coordinates",)),
    "NaN in the Jacobian": (sine(lambda x, dy: dy * jnp.nan), X, ("jacobian",)),
    "half as much again in bfloat16": (times(1.5, lambda x, dy: x.dtype == jnp.bfloat16), X, ("precision",)),
    "a tenth more in the given float16": (
        times(1.1, lambda x, dy: x.dtype == jnp.float16),
        X.astype(jnp.float16),
        ("precision",),
    ),
    "clips large cotangents": (sine(lambda x, dy: jnp.clip(dy, -1e4, 1e4) * jnp.cos(x)), X, ("linear",)),
}

# And right code.
ALARMS = {
    "an infinite output": (lambda x: jnp.where(x > 0, x, -jnp.inf), (X,), ("primal", "cotangents", "vmap")),
    "the domain ends nearby": (lambda x: jnp.log(x / (1 - x)), (jnp.array([0.5, 0.999]),), ("vmap",)),
    "a rule for JAX's own function": (wrapped_sine(), (X,), ("adjoint",)),
    "float32 in the rule alone": (
        sine(lambda x, dy: (dy * jnp.cos(x.astype(jnp.float32))).astype(x.dtype)),
        (X,),
        VALUES,
    ),
    "a callback on two devices": (
        on_the_host(lambda x, dy: dy * jnp.cos(x)),
        (X,),
        ("shard_map",),
    ),
}


SLOW = pytest.param("one entry beside a thousand kinks", marks=pytest.mark.long)


@pytest.mark.parametrize("name", [SLOW if name in SLOW.values else name for name in MISSES])
def test_miss(name):
    f, x, checks = MISSES[name]
    assert not check.check_vjp(f, x, checks=checks)


@pytest.mark.parametrize("name", ALARMS)
def test_alarm(name):
    f, args, checks = ALARMS[name]
    report = check.check_vjp(f, *args, checks=checks)
    assert report, str(report)


def test_integers_and_strings_leave_jax_its_derivative():
    report = check.check_vjp(lambda x, axis, how: jnp.sum(x, axis), X, 0, "plain", checks=("automatic",))
    assert findings(report, "automatic")[0].verdict == "pass"


def test_arrays_without_entries_are_diagnosed():
    twice = ruled(lambda x, y: jnp.sum(x) + y**2, lambda r, dy: (r[0], 4 * dy * r[1]))
    report = check.check_vjp(twice, jnp.zeros((0, 3)), jnp.array(2.0), checks=("coordinates",))
    assert report.diagnosis == ("y: the gradient is 2 times the true one.",)


def test_kinks_are_not_counted_as_judged():
    (line,) = check.check_vjp(relu(0.0), jnp.zeros(3), checks=("automatic",)).miss
    assert "missed with chance 0" not in line
