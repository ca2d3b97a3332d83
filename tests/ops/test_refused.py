"""What no operation of fnn computes is refused by name, before XLA is asked: floats of few bits, impossible sizes."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import data, ops

SMALL = [name for name in dir(jnp) if name.startswith(("float8_", "float6_", "float4_"))]
OTHERS = ("int4", "int8", "complex64", "bool")
ROWS = (2, 4, 4, 2)
# What the operations need besides, by the name of the argument.
SHAPES = {
    "x": ROWS,
    "logits": ROWS,
    "predictions": ROWS,
    "targets": ROWS,
    "kernel": (2, 2, 2, 2),
    "filter": (2, 2),
    "query": ROWS,
    "value": ROWS,
    "log_rates": ROWS,
    "indices": ROWS,
    **dict.fromkeys(("scale", "offset", "mean", "var", "slope"), (2,)),
}
OPTIONS = {
    "window": 2,
    "output_size": 2,
    "groups": 1,
    "key": jax.random.key(0),
    "rate": 0.5,
    "k": 1,
    "pieces": 2,
    "factor": 1,
}
OPTIONS |= {"pairs": ((1, 1), (1, 1)), "mode": "REFLECT", "labels": jnp.zeros(ROWS[:-1], int)}
OWN = {("dense", "kernel"): (2, 2), ("attention", "key"): ROWS, ("embed", "table"): (2, 2)}
EMPTY = inspect.Parameter.empty
LARGE = 10**12


def operations():
    for name, f in vars(ops).items():
        if inspect.isfunction(f) and next(iter(inspect.signature(f).parameters), None) in SHAPES:
            yield name


def arguments(name, dtype):
    for p in inspect.signature(getattr(ops, name)).parameters.values():
        if p.default is EMPTY:
            shape = OWN.get((name, p.name), SHAPES.get(p.name))
            yield p.name, OPTIONS[p.name] if shape is None else np.ones(shape).astype(dtype)


def layers():
    """Every public layer that has parameters, or none that depend on x, with the least options."""
    needed = {
        "features": 2,
        "heads": 1,
        "hidden": 2,
        "rows": 2,
        "pieces": 1,
        "window": 2,
        "kernel_size": 2,
        "groups": 1,
        "rate": 0.5,
        "output_size": 2,
        "filter": jnp.ones((2, 2)),
    }
    for name, f in vars(fnn).items():
        module = getattr(f, "__module__", "")
        if (
            inspect.isfunction(f)
            and module.startswith("fnn.layers")
            and not module.endswith("shape")
            and name != "embed"
        ):
            parameters = inspect.signature(f).parameters.values()
            yield name, f(*[needed[p.name] for p in parameters if p.default is EMPTY])


def test_there_is_something_to_refuse():
    assert len(SMALL) >= 4
    assert {"conv", "dense", "relu", "softmax_cross_entropy", "layer_norm", "max_pool"} <= set(operations())
    assert len(dict(layers())) >= 25


@pytest.mark.parametrize("name", list(operations()))
def test_operations_refuse_other_dtypes_by_name(name):
    for dtype in (*SMALL, *OTHERS):
        with pytest.raises(
            fnn.InputError, match=rf"floating-point \w+( \(float16, .*float64\))?; got {dtype} of shape"
        ):
            getattr(ops, name)(**dict(arguments(name, jnp.dtype(dtype))))


@pytest.mark.parametrize(("name", "layer"), list(layers()))
def test_layers_refuse_other_dtypes_by_name(name, layer):
    for dtype in (*SMALL, "int8"):
        spec = jax.ShapeDtypeStruct(ROWS, dtype)
        with pytest.raises(fnn.InputError, match=rf"floating-point x( \(float16, .*\))?; got {dtype} of shape"):
            fnn.serial(layer).init(jax.random.key(0), spec)


IMAGE, KERNEL, LINE = jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)), jnp.ones((1, 4, 1))
TOO_LARGE = {
    "conv padding": lambda: ops.conv(IMAGE, KERNEL, padding=LARGE),
    "conv pairs": lambda: ops.conv(IMAGE, KERNEL, padding=((0, LARGE), (0, 0))),
    "conv padding, overflowing in sum": lambda: ops.conv(LINE, KERNEL[0], padding=2**31 - 1),
    "conv padding, overflowing in bytes": lambda: ops.conv(IMAGE, KERNEL, padding=2**30),
    "conv padding hidden by a stride": lambda: ops.conv(IMAGE, KERNEL, padding=2**30, stride=2**30),
    "conv stride": lambda: ops.conv(IMAGE, KERNEL, stride=LARGE),
    "conv dilation": lambda: ops.conv(IMAGE, KERNEL, dilation=LARGE),
    "conv dilation and padding": lambda: ops.conv(IMAGE, KERNEL, dilation=2**30, padding=2**30),
    "conv SAME": lambda: ops.conv(LINE, KERNEL[0], dilation=2**31 - 1, padding="SAME"),
    "conv SAME in 2-D": lambda: ops.conv(IMAGE, KERNEL, dilation=2**30, padding="SAME"),
    "conv negative": lambda: ops.conv(IMAGE, KERNEL, padding=-LARGE),
    "conv negative and large": lambda: ops.conv(IMAGE, KERNEL, padding=((-LARGE, LARGE), (0, 0))),
    "transposed stride": lambda: ops.conv_transpose(IMAGE, KERNEL, stride=LARGE),
    "transposed stride that fits an int": lambda: ops.conv_transpose(IMAGE, KERNEL, stride=2**30),
    "transposed dilation": lambda: ops.conv_transpose(IMAGE, KERNEL, dilation=2**30),
    "transposed output padding": lambda: ops.conv_transpose(IMAGE, KERNEL, stride=2**29, output_padding=2**29 - 1),
    "transposed shape": lambda: ops.conv_transpose(IMAGE, KERNEL, output_shape=LARGE),
    "transposed padding": lambda: ops.conv_transpose(IMAGE, KERNEL, padding=LARGE),
    "max pool": lambda: ops.max_pool(LINE, 2**31 - 1, stride=1, padding=2**31 - 2),
    "max pool window": lambda: ops.max_pool(LINE, LARGE),
    "average pool": lambda: ops.avg_pool(IMAGE, 2**30, stride=1, padding=2**30 - 1),
    "adaptive pool": lambda: ops.adaptive_avg_pool(IMAGE, LARGE),
    "adaptive pool in bytes": lambda: ops.adaptive_avg_pool(IMAGE, 2**30),
    "replicate": lambda: ops.pad(IMAGE, ((0, LARGE), (0, 0)), mode="REPLICATE"),
    "replicate in bytes": lambda: ops.pad(IMAGE, ((0, 2**30), (0, 2**30)), mode="REPLICATE"),
    "box": lambda: data.filters.box(2**30),
    "depthwise kernel": lambda: data.filters.depthwise_kernel(data.filters.box((2**10, 2**10)), 2**31 - 1),
    "dense": lambda: fnn.dense(2**31 - 1).init(jax.random.key(0), (1, 2**10)),
    "dense features": lambda: fnn.dense(LARGE),
    "conv layer": lambda: fnn.conv(8, 2**20).init(jax.random.key(0), IMAGE),
    "reshape": lambda: fnn.reshape(LARGE, -1).apply({}, {}, IMAGE),
    "repeat": lambda: fnn.repeat(fnn.relu(), LARGE),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_sizes_that_no_machine_holds_are_refused(name):
    with pytest.raises(fnn.InputError):
        TOO_LARGE[name]()


def test_the_message_of_a_size_that_is_too_large():
    message = (
        r"conv expected arrays of at most 2147483647 along an axis and 1024 GiB; got float32 of shape \(1, 214748365"
    )
    with pytest.raises(fnn.InputError, match=message):
        ops.conv(IMAGE, KERNEL, padding=2**30)


def test_what_is_large_and_possible_passes():
    """A gigabyte, as a shape alone."""
    y = jax.eval_shape(lambda x: ops.conv(x, KERNEL, padding=2**13), jax.ShapeDtypeStruct(IMAGE.shape, jnp.float32))
    assert y.shape == (1, 2**14 + 3, 2**14 + 3, 1)


# 2^31 entries and more in each mean, which no int of JAX counts.
MANY = {
    "batch_norm": lambda x: ops.batch_norm(x, None, None)[0],
    "group_norm": lambda x: ops.group_norm(x, None, None, groups=1),
    "avg_pool": lambda x: ops.avg_pool(x, 2**16),
    "avg_pool at a border": lambda x: ops.avg_pool(x, 2**16, padding=1),
    "global_avg_pool": ops.global_avg_pool,
}


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("name", MANY)
def test_counts_beyond_int32_are_counted(name, mode):
    x = jax.ShapeDtypeStruct((2, 2**16, 2**16, 2), jnp.bfloat16)
    with fnn.gradients(mode):
        dx = jax.eval_shape(jax.grad(lambda x: MANY[name](x).astype(jnp.float32).sum()), x)
    assert (dx.shape, dx.dtype) == (x.shape, x.dtype)


def test_positions_beyond_int32_have_no_number():
    with pytest.raises(fnn.InputError, match="global_max_pool expected at most 2147483647 positions"):
        jax.eval_shape(ops.global_max_pool, jax.ShapeDtypeStruct((1, 2**16, 2**16, 1), jnp.float32))
