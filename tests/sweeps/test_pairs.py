"""Every rule under pairs of transformations, in both orders: by hand there, against JAX's own derivatives outside.

Alone each is tested by fnn.check. Together they meet programs that JAX has split or batched before: a `custom_jvp` is
lost where `scan` is split, a loop cannot be differentiated backwards, a key or a kernel may be batched or not.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import fnn
from fnn.core.program import equations
from fnn.ops.losses.labels import weighted
from tests.helpers import cotangent_like, is_float

pytestmark = pytest.mark.widest

RULES = fnn.rules()
POLICY = jax.checkpoint_policies.dots_saveable


def each(f):
    """f on two points, one after the other."""
    return lambda points: lax.map(f, points)


def branched(f):
    """f in a branch that is taken, beside one that is not."""

    def either(point):
        taken = jnp.isfinite(jax.tree.leaves(point)[0].sum())
        return lax.cond(taken, f, lambda point: jax.tree.map(jnp.negative, f(point)), point)

    return either


def last(f):
    """vmap over the last axis."""
    return lambda points: jax.vmap(f, in_axes=-1)(jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1), points))


def on_two_devices(f):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    return jax.shard_map(f, mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d"))


def nested(outer, inner):
    """`outer` over one group that holds both points, each by `inner`."""

    def run(f):
        grouped = outer(inner(f))
        return lambda points: jax.tree.map(lambda a: a[0], grouped(jax.tree.map(lambda a: a[None], points)))

    return run


# What makes of a function of one point one of two points, stacked.
PLACES = {
    "scan": each,
    "scan of remat": lambda f: each(jax.checkpoint(f)),
    "remat of scan of jit": lambda f: jax.checkpoint(each(jax.jit(f)), policy=POLICY),
    "scan of cond": lambda f: each(branched(f)),
    "vmap of the last axis of remat of cond": lambda f: last(jax.checkpoint(branched(f))),
    "scan of scan": nested(each, each),
    "scan of vmap": nested(each, jax.vmap),
    "vmap of scan": nested(jax.vmap, each),
    "shard_map of scan": lambda f: on_two_devices(each(f)),
}
BOTH_ORDERS = ("scan of remat", "vmap of scan")
QUICK = (("tanh", "scan"), ("softplus", "scan of remat"), ("max_pool", "shard_map of scan"))


def derivatives(f):
    """(point, cotangent, u, v) -> value and gradient, the gradient of <u, both>, how both move along v."""

    def both(point, dy):
        y, pull = jax.vjp(f, point)
        return y, pull(dy)[0]

    def run(point, dy, u, v):
        found, move = jax.linearize(both, point, dy)
        return found, jax.vjp(both, point, dy)[1](u), move(*v)

    return run


def drawn(rule, i):
    """f of the floating arguments, two points, and for both their cotangent, u and v."""
    case = rule.cases[i]
    args = case.sample(i, jnp.float64)
    where = [k for k, a in enumerate(args) if is_float(a)]

    def f(floats):
        full = list(args)
        for k, a in zip(where, floats, strict=True):
            full[k] = a
        y = rule.of(case)(*full)
        return [leaf for leaf in jax.tree.leaves(y) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    point = [args[k] for k in where]
    points = jax.tree.map(lambda a: jnp.stack([a, a * (1 - 1 / 32)]), point)
    y = jax.tree.map(lambda s: jnp.zeros((2, *s.shape), s.dtype), jax.eval_shape(f, point))
    dy = cotangent_like(y)
    return f, (points, dy, cotangent_like((y, points), 8), cotangent_like((points, dy), 9))


@functools.lru_cache(maxsize=1)
def expected(name, i):
    """By JAX, one point after the other, in no transformation but the derivatives."""
    f, args = drawn(RULES[name], i)
    with fnn.gradients("auto"):
        run = jax.jit(derivatives(f))
        found = [run(*jax.tree.map(operator.itemgetter(k), args)) for k in range(2)]
    return f, args, jax.tree.map(lambda *a: jnp.stack(a), *found)


def compare(name, i, place):
    with jax.enable_x64(True):
        f, args, want = expected(name, i)
        got = {"derivatives of it": jax.jit(derivatives(PLACES[place](f)))(*args)}
        if place in BOTH_ORDERS:
            got["it of derivatives"] = jax.jit(PLACES[place](lambda args: derivatives(f)(*args)))(args)
        for order, found in got.items():
            for k, (a, b) in enumerate(zip(*map(jax.tree.leaves, (found, want)), strict=True)):
                assert (a.shape, a.dtype) == (b.shape, b.dtype)
                scale = np.max(np.abs(b), initial=1.0)
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * scale, err_msg=f"{place}, {order}, leaf {k}")


@pytest.mark.parametrize(("name", "place"), QUICK)
def test_a_rule_in_a_pair(name, place):
    compare(name, 0, place)


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", RULES)
def test_every_rule_in_every_pair(name, place):
    compare(name, 0, place)


def is_weighted(eqn):
    inner = eqn.params.get("call_jaxpr")
    return inner is not None and inner.jaxpr.debug_info.func_name == weighted.__name__


@pytest.mark.parametrize("name", RULES)
def test_no_rule_holds_what_scan_cannot_split(name):
    """A `custom_jvp` is lost there, and a `while` has no reverse derivative: neither may be differentiated again.

    That of `weighted` is for infinities alone, and in their place what is lost is 0 for infinity.
    """
    rule = RULES[name]
    for i, case in enumerate(rule.cases):
        args = case.sample(i)
        for part in (rule.forward, rule.fwd):
            program = jax.make_jaxpr(functools.partial(part, case.spec))(*args)
            names = {eqn.primitive.name for eqn in equations(program.jaxpr) if not is_weighted(eqn)}
            assert not {n for n in names if n == "while" or n.startswith("custom_jvp")}, part


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("name", ["relu", "softplus", "hinge", "sigmoid_binary_cross_entropy"])
def test_second_derivatives_at_zero_are_those_outside(name, mode):
    """loss(x)² by JAX's own relu and softplus has half the slope there, inside a scan."""
    rule, spec = RULES[name], 0.0 if name == "hinge" else None
    x = jnp.array([-1.0, 0.0, 2.0])
    more = (jnp.array([0.0, 1.0, 0.5]),) if name == "sigmoid_binary_cross_entropy" else (-jnp.ones(3),)
    more = () if name in ("relu", "softplus") else more

    def square(x):
        return (rule(spec, x, *more) * (rule(spec, x, *more) + x)).sum()

    def curvature(f):
        return jax.jit(jax.grad(lambda x: jax.grad(f)(x).sum()))(x)

    with fnn.gradients("auto"):
        want = curvature(square)
    with fnn.gradients(mode):
        got = curvature(lambda x: lax.map(square, x[None])[0])
    np.testing.assert_allclose(got, want, rtol=1e-6)
