"""`check_vjp`: every check can fail alone, and right rules pass at every scale, at kinks and in every precision."""

import itertools
import sys

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from fnn import check
from fnn.check.rule.examine import SLOW, examine
from fnn.core.placement import current_placement
from fnn.core.sharding import varying
from tests.broken import VALUES, failed, on_the_host, relu, ruled, says, sine, times, unary
from tests.helpers import mostly_long

X = jnp.array([0.3, -1.2, 2.0])


def traced_within(file):
    """Whether JAX calls us from one of its own files: a rule that is wrong only under scan, say."""
    frame, names = sys._getframe(), []
    while frame is not None:
        names.append(frame.f_code.co_filename)
        frame = frame.f_back
    return any(name.endswith(file) for name in names)


@jax.custom_batching.custom_vmap
def cosine_wrong_in_batches(x):
    return jnp.cos(x)


cosine_wrong_in_batches.def_vmap(lambda size, batched, x: (1.1 * jnp.cos(x), True))


def unless_alone():
    """A product whose rule is wrong where only one factor is differentiated."""

    @jax.custom_vjp
    def product(x, y):
        return x * y

    def fwd(x, y):
        return x.value * y.value, (x.value, y.value, x.perturbed and y.perturbed)

    def bwd(residuals, dy):
        x, y, both = residuals
        return (dy * y, dy * x) if both else (2 * dy * y, 2 * dy * x)

    product.defvjp(fwd, bwd, symbolic_zeros=True)
    return product


def tossed():
    counter = itertools.count(1)
    return sine(lambda x, dy: dy * jnp.cos(x) * next(counter))


@jax.custom_jvp
def stored(x):
    """x, behind a loop without iterations; what fnn once used. Lost in a scan, the loop is differentiated."""
    return lax.while_loop(lambda c: c[0], lambda c: (c[0], -c[1]), (lax.optimization_barrier(False), x))[1]


stored.defjvp(lambda primals, tangents: (stored(*primals), tangents[0]))


@jax.custom_jvp
def other_slope(x):
    """x with the slope of 2 x where JAX loses what follows."""
    return 2 * x - lax.stop_gradient(x)


other_slope.defjvp(lambda primals, tangents: (other_slope(*primals), tangents[0]))


def saving(keep):
    """tanh, whose residual is its value, stored by `keep`."""

    @jax.custom_vjp
    def tanh(x):
        return jnp.tanh(x)

    def fwd(x):
        y = keep(jnp.tanh(x))
        return y, y

    tanh.defvjp(fwd, lambda y, dy: (dy * (1 - y * y),))
    return tanh


# For each check a function that it refuses, and whether it is the only one to do so.
BROKEN = {
    "deterministic": (tossed(), True),
    "primal": (sine(fwd=lambda x: 1.001 * jnp.sin(x)), False),
    "cotangents": (unless_alone(), True),
    "automatic": (times(1.001), False),
    "adjoint": (times(1.001), False),
    "linear": (sine(lambda x, dy: jnp.sign(dy) * jnp.cos(x)), False),
    "zero": (sine(lambda x, dy: dy * jnp.cos(x) + 1e-30), True),
    "differences": (times(1.001), False),
    "coordinates": (times(1.001), False),
    "jacobian": (times(1.001), False),
    "kinks": (relu(1.5), False),
    "precision": (times(1.01, lambda x, dy: x.dtype == jnp.float32), True),
    "jit": (times(1.01, lambda x, dy: not isinstance(x, jax.core.Tracer)), True),
    "placement": (times(1.01, lambda x, dy: current_placement() == "sharded"), True),
    "vmap": (sine(lambda x, dy: dy * cosine_wrong_in_batches(x)), True),
    "grad_of_grad": (sine(lambda x, dy: dy * lax.stop_gradient(jnp.cos(x))), False),
    "jvp_of_grad": (sine(lambda x, dy: dy * lax.stop_gradient(jnp.cos(x))), False),
    "remat": (times(1.01, lambda x, dy: traced_within("ad_checkpoint.py")), True),
    "scan": (times(1.01, lambda x, dy: traced_within("loops.py")), True),
    "shard_map": (times(1.01, lambda x, dy: bool(varying(dy))), True),
    "pairs": (saving(stored), True),
}
ARGUMENTS = {"cotangents": (X, X + 1), "kinks": (jnp.array([0.0, -1.0, 2.0]),)}


