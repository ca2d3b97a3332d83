"""Batch, layer and group norm: precision, conventions, sharded batches, running averages, errors."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn import ops
from tests.helpers import assert_close

NORMS = {
    "batch": lambda x, s, o, **kw: ops.batch_norm(x, s, o, **kw)[0],
    "layer": ops.layer_norm,
    "group": functools.partial(ops.group_norm, groups=2),
}
each = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
KEY = jax.random.key(0)


def normals(seed, *shape, mean=0.0):
    return mean + jax.random.normal(jax.random.key(seed), shape)


@each
def test_mean_zero_and_variance_one(norm):
    y = norm(normals(0, 8, 5, 4, mean=2.0), None, None)
    axes = {"batch": (0, 1), "layer": 2, "group": (1, 2)}[next(k for k, v in NORMS.items() if v is norm)]
    if norm is NORMS["group"]:
        y = jnp.stack([y[..., :2], y[..., 2:]]).transpose(1, 0, 2, 3).reshape(16, 5, 2)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-3)


@each
@pytest.mark.long
def test_digits_survive_a_mean_of_300_deviations(norm):
    """The one-pass variance E[x²] - E[x]² is off by 1e-2 here."""
    x, scale, offset, dy = normals(0, 64, 8, 32, mean=300.0), normals(1, 32), normals(2, 32), normals(3, 64, 8, 32)

    def run(dtype):
        y, pull = jax.vjp(norm, *(a.astype(dtype) for a in (x, scale, offset)))
        return jax.tree.map(lambda a: np.asarray(a, np.float64), (y, *pull(dy.astype(dtype))))

    with jax.enable_x64(True):
        want = run("float64")
    for name, got, true in zip(("y", "dx", "dscale", "doffset"), run("float32"), want, strict=True):
        np.testing.assert_allclose(got, true, atol=2e-4 * np.abs(true).max(), err_msg=name)


def test_statistics_survive_a_mean_of_300_deviations():
    x = normals(0, 4096, 4, mean=300.0)
    _, mean, var = ops.batch_norm(x, None, None)
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, wide.var(0), rtol=1e-5)


@each
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
@pytest.mark.long
def test_dtypes_follow_their_arguments(norm, half):
    """A half precision x may come with float32 parameters; statistics are float32 all the same."""
    x, scale, offset, dy = normals(0, 8, 4).astype(half), normals(1, 4), normals(2, 4).astype(half), normals(3, 8, 4)
    y, pull = jax.vjp(norm, x, scale, offset)
    grads = pull(dy.astype(half))
    assert [a.dtype for a in (y, *grads)] == [half, half, "float32", half]
    wide, pull = jax.vjp(norm, *(a.astype("float32") for a in (x, scale, offset)))
    wide_grads = pull(dy.astype(half).astype("float32"))
    assert_close(y, wide.astype(half), ulps=1)
    assert_close(grads, tuple(g.astype(a.dtype) for g, a in zip(wide_grads, grads, strict=True)), ulps=2)


def test_float16_does_not_overflow():
    x = jnp.array([[6e4], [-6e4]], "float16")
    y, mean, var = ops.batch_norm(x, None, None)
    assert y.tolist() == [[1], [-1]]
    assert (mean.dtype, var.dtype) == ("float32", "float32")
    np.testing.assert_allclose(var, np.float64(x[0]) ** 2, rtol=1e-6)


def test_a_single_entry_a_channel_becomes_the_offset():
    y, mean, var = ops.batch_norm(jnp.array([[3.0, -1.0]]), jnp.full(2, 7.0), jnp.array([0.5, 2.0]))
    assert (y.tolist(), mean.tolist(), var.tolist()) == ([[0.5, 2]], [3, -1], [0, 0])


@each
def test_a_constant_input_is_finite(norm):
    y, pull = jax.vjp(lambda x: norm(x, None, None), jnp.full((4, 4), 5.0))
    assert (y == 0).all()
    assert jnp.isfinite(pull(normals(0, 4, 4))[0]).all()


def test_groups_of_one_channel_and_one_group():
    x = normals(0, 2, 3, 3, 4)
    alone = ops.group_norm(x, None, None, groups=4)
    for n in range(2):
        assert_close(alone[n : n + 1], ops.batch_norm(x[n : n + 1], None, None)[0])
    together = ops.group_norm(x, None, None, groups=1)
    assert_close(together.reshape(2, -1), ops.layer_norm(x.reshape(2, -1), None, None))


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_inference", "layer_norm", "group_norm"])
def test_second_derivative_equals_automatic(name):
    rule = fnn.rules()[name]
    args = rule.cases[0].sample(0)

    def second(mode):
        def slope(*args):
            y, pull = jax.vjp(functools.partial(rule, rule.cases[0].spec), *args)
            return sum((g**2).sum() for g in pull(jax.tree.map(lambda a: jnp.cos(a + 1), y)))

        with fnn.gradients(mode):
            return jax.jit(jax.grad(slope, tuple(range(len(args)))))(*args)

    assert_close(second("hand"), second("auto"), ulps=512)


def batch_norm_step(x, scale, offset, cotangents, axis_name=None):
    outputs, pull = jax.vjp(lambda *a: ops.batch_norm(*a, axis_name=axis_name), x, scale, offset)
    return outputs, pull(cotangents)


X, SCALE, OFFSET = normals(0, 16, 3, 4, mean=1.0), normals(1, 4), normals(2, 4)
COTANGENTS = (normals(3, 16, 3, 4), normals(4, 4), normals(5, 4))


@functools.cache
def on_one_device():
    return jax.device_get(jax.jit(batch_norm_step)(X, SCALE, OFFSET, COTANGENTS))


def collectives(f, *args):
    text = f.lower(*args).compile().as_text()
    return len(re.findall(r"(?:all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\(", text))


def in_mode(mode, f):
    def run(*args):
        with fnn.gradients(mode):
            return f(*args)

    return jax.jit(run)


def compare_on_mesh(step, kind):
    """`step` with the batch over eight devices: equal to one device, with no more collectives than automatic."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        split = functools.partial(jax.device_put, device=NamedSharding(mesh, P("data")))
        args = split(X), SCALE, OFFSET, (split(COTANGENTS[0]), *COTANGENTS[1:])
        hand, auto = in_mode("hand", step), in_mode("auto", step)
        got = hand(*args)
        assert collectives(hand, *args) <= collectives(auto, *args)
        assert_close(jax.device_get(got), jax.device_get(auto(*args)), ulps=32)
    assert got[1][0].sharding.shard_shape(X.shape) == (2, 3, 4)
    assert_close(jax.device_get(got), on_one_device(), ulps=32)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_under_jit_statistics_are_those_of_the_whole_batch(kind):
    compare_on_mesh(batch_norm_step, kind)


