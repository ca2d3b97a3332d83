"""Convolution: textbook numbers, exactness, transformations, precision."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from fnn import ops
from fnn.data import filters
from tests.helpers import DTYPES, assert_close, assert_exact, assert_same, gradients_of, integers, normal

BOTH = pytest.mark.parametrize("mode", ["hand", "auto"])
HALF = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


def image(rows):
    return jnp.asarray(rows, jnp.float32)[None, :, :, None]


def signal(values):
    return jnp.asarray(values, jnp.float32)[None, :, None]


def taps(values):
    """A filter as the kernel of one input and one output channel."""
    return jnp.asarray(values, jnp.float32)[..., None, None]


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


def test_causal_outputs_never_see_later_inputs():
    x, w = integers(0, (1, 9, 2)), integers(1, (3, 2, 2)) + 0.5
    conv = jax.jit(functools.partial(ops.conv, dilation=2, padding="CAUSAL"))
    y = conv(x, w)
    assert y.shape == x.shape
    for t in range(9):
        changed = np.any(conv(x.at[:, t].add(1), w) != y, axis=(0, 2))
        np.testing.assert_array_equal(np.flatnonzero(changed), [p for p in (t, t + 2, t + 4) if p < 9])


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


@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_dense_by_hand_is_automatic_bit_for_bit(leading):
    args = integers(0, (*leading, 5)), integers(1, (5, 4)), integers(2, (4,))
    assert_exact(ops.dense, *args)


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
    assert ops.filter_pool(x, f).shape == (2, 2, 2, 3)  # steps by the window


@pytest.mark.parametrize("dtype", ["bfloat16", *(pytest.param(d, marks=pytest.mark.long) for d in DTYPES[:2])])
def test_filter_pool_keeps_the_dtype_whatever_that_of_the_filter(dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.ones((1, 4, 4, 2), dtype)
        for other in ("bfloat16", "float32", "float64", "int8"):
            y, pull = jax.vjp(functools.partial(ops.filter_pool, filter=np.ones((2, 2), other)), x)
            (dx,) = pull(y)
            assert (y.dtype, dx.dtype) == (dtype, dtype)
            np.testing.assert_array_equal(y, 4 * jnp.ones((1, 2, 2, 2)))
            np.testing.assert_array_equal(dx, 4 * x)


def test_mapped_over_kernels():
    x, ws = integers(0, (2, 5, 4, 2)), integers(1, (3, 2, 2, 2, 3))

    def value_and_slope(x, w):
        return jax.value_and_grad(lambda w: (ops.conv(x, w, stride=2, padding=1) ** 2).sum())(w)

    ys, dws = jax.jit(jax.vmap(value_and_slope, (None, 0)))(x, ws)
    one = jax.jit(value_and_slope)
    for y, dw, w in zip(ys, dws, ws, strict=True):
        assert_same((y, dw), one(x, w))


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


@HALF
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_half_precision_rounds_once(dtype, groups):
    """Against float64 on the same numbers: y and every gradient are right to the last place or two."""
    x, w = normal(0, (4, 6, 5, 4), dtype), normal(1, (3, 3, 4 // groups, 4), dtype)
    conv = functools.partial(ops.conv, stride=2, padding=1, groups=groups)
    half = gradients_of(conv, "hand", x, w)
    with jax.enable_x64(True):
        exact = gradients_of(conv, "hand", x.astype("float64"), w.astype("float64"))
    assert_close(half, jax.tree.map(lambda a: a.astype(dtype), exact), ulps=1)


def first_is_large(dtype):
    """(large, 1, 1, ...): in `dtype`, large + 1 is large, so that a sum kept in it stalls at once."""
    large = 2 / float(jnp.finfo(dtype).eps)
    return jnp.ones(8, dtype).at[0].set(large)


def assert_summed(sums, dtype):
    """Each sum of `first_is_large` is large + 7, but for the last place."""
    large = 2 / float(jnp.finfo(dtype).eps)
    for name, value in sums.items():
        assert value.dtype == dtype
        assert large + 6 <= value.astype(float) <= large + 8, name


@HALF
@pytest.mark.parametrize(
    ("channels", "features", "groups"), [(1, 1, 1), (2, 2, 2), (4, 4, 2)], ids=["dense", "depthwise", "grouped"]
)
def test_half_precision_sums_in_float32(dtype, channels, features, groups):
    first = first_is_large(dtype)

    @jax.jit
    def run(x, w, dy):
        """x (1, 9, C) is one and w (8, C/g, K) and dy (1, 8, K) are `first` in their first channel."""
        conv = functools.partial(ops.conv, groups=groups)
        y = conv(x[:, :8] * (jnp.arange(channels) == 0).astype(dtype), w)
        dx = jax.vjp(lambda x: conv(x, w, padding=7), x[:, :1])[1](jnp.ones((1, 8, features), dtype))[0]
        _, pull = jax.vjp(conv, x, jnp.ones_like(w[:2]), jnp.zeros(features, dtype))
        _, dw, db = pull(dy)
        return {"y": y[0, 0, 0], "dx": dx[0, 0, 0], "dw": dw[0, 0, 0], "db": db[0]}

    x, w = jnp.ones((1, 9, channels), dtype), jnp.zeros((8, channels // groups, features), dtype)
    assert_summed(run(x, w.at[:, 0, 0].set(first), jnp.zeros((1, 8, features), dtype).at[0, :, 0].set(first)), dtype)


@HALF
def test_half_precision_sums_channels_and_positions_in_float32(dtype):
    """The matrix products of a 1x1 convolution, over the channels for y and dx and over the positions for dw."""
    first = first_is_large(dtype)
    ones, zeros = jnp.ones((1, 8, 8), dtype), jnp.zeros((1, 8, 8), dtype)

    @jax.jit
    def run():
        y = ops.conv(zeros.at[0, 0].set(first), ones)
        dx = jax.vjp(lambda x: ops.conv(x, zeros.at[0, 0].set(first)), ones)[1](ones)[0]
        dw = jax.vjp(lambda w: ops.conv(zeros.at[0, :, 0].set(first), w), ones)[1](ones)[0]
        return {"y": y[0, 0, 0], "dx": dx[0, 0, 0], "dw": dw[0, 0, 0]}

    assert_summed(run(), dtype)


X1, X2, W1, W2 = jnp.ones((1, 6, 2)), jnp.ones((1, 6, 5, 2)), jnp.ones((3, 2, 4)), jnp.ones((3, 3, 2, 4))
PADDINGS = "padding VALID, SAME, CAUSAL (1-D), an integer >= 0, or 2 pairs (before, after) >= 0; got "


@pytest.mark.parametrize("call", [ops.conv, ops.conv_transpose])
@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (
            (X2[0, 0], W2),
            {},
            "x of shape (N, *spatial, C) with 2 spatial axes, as many as the kernel (3, 3, 2, 4) has; got x of",
        ),
        ((jnp.ones((1,) * 6), W2), {}, "x of shape (N, *spatial, C) with 2 spatial axes, as many as"),
        ((X2[:, :0], W2), {"padding": 1}, "spatial sizes >= 1; got x of shape (1, 0, 5, 2)"),
        (
            (X2, W1),
            {},
            "x of shape (N, *spatial, C) with 1 spatial axes, as many as the kernel (3, 2, 4) has; got x of shape",
        ),
        ((X1, W1[:0]), {}, "a window of sizes >= 1; got (0,)"),
        ((jnp.ones((1, 6, 5, 3)), W2), {}, "x with 2 channels for a kernel (3, 3, 2, 4) and groups=1; got 3 channels"),
        ((X2, W2), {"groups": 2}, "x with 4 channels for a kernel (3, 3, 2, 4) and groups=2; got 2 channels"),
        ((X2, W2), {"groups": 3}, "groups >= 1 that divide 4 output channels; got 3; change groups"),
        ((X2, W2), {"groups": 0}, "groups >= 1; got 0"),
        ((X2, W2), {"groups": -1}, "groups >= 1; got -1"),
        ((X2, W2), {"groups": 1.0}, "an integer groups >= 1; got 1.0"),
        ((X2, W2, jnp.ones(3)), {}, "a bias of shape (4,); got (3,); one entry an output channel"),
        ((X2, W2, 1.0), {}, "an array for bias; got float"),
        ((X2, W2), {"stride": 0}, "stride >= 1, one integer or 2; got 0"),
        ((X2, W2), {"stride": (1, -2)}, "stride >= 1, one integer or 2; got (1, -2)"),
        ((X2, W2), {"stride": (1,)}, "stride >= 1, one integer or 2; got (1,)"),
        ((X2, W2), {"dilation": 0}, "dilation >= 1, one integer or 2; got 0"),
        ((X2, W2), {"padding": -1}, PADDINGS + "-1"),
        ((X2, W2), {"padding": None}, PADDINGS + "None"),
        ((X2, W2), {"padding": 1.5}, PADDINGS + "1.5"),
        ((X2, W2), {"padding": np.ones((2, 2), int)}, PADDINGS + "an array, int64 of shape (2, 2)"),
        ((X2, W2), {"padding": ((1, 1),)}, PADDINGS + "((1, 1),)"),
        ((X2, W2), {"padding": ((1, 1), (0, -1))}, PADDINGS + "((1, 1), (0, -1))"),
        (([1.0], W2), {}, "an array for x; got list; pass a jax or numpy array"),
        ((X2.astype(int), W2.astype(int)), {}, "a floating-point x; got int32 of shape (1, 6, 5, 2)"),
        ((X2, W2.astype(int)), {}, "a floating-point kernel; got int32"),
        ((X2.astype("complex64"), W2), {}, "a floating-point x; got complex64"),
        ((X2, W2.astype("bfloat16")), {}, "one dtype for all arguments; got x float32, kernel bfloat16"),
        ((X2, W2, jnp.ones(4, "float16")), {}, "one dtype for all arguments; got x float32, kernel float32, "),
    ],
)
def test_bad_inputs(call, args, options, message):
    with pytest.raises(fnn.InputError, match=f"^{call.__name__} expected {re.escape(message)}"):
        call(*args, **options)


@pytest.mark.parametrize(
    ("x", "kernel", "options", "message"),
    [
        (X2, W2, {"dilation": 3}, "an input at least as large as its window (7 in this axis); got 6 padded to 6"),
        (X1[:, :2], W1, {}, "an input at least as large as its window (3 in this axis); got 2 padded to 2"),
        (X2, W2, {"padding": "same"}, PADDINGS + "'same'"),
        (X2, W2, {"padding": "CAUSAL"}, PADDINGS + "'CAUSAL'"),
    ],
)
def test_bad_windows(x, kernel, options, message):
    with pytest.raises(fnn.InputError, match="^conv expected " + re.escape(message)):
        ops.conv(x, kernel, **options)


@pytest.mark.parametrize(
    ("x", "filter", "options", "message"),
    [
        (
            X2,
            jnp.ones(3),
            {},
            "filter_pool expected x of shape (N, *spatial, C) with as many spatial axes as the filter (3,); got x of",
        ),
        (X2, [1.0], {}, "filter_pool expected an array for filter; got list"),
        (X2.astype(int), jnp.ones((2, 2)), {}, "filter_pool expected a floating-point x; got int32"),
        (X2, jnp.ones((7, 2)), {}, "conv expected an input at least as large as its window (7 in this axis)"),
        (X2, jnp.ones((2, 2)), {"stride": 0}, "conv expected stride >= 1"),
        (
            X2[0, 0],
            jnp.ones(()),
            {},
            "conv expected a kernel (*window, C/groups, K) with 1 to 3 window axes; got (1, 2)",
        ),
    ],
)
def test_bad_filters(x, filter, options, message):
    with pytest.raises(fnn.InputError, match="^" + re.escape(message)):
        ops.filter_pool(x, filter, **options)
