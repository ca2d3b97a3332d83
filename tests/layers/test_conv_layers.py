"""Convolution layers: parameters, dtypes, and that they are the operations."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from fnn.data import filters
from tests.helpers import assert_close, integers

KEY = jax.random.key(0)


def count(layer, shape):
    return sum(p.size for p in jax.tree.leaves(jax.eval_shape(lambda: layer.init(KEY, shape)[0])))


def test_parameter_counts():
    assert count(fnn.conv(100, 3), (1, 8, 8, 3)) == 2_800
    assert count(fnn.conv(16, 5), (1, 32, 32, 3)) == 1_216
    assert count(fnn.conv(16, 5, bias=False), (1, 32, 32, 3)) == 1_200
    assert count(fnn.conv(64, 3, groups=4), (1, 8, 8, 32)) == 3 * 3 * 8 * 64 + 64
    assert count(fnn.depthwise_conv(3, multiplier=2), (1, 8, 8, 32)) == 3 * 3 * 64 + 64
    assert count(fnn.separable_conv(64, 3), (1, 8, 8, 32)) == 3 * 3 * 32 + 32 * 64 + 64


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


SHAPE = (1, 8, 8, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.conv(0, 3), "conv expected features >= 1; got 0; use at least one output channel"),
        (lambda: fnn.conv(2.0, 3), "conv expected an integer features >= 1; got 2.0"),
        (lambda: fnn.conv_transpose(-1, 3), "conv_transpose expected features >= 1; got -1"),
        (lambda: fnn.conv(4, 0), "conv expected kernel_size >= 1, one integer or one a spatial axis; got 0"),
        (
            lambda: fnn.conv(4, 3, stride=(1, 2.0)),
            "conv expected stride >= 1, one integer or one a spatial axis; got (1",
        ),
        (
            lambda: fnn.conv(4, (3, 3), stride=(1, 1, 1)),
            "conv expected options for the same number of spatial axes; got",
        ),
        (lambda: fnn.conv(6, 3, groups=4), "conv expected groups that divide 6 output channels; got 4"),
        (lambda: fnn.conv(4, 3, groups=None), "conv expected an integer groups >= 1; got None"),
        (
            lambda: fnn.separable_conv(4, 3, padding="same"),
            "depthwise_conv expected padding VALID, SAME, CAUSAL, REFLECT",
        ),
    ],
)
def test_options_are_checked_when_a_layer_is_made(make, message):
    with pytest.raises(fnn.InputError, match="^" + re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (
            fnn.conv(4, (3, 3, 3)),
            SHAPE,
            "conv expected x of shape (N, *spatial, C) with 3 spatial axes, as its kernel_size, rank, stride or "
            "padding say; got x of shape (1, 8, 8, 4); give x a batch axis: x[None], or a channel axis: x[..., None]",
        ),
        (
            fnn.conv(4, 3, groups=4),
            (1, 8, 8, 6),
            "conv expected groups that divide 6 input and 4 output channels; got 4",
        ),
        (
            fnn.conv(4, 3),
            (8, 4),
            "conv expected x (N, *spatial, C) with 1 to 3 spatial axes; got x of shape (8, 4); give",
        ),
        (fnn.depthwise_conv(3), (1,) * 6, "depthwise_conv expected x (N, *spatial, C) with 1 to 3 spatial axes"),
        (fnn.conv(4, 3), (1, 8, 8, 0), "conv expected at least one channel, last; got x of shape (1, 8, 8, 0)"),
        (fnn.conv(4, 3), jnp.ones(SHAPE, int), "conv expected a floating-point x; got int32 of shape (1, 8, 8, 4)"),
    ],
)
def test_bad_inputs(layer, x, message):
    with pytest.raises(fnn.InputError, match="^" + re.escape(message)):
        layer.init(KEY, x)


@pytest.mark.parametrize("multiplier", [0, 1.5, None])
def test_bad_multiplier(multiplier):
    with pytest.raises(fnn.InputError, match=f"^depthwise_conv expected .*multiplier >= 1; got {multiplier}"):
        fnn.depthwise_conv(3, multiplier=multiplier)


def test_a_layer_notices_another_input_than_it_was_made_for():
    for layer in (fnn.conv(6, 3), fnn.conv_transpose(6, 3)):
        params, _ = layer.init(KEY, SHAPE)
        with pytest.raises(fnn.InputError, match=rf"^{layer.name} expected x with 4 channels .* got 2 channels"):
            layer.apply(params, {}, jnp.ones((1, 8, 8, 2)))
        with pytest.raises(fnn.InputError, match=rf"^{layer.name} expected params with \['kernel'\] .*; got \[\]"):
            layer.apply({}, {}, jnp.ones(SHAPE))
    depthwise = fnn.depthwise_conv(3)
    params, _ = depthwise.init(KEY, SHAPE)
    for channels in (2, 8):  # two divides the kernel's four outputs, and could pass for a multiplier
        with pytest.raises(fnn.InputError, match=f"expected x with 4 channels .* got {channels} channels"):
            depthwise.apply(params, {}, jnp.ones((1, 8, 8, channels)))


def test_an_error_names_the_path_to_the_layer():
    net = fnn.serial(conv1=fnn.conv(6, 5), act=fnn.relu(), conv2=fnn.conv(16, 5))
    with pytest.raises(fnn.InputError, match=r"^in conv2: conv expected an input at least as large as its window \(5 "):
        net.init(KEY, (1, 8, 8, 1))
    params, state = net.init(KEY, (1, 12, 12, 1))
    with pytest.raises(fnn.InputError, match=r"^in conv1: conv expected x with 1 channels for a kernel \(5, 5, 1, 6\)"):
        net.apply(params, state, jnp.ones((1, 12, 12, 3)))
    deep = fnn.serial(features=fnn.serial(fnn.separable_conv(4, 3, padding="CAUSAL")))
    with pytest.raises(
        fnn.InputError, match=r"^in features/00_serial/depthwise: depthwise_conv expected x .* with 1 spatial axes"
    ):
        deep.init(KEY, SHAPE)


@pytest.mark.parametrize(
    "layer",
    [
        fnn.conv(4, (3, 3)),
        fnn.conv(4, 3, rank=2),
        fnn.conv(4, 3, stride=(1, 2)),
        fnn.depthwise_conv(3, rank=2),
        fnn.separable_conv(4, 3, rank=2),
        fnn.conv_transpose(4, 3, rank=2),
        fnn.conv_transpose(4, 3, output_shape=(12, 12)),
    ],
)
def test_an_image_without_its_batch_axis_is_refused_where_the_layer_knows_its_rank(layer):
    with pytest.raises(
        fnn.InputError, match=r"with 2 spatial axes, .*; got x of shape \(8, 8, 4\); give x a batch axis"
    ):
        layer.init(KEY, SHAPE[1:])
    params, state = layer.init(KEY, SHAPE)
    with pytest.raises(fnn.InputError, match=r"got x of shape \(8, 8, 4\); give x a batch axis: x\[None\]$"):
        layer.apply(params, state, jnp.ones(SHAPE[1:]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.conv(4, 3, rank=4), "conv expected rank from 1 to 3; got 4; use 1, 2 or 3"),
        (lambda: fnn.conv(4, (3, 3), rank=1), "options for the same number of spatial axes; got {'kernel_size': 2, "),
        (lambda: fnn.conv(4, (3, 3), padding="CAUSAL"), "conv expected CAUSAL padding in 1-D; got 2 spatial axes"),
        (lambda: fnn.max_pool((2, 2), padding="CAUSAL"), "max_pool expected CAUSAL padding in 1-D; got 2 spatial axes"),
        (lambda: fnn.avg_pool(2, stride=(2, 1), padding="CAUSAL"), "avg_pool expected CAUSAL padding in 1-D"),
        (lambda: fnn.conv_transpose(4, 3, output_padding=1), "conv_transpose expected output_padding below (1,)"),
        (
            lambda: fnn.conv_transpose(4, 3, stride=(2, 1), output_padding=1),
            "conv_transpose expected output_padding below (2, 1); got (1, 1); use less",
        ),
    ],
)
def test_options_are_checked_when_the_layer_is_made(make, message):
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        make()