@pytest.mark.parametrize("checked", [True, False])
def test_shard_map_with_axis_name_differentiated_from_outside(checked):
    def step(x, scale, offset, cotangents):
        outputs, pull = jax.vjp(
            jax.shard_map(
                functools.partial(ops.batch_norm, axis_name="data"),
                in_specs=(P("data"), P(), P()),
                out_specs=(P("data"), P(), P()),
                check_vma=checked,
            ),
            x,
            scale,
            offset,
        )
        return outputs, pull(cotangents)

    compare_on_mesh(step, AxisType.Explicit)


def test_shard_map_with_axis_name_differentiated_inside():
    step = jax.shard_map(
        functools.partial(batch_norm_step, axis_name=("data",)),
        in_specs=(P("data"), P(), P(), (P("data"), P(), P())),
        out_specs=((P("data"), P(), P()), (P("data"), P(), P())),
    )
    compare_on_mesh(step, AxisType.Explicit)


def test_shard_map_without_axis_name_takes_statistics_of_each_part():
    def step(x, scale, offset, dy):
        y, pull = jax.vjp(lambda *a: ops.batch_norm(*a)[0], x, scale, offset)
        return y, pull(dy)

    sharded = jax.shard_map(
        step, in_specs=(P("data"), P(), P(), P("data")), out_specs=(P("data"), (P("data"), P(), P()))
    )
    with jax.set_mesh(jax.make_mesh((8,), ("data",))):
        x, dy = (jax.device_put(a, P("data")) for a in (X, COTANGENTS[0]))
        hand, auto = (jax.device_get(in_mode(m, sharded)(x, SCALE, OFFSET, dy)) for m in ("hand", "auto"))
    assert_close(hand, auto)
    parts = [step(X[i : i + 2], SCALE, OFFSET, COTANGENTS[0][i : i + 2]) for i in range(0, 16, 2)]
    assert_close(hand[0], jnp.concatenate([y for y, _ in parts]))
    assert_close(hand[1][0], jnp.concatenate([grads[0] for _, grads in parts]))
    assert_close(hand[1][1], sum(grads[1] for _, grads in parts))