def broken(name):
    return BROKEN[name][0], ARGUMENTS.get(name, (X,))


class TestEachCheck:
    def test_every_check_is_here(self):
        assert {*BROKEN, "exact"} == set(check.CHECKS)

    @pytest.mark.parametrize("name", BROKEN)
    def test_refuses_a_broken_rule_alone(self, name):
        f, args = broken(name)
        report = check.check_vjp(f, *args, checks=(name,))
        assert failed(report) == {name}, str(report)
        assert {finding.check for finding in report.findings} == {name}

    @pytest.mark.parametrize("name", [name for name, (_, only) in BROKEN.items() if only])
    def test_is_the_only_one_to_refuse(self, name):
        f, args = broken(name)
        assert failed(check.check_vjp(f, *args, skip={"pairs"} - {name})) == {name}  # pairs have each in them

    def test_pairs_see_another_slope_and_no_error_where_there_is_none(self):
        assert failed(check.check_vjp(saving(other_slope), X, checks=("pairs", "grad_of_grad", "scan"))) == {"pairs"}
        assert check.check_vjp(saving(lambda y: y), X, checks=("pairs",))

    def test_a_right_rule_passes_them_all(self):
        report = check.check_vjp(sine(), X)
        assert report, str(report)
        passed = {finding.check for finding in report.findings if finding.verdict == "pass"}
        assert passed == set(check.CHECKS) - {"kinks", "exact"}  # no kinks here, and a sine rounds
        assert {leaf.verdict for leaf in report.leaves} == {"agree"}
        assert not report.diagnosis

    def test_exact_is_bit_for_bit_where_arithmetic_is(self):
        def product(x, y):
            return x @ y

        x, y = jnp.arange(6.0).reshape(2, 3), jnp.arange(3.0)
        right = ruled(product, lambda args, dy: (dy[:, None] * args[1], dy @ args[0]))
        rounds = ruled(product, lambda args, dy: (dy[:, None] * args[1], dy @ args[0] * (1 + 2.0**-22)))
        for f, wrong in ((right, set()), (rounds, {"exact"})):
            report = examine("product", f, (x, y), auto=product, strict=True, checks=("exact", "automatic"))
            assert failed(report) == wrong | ({"automatic"} if wrong else set())
        user = check.check_vjp(rounds, x, y, checks=("exact",))  # another order of sums is anyone's right
        assert [f.verdict for f in user.findings] == ["note"]

    def test_checks_and_skip_choose(self):
        report = check.check_vjp(times(2.0), X, checks=("zero", "linear"))
        assert report
        assert [f.check for f in report.findings] == ["linear", "zero"]
        assert not check.check_vjp(times(2.0), X, checks=VALUES, skip=("automatic",))
        assert check.check_vjp(times(2.0), X, checks=("zero", "automatic"), skip=("automatic",))
        quick = {f.check for f in check.check_vjp(sine(), X, quick=True).findings}
        assert quick == set(check.CHECKS) - set(SLOW)


