"""Hand-made filters: the lectures' images, and what each must do to flat, sloped and single-spot images."""

import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.data import filters


def apply(filter, image):
    """Run a filter over one (H, W) image."""
    return fnn.ops.conv(image[None, ..., None], filters.depthwise_kernel(filter, 1), groups=1)[0, ..., 0]


def test_vertical_edge_on_a_step():
    """A 6x6 image, left half 10, right half 0: 0 30 30 0 in every row (Ng, Convolutional Neural Networks, week 1)."""
    step = jnp.tile(jnp.array([10.0, 10, 10, 0, 0, 0]), (6, 1))
    np.testing.assert_array_equal(apply(filters.vertical_edge(), step), [[0, 30, 30, 0]] * 4)
    np.testing.assert_array_equal(apply(filters.horizontal_edge(), step.T), np.transpose([[0, 30, 30, 0]] * 4))
    assert not apply(filters.horizontal_edge(), step).any()


def test_sobel_measures_eight_times_the_slope():
    y, x = jnp.mgrid[:4, :5].astype(jnp.float32)
    ramp = 2 * x - 3 * y
    np.testing.assert_array_equal(apply(filters.sobel_x(), ramp), jnp.full((2, 3), 16.0))
    np.testing.assert_array_equal(apply(filters.sobel_y(), ramp), jnp.full((2, 3), -24.0))


def test_laplacian_and_sharpen():
    y, x = jnp.mgrid[:4, :5].astype(jnp.float32)
    assert not apply(filters.laplacian(), 2 * x - 3 * y + 7).any()
    np.testing.assert_array_equal(apply(filters.laplacian(), x * x + y * y), jnp.full((2, 3), 4.0))
    np.testing.assert_array_equal(filters.sharpen() + filters.laplacian(), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("size", [1, 2, 3, (3, 5), (4,), (2, 3, 2)])
def test_blurs_keep_the_brightness(size):
    for blur in (filters.box(size), filters.gaussian(size, 0.8), filters.gaussian(size, 1e-3)):
        assert blur.dtype == jnp.float32
        assert blur.shape == ((size, size) if isinstance(size, int) else size)
        np.testing.assert_allclose(blur.sum(), 1, rtol=1e-6)
        np.testing.assert_allclose(blur, jnp.flip(blur), rtol=1e-6)


def test_gaussian_values():
    curve = np.exp(-np.array([4, 1, 0, 1, 4]) / (2 * 1.5**2))
    want = np.outer(curve, curve) / curve.sum() ** 2
    np.testing.assert_allclose(filters.gaussian(5, 1.5), want, rtol=1e-6)
    np.testing.assert_allclose(filters.gaussian((1, 2), 1.0), [[0.5, 0.5]])


def test_depthwise_kernel_filters_each_channel_alone():
    x = jnp.arange(2 * 4 * 5 * 3, dtype=jnp.float32).reshape(2, 4, 5, 3) % 7
    y = fnn.ops.conv(x, filters.depthwise_kernel(filters.sobel_x(), 3), groups=3)
    for n in range(2):
        for c in range(3):
            np.testing.assert_array_equal(y[n, ..., c], apply(filters.sobel_x(), x[n, ..., c]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: filters.box(0), r"box expected a size >= 1.*got 0"),
        (lambda: filters.gaussian((3, -1), 1.0), r"gaussian expected a size >= 1.*got \(3, -1\)"),
        (lambda: filters.gaussian(3, 0.0), r"sigma > 0, in pixels; got 0.0"),
        (lambda: filters.depthwise_kernel(filters.box(3), 0), r"channels >= 1; got 0"),
        (lambda: filters.depthwise_kernel(jnp.ones(()), 1), r"a filter such as \(h, w\); got \(\)"),
    ],
)
def test_errors_say_what_came(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()