def test_shard_map_with_the_same_x_everywhere():
    """x counts as split, so the statistics of the eight copies are those of one."""

    def step(x, cotangents):
        outputs, pull = jax.vjp(lambda x: ops.batch_norm(x, SCALE, OFFSET, axis_name="data"), x)
        return *outputs[1:], pull((jax.lax.pcast(cotangents[0], "data", to="varying"), *cotangents[1:]))[0]

    with jax.set_mesh(jax.make_mesh((8,), ("data",))):
        sharded = jax.shard_map(step, in_specs=(P(), P()), out_specs=P())
        got = [jax.device_get(in_mode(m, sharded)(X, COTANGENTS)) for m in ("hand", "auto")]
    assert_close(got[0], got[1])
    assert_close(got[0][:2], jax.device_get(ops.batch_norm(X, None, None)[1:]))


def test_vmap_with_axis_name_equals_the_whole_batch():
    """Differentiated inside, as each part's share: outside of it the name is gone when the backward rule runs."""

    def part(x, dy):
        outputs, pull = jax.vjp(lambda x: ops.batch_norm(x, SCALE, OFFSET, axis_name="parts"), x)
        shares = jax.tree.map(lambda a: a / 8, COTANGENTS[1:])
        return outputs, pull((dy, *shares))[0]

    split = [a.reshape(8, 2, 3, 4) for a in (X, COTANGENTS[0])]
    (y, mean, var), dx = jax.vmap(part, out_axes=((0, None, None), 0), axis_name="parts")(*split)
    assert_close((y.reshape(X.shape), mean, var), on_one_device()[0], ulps=32)
    assert_close(dx.reshape(X.shape), on_one_device()[1][0], ulps=32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.layer_norm(jnp.arange(3), None, None), "layer_norm expected a floating-point x; got int32"),
        (
            lambda: ops.layer_norm(jnp.ones(3), jnp.arange(3), None),
            "layer_norm expected a floating-point scale; got int32",
        ),
        (
            lambda: ops.layer_norm(jnp.ones(3), jnp.ones(2), None),
            r"layer_norm expected scale of shape \(3,\); got \(2,\); one entry a channel",
        ),
        (
            lambda: ops.group_norm(jnp.ones((1, 4)), None, jnp.ones((1, 4)), groups=2),
            r"group_norm expected offset of shape \(4,\); got \(1, 4\)",
        ),
        (
            lambda: ops.batch_norm_inference(jnp.ones((1, 4)), None, None, jnp.ones(4), None),
            "batch_norm_inference expected an array for var; got None; pass a running average",
        ),
        (
            lambda: ops.batch_norm(jnp.ones(3), None, None),
            r"batch_norm expected x of shape \(N, ..., C\); got \(3,\); add the missing axes",
        ),
        (
            lambda: ops.batch_norm(jnp.ones((0, 2, 3)), None, None),
            r"batch_norm expected at least one entry a channel .* got x of shape \(0, 2, 3\); skip empty batches",
        ),
        (
            lambda: ops.batch_norm(jnp.ones((2, 3)), None, None, axis_name="data"),
            r"batch_norm expected mesh axes \('data',\) of an enclosing jax.shard_map; got .*leave axis_name out",
        ),
        (
            lambda: ops.layer_norm(jnp.ones(3), None, None, epsilon=0),
            "layer_norm expected epsilon > 0; got 0; use epsilon=1e-5",
        ),
        (
            lambda: ops.group_norm(jnp.ones((1, 4)), None, None, groups=3),
            "group_norm expected groups >= 1 that divide 4 channels; got 3; choose a divisor of C",
        ),
        (lambda: ops.group_norm(jnp.ones((1, 4)), None, None, groups=0), "expected groups >= 1; got 0"),
        (lambda: fnn.group_norm(3).init(KEY, (1, 4)), "expected groups >= 1 that divide 4 channels; got 3"),
        (lambda: fnn.batch_norm().init(KEY, (4,)), r"batch_norm expected x of shape \(N, ..., C\); got \(4,\)"),
        (lambda: fnn.batch_norm(momentum=1.5), r"batch_norm expected momentum in \[0, 1\]; got 1.5; use 0.9"),
        (
            lambda: fnn.layer_norm().apply({"scale": jnp.ones(3)}, {}, jnp.ones(3)),
            r"layer_norm expected params with \['scale', 'offset'\]; got \['scale'\]",
        ),
        (
            lambda: fnn.batch_norm().apply({"scale": jnp.ones(3), "offset": jnp.ones(3)}, {}, jnp.ones((2, 3))),
            r"batch_norm expected state with \['count', 'mean', 'var'\]; got \[\]; pass the state that init returned",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()


def train(layer, params, state, batches):
    run = jax.jit(lambda p, s, x: layer.apply(p, s, x, train=True)[1])
    for x in batches:
        new = run(params, state, x)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
        state = new
    return state


def test_running_averages_are_right_from_step_one():
    batches = [normals(i, 6, 2, 3, mean=5.0 + i) for i in range(15)]
    layer = fnn.batch_norm(momentum=0.9)
    params, state = layer.init(KEY, batches[0])
    assert jax.tree.map(lambda a: a.tolist(), (params, state)) == (
        {"scale": [1, 1, 1], "offset": [0, 0, 0]},
        {"mean": [0, 0, 0], "var": [1, 1, 1], "count": 0},
    )
    mean = var = 0
    for t, x in enumerate(batches, 1):
        state = train(layer, params, state, [x])
        weight = max(0.1, 1 / t)
        mean = mean + weight * (np.mean(x, (0, 1)) - mean)
        var = var + weight * (np.var(x, (0, 1), ddof=1) - var)
        np.testing.assert_allclose(state["mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(state["var"], var, rtol=1e-4)
    assert state["count"] == 15


def test_the_count_of_steps_stays_at_its_largest():
    layer, x, most = fnn.batch_norm(), normals(0, 4, 3), jnp.iinfo(jnp.int32).max
    params, state = layer.init(KEY, x)
    for before, after in ((most - 1, most), (most, most)):
        assert train(layer, params, {**state, "count": jnp.int32(before)}, [x])["count"] == after


def test_momentum_one_is_the_plain_average_and_zero_the_last_batch():
    batches = [normals(i, 6, 3) for i in range(4)]
    for momentum, want in ((1.0, np.mean([x.mean(0) for x in batches], 0)), (0.0, batches[-1].mean(0))):
        layer = fnn.batch_norm(momentum=momentum)
        state = train(layer, *layer.init(KEY, batches[0]), batches)
        np.testing.assert_allclose(state["mean"], want, atol=1e-6)


def test_evaluation_uses_the_state_and_leaves_it():
    layer = fnn.batch_norm(epsilon=1e-3)
    x = normals(0, 4, 3)
    params, state = layer.init(KEY, x)
    y, same = layer.apply(params, state, x)
    np.testing.assert_allclose(y, x / np.sqrt(1.001), rtol=1e-6)
    assert same is state
    state = {"mean": jnp.array([1.0, 2, 3]), "var": jnp.array([4.0, 5, 6]), "count": state["count"]}
    y, _ = layer.apply(params, state, x)
    np.testing.assert_allclose(y, (x - state["mean"]) / np.sqrt(state["var"] + 1e-3), rtol=1e-5)


@pytest.mark.parametrize(("dtype", "wide"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_running_averages_are_wide(dtype, wide):
    with jax.enable_x64(dtype == "float64"):
        x = normals(0, 4, 3).astype(dtype)
        layer = fnn.batch_norm()
        params, state = layer.init(KEY, x)
        assert {k: v.dtype for k, v in state.items()} == {"mean": wide, "var": wide, "count": "int32"}
        state = train(layer, params, state, [x])
        np.testing.assert_allclose(state["mean"], np.asarray(x, np.float64).mean(0), rtol=1e-6, atol=1e-7)
        assert layer.apply(params, state, x)[0].dtype == dtype


def test_running_variance_of_a_single_entry_is_zero():
    layer = fnn.batch_norm()
    state = train(layer, *layer.init(KEY, (1, 2)), [jnp.array([[3.0, 4.0]])])
    assert jax.tree.map(lambda a: a.tolist(), state) == {"mean": [3, 4], "var": [0, 0], "count": 1}


@pytest.mark.parametrize("kind", ["jit", "explicit", "shard_map"])
def test_a_sharded_batch_gives_the_state_of_one_device(kind):
    layer = fnn.batch_norm(axis_name="data" if kind == "shard_map" else None)
    params, state = layer.init(KEY, X)
    want = train(fnn.batch_norm(), params, state, [X, 2 * X])
    apply = functools.partial(layer.apply, train=True)
    if kind == "shard_map":
        apply = jax.shard_map(apply, in_specs=(P(), P(), P("data")), out_specs=(P("data"), P()))
    axes = AxisType.Auto if kind == "jit" else AxisType.Explicit
    with jax.set_mesh(jax.make_mesh((8,), ("data",), axis_types=(axes,))) as mesh:
        del mesh
        for x in (X, 2 * X):
            x = jax.device_put(x, P("data"))
            y, state = jax.jit(apply)(params, state, x)
    assert y.sharding.shard_shape(y.shape)[0] == 2
    assert_close(jax.device_get(state), jax.device_get(want))


def test_state_in_repeat_and_remat_equals_serial():
    layer, x = fnn.batch_norm(), normals(0, 8, 3, mean=3.0)
    repeated = fnn.repeat(fnn.remat(layer), 2)
    params, state = repeated.init(KEY, x)
    params = jax.tree.map(lambda p: p + 0.5, params)
    y, new = repeated.apply(params, state, x, train=True)
    z = x
    for i in range(2):
        z, one = layer.apply(*jax.tree.map(lambda a, i=i: a[i], (params, state)), z, train=True)
        assert_close(jax.tree.map(lambda a, i=i: a[i], new), one)
    assert_close(y, z)


def test_layer_and_group_norm_layers_are_the_functions():
    x = normals(0, 2, 5, 4)
    for layer, f in (
        (fnn.layer_norm(epsilon=1e-2), functools.partial(ops.layer_norm, epsilon=1e-2)),
        (fnn.group_norm(2, epsilon=1e-2), functools.partial(ops.group_norm, groups=2, epsilon=1e-2)),
    ):
        params, state = layer.init(KEY, x)
        assert jax.tree.map(jnp.shape, params) == {"scale": (4,), "offset": (4,)}
        params = {"scale": normals(1, 4), "offset": normals(2, 4)}
        assert_close(layer.apply(params, state, x), (f(x, params["scale"], params["offset"]), {}))