# Right code at the places where checkers raise false alarms.
RIGHT = {
    "softmax at 1e3": (jax.nn.softmax, jnp.array([[1e3, 1e3 - 1, 900.0], [0.5, -1e3, 3.0]])),
    "normalised": (lambda x: (x - x.mean()) * lax.rsqrt(x.var() + 1e-5), 100 + X),
    "log at 1e-6": (lambda x: jnp.log(x), 1e-6 * jnp.array([1.0, 2.0, 5.0])),
    "norm at 1e-6": (lambda x: jnp.linalg.norm(x), 1e-6 * X),
    "cube at 1e3": (unary(lambda x: x**3, lambda x, dy: 3 * dy * x**2), 1e3 * X),
    "mixed scales": (unary(lambda x: x**2, lambda x, dy: 2 * dy * x), jnp.array([1e-6, 1.0, 1e6])),
    "cancellation": (lambda x: jax.nn.gelu(x, approximate=False), jnp.array([-6.26, -5.0, 0.1])),
    "saturated": (jax.nn.sigmoid, jnp.array([-100.0, 30.0, 100.0])),
    "infinite mask": (lambda x: jax.nn.softmax(jnp.where(jnp.arange(3) < 2, x, -jnp.inf)), X),
    "relu near 0": (relu(0.0), jnp.array([1e-4, -1e-4, 1e-7])),
    "relu at 0 is 0": (relu(0.0), jnp.array([-1.0, 0.0, 2.0])),
    "relu at 0 is 1": (relu(1.0), jnp.array([-1.0, 0.0, 2.0])),
    "relu at 0 is 1/2": (relu(0.5), jnp.zeros(2)),
    "first of tied maxima": (
        unary(lambda x: jnp.max(x), lambda x, dy: dy * jax.nn.one_hot(jnp.argmax(x), x.size, dtype=x.dtype)),
        jnp.array([1.0, 3.0, 3.0]),
    ),
    "shared tied maxima": (lambda x: jnp.max(x), jnp.ones(3)),
    "pool at equal values": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID"),
        jnp.array([1.0, 1.0, 2.0, 3.0]),
    ),
    "constant": (lambda x: jnp.ones(2), X),
    "a zero gradient": (lambda x: 0 * x, X),
    "float32 inside": (lambda x: jnp.tanh(x.astype(jnp.float32)).astype(x.dtype), X),
    "bfloat16 inside": (lambda x: jnp.tanh(x.astype(jnp.bfloat16)).astype(x.dtype), X),
    "a float32 sum inside": (lambda x: jnp.sum(x.astype(jnp.float32) ** 2).astype(x.dtype), X.astype(jnp.bfloat16)),
    "a rule in float32": (
        unary(
            lambda x: jnp.exp(x.astype(jnp.float32)).astype(x.dtype),
            lambda x, dy: (dy.astype(jnp.float32) * jnp.exp(x.astype(jnp.float32))).astype(x.dtype),
        ),
        X,
    ),
    "a host callback": (
        on_the_host(lambda x, dy: dy * jnp.cos(x)),
        X,
    ),
    "looks at values": (lambda x: 2 * x if x[0] > 0 else 3 * x, X),
    "inverse": (jnp.linalg.inv, jnp.array([[2.0, 1.0], [0.5, 3.0]])),
}


class TestRightRules:
    @pytest.mark.parametrize("name", mostly_long(RIGHT, 3))
    def test_is_not_failed(self, name):
        f, x = RIGHT[name]
        report = check.check_vjp(f, x, quick=True, name=name)
        assert report, str(report)

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_half_precision(self, dtype):
        for f in (sine(), relu(0.0), jax.nn.softmax):
            x = jnp.array([-1.0, 0.0, 2.0], dtype)
            assert check.check_vjp(f, x, checks=(*VALUES, "precision", "cotangents", "vmap"))
        report = check.check_vjp(times(1.5), X.astype(dtype), quick=True)
        assert {*VALUES, "precision"} <= failed(report)
        assert report.leaves[0].dtype == dtype

    def test_some_of_jax(self):
        assert check.check_vjp(lambda a, b: jnp.arctan2(a, b) * a @ b, X, X[::-1], quick=True)


class TestPrecision:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_says_where_it_is_wrong(self, dtype):
        report = check.check_vjp(times(1.01, lambda x, dy: x.dtype == dtype), X, checks=("precision",))
        assert failed(report) == {"precision"}
        assert f"wrong only as gradient in {dtype}" in says(report, "precision")

    def test_a_bug_does_not_shrink(self):
        assert "a bug, not rounding" in says(check.check_vjp(times(1.5), X, checks=("precision",)), "precision")

    def test_the_leaf_shows_the_dtype_that_is_wrong(self):
        assert (
            check.check_vjp(times(1.01, lambda x, dy: x.dtype == jnp.float64), X, quick=True).leaves[0].dtype
            == "float64"
        )
        assert check.check_vjp(times(1.01), X, quick=True).leaves[0].dtype == "float32"

    def test_lost_digits_are_seen(self):
        """A sum in bfloat16 for arguments in float32."""
        rough = sine(lambda x, dy: (dy.astype(jnp.bfloat16) * jnp.cos(x).astype(jnp.bfloat16)).astype(x.dtype))
        assert {"automatic", "precision"} <= failed(check.check_vjp(rough, X, quick=True))
