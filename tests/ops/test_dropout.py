"""Dropout: one mask in both directions, its expectation, keys, sharded batches, errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn import ops
from fnn.ops.dropout import Dropout
from tests.helpers import assert_close

KEY = jax.random.key(3)


def value_and_slope(x, key, rate=0.25):
    y, pull = jax.vjp(lambda x: ops.dropout(x, key, rate), x)
    return y, pull(jnp.ones_like(y))[0]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["plain", "jit", "remat"])
def test_forward_and_backward_draw_the_same_mask(wrap):
    x = jnp.full((64, 8), 3.0)
    f = wrap(lambda x: ops.dropout(x, KEY, 0.25))
    y, pull = jax.vjp(f, x)
    (dx,) = pull(jnp.ones_like(y))
    np.testing.assert_allclose(np.unique(dx), [0, 4 / 3], rtol=1e-6)
    np.testing.assert_allclose(y, 3 * dx, rtol=1e-6)


def test_the_residual_is_the_key_alone():
    rule = fnn.rules()["dropout"]
    _, residuals = rule.fwd(Dropout(0.5), jnp.ones((4, 4)), KEY)
    assert residuals is KEY


def test_fraction_dropped_and_expectation():
    y = ops.dropout(jnp.ones(100_000), KEY, 0.3)
    assert abs(float((y == 0).mean()) - 0.3) < 5 * (0.3 * 0.7 / 1e5) ** 0.5
    assert abs(float(y.mean()) - 1) < 5 * (0.3 / 0.7 / 1e5) ** 0.5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_kept_entries_grow_by_the_correctly_rounded_factor(dtype):
    y = ops.dropout(jnp.ones(64, dtype), KEY, 0.37)
    assert y.dtype == dtype
    assert set(y.tolist()) == {0.0, float(jnp.asarray(1 / 0.63, dtype))}


def test_keys_decide():
    x = jnp.ones(256)
    a, b, c = (ops.dropout(x, key, 0.5) for key in (KEY, KEY, jax.random.key(4)))
    assert (a == b).all()
    assert 64 < int((a != c).sum()) < 192
    assert ops.dropout(x, jax.random.PRNGKey(0), 0.5).shape == x.shape


def test_rate_zero_is_the_identity():
    x = jnp.ones(4)
    assert ops.dropout(x, KEY, 0) is x
    assert fnn.dropout(0.0).apply({}, {}, x, train=True)[0] is x


def test_vmap_and_scan_over_keys():
    keys, x = jax.random.split(KEY, 3), jnp.ones((3, 16))
    want = jax.tree.map(lambda *a: jnp.stack(a), *[value_and_slope(x[i], keys[i]) for i in range(3)])
    assert_close(jax.vmap(value_and_slope)(x, keys), want)
    scanned = jax.lax.scan(lambda _, args: (None, value_and_slope(*args)), None, (x, keys))[1]
    assert_close(scanned, want)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_sharded_batch_has_the_mask_of_one_device_and_no_collectives(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    x = jax.random.normal(jax.random.key(0), (16, 3))

    @jax.jit
    def f(x, key):
        y, pull = jax.vjp(lambda x: ops.dropout(x, key, 0.25), x)
        return y, pull(x)[0]

    with jax.set_mesh(mesh):
        split = jax.device_put(x, NamedSharding(mesh, P("data")))
        got = f(split, KEY)
        program = f.lower(split, KEY).compile().as_text()
    assert {a.sharding.shard_shape(a.shape) for a in got} == {(2, 3)}
    assert_close(jax.device_get(got), jax.device_get(f(x, KEY)))
    assert not re.search(r"(all-|reduce-scatter|collective-permute)\S*\(", program)
    assert "[16,3]" not in program, "a device draws more of the mask than its part"


@pytest.mark.parametrize("folded", [False, True])
def test_devices_of_a_shard_map_drop_different_entries(folded):
    mesh = jax.make_mesh((8,), ("data",))

    def local(x, key):
        if folded:  # a key that already differs is left as it is
            key = jax.random.fold_in(key, jax.lax.axis_index("data"))
        return value_and_slope(x, key)

    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones((8, 64)), P("data"))
        y, dx = jax.jit(jax.shard_map(local, in_specs=(P("data"), P()), out_specs=P("data")))(x, KEY)
    y, dx = jax.device_get((y, dx))
    assert len({row.tobytes() for row in y}) == 8
    np.testing.assert_array_equal(y, dx)
    want = jnp.stack([value_and_slope(jnp.ones((1, 64)), jax.random.fold_in(KEY, i))[0][0] for i in range(8)])
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1, float("nan"), "0.5"])
def test_rates_outside_zero_to_one_are_refused(rate):
    message = re.escape(f"dropout expected a rate in [0, 1), the fraction dropped; got {rate!r}; use rate=0.5")
    with pytest.raises(fnn.InputError, match=message):
        fnn.dropout(rate)
    with pytest.raises(fnn.InputError, match=message):
        ops.dropout(jnp.ones(3), KEY, rate)


@pytest.mark.parametrize("key", [None, 0, jnp.ones(2), jax.random.split(KEY, 2)], ids=["None", "int", "floats", "two"])
def test_anything_but_one_key_is_refused(key):
    with pytest.raises(fnn.InputError, match=r"(?s)dropout expected one random key; got .*pass jax.random.key\(seed\)"):
        ops.dropout(jnp.ones(3), key, 0.5)


def test_integers_are_refused():
    with pytest.raises(fnn.InputError, match="dropout expected a floating-point x; got int32"):
        ops.dropout(jnp.arange(3), KEY, 0.5)


def test_layer_needs_a_key_in_training_only():
    net = fnn.serial(drop=fnn.dropout(0.5))
    x = jnp.ones((4, 4))
    assert net.init(KEY, x) == ({}, {})
    assert (net.apply({}, {}, x)[0] == x).all()
    y, state = net.apply({}, {}, x, train=True, key=KEY)
    assert state == {}
    assert (y == ops.dropout(x, jax.random.fold_in(KEY, 0), 0.5)).all()
    with pytest.raises(fnn.InputError, match=r"in drop: dropout expected a key in training; .*pass key=jax.random.key"):
        net.apply({}, {}, x, train=True)


def test_copies_of_a_repeated_layer_drop_different_entries():
    net, x = fnn.repeat(fnn.dropout(0.5), 2), jnp.ones(256)
    y, _ = net.apply({}, {}, x, train=True, key=KEY)
    want = ops.dropout(ops.dropout(x, jax.random.fold_in(KEY, 0), 0.5), jax.random.fold_in(KEY, 1), 0.5)
    assert (y == want).all()
    assert 32 < int((y != 0).sum()) < 96
