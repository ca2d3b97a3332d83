"""Every implementation of a convolution against the textbook formula and the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from benchmarks.operations.zoo import OPERATIONS
from fnn.check.tolerance import gap, largest, limit_of
from fnn.ops.convolution import blocks, direct, separable, tables, winograd
from fnn.ops.convolution.direct import ConvSpec
from fnn.ops.convolution.rule import rule
from tests.helpers import assert_close, integers, mostly_long, normal, without_kernels

# Shapes for the implementations that do not take a dense 3x3 convolution.
SUITED = {
    "matmul": ((4, 8, 8, 12), (2, 2, 12, 8), {"stride": 2}),
    "shifted": ((4, 8, 8, 12), (3, 3, 1, 12), {"padding": 1, "groups": 12}),
    "blocks": ((4, 8, 8, 12), (3, 3, 3, 12), {"padding": 1, "groups": 4}),
    "planes": ((2, 4, 6, 6, 6), (3, 3, 3, 6, 4), {"padding": 1}),
    "phases": ((4, 9, 9, 6), (5, 5, 6, 8), {"padding": 2, "stride": 2}),
}


def _spec(sizes, stride=1, padding=0, dilation=1, groups=1):
    each = lambda v: v if isinstance(v, tuple) else (v,) * len(sizes)  # noqa: E731
    pairs = padding if isinstance(padding, tuple) else ((padding, padding),) * len(sizes)
    return ConvSpec(sizes, each(stride), pairs, each(dilation), groups)


GRID = {
    "plain": (_spec((5, 6)), (2, 3, 2, 3)),
    "beyond_the_window": (_spec((4, 3), 1, ((3, 0), (1, 4))), (2, 2, 2, 3)),
    "one_channel": (_spec((4, 5), 1, 2), (3, 3, 1, 2)),
    "1x1": (_spec((3, 4)), (1, 1, 3, 2)),
    "patches": (_spec((7, 6), (2, 3), ((1, 2), (0, 3))), (2, 3, 2, 3)),
    "stride_over_window": (_spec((8, 7), (3, 2), ((5, 0), (0, 1))), (2, 1, 2, 3)),
    "strided_dilated": (_spec((9, 8), (3, 2), ((2, 5), (1, 0)), (2, 3)), (3, 2, 2, 2)),
    "grouped": (_spec((5, 4), (2, 1), ((1, 3), (0, 1)), groups=2), (3, 2, 2, 4)),
    "many_groups": (_spec((5,), 1, 1, 2, groups=6), (2, 8, 48)),
    "many_groups_2d": (_spec((4, 3), 1, 1, groups=6), (3, 3, 8, 54)),
    "many_groups_strided": (_spec((5, 4), (2, 1), 1, groups=3), (3, 2, 9, 12)),
    "depthwise": (_spec((5, 6), 1, ((2, 1), (0, 3)), groups=3), (3, 2, 1, 3)),
    "depthwise_long": (_spec((19,), 2, groups=2), (3, 1, 2)),
    "multiplier": (_spec((7, 8), (2, 3), ((4, 0), (1, 2)), (1, 2), groups=2), (2, 3, 1, 6)),
    "two_pixels": (_spec((4, 6), 1, ((1, 0), (1, 1))), (2, 3, 6, 9)),
    "four_pixels": (_spec((3, 10), 1, ((0, 1), (2, 0))), (2, 5, 3, 2)),
    "long_steps": (_spec((9, 7), (2, 1), ((3, 1), (0, 2))), (5, 3, 2, 3)),
    "beyond_the_image": (_spec((2, 3), 1, 2), (3, 5, 2, 2)),
    "odd_3x3": (_spec((3, 6), 1, ((2, 0), (1, 3))), (3, 3, 3, 2)),
    "crop_3x3": (_spec((6, 7), 1, ((-1, 2), (0, -1))), (3, 3, 2, 3)),
    "balanced": (_spec((3, 4), 1, ((1, 2), (0, 1))), (3, 2, 12, 13)),
    "volume": (_spec((3, 4, 5), (2, 1, 3), 1, (1, 2, 1)), (2, 2, 3, 2, 2)),
}


def implementations(spec, x, w, product):
    """The choice of the tables, and this product by every row that claims to be right for this convolution."""
    rows = [row for row in getattr(tables, product.upper()).rows if row.fits(spec, x, w)]
    return [getattr(tables, product), *(row.run for row in rows)]


def in_parts(monkeypatch):
    monkeypatch.setattr(blocks, "MANY", 1)
    monkeypatch.setattr(separable, "COPIES", 0)
    monkeypatch.setattr(winograd, "ENTRIES", 0)


@pytest.fixture(params=["single", pytest.param("sharded", marks=pytest.mark.long)])
def batch(request, monkeypatch):
    """A number of examples; "single": loops over parts of a batch are allowed, here all in 2s."""
    in_parts(monkeypatch)
    with fnn.placement(request.param):
        yield 4 if request.param == "single" else 2


@pytest.mark.parametrize("name", mostly_long(GRID))
def test_every_implementation_is_exact_and_adjoint(name, batch):
    """<dy, y(x, w)> = <dx(dy, w), x> = <dw(x, dy), w>, without any rounding since all numbers are small integers."""
    spec, kernel = GRID[name]
    with jax.enable_x64(True):
        x = integers(0, (batch, *spec.sizes, kernel[-2] * spec.groups), "float64")
        w = integers(1, kernel, "float64")
        want = rule.reference(spec, x, w, None)
        dy = integers(2, want.shape, "float64")

        @jax.jit
        def run(x, w, dy):
            ys = [f(spec, x, w) for f in implementations(spec, x, w, "forward")]
            dxs = [f(spec, dy, w) for f in implementations(spec, dy, w, "input_gradient")]
            return ys, dxs, [f(spec, x, dy, w=w) for f in implementations(spec, x, w, "kernel_gradient")]

        ys, dxs, dws = run(x, w, dy)
        for y in ys:
            np.testing.assert_array_equal(y, want)
        for dx in dxs:
            assert jnp.vdot(dx, x) == jnp.vdot(dy, want)
            np.testing.assert_array_equal(dx, dxs[0])
        for dw in dws:
            assert jnp.vdot(dw, w) == jnp.vdot(dy, want)
            np.testing.assert_array_equal(dw, dws[0])


@pytest.mark.parametrize("channels", [2, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_beyond_the_window_has_right_gradients_in_float32(channels, stride, monkeypatch):
    """There XLA's CPU backend would have to crop: in front in one axis and behind in another it computes garbage."""
    spec = _spec((5, 6), stride, ((3, 0), (1, 4)))
    x, w = integers(0, (4, 5, 6, channels)), integers(1, (2, 2, channels, channels))
    want = rule.reference(spec, x, w, None)
    dy = integers(2, want.shape)
    y, dx, dw = jax.jit(
        lambda x, w, dy: (
            direct.forward(spec, x, w),
            direct.input_gradient(spec, dy, w),
            direct.kernel_gradient(spec, x, dy, w),
        )
    )(x, w, dy)
    np.testing.assert_array_equal(y, want)
    assert jnp.vdot(dx, x) == jnp.vdot(dw, w) == jnp.vdot(dy, want)


