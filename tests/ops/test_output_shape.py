"""Transposed convolution: SAME with windows below the stride, and output_shape for sizes a stride does not divide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from tests.helpers import integers, mostly_long

SAME = [(f, s, d) for f in (1, 2, 3, 5) for s in (1, 2, 3, 4) for d in (1, 2)]


def like_lax(x, w, stride, dilation):
    """`lax.conv_transpose`, on which flax's ConvTranspose is built; it correlates where fnn paints: flip the kernel."""
    numbers = ("NHC", "HIO", "NHC")
    return lax.conv_transpose(x, w[::-1], stride, "SAME", rhs_dilation=dilation, dimension_numbers=numbers)


def compared_with_lax(f, s, d):
    x, w = integers(0, (1, 4, 2)), integers(1, (f, 2, 3))
    ours = fnn.ops.conv_transpose(x, w, stride=s, padding="SAME", dilation=d)
    assert ours.shape == (1, 4 * s, 3)
    np.testing.assert_array_equal(ours, like_lax(x, w, (s,), (d,)))


@pytest.mark.parametrize(("f", "s", "d"), [(1, 3, 1), (2, 4, 1), (5, 2, 1), (2, 3, 2)])
def test_same_is_that_of_lax_and_flax(f, s, d):
    compared_with_lax(f, s, d)


@pytest.mark.long
@pytest.mark.parametrize(("f", "s", "d"), SAME)
def test_same_is_that_of_lax_for_all_windows_and_strides(f, s, d):
    compared_with_lax(f, s, d)


def test_same_with_a_window_below_the_stride_by_hand():
    """Two inputs, window 2, stride 3: each paints two places of its three."""
    x, w = jnp.array([1.0, 2.0]).reshape(1, 2, 1), jnp.array([10.0, 1.0]).reshape(2, 1, 1)
    y = fnn.ops.conv_transpose(x, w, jnp.array([0.5]), stride=3, padding="SAME")
    np.testing.assert_array_equal(y.ravel(), [10.5, 1.5, 0.5, 20.5, 2.5, 0.5])


def output(o, n, f, s, d, padding):
    """Sizes of the transposed convolution with output_shape o of n inputs, or None where it is refused."""
    specs = jax.ShapeDtypeStruct((1, n, 2), jnp.float32), jax.ShapeDtypeStruct((f, 2, 3), jnp.float32)
    try:
        y = jax.eval_shape(
            lambda x, w: fnn.ops.conv_transpose(x, w, stride=s, padding=padding, dilation=d, output_shape=o), *specs
        )
    except fnn.InputError:
        return None
    return y.shape[1]


def forward(o, f, s, d, padding):
    """Outputs of the convolution of an input of size o, or None where it is refused."""
    specs = jax.ShapeDtypeStruct((1, o, 3), jnp.float32), jax.ShapeDtypeStruct((f, 3, 2), jnp.float32)
    try:
        y = jax.eval_shape(lambda x, w: fnn.ops.conv(x, w, stride=s, padding=padding, dilation=d), *specs)
    except fnn.InputError:
        return None
    return y.shape[1]


def test_the_sizes_within_reach_are_those_that_the_convolution_maps_back():
    with fnn.gradients("auto"):
        for f, s, d in [(1, 3, 1), (2, 3, 1), (3, 2, 1), (2, 2, 2), (4, 1, 1)]:
            for padding in ("SAME", "VALID", 1):
                for o in range(1, 14):
                    back = forward(o, f, s, d, padding)
                    assert output(o, 3, f, s, d, padding) == (o if back == 3 else None), (f, s, d, padding, o)


@pytest.mark.parametrize("mode", ["hand", pytest.param("auto", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("padding", "sizes"),
    mostly_long([("SAME", (7, 5)), (1, (8, 3)), ("SAME", (8, 6)), ("VALID", (10, 6)), (((1, 0), (0, 1)), (9, 4))], 3),
)
def test_output_shape_undoes_the_convolution(padding, sizes, mode):
    """It is the input gradient of the convolution that maps these sizes to those of x, as `lax` computes it."""
    stride, window = (2, 3), (4, 2)
    w = integers(0, (*window, 2, 3))
    back = jnp.swapaxes(w, 2, 3)
    with fnn.gradients(mode):
        x = jax.eval_shape(lambda a: fnn.ops.conv(a, back, stride=stride, padding=padding), jnp.zeros((1, *sizes, 3)))
        x = integers(1, x.shape)
        y, pull = jax.vjp(
            lambda x, w: fnn.ops.conv_transpose(x, w, stride=stride, padding=padding, output_shape=sizes), x, w
        )
        dy = integers(2, y.shape)
        dx, dw = pull(dy)
        image, pull = jax.vjp(lambda a, w: fnn.ops.conv(a, w, stride=stride, padding=padding), dy, back)
        want = pull(x)[0]
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(dx, image)
    np.testing.assert_array_equal(dw, jnp.swapaxes(pull(x)[1], 2, 3))


def test_the_layer_takes_output_shape():
    layer = fnn.conv_transpose(2, 3, stride=2, padding="SAME", output_shape=(7, 8))
    params, state = layer.init(jax.random.key(0), (1, 4, 4, 1))
    y, _ = layer.apply(params, state, jnp.ones((1, 4, 4, 1)))
    assert y.shape == (1, 7, 8, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_shape": 9}, r"output_shape from \(7,\) to \(8,\) for inputs \(4,\) and stride \(2,\); got \(9,\)"),
        ({"output_shape": 6}, r"output_shape from \(7,\) to \(8,\)"),
        ({"output_shape": 12, "padding": "VALID"}, r"output_shape from \(9,\) to \(10,\)"),
        ({"output_shape": (7, 7)}, r"output_shape >= 1, one integer or 1"),
        ({"output_shape": 7, "output_padding": 1}, "output_shape or output_padding; got both"),
    ],
)
def test_errors_name_the_sizes_within_reach(options, message):
    options = {"stride": 2, "padding": "SAME"} | options
    with pytest.raises(fnn.InputError, match=message):
        fnn.ops.conv_transpose(jnp.ones((1, 4, 1)), jnp.ones((3, 1, 1)), **options)
