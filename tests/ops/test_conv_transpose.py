"""Transposed convolution: the adjoint of convolution, its sizes, exactness."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from tests.helpers import assert_exact, integers

BOTH = pytest.mark.parametrize("mode", ["hand", "auto"])


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


X, W = jnp.ones((1, 6, 5, 2)), jnp.ones((3, 3, 2, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "REFLECT"}, "padding VALID, SAME, an integer or pairs; got 'REFLECT'; use one of these"),
        ({"padding": "CAUSAL"}, "padding VALID, SAME, an integer or pairs; got 'CAUSAL'"),
        ({"padding": 4}, "padding that leaves an output; got output (0, -1); use less padding"),
        ({"output_padding": 1}, "output_padding below (1, 1); got (1, 1); use less"),
        ({"output_padding": (1, 3), "stride": (2, 1), "dilation": (1, 3)}, "output_padding below (2, 3); got (1, 3)"),
        ({"output_padding": -1}, "output_padding >= 0, one integer or 2; got -1"),
        ({"output_padding": (0, 0, 0)}, "output_padding >= 0, one integer or 2; got (0, 0, 0)"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(fnn.InputError, match="^conv_transpose expected " + re.escape(message)):
        ops.conv_transpose(X, W, **options)