@pytest.mark.parametrize("name", fnn.rules()["conv"].implementations)
@pytest.mark.parametrize(("mean", "deviation"), [(300.0, 1.0), (0.0, 1e-6), (0.0, 1e6)], ids=["mean", "tiny", "huge"])
@pytest.mark.long
def test_float32_is_as_accurate_as_the_checker_demands(name, mean, deviation, monkeypatch):
    """Output and gradients of a forced implementation against float64, within the checker's roundings."""
    in_parts(monkeypatch)
    shape, kernel, options = SUITED.get(name, ((4, 8, 8, 12), (3, 3, 12, 8), {"padding": 1}))
    x, w = normal(0, shape) * deviation + mean, normal(1, kernel)

    def run(x, w):
        y, pull = jax.vjp(lambda x, w: fnn.ops.conv(x, w, **options), x, w)
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    with jax.enable_x64(True):
        wide = [a.astype("float64") for a in (x, w)]
        nudged = [a * (1 + jnp.finfo("float32").eps * jnp.sign(normal(2, a.shape, "float64"))) for a in wide]
        want, moved = jax.jit(run)(*wide), jax.jit(run)(*nudged)
    with fnn.gradients({"conv": name}):
        got = jax.jit(run)(x, w)
    for a, b, c in zip(got, want, moved, strict=True):
        assert a.dtype == jnp.float32
        assert gap(a, b).max() <= limit_of("float32", largest(b), noise=gap(b, c).max())


