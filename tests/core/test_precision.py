"""Mixed precision: which dtype is where, and that the function stays the same."""

import jax
import jax.numpy as jnp
import optax
import pytest

import fnn

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (8, 6, 6, 2))


def net(head=lambda layer: layer):
    return fnn.serial(
        stem=fnn.conv(4, (3, 3), padding="SAME"),
        body=fnn.repeat(fnn.residual(fnn.serial(conv=fnn.conv(4, (3, 3), padding="SAME"), norm=fnn.batch_norm())), 2),
        pool=fnn.global_avg_pool(),
        out=head(fnn.dense(3)),
    )


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def test_dtypes_of_parameters_state_values_gradients_and_outputs():
    mixed = fnn.precision(net(), "bfloat16", output="float32")
    params, state = mixed.init(KEY, X)
    assert dtypes(params) == {"float32"}
    assert dtypes(state) == {"float32", "int32"}
    y, new = mixed.apply(params, state, X, train=True)
    assert y.dtype == jnp.float32
    assert jax.tree.map(lambda a: a.dtype, new) == jax.tree.map(lambda a: a.dtype, state)
    seen = fnn.inspect.activations(mixed, (params, state), X)
    assert dtypes(seen) == {"bfloat16"}
    slopes = jax.grad(lambda p: mixed.apply(p, state, X)[0].sum())(params)
    assert dtypes(slopes) == {"float32"}
    assert fnn.precision(net(), jnp.bfloat16).apply(params, state, X)[0].dtype == jnp.bfloat16
    small = fnn.precision(net(), "float16", params="float16")
    assert dtypes(small.init(KEY, X)[0]) == {"float16"}


def test_the_same_parameters_and_nearly_the_same_values():
    plain, mixed = net(), fnn.precision(net(), "bfloat16", output="float32")
    params, state = plain.init(KEY, X)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, (params, state), mixed.init(KEY, X)))
    want, got = plain.apply(params, state, X)[0], mixed.apply(params, state, X)[0]
    assert 0 < jnp.abs(want - got).max() < 0.03 * jnp.abs(want).max()
    exact = fnn.precision(net(), "float32")
    assert jnp.array_equal(exact.apply(params, state, X)[0], want)


def test_a_child_with_a_precision_of_its_own_keeps_it():
    mixed = fnn.precision(net(lambda head: fnn.precision(head, "float32")), "bfloat16")
    params, state = mixed.init(KEY, X)
    y, _ = mixed.apply(params, state, X)
    assert y.dtype == jnp.float32
    features = fnn.inspect.activations(mixed, (params, state), X)["pool"]
    assert features.dtype == jnp.bfloat16
    head = params["out"]  # its parameters are not rounded on the way
    want = features.astype("float32") @ head["kernel"] + head["bias"]
    assert jnp.array_equal(y, want) or jnp.abs(y - want).max() < 1e-6


def test_children_stay_visible():
    mixed = fnn.precision(net(), "bfloat16")
    table = fnn.summary(mixed, X)
    assert table.splitlines()[2:] == fnn.summary(net(), X).splitlines()[2:]
    assert [name for name, _ in mixed.children] == ["stem", "body", "pool", "out"]
    assert "stem=conv(4, (3, 3), padding='SAME')" in repr(mixed)
    assert repr(mixed).endswith("  precision bfloat16,\n)")


def test_images_of_bytes_initialise_a_network_that_says_what_it_computes_in():
    image = jnp.full((2, 6, 6, 2), 200, jnp.uint8)
    with pytest.raises(fnn.InputError, match="a floating-point x; got uint8"):
        net().init(KEY, image)
    with pytest.raises(fnn.InputError, match="a floating-point x; got uint8"):
        fnn.precision(net(), "float32").init(KEY, image)
    mixed = fnn.precision(net(), "bfloat16", integers=True)
    params, state = mixed.init(KEY, image)
    assert dtypes(params) == {"float32"}
    assert mixed.apply(params, state, image)[0].dtype == jnp.bfloat16
    step = fnn.train.make_step(mixed, fnn.softmax_cross_entropy, optax.adam(1e-3))
    now = fnn.train.init_state(mixed, optax.adam(1e-3), KEY, image)
    now, measures = step(now, (image, jnp.array([0, 1])))
    assert measures["skipped"] == 0
    assert dtypes(now.params) == {"float32"}


def test_integers_inside_a_network_are_left_alone():
    take = fnn.lift(lambda p, x: p["table"][x], lambda key, x: {"table": jax.random.normal(key, (10, 4))}, name="take")
    layer = fnn.precision(fnn.serial(take=take, out=fnn.dense(2)), "bfloat16")
    tokens = jnp.array([[1, 2], [3, 4]])
    assert layer.apply(*layer.init(KEY, tokens), tokens)[0].dtype == jnp.bfloat16


ERRORS = {
    "no dtype": (
        lambda: fnn.precision(fnn.relu(), "bf16"),
        "a floating-point dtype for compute; got 'bf16'; pass",
    ),
    "integers": (
        lambda: fnn.precision(fnn.relu(), "float32", params=int),
        "a floating-point dtype for params; got the",
    ),
    "nothing": (lambda: fnn.precision(fnn.relu(), None), "a floating-point dtype for compute; got None"),
    "narrow": (lambda: fnn.precision(fnn.relu(), "float32", output="float8_e4m3fn"), "dtype for output; got 'float8"),
    "x64": (
        lambda: fnn.precision(fnn.relu(), "float64"),
        r'a dtype of at most 32 bits for compute; got float64; pass "float32", or begin with jax.config.update\("jax_e',
    ),
    "bytes": (
        lambda: fnn.precision(fnn.dense(2), "bfloat16").init(KEY, jnp.ones((1, 3), jnp.uint8)),
        r"a floating-point x; got uint8 .*; fnn.precision\(net, dtype, integers=True\) casts images of bytes",
    ),
    "no flag": (lambda: fnn.precision(fnn.relu(), "float32", integers="yes"), "True or False for integers; got 'yes'"),
    "no layer": (lambda: fnn.precision("float32", fnn.relu()), "precision expected a Layer for layer; got 'float32'"),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=list(ERRORS))
def test_errors(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()
