"""Pooling: textbook numbers, bins, ties, padding, non-finite values, large windows, half precision, errors."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from fnn.ops.pooling import average, maximum, windows
from tests.helpers import assert_close

GRID = jnp.array([[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
BOTH = pytest.mark.parametrize("mode", ["hand", "auto"])


def image(rows):
    return jnp.asarray(rows, jnp.float32)[None, ..., None]


def pull(f, x, dy=None):
    """dx for the given dy, or for a dy of ones."""
    y, back = jax.vjp(f, x)
    return back(jnp.ones_like(y) if dy is None else dy)[0]


@BOTH
def test_max_pool_routes_the_gradient_to_the_maximum(mode):
    with fnn.gradients(mode):
        x, dy = image(GRID), image([[1, 2], [3, 4]])
        np.testing.assert_array_equal(ops.max_pool(x, 2)[0, ..., 0], [[6, 8], [3, 4]])
        dx = pull(lambda x: ops.max_pool(x, 2), x, dy)[0, ..., 0]
    np.testing.assert_array_equal(dx, [[0, 0, 0, 0], [0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 0, 4]])


@BOTH
def test_overlapping_windows_add_up(mode):
    x = jnp.array([0.0, 1, 9, 2, 3]).reshape(1, 5, 1)
    with fnn.gradients(mode):
        dx = pull(lambda x: ops.max_pool(x, 3, stride=1), x, jnp.array([1.0, 10, 100]).reshape(1, 3, 1))
    np.testing.assert_array_equal(dx.ravel(), [0, 0, 111, 0, 0])


@BOTH
def test_average_pool_gives_a_quarter_to_each(mode):
    with fnn.gradients(mode):
        np.testing.assert_array_equal(ops.avg_pool(image(GRID), 2)[0, ..., 0], [[3.25, 5.25], [2, 2]])
        dx = pull(lambda x: ops.avg_pool(x, 2), image(GRID), image([[1, 2], [3, 4]]))[0, ..., 0]
    np.testing.assert_array_equal(dx, np.kron([[0.25, 0.5], [0.75, 1]], np.ones((2, 2))))


def test_padding_counts_only_when_asked():
    x = jnp.ones((1, 4, 4, 1))
    np.testing.assert_array_equal(ops.avg_pool(x, 3, stride=2, padding=1), jnp.ones((1, 2, 2, 1)))
    counted = ops.avg_pool(x, 3, stride=2, padding=1, count_padding=True)[0, ..., 0]
    np.testing.assert_allclose(counted, np.array([[4, 6], [6, 9]]) / 9, rtol=1e-6)
    # Each real element of a window that holds four receives 1/4, and padding nothing.
    dx = pull(lambda x: ops.avg_pool(x, 3, stride=3, padding=1), jnp.ones((1, 5, 5, 1)))
    np.testing.assert_allclose(dx[0, :3, :3, 0], [[1 / 4, 1 / 4, 1 / 6], [1 / 4, 1 / 4, 1 / 6], [1 / 6, 1 / 6, 1 / 9]])


@pytest.mark.parametrize("f", [1, 2, 3, 5])
@pytest.mark.parametrize("s", [1, 2, 4])
@pytest.mark.parametrize("pad", [0, 1, 2])
def test_output_size(f, s, pad):
    if pad >= f:
        pytest.skip("more padding than window")
    want = (1, (6 + 2 * pad - f) // s + 1, (9 + 2 * pad - f) // s + 1, 2)
    for pool in (ops.max_pool, ops.avg_pool):
        call = functools.partial(pool, window=f, stride=s, padding=pad)
        assert jax.eval_shape(call, jnp.ones((1, 6, 9, 2))).shape == want


def test_adaptive_bins_are_those_of_explicit_loops():
    x = np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype(np.float32)
    for outputs in [(3, 2), (7, 5), (1, 1), (9, 4)]:
        want = np.zeros((2, *outputs, 3))
        for p in range(outputs[0]):
            for q in range(outputs[1]):
                rows = slice(int(np.floor(p * 7 / outputs[0])), int(np.ceil((p + 1) * 7 / outputs[0])))
                columns = slice(int(np.floor(q * 5 / outputs[1])), int(np.ceil((q + 1) * 5 / outputs[1])))
                want[:, p, q] = x[:, rows, columns].mean((1, 2))
        np.testing.assert_allclose(ops.adaptive_avg_pool(x, outputs), want, atol=1e-6)


def test_infinity_stays_within_even_bins():
    x = jnp.ones((1, 6, 4, 2)).at[0, 3, 1, 1].set(jnp.inf)
    want = np.ones((1, 3, 2, 2))
    want[0, 1, 0, 1] = np.inf
    np.testing.assert_array_equal(ops.adaptive_avg_pool(x, (3, 2)), want)


@BOTH
def test_a_tie_goes_to_the_first(mode):
    flat = jnp.zeros((1, 4, 4, 1))
    with fnn.gradients(mode):
        dx = pull(lambda x: ops.max_pool(x, 2), flat)[0, ..., 0]
        np.testing.assert_array_equal(dx, [[1, 0, 1, 0], [0, 0, 0, 0]] * 2)
        # The row decides before the column.
        dx = pull(lambda x: ops.max_pool(x, 2), image([[0, 7], [7, 0]]))[0, ..., 0]
        np.testing.assert_array_equal(dx, [[0, 1], [0, 0]])
        dx = pull(ops.global_max_pool, image([[0, 7, 0], [7, 0, 7]]))[0, ..., 0]
        np.testing.assert_array_equal(dx, [[0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("shape", "window", "options"),
    [
        ((2, 6, 7, 2), (3, 2), {"stride": (2, 1), "padding": "SAME"}),
        ((1, 5, 4, 4, 2), (2, 3, 2), {"stride": 1, "padding": ((1, 0), (1, 2), (0, 1))}),
        ((2, 9, 3), 4, {"stride": 1, "padding": "CAUSAL"}),
    ],
)
@pytest.mark.parametrize("values", [[0.0, 1.0], [-np.inf, -np.inf, 0.0], [-np.inf]])
def test_ties_and_infinities_are_routed_as_automatic_does(shape, window, options, values):
    x = jnp.asarray(np.random.default_rng(1).choice(values, shape), jnp.float32)

    def run(mode):
        with fnn.gradients(mode):
            y, back = jax.vjp(lambda x: ops.max_pool(x, window, **options), x)
            return y, back(jnp.arange(1.0, y.size + 1).reshape(y.shape))[0]

    for hand, auto in zip(run("hand"), run("auto"), strict=True):
        np.testing.assert_array_equal(hand, auto)


def test_nan_wins_and_takes_the_gradient():
    x = jnp.array([0.0, 1, np.nan, 2, np.inf, np.nan, 3, 4]).reshape(1, 8, 1)
    for mode in ("hand", "auto"):
        with fnn.gradients(mode):
            y = ops.max_pool(x, 4, stride=2, padding=((1, 1),))
            np.testing.assert_array_equal(y.ravel(), [np.nan, np.nan, np.nan, np.nan])
            np.testing.assert_array_equal(ops.max_pool(x, 2).ravel(), [1, np.nan, np.nan, 4])
            np.testing.assert_array_equal(ops.global_max_pool(x).ravel(), [np.nan])
    np.testing.assert_array_equal(pull(lambda x: ops.max_pool(x, 8), x).ravel(), [0, 0, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(pull(ops.global_max_pool, x).ravel(), [0, 0, 1, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("window", "stride", "dtype"), [(2, 2, "int8"), (3, 130, "int8"), (128, 200, "int8"), (129, 5, "int16")]
)
def test_windows_and_strides_of_more_than_127_taps(window, stride, dtype):
    x = jax.random.normal(jax.random.key(0), (1, 700, 1))
    spec = windows.geometry("max_pool", x, window, stride, "VALID")
    _, (index, _) = jax.eval_shape(lambda x: maximum.rule.fwd(spec, x), x)
    assert index.dtype == dtype

    def slope(mode):
        with fnn.gradients(mode):
            return jax.jit(lambda x: pull(lambda x: jnp.sin(ops.max_pool(x, window, stride=stride)), x))(x)

    assert_close(slope("hand"), slope("auto"))


@pytest.mark.parametrize("values", [None, [0.0, 1.0], [-np.inf, 0.0]])
def test_many_taps_go_axis_by_axis(values):
    x = jax.random.normal(jax.random.key(0), (2, 9, 11, 2))
    x = x if values is None else jnp.asarray(np.random.default_rng(0).choice(values, x.shape), jnp.float32)
    options = {"stride": (1, 3), "padding": ((2, 3), (1, 0))}

    def slope(f):
        return jax.jit(
            lambda x: (lambda y, back: (y, back(jnp.arange(1.0, y.size + 1).reshape(y.shape))))(*jax.vjp(f, x))
        )

    spec = windows.geometry("max_pool", x, (6, 5), **options)
    assert len(spec.split()) == 2
    got = slope(lambda x: ops.max_pool(x, (6, 5), **options))(x)
    # One piece, and differentiated by JAX.
    for a, b in zip(got, slope(lambda x: maximum.rule.forward(spec, x))(x), strict=True):
        np.testing.assert_array_equal(a, b)
    mean = slope(lambda x: ops.avg_pool(x, (6, 5), **options))
    with fnn.gradients("auto"):
        want = mean(x)
    if values is None:
        assert_close(mean(x), want)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.long
def test_half_precision_sums_in_float32(dtype):
    # A sum of 300 times 400 overflows float16, and stalls in bfloat16.
    x = jnp.full((1, 300, 1), 400, dtype)
    for pool in (lambda x: ops.avg_pool(x, 300), lambda x: ops.adaptive_avg_pool(x, 1), ops.global_avg_pool):
        y = pool(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.astype(jnp.float32).ravel(), [400])
    # Beside `large`, which is added first, each 1 is lost; four together are not.
    large = 2 / float(jnp.finfo(dtype).eps)
    x, dy = jnp.zeros((1, 9, 1), dtype).at[0, 4, 0].set(1), jnp.ones((1, 5, 1), dtype).at[0, 4, 0].set(large)
    assert float(pull(lambda x: ops.max_pool(x, 5, stride=1), x, dy)[0, 4, 0]) == large + 4
    dx = pull(lambda x: ops.avg_pool(x, 4, stride=1), x[:, 1:], 4 * dy)
    np.testing.assert_array_equal(dx.astype(jnp.float32).ravel()[3:], [4, large + 4, large + 2, large, large])


def test_differentiated_twice():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 2))
    for pool in (
        lambda x: ops.max_pool(x, 3, stride=1, padding=1),
        lambda x: ops.avg_pool(x, 3, stride=2, padding=1),
        lambda x: ops.adaptive_avg_pool(x, (2, 3)),
        ops.global_max_pool,
        ops.global_avg_pool,
    ):

        @jax.jit
        def curvature(x, pool=pool):
            return jax.grad(lambda x: (jax.grad(lambda x: (pool(x) ** 3).sum())(x) ** 2).sum())(x)

        with fnn.gradients("auto"):
            want = curvature(x)
        assert_close(curvature(x), want)


def test_residuals_are_small():
    x = jnp.ones((2, 8, 8, 4))
    spec = windows.geometry("max_pool", x, 2, None, "VALID")
    kept = jax.tree.leaves(jax.eval_shape(lambda x: maximum.rule.fwd(spec, x)[1], x))
    assert sum(a.size * a.dtype.itemsize for a in kept) == x.size / 4
    assert average.rule.fwd(average.AveragePool(spec, False), x)[1] == ()


def test_layers_are_the_operations():
    x = jax.random.normal(jax.random.key(0), (2, 6, 5, 3))
    for layer, want in [
        (fnn.max_pool(2, stride=1, padding="SAME"), ops.max_pool(x, 2, stride=1, padding="SAME")),
        (
            fnn.avg_pool(3, stride=2, padding=1, count_padding=True),
            ops.avg_pool(x, 3, stride=2, padding=1, count_padding=True),
        ),
        (fnn.global_max_pool(), x.max((1, 2))),
        (fnn.global_avg_pool(), x.mean((1, 2))),
        (fnn.adaptive_avg_pool((2, 3)), ops.adaptive_avg_pool(x, (2, 3))),
    ]:
        params, state = layer.init(jax.random.key(0), x)
        y, after = layer.apply(params, state, x)
        assert params == state == after == {}
        np.testing.assert_array_equal(y, want)


IMAGE = jnp.ones((1, 4, 4, 1))
POOLS = {
    "max_pool": lambda x: ops.max_pool(x, 2),
    "avg_pool": lambda x: ops.avg_pool(x, 2),
    "global_max_pool": ops.global_max_pool,
    "global_avg_pool": ops.global_avg_pool,
    "adaptive_avg_pool": lambda x: ops.adaptive_avg_pool(x, 2),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (jnp.ones((1, 4, 4, 1), int), "expected a floating-point x"),
        (jnp.ones((4, 4)), "expected x of shape (N, *spatial, C) with 1 to 3 spatial axes; got (4, 4)"),
        (jnp.ones((1, 2, 2, 2, 2, 1)), "with 1 to 3 spatial axes"),
        (jnp.ones((1, 0, 4, 1)), "expected spatial sizes >= 1; got x of shape (1, 0, 4, 1)"),
    ],
)
def test_bad_inputs(name, x, message):
    with pytest.raises(fnn.InputError, match=f"^{name} .*{re.escape(message)}"):
        POOLS[name](x)


@pytest.mark.parametrize("pool", [ops.max_pool, ops.avg_pool])
@pytest.mark.parametrize(
    ("window", "options", "message"),
    [
        (5, {}, "at least as large as its window"),
        (0, {}, "window >= 1"),
        ((2, 2, 2), {}, "x of shape (N, *spatial, C) with 3 spatial axes, one for each entry"),
        (2, {"stride": 0}, "stride >= 1"),
        (2, {"stride": -1}, "stride >= 1"),
        (2, {"padding": "same"}, "padding VALID, SAME"),
        (2, {"padding": -1}, "padding VALID, SAME"),
        (2, {"padding": 2}, "padding smaller than the window"),
    ],
)
def test_bad_windows(pool, window, options, message):
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        pool(IMAGE, window, **options)


@pytest.mark.parametrize(
    ("size", "message"),
    [(0, "output_size >= 1"), (-1, "output_size >= 1"), (2.0, "output_size >= 1"), ([2], "with 1 spatial axes")],
)
def test_bad_output_size(size, message):
    with pytest.raises(fnn.InputError, match=f"adaptive_avg_pool expected .*{message}"):
        ops.adaptive_avg_pool(IMAGE, size)


def test_an_error_names_the_path_to_the_layer():
    net = fnn.serial(features=fnn.serial(fnn.max_pool(9)))
    with pytest.raises(fnn.InputError, match="in features/00_max_pool: max_pool expected"):
        net.init(jax.random.key(0), (1, 4, 4, 1))
