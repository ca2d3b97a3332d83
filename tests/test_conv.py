"""Convolution: textbook numbers, exactness, formulations against each other, transposes, layers, precision, errors."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from fnn import ops
from fnn.ops import conv_blocks, conv_direct, conv_disjoint, conv_forms, conv_shifted, filters
from fnn.ops.conv import rule
from fnn.ops.conv_direct import ConvSpec
from tests.helpers import assert_close

BOTH = pytest.mark.parametrize("mode", ["hand", "auto"])
KEY = jax.random.key(0)


def image(rows):
    return jnp.asarray(rows, jnp.float32)[None, :, :, None]


def signal(values):
    return jnp.asarray(values, jnp.float32)[None, :, None]


def taps(values):
    """A filter as the kernel of one input and one output channel."""
    return jnp.asarray(values, jnp.float32)[..., None, None]


def integers(seed, shape, dtype=jnp.float32):
    """Integers from -3 to 3: their products and short sums are exact in float32."""
    return jnp.asarray(np.random.default_rng(seed).integers(-3, 4, shape), dtype)


def normal(seed, shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def gradients_of(f, mode, *args):
    """y and the gradients of all arguments for an integer cotangent, as one compiled program."""

    @jax.jit
    def run(*args):
        y, pull = jax.vjp(f, *args)
        return y, pull(integers(9, y.shape, y.dtype))

    with fnn.gradients(mode):
        return run(*args)


def assert_exact(f, *args):
    jax.tree.map(np.testing.assert_array_equal, gradients_of(f, "hand", *args), gradients_of(f, "auto", *args))


# --- textbook numbers


@BOTH
def test_the_x_shaped_filter_of_the_lectures(mode):
    rows = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
    with fnn.gradients(mode):
        y = ops.conv(image(rows), taps([[1, 0, 1], [0, 1, 0], [1, 0, 1]]))
    np.testing.assert_array_equal(y[0, :, :, 0], [[4, 3, 4], [2, 4, 3], [2, 3, 4]])


def test_vertical_edge_on_a_step():
    step = image(np.tile([10, 10, 10, 0, 0, 0], (6, 1)))
    y = ops.conv(step, taps(filters.vertical_edge()))[0, :, :, 0]
    np.testing.assert_array_equal(y, np.tile([0, 30, 30, 0], (4, 1)))
    np.testing.assert_array_equal(ops.conv(-step, taps(filters.vertical_edge()))[0, :, :, 0], -y)
    np.testing.assert_array_equal(ops.conv(step, taps(filters.horizontal_edge())), jnp.zeros((1, 4, 4, 1)))


def test_one_dimension_as_in_the_lectures():
    x = signal([1, 2, 3, 4, 5])
    np.testing.assert_array_equal(ops.conv(x, taps([1, 0, -1])).ravel(), [-2, -2, -2])
    np.testing.assert_array_equal(ops.conv(x, taps([1, 2])).ravel(), [5, 8, 11, 14])
    np.testing.assert_array_equal(ops.conv(x, taps([1, 2]), stride=3).ravel(), [5, 14])
    np.testing.assert_array_equal(ops.conv(x, taps([1, 2]), dilation=3).ravel(), [9, 12])
    np.testing.assert_array_equal(ops.conv(x, taps([1, 1, 1]), padding="SAME").ravel(), [3, 6, 9, 12, 9])
    np.testing.assert_array_equal(ops.conv(x, taps([1, 2]), padding="CAUSAL").ravel(), [2, 5, 8, 11, 14])
    # The convolution of mathematics flips the filter: (1, 2, 3) * (0, 1, 1/2).
    flipped = ops.conv(signal([1, 2, 3]), taps([0.5, 1, 0]), padding=2)
    np.testing.assert_array_equal(flipped.ravel(), [0, 1, 2.5, 4, 1.5])


@BOTH
def test_gradients_by_hand(mode):
    """y_p = x_p w_0 + x_{p+1} w_1, so dx = (w0, w0 10 + w1, 10 w1), dw = (x0 + 10 x1, x1 + 10 x2) for dy = (1, 10)."""
    with fnn.gradients(mode):
        _, pull = jax.vjp(ops.conv, signal([1, 2, 3]), taps([4, 5]), jnp.zeros(1))
        dx, dw, db = pull(signal([1, 10]))
    np.testing.assert_array_equal(dx.ravel(), [4, 45, 50])
    np.testing.assert_array_equal(dw.ravel(), [21, 32])
    np.testing.assert_array_equal(db, [11])


def count(layer, shape):
    return sum(p.size for p in jax.tree.leaves(jax.eval_shape(lambda: layer.init(KEY, shape)[0])))


def test_parameter_counts():
    assert count(fnn.conv(100, 3), (1, 8, 8, 3)) == 2_800
    assert count(fnn.conv(16, 5), (1, 32, 32, 3)) == 1_216
    assert count(fnn.conv(16, 5, bias=False), (1, 32, 32, 3)) == 1_200
    assert count(fnn.conv(64, 3, groups=4), (1, 8, 8, 32)) == 3 * 3 * 8 * 64 + 64
    assert count(fnn.depthwise_conv(3, multiplier=2), (1, 8, 8, 32)) == 3 * 3 * 64 + 64
    assert count(fnn.separable_conv(64, 3), (1, 8, 8, 32)) == 3 * 3 * 32 + 32 * 64 + 64


def test_causal_outputs_never_see_later_inputs():
    x, w = integers(0, (1, 9, 2)), integers(1, (3, 2, 2)) + 0.5
    conv = jax.jit(functools.partial(ops.conv, dilation=2, padding="CAUSAL"))
    y = conv(x, w)
    assert y.shape == x.shape
    for t in range(9):
        changed = np.any(conv(x.at[:, t].add(1), w) != y, axis=(0, 2))
        np.testing.assert_array_equal(np.flatnonzero(changed), [p for p in (t, t + 2, t + 4) if p < 9])


# --- exactness: with small integers every sum is exact, so two right programs agree bit for bit

EXACT = {
    "plain": ((2, 6, 5, 3), (3, 2, 3, 4), {}),
    "one_channel": ((2, 6, 5, 1), (5, 5, 1, 2), {"padding": 2}),
    "strided": ((2, 7, 6, 2), (3, 4, 2, 3), {"stride": (2, 3), "dilation": (2, 1), "padding": ((0, 1), (2, 0))}),
    "patches": ((2, 7, 8, 2), (2, 2, 2, 3), {"stride": (2, 3), "padding": 1}),
    "pointwise": ((2, 3, 2, 3), (1, 1, 3, 4), {}),
    "grouped": ((2, 5, 4, 6), (3, 3, 2, 9), {"groups": 3, "padding": "SAME", "stride": 2}),
    "depthwise": ((2, 5, 4, 3), (3, 3, 1, 6), {"groups": 3, "padding": 1}),
    "reflect": ((2, 4, 5, 2), (3, 3, 2, 2), {"padding": "REFLECT"}),
    "circular": ((2, 6, 2), (4, 2, 2), {"padding": "CIRCULAR"}),
    "causal": ((2, 6, 2), (3, 2, 2), {"padding": "CAUSAL", "dilation": 2}),
    "volume": ((2, 3, 4, 3, 2), (2, 2, 2, 2, 2), {"stride": (1, 2, 1), "padding": 1}),
}


@pytest.mark.parametrize(("shape", "kernel", "options"), EXACT.values(), ids=EXACT)
def test_conv_by_hand_is_automatic_bit_for_bit(shape, kernel, options):
    args = integers(0, shape), integers(1, kernel), integers(2, kernel[-1:])
    f = functools.partial(ops.conv, **options)
    assert_exact(f, *args)


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((2, 4, 3, 3), (3, 4, 3, 2), {"stride": 2, "padding": 1, "output_padding": (1, 0)}),
        ((2, 3, 4, 4), (3, 2, 2, 6), {"stride": (3, 2), "dilation": (2, 1), "groups": 2}),
        ((2, 5, 2), (4, 2, 2), {"stride": 2, "padding": "SAME"}),
    ],
)
def test_conv_transpose_by_hand_is_automatic_bit_for_bit(shape, kernel, options):
    args = integers(0, shape), integers(1, kernel), integers(2, kernel[-1:])
    f = functools.partial(ops.conv_transpose, **options)
    assert_exact(f, *args)


@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_dense_by_hand_is_automatic_bit_for_bit(leading):
    args = integers(0, (*leading, 5)), integers(1, (5, 4)), integers(2, (4,))
    assert_exact(ops.dense, *args)


# --- formulations


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
    "depthwise": (_spec((5, 6), 1, ((2, 1), (0, 3)), groups=3), (3, 2, 1, 3)),
    "depthwise_long": (_spec((19,), groups=2), (3, 1, 2)),
    "multiplier": (_spec((7, 8), (2, 3), ((4, 0), (1, 2)), (1, 2), groups=2), (2, 3, 1, 6)),
    "volume": (_spec((3, 4, 5), (2, 1, 3), 1, (1, 2, 1)), (2, 2, 3, 2, 2)),
}


def formulations(spec, w):
    """The modules that claim to be right for this convolution."""
    *window, c, _ = w.shape
    yield conv_direct
    yield conv_forms
    if spec.groups == 1 and all(
        f == 1 or (f <= s and d == 1) for f, s, d in zip(window, spec.stride, spec.dilation, strict=True)
    ):
        yield conv_disjoint
    if c == 1:
        yield conv_shifted
    if spec.groups > 1:
        yield conv_blocks


def separable(spec):
    return len(spec.sizes) == 2 and spec.groups == 1 and set(spec.stride + spec.dilation) == {1}


@pytest.mark.parametrize(("spec", "kernel"), GRID.values(), ids=GRID)
def test_every_formulation_is_exact_and_adjoint(spec, kernel):
    """<dy, y(x, w)> = <dx(dy, w), x> = <dw(x, dy), w>, without any rounding since all numbers are small integers."""
    with jax.enable_x64(True):
        x = integers(0, (2, *spec.sizes, kernel[-2] * spec.groups), "float64")
        w = integers(1, kernel, "float64")
        want = rule.reference(spec, x, w, None)
        dy = integers(2, want.shape, "float64")

        @jax.jit
        def run(x, w, dy):
            forms = list(formulations(spec, w))
            dws = [form.kernel_gradient(spec, x, dy, w) for form in forms]
            if separable(spec):
                dws.append(conv_forms.kernel_gradient_separable(spec, x, dy, w))
            return [f.forward(spec, x, w) for f in forms], [f.input_gradient(spec, dy, w) for f in forms], dws

        ys, dxs, dws = run(x, w, dy)
        for y in ys:
            np.testing.assert_array_equal(y, want)
        for dx in dxs:
            assert jnp.vdot(dx, x) == jnp.vdot(dy, want)
            np.testing.assert_array_equal(dx, dxs[0])
        for dw in dws:
            assert jnp.vdot(dw, w) == jnp.vdot(dy, want)
            np.testing.assert_array_equal(dw, dws[0])


# --- filter_pool


@BOTH
def test_filter_pool_filters_each_channel_alone_and_gives_the_filter_no_gradient(mode):
    x, f = normal(0, (2, 7, 6, 3)), filters.gaussian(3, 1.0)

    @jax.jit
    def run(x, f):
        y, pull = jax.vjp(lambda x, f: ops.filter_pool(x, f, stride=2, padding=1), x, f)
        return y, pull(jnp.ones_like(y))

    with fnn.gradients(mode):
        y, (dx, df) = run(x, f)
    for c in range(3):
        want, pull = jax.vjp(
            lambda x: lax.conv_general_dilated(
                x, taps(f), (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
            ),
            x[..., c : c + 1],
        )
        assert_close(y[..., c : c + 1], want)
        assert_close(dx[..., c : c + 1], pull(jnp.ones_like(want))[0])
    np.testing.assert_array_equal(df, jnp.zeros_like(f))
    assert ops.filter_pool(x.astype(jnp.bfloat16), f).dtype == jnp.bfloat16
    assert ops.filter_pool(x, f).shape == (2, 2, 2, 3)  # steps by the window


# --- conv_transpose


def exchanged(w, groups):
    """Inputs and outputs of each group of a kernel exchanged."""
    return jnp.concatenate([part.swapaxes(-1, -2) for part in jnp.split(w, groups, axis=-1)], axis=-1)


@BOTH
@pytest.mark.parametrize(
    ("shape", "kernel", "extra", "options"),
    [
        ((2, 3, 4, 3), (3, 2, 3, 2), (1, 0), {"stride": (2, 1), "padding": ((1, 0), (1, 1))}),
        ((2, 2, 3, 4), (2, 3, 2, 6), (2, 0), {"stride": (3, 1), "dilation": (1, 2), "groups": 2}),
        ((2, 4, 2), (2, 1, 4), (1,), {"stride": 2, "padding": 1, "groups": 2}),
        ((1, 2, 2, 2, 2), (2, 2, 2, 2, 1), (0, 0, 0), {"stride": (1, 2, 3)}),
    ],
)
def test_conv_transpose_is_the_input_gradient_of_conv(mode, shape, kernel, extra, options):
    x, w, bias = integers(0, shape), integers(1, kernel), integers(2, kernel[-1:])

    @jax.jit
    def run(x, w, bias):
        y = ops.conv_transpose(x, w, bias, output_padding=extra, **options)
        back = exchanged(w, options.get("groups", 1))
        over, pull = jax.vjp(lambda z: ops.conv(z, back, **options), jnp.zeros(y.shape))
        assert over.shape == x.shape
        return y, pull(x)[0] + bias

    with fnn.gradients(mode):
        np.testing.assert_array_equal(*run(x, w, bias))


def test_output_padding_first_undoes_the_crop_and_then_adds_nothing():
    x, w, bias = integers(0, (1, 3, 2)), integers(1, (3, 2, 2)), jnp.array([7.0, 8.0])
    call = functools.partial(ops.conv_transpose, x, w, bias, stride=2, dilation=3)
    np.testing.assert_array_equal(call(padding=1, output_padding=1), call(padding=((1, 0),)))
    longer = call(output_padding=2)
    np.testing.assert_array_equal(longer[:, :-2], call())
    np.testing.assert_array_equal(longer[:, -2:], jnp.stack([bias, bias])[None])


def transposed_size(n, f, **options):
    call = functools.partial(ops.conv_transpose, **options)
    return jax.eval_shape(call, jnp.ones((1, n, 1)), jnp.ones((f, 1, 1))).shape[1]


@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("f", [1, 3, 4])
def test_conv_transpose_sizes(f, s):
    for n, d, p, e in [(1, 1, 0, 0), (4, 2, 0, s - 1), (5, 1, 1, 0), (6, 2, 1, 1)]:
        if e < max(s, d):
            want = (n - 1) * s + d * (f - 1) + 1 - 2 * p + e
            assert transposed_size(n, f, stride=s, dilation=d, padding=p, output_padding=e) == want
    uneven = transposed_size(5, f, stride=s, padding=((1, 0),))
    assert uneven == 4 * s + f - 1
    if f >= s:
        assert transposed_size(5, f, stride=s, padding="SAME") == 5 * s


def test_output_padding_inverts_each_input_size():
    f, s, p, d = 3, 3, 1, 2
    for n in range(5, 12):
        y = jax.eval_shape(
            functools.partial(ops.conv, stride=s, padding=p, dilation=d), jnp.ones((1, n, 1)), jnp.ones((f, 1, 1))
        )
        extra = (n + 2 * p - ((f - 1) * d + 1)) % s
        assert transposed_size(y.shape[1], f, stride=s, padding=p, dilation=d, output_padding=extra) == n


# --- layers


@pytest.mark.parametrize("spatial", [(9,), (6, 7), (5, 6, 7)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_layers_take_rank_and_dtype_from_x(spatial, dtype):
    with jax.enable_x64(True):
        x, ones = jax.ShapeDtypeStruct((2, *spatial, 4), dtype), (1,) * len(spatial)
        window = tuple(range(2, 2 + len(spatial)))
        for layer, want in [
            (fnn.conv(6, 3, groups=2), {"kernel": (*(3 * n for n in ones), 2, 6), "bias": (6,)}),
            (fnn.conv(6, window, bias=False), {"kernel": (*window, 4, 6)}),
            (fnn.depthwise_conv(3, multiplier=2), {"kernel": (*(3 * n for n in ones), 1, 8), "bias": (8,)}),
            (fnn.conv_transpose(6, window, groups=2), {"kernel": (*window, 2, 6), "bias": (6,)}),
            (fnn.conv_transpose(6, 2, bias=False), {"kernel": (*(2 * n for n in ones), 4, 6)}),
        ]:
            params, state, y = jax.eval_shape(lambda layer=layer: layer.init_spec(KEY, x))
            assert {name: p.shape for name, p in params.items()} == want
            assert state == {}
            assert {p.dtype for p in params.values()} == {jnp.dtype(dtype)} == {y.dtype}
            assert y.ndim == x.ndim
            assert y.shape[-1] == want["kernel"][-1]
        params, _ = jax.eval_shape(lambda: fnn.separable_conv(6, 3, multiplier=2, bias=False).init(KEY, x))
        assert jax.tree.map(lambda p: p.shape, params) == {
            "depthwise": {"kernel": (*(3 * n for n in ones), 1, 8)},
            "pointwise": {"kernel": (*ones, 8, 6)},
        }


def test_layers_are_the_operations():
    x = integers(0, (2, 6, 5, 4))
    options = {"stride": (2, 1), "padding": ((1, 0), (1, 1)), "dilation": (1, 2)}
    init = {"kernel_init": lambda key, *a: integers(1, *a), "bias_init": lambda key, *a: integers(2, *a)}
    b = integers(2, (6,))
    gaussian, out = filters.gaussian(3, 1.0), {"output_padding": (1, 0)}
    for layer, want in [
        (
            fnn.conv(6, (3, 2), groups=2, **options, **init),
            ops.conv(x, integers(1, (3, 2, 2, 6)), b, groups=2, **options),
        ),
        (
            fnn.depthwise_conv((3, 2), multiplier=2, bias=False, **options, kernel_init=init["kernel_init"]),
            ops.conv(x, integers(1, (3, 2, 1, 8)), groups=4, **options),
        ),
        (
            fnn.conv_transpose(6, (3, 2), groups=2, **options, **out, **init),
            ops.conv_transpose(x, integers(1, (3, 2, 2, 6)), b, groups=2, **options, **out),
        ),
        (fnn.filter_pool(gaussian, stride=1, padding=1), ops.filter_pool(x, gaussian, stride=1, padding=1)),
    ]:
        params, state = layer.init(KEY, x)
        np.testing.assert_array_equal(layer.apply(params, state, x)[0], want)
    separable = fnn.separable_conv(6, (3, 2), multiplier=2, **options)
    params, state = separable.init(KEY, x)
    middle = ops.conv(x, params["depthwise"]["kernel"], groups=4, **options)
    assert_close(separable.apply(params, state, x)[0], ops.conv(middle, **params["pointwise"]))


def test_kernels_begin_with_the_variance_of_their_own_inputs():
    for layer, fan_in in [(fnn.conv(512, 3), 9 * 32), (fnn.conv(512, 3, groups=4), 9 * 8), (fnn.depthwise_conv(5), 25)]:
        kernel = layer.init(KEY, (1, 8, 8, 32))[0]["kernel"]
        np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_in), rtol=0.1)


# --- transformations


def test_mapped_over_kernels():
    x, ws = integers(0, (2, 5, 4, 2)), integers(1, (3, 2, 2, 2, 3))

    def value_and_slope(x, w):
        return jax.value_and_grad(lambda w: (ops.conv(x, w, stride=2, padding=1) ** 2).sum())(w)

    ys, dws = jax.jit(jax.vmap(value_and_slope, (None, 0)))(x, ws)
    one = jax.jit(value_and_slope)
    for y, dw, w in zip(ys, dws, ws, strict=True):
        jax.tree.map(np.testing.assert_array_equal, (y, dw), one(x, w))


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((1, 3, 4, 2), (2, 3, 2, 2), {"stride": (2, 1), "padding": 1}),
        ((1, 4, 2), (3, 1, 4), {"groups": 2, "stride": 2, "padding": 1}),  # shifted
        ((1, 4, 4), (3, 2, 2), {"groups": 2}),  # blocks
        ((1, 4, 2), (2, 2, 2), {"stride": 2}),  # disjoint
        ((1, 4, 3, 1), (2, 2, 1, 2), {}),  # separable
    ],
)
def test_hessians(shape, kernel, options):
    x, w, b = (normal(i, s) for i, s in enumerate((shape, kernel, kernel[-1:])))

    @jax.jit
    def hessian(x, w, b):
        slope = jax.grad(lambda x, w: (jnp.tanh(ops.conv(x, w, b, **options))).sum(), (0, 1))
        return jax.jacfwd(slope, (0, 1))(x, w)

    with fnn.gradients("auto"):
        want = hessian(x, w, b)
    assert_close(hessian(x, w, b), want)


def test_gradient_steps_in_a_scan():
    x, w = normal(0, (2, 5, 4, 2)), jnp.ones((3, 3, 2, 2)) / 8

    def step(w, _):
        return w - 0.01 * jax.grad(lambda w: (jax.jit(ops.conv)(x, w) ** 2).mean())(w), None

    once = jax.jit(lambda w: step(w, None)[0])
    assert_close(jax.jit(lambda w: lax.scan(step, w, length=3)[0])(w), once(once(once(w))))


# --- precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_half_precision_rounds_once(dtype, groups):
    """Against float64 on the same numbers: y and every gradient are right to the last place or two."""
    x, w = normal(0, (4, 6, 5, 4), dtype), normal(1, (3, 3, 4 // groups, 4), dtype)
    conv = functools.partial(ops.conv, stride=2, padding=1, groups=groups)
    half = gradients_of(conv, "hand", x, w)
    with jax.enable_x64(True):
        exact = gradients_of(conv, "hand", x.astype("float64"), w.astype("float64"))
    assert_close(half, jax.tree.map(lambda a: a.astype(dtype), exact), ulps=1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("channels", "kernel", "options"),
    [(1, 1, {}), (2, 1, {"groups": 2}), (4, 2, {"groups": 2}), (1, 1, {"stride": 8})],
    ids=["dense", "depthwise", "grouped", "disjoint"],
)
def test_half_precision_sums_in_float32(channels, kernel, options, dtype):
    """Beside `large` one 1 is lost in half precision, so that a sum kept in it would stall there; seven are not."""
    large = 2 / float(jnp.finfo(dtype).eps)
    first = jnp.ones(8, dtype).at[0].set(large)
    x = jnp.zeros((1, 8, channels), dtype).at[..., 0].set(first)
    w = jnp.ones((8, kernel, options.get("groups", 1)), dtype)
    conv = functools.partial(ops.conv, **options)
    assert large + 6 <= float(conv(x, w)[0, 0, 0]) <= large + 8
    # The gradient of one tap, or of the bias, sums over all positions.
    one = jnp.ones((1, kernel, options.get("groups", 1)), dtype)
    _, pull = jax.vjp(
        functools.partial(ops.conv, groups=options.get("groups", 1)), x, one, jnp.zeros(one.shape[-1:], dtype)
    )
    dy = jnp.zeros((1, 8, one.shape[-1]), dtype).at[..., 0].set(first)
    _, _, db = pull(dy)
    _, dw, _ = pull(jnp.ones_like(dy))
    assert large + 6 <= float(db[0]) <= large + 8
    assert large + 6 <= float(dw[0, 0, 0]) <= large + 8
    # The gradient of one input sums over all taps that read it.
    padded = functools.partial(ops.conv, padding=7, groups=options.get("groups", 1))
    big = w.at[..., 0].set(first[:, None])
    dx = jax.vjp(lambda x: padded(x, big), x)[1](jnp.ones((1, 15, w.shape[-1]), dtype))[0]
    assert large + 6 <= float(dx[0, 4, 0]) <= large + 8