@without_kernels()
def test_the_tables_choose_what_they_say():
    """Each row is taken for a shape that it is meant for."""
    choices = {
        "conv 3x3, 64 to 64": ((32, 16, 16, 64), (3, 3, 64, 64), {"padding": 1}, ("winograd", "winograd", "direct")),
        "the same, much": ((64, 32, 32, 64), (3, 3, 64, 64), {"padding": 1}, ("winograd", "winograd", "winograd")),
        "LeNet-5, second": ((64, 14, 14, 6), (5, 5, 6, 16), {}, ("wide", "rows", "direct")),
        "ConvNetJS, second": ((64, 16, 16, 16), (5, 5, 16, 20), {"padding": 2}, ("rows", "rows", "wide")),
        "ResNet-20, first stage": ((64, 32, 32, 16), (3, 3, 16, 16), {"padding": 1}, ("wide", "wide", "separable")),
        "1x1": ((4, 8, 8, 64), (1, 1, 64, 32), {}, ("matmul", "matmul", "matmul")),
        "depthwise": ((4, 8, 8, 32), (3, 3, 1, 32), {"groups": 32}, ("shifted", "shifted", "shifted")),
        "grouped": ((4, 8, 8, 32), (3, 3, 8, 32), {"groups": 4}, ("blocks", "blocks", "blocks")),
        "stem": ((4, 32, 32, 3), (7, 7, 3, 64), {"stride": 2, "padding": 3}, ("direct", "phases", "direct")),
        "beyond": ((4, 2, 2, 64), (3, 3, 64, 64), {"padding": 1}, ("patches", "patches", "direct")),
        "volume": ((2, 4, 8, 8, 4), (3, 3, 3, 4, 8), {}, ("planes", "planes", "planes")),
    }
    for name, (shape, kernel, options, wanted) in choices.items():
        spec = _spec(shape[1:-1], options.get("stride", 1), options.get("padding", 0), 1, options.get("groups", 1))
        x, w = jax.ShapeDtypeStruct(shape, "float32"), jax.ShapeDtypeStruct(kernel, "float32")
        dy = jax.eval_shape(lambda x, w, spec=spec: tables.forward(spec, x, w), x, w)
        products = ((tables.FORWARD, x), (tables.INPUT_GRADIENT, dy), (tables.KERNEL_GRADIENT, x))
        assert tuple(product.chosen(spec, array, w).name for product, array in products) == wanted, name


@pytest.fixture
def in_blocks():
    with fnn.gradients({"conv": "blocks"}):
        yield


@pytest.mark.usefixtures("in_blocks")
def test_blocks_are_compiled_once_and_differentiable_again(monkeypatch):
    monkeypatch.setattr(blocks, "MANY", 1)

    def conv(x, w):
        return fnn.ops.conv(x, w, groups=w.shape[-1] // 8, padding=1)

    def program(groups):
        pull = lambda x, w: jax.vjp(conv, x, w)[1](x)  # noqa: E731
        return jax.make_jaxpr(pull)(jnp.ones((2, 4, 4, 8 * groups)), jnp.ones((3, 3, 8, 8 * groups)))

    assert len(str(program(16)).splitlines()) == len(str(program(8)).splitlines())
    x, w = normal(0, (3, 2, 4, 4, 64)), normal(1, (3, 3, 8, 64))
    loss = lambda w, x: (conv(x, w) ** 2).sum()  # noqa: E731
    twice = jax.grad(lambda w: (jax.vmap(jax.grad(loss), (None, 0))(w, x) ** 2).sum())

    def by_formulas(w):
        with fnn.gradients("auto"):
            return twice(w)

    assert_close(jax.jit(twice)(w), jax.jit(by_formulas)(w), ulps=256)


def test_a_forced_form_takes_an_empty_batch():
    with fnn.gradients({"conv": "winograd"}):
        y = fnn.ops.conv(jnp.ones((0, 4, 4, 2)), jnp.ones((3, 3, 2, 3)), padding=1)
    assert y.shape == (0, 4, 4, 3)


def test_the_measurement_of_every_row_exists():
    rows = [row for rule in fnn.rules().values() for product in rule.products for row in product.rows]
    assert {row.measured for row in rows if row.measured} <= set(OPERATIONS)


def test_depthwise_layers_store_their_gradients_and_no_padded_inputs():
    x, kernels = jnp.ones((8, 16, 16, 32)), [jnp.ones((3, 3, 1, 32))] * 4

    def loss(kernels):
        y = x
        for kernel in kernels:
            y = jnp.tanh(fnn.ops.conv(y, kernel, groups=32, padding=1))
        return y.sum()

    def temporary(mode):
        with fnn.gradients(mode):
            lowered = jax.jit(jax.grad(loss)).lower(kernels)
        return lowered.compile(compiler_options=fnn.train.compiler_options()).memory_analysis().temp_size_in_bytes

    # A gradient that is not stored is computed again for each tap of the layer before, from all layers after it.
    assert temporary("hand") < temporary("auto")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_grouped_kernel_gradient_puts_nothing_but_arrays_into_the_program(dimensions, monkeypatch):
    """The blocks' kernel gradients are shaped like a kernel that exists as a shape only."""
    x, w = jnp.ones((4, *(4,) * dimensions, 32)), jnp.ones((*(3,) * dimensions, 8, 32))
    loss = lambda w: fnn.ops.conv(x, w, groups=4, padding=1).sum()  # noqa: E731
    constants = jax.make_jaxpr(jax.grad(loss))(w).consts
    assert [type(a) for a in constants if not isinstance(a, jax.Array)] == []
