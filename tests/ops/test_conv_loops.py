"""Convolutions where XLA does not help: the layout of its CPU fast path in loops, mapped gradients on a split batch."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fnn
from fnn.ops.convolution import direct, disjoint
from fnn.ops.convolution.rule import rule
from tests.helpers import assert_close, cotangent_like, float_vjp, integers
from tests.ops.test_conv_forms import GRID, implementations

pytestmark = pytest.mark.widest

CONVOLUTION = re.compile(r"stablehlo\.convolution\(.*dim_numbers = (\S.*?->\[[^\]]*\])")
FAST = {f"[b, {o}, f]x[{o}, i, o]->[b, {o}, f]" for o in ("0", "0, 1", "0, 1, 2")}
RULES = fnn.rules()


def layouts(function, *args):
    """Dimension numbers of all convolutions in the program for CPU of a scan over `function`."""

    def looped(stacked):
        return lax.scan(lambda _, given: (None, function(*given)), None, stacked)[1]

    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), args)
    return CONVOLUTION.findall(jax.jit(looped).trace(stacked).lower(lowering_platforms=("cpu",)).as_text())


def gradient(rule, spec):
    def run(args, dy):
        y, pull = float_vjp(partial(rule, spec), args)
        return y, pull(dy)

    return run


def assert_fast_in_loops(name):
    for case in RULES[name].cases:
        args = case.sample(0)
        dy = cotangent_like(jax.eval_shape(lambda args=args, case=case: RULES[name].forward(case.spec, *args)))
        assert set(layouts(gradient(RULES[name], case.spec), args, dy)) <= FAST, case


def test_gradients_of_convolutions_have_the_layout_that_is_fast_in_loops():
    """XLA's CPU backend runs any other layout naively in a loop or a branch, 20 to 50 times slower."""
    assert_fast_in_loops("conv")


@pytest.mark.long
@pytest.mark.parametrize("where", ["single", "sharded"])
@pytest.mark.parametrize("name", RULES)
def test_all_gradients_by_hand_have_the_layout_that_is_fast_in_loops(name, where):
    with fnn.placement(where):
        assert_fast_in_loops(name)


def test_the_layout_of_automatic_gradients_is_seen():
    with fnn.gradients("auto"):
        x, w = jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 4))
        found = layouts(lambda x, w: jax.vjp(fnn.ops.conv, x, w)[1](jnp.ones((2, 3, 3, 4))), x, w)
    assert len(found) == 2
    assert len(set(found) & FAST) < 2


@pytest.mark.long
@pytest.mark.parametrize("where", ["single", "sharded"])
@pytest.mark.parametrize(("spec", "kernel"), GRID.values(), ids=GRID)
def test_every_implementation_has_the_layout_that_is_fast_in_loops(spec, kernel, where):
    x, w = jnp.ones((4, *spec.sizes, kernel[-2] * spec.groups)), jnp.ones(kernel)
    dy = jnp.ones(jax.eval_shape(partial(direct.forward, spec), x, w).shape)

    def products(x, w, dy):
        ys = [f(spec, x, w) for f in implementations(spec, x, w, "forward")]
        dxs = [f(spec, dy, w) for f in implementations(spec, dy, w, "input_gradient")]
        return ys, dxs, [f(spec, x, dy, w=w) for f in implementations(spec, x, w, "kernel_gradient")]

    with fnn.placement(where):
        found = layouts(products, x, w, dy)
    assert found
    assert set(found) <= FAST


def split_and_whole(run, args, kind):
    """What `run` returns for arguments whose first axis four devices share, and on a single device."""
    want = jax.jit(run)(*args)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        placed = [jax.device_put(a, NamedSharding(mesh, PartitionSpec("data"))) for a in args]
        got = jax.jit(run)(*placed)
    return jax.device_get(got), jax.device_get(want)


def mapped(shape, kernel, convolve, examples):
    """Integers for four batches of x, four kernels and cotangents."""
    x, w = integers(0, (4, examples, *shape)), integers(1, (4, *kernel))
    return x, w, integers(2, jax.eval_shape(jax.vmap(convolve), x, w).shape)


HOW = ((1, AxisType.Explicit), (1, AxisType.Auto), (2, AxisType.Auto))
# JAX refuses, with an error, several examples within a map over an explicit axis, and convolutions in groups.
SPLIT = [
    pytest.param(spec, kernel, *how, id=f"{name}-{how[0]}-{how[1].name}")
    for name, (spec, kernel) in GRID.items()
    for how in HOW
    if how[1] is AxisType.Auto or spec.groups == 1
]
NAMES = ("plain", "grouped", "beyond_the_window")
SHORT = [pytest.param(*GRID[name], *how, id=name) for name, how in zip(NAMES, HOW, strict=True)]


def assert_right_when_split(spec, kernel, examples, kind):
    """Gradients mapped over one axis of x, or of x and the kernels, that is split; small integers: exactly."""
    convolve = lambda x, w: rule(spec, x, w, None)  # noqa: E731
    x, w, dy = mapped((*spec.sizes, kernel[-2] * spec.groups), kernel, convolve, examples)

    def gradients(x, w, dy):
        found = jax.vjp(convolve, x, w)[1](dy)
        if kind is AxisType.Explicit or disjoint.fits(spec, x, w):  # products on all platforms
            return found
        return *found, direct._elsewhere(x)(spec, x, dy, w=w)

    assert_close(*split_and_whole(lambda x, dy: jax.vmap(gradients, (0, None, 0))(x, w[0], dy), (x, dy), kind), ulps=0)
    if kind is AxisType.Auto:  # JAX refuses a convolution of which both arguments are mapped over an explicit axis
        assert_close(*split_and_whole(jax.vmap(gradients), (x, w, dy), kind), ulps=0)


@pytest.mark.parametrize(("spec", "kernel", "examples", "kind"), SHORT)
def test_a_mapped_gradient_is_right_when_devices_share_the_mapped_axis(spec, kernel, examples, kind):
    """Per-example gradients of XLA's own convolution are wrong there, in JAX 0.10.2, without a word."""
    assert_right_when_split(spec, kernel, examples, kind)


@pytest.mark.long
@pytest.mark.parametrize(("spec", "kernel", "examples", "kind"), SPLIT)
def test_all_mapped_gradients_are_right_when_devices_share_the_mapped_axis(spec, kernel, examples, kind):
    assert_right_when_split(spec, kernel, examples, kind)
