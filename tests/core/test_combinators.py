"""The laws of the combinators: values, gradients, state and keys."""

import jax
import jax.numpy as jnp
import pytest

import fnn
from tests.helpers import assert_close

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 6))


def block():
    """A layer with parameters, state and randomness: whatever a combinator forgets shows."""
    return fnn.serial(dense=fnn.dense(6, bias=False), norm=fnn.batch_norm(), act=fnn.tanh(), drop=fnn.dropout(0.3))


def train(layer, params, state, x=X, key=KEY):
    """Value, new state and gradients of one training call."""

    def loss(params, x):
        y, new_state = layer.apply(params, state, x, train=True, key=key)
        return jnp.sum(jnp.sin(y) * y), (y, new_state)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def test_repeat_equals_serial_of_its_copies():
    n = 3
    repeated, unrolled = fnn.repeat(block(), n), fnn.serial(**{f"copy{i}": block() for i in range(n)})
    params, state = unrolled.init(KEY, X)
    stacked = [stack([tree[f"copy{i}"] for i in range(n)]) for tree in (params, state)]
    init = repeated.init(KEY, X)
    assert_close(init, tuple(stacked), names="init")

    (loss, (y, new_state)), (dparams, dx) = train(unrolled, params, state)
    want = (
        (loss, (y, stack([new_state[f"copy{i}"] for i in range(n)]))),
        (
            stack([dparams[f"copy{i}"] for i in range(n)]),
            dx,
        ),
    )
    assert_close(train(repeated, *stacked), want, names="repeat")


def test_repeat_traces_its_layer_once_whatever_the_depth():
    traced = []

    def layer():
        return fnn.lift(lambda params, x: (traced.append(1), x * params["s"])[1], lambda key, x: {"s": jnp.ones(())})

    counts = []
    for n in (2, 20):
        params, state = fnn.repeat(layer(), n).init(KEY, X)
        traced.clear()
        jax.make_jaxpr(lambda x: fnn.repeat(layer(), n).apply(params, state, x))(X)  # noqa: B023
        counts.append(len(traced))
    assert counts[0] == counts[1]


def test_remat_equals_the_layer_and_computes_again():
    layer = block()
    params, state = layer.init(KEY, X)
    kept = fnn.remat(layer)
    assert_close(kept.init(KEY, X), (params, state))
    assert_close(train(kept, params, state), train(layer, params, state), names="remat")
    program = str(jax.make_jaxpr(lambda p: train(kept, p, state)[1])(params))
    assert "checkpoint" in program or "remat" in program


def test_remat_and_repeat_change_no_dropout_mask():
    drop = fnn.dropout(0.5)
    plain = fnn.serial(a=drop, b=drop)
    wrapped = fnn.serial(a=fnn.remat(drop), b=drop)
    ones = jnp.ones((64,))
    assert_close(wrapped.apply({}, {}, ones, train=True, key=KEY)[0], plain.apply({}, {}, ones, train=True, key=KEY)[0])
    repeated, _ = fnn.repeat(drop, 2).apply({}, {}, ones, train=True, key=KEY)
    assert_close(repeated, plain.apply({}, {}, ones, train=True, key=KEY)[0])


def test_children_get_different_keys():
    both = fnn.parallel(fnn.dropout(0.5), fnn.dropout(0.5), merge=jnp.stack)
    a, b = both.apply({}, {}, jnp.ones(100), train=True, key=KEY)[0]
    assert not jnp.array_equal(a, b)


def test_residual_adds_body_and_shortcut():
    layer = fnn.residual(fnn.dense(6), after=fnn.relu())
    params, state = layer.init(KEY, X)
    assert set(params) == {"body"}
    want = jax.nn.relu(X @ params["body"]["kernel"] + params["body"]["bias"] + X)
    assert_close(layer.apply(params, state, X)[0], want)
    projected = fnn.residual(fnn.dense(3), shortcut=fnn.dense(3, bias=False))
    params, state = projected.init(KEY, X)
    want = X @ params["body"]["kernel"] + params["body"]["bias"] + X @ params["shortcut"]["kernel"]
    assert_close(projected.apply(params, state, X)[0], want)


def test_parallel_merges_the_outputs_of_all_branches():
    layer = fnn.parallel(fnn.dense(2), wide=fnn.dense(3), merge=fnn.concat)
    params, state = layer.init(KEY, X)
    assert list(params) == ["00_dense", "wide"]
    want = jnp.concatenate([X @ params[n]["kernel"] + params[n]["bias"] for n in ("00_dense", "wide")], -1)
    assert_close(layer.apply(params, state, X)[0], want)
    total = fnn.parallel(fnn.identity(), fnn.identity(), merge=sum)
    assert_close(total.apply({}, {}, X)[0], 2 * X)


def test_serial_names_children_and_leaves_out_empty_entries():
    layer = fnn.serial(fnn.dense(4), fnn.relu(), out=fnn.dense(2))
    params, state = layer.init(KEY, X)
    assert [name for name, _ in layer.children] == ["00_dense", "01_relu", "out"]
    assert sorted(params) == ["00_dense", "out"]
    assert state == {}
    many = fnn.serial(*[fnn.relu()] * 101)
    assert many.children[7][0] == "007_relu"


def test_init_takes_arrays_specs_and_shapes_and_keeps_the_dtype():
    layer = fnn.serial(fnn.dense(4))
    want, _ = layer.init(KEY, X)
    for x in (jax.ShapeDtypeStruct(X.shape, X.dtype), X.shape):
        assert_close(layer.init(KEY, x)[0], want)
    half, _ = layer.init(KEY, X.astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("wrap", [lambda layer: layer, fnn.remat, lambda layer: fnn.repeat(layer, 2)])
def test_state_keeps_tree_shapes_and_dtypes(wrap):
    layer = wrap(block())
    params, state = layer.init(KEY, X)
    for mode in ({"train": True, "key": KEY}, {}):
        _, new = layer.apply(params, state, X, **mode)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
    _, after_evaluation = layer.apply(params, state, X)
    assert_close(after_evaluation, state)


def test_init_and_apply_run_under_jit_and_vmap():
    layer = block()
    keys = jax.random.split(KEY, 3)
    params, state = jax.jit(jax.vmap(lambda key: layer.init(key, X)))(keys)
    ys = jax.vmap(lambda p, s: layer.apply(p, s, X)[0])(params, state)
    one = layer.init(keys[1], X)
    assert_close(ys[1], layer.apply(*one, X)[0])


def test_a_serial_with_its_own_wiring_needs_only_init_and_apply():
    def init(key, x):
        return {"scale": jnp.ones(x.shape[-1])}, {"calls": jnp.zeros((), jnp.int32)}

    def apply(params, state, x, *, train=False, key=None):
        return x * params["scale"], {"calls": state["calls"] + 1}

    net = fnn.serial(mine=fnn.Layer(init, apply, "mine"), out=fnn.dense(2))
    params, state = net.init(KEY, (3, 6))
    assert net.apply(params, state, X)[1]["mine"]["calls"] == 1


ERRORS = {
    "not called": (lambda: fnn.serial(fnn.dense(2), fnn.relu), "call it: relu"),
    "not a layer": (lambda: fnn.serial(3), "serial expected a Layer for argument 0, counted from 0; got 3"),
    "not a branch": (lambda: fnn.parallel("x", merge=sum), "parallel expected a Layer"),
    "no merge": (lambda: fnn.parallel(fnn.relu(), merge=None), r"a function merge\(outputs\)"),
    "repeat zero": (lambda: fnn.repeat(fnn.relu(), 0), "n >= 1"),
    "repeat of a number": (lambda: fnn.repeat(7, 2), "repeat expected a Layer"),
    "remat of nothing": (lambda: fnn.remat(None), "remat expected a Layer"),
    "residual of nothing": (lambda: fnn.residual(None), "residual expected a Layer for body"),
    "a path for a name": (lambda: fnn.serial(**{"a/b": fnn.relu()}), "names, not empty and without a slash"),
    "no name": (lambda: fnn.parallel(merge=sum, **{"": fnn.relu()}), "names, not empty and without a slash"),
    "same name twice": (lambda: fnn.serial(fnn.relu(), **{"00_relu": fnn.relu()}), "different names"),
    "repeat changes shape": (lambda: fnn.repeat(fnn.dense(5), 2).init(KEY, X), "keeps"),
    "shapes of a sum": (lambda: fnn.residual(fnn.dense(5)).init(KEY, X), r"a shortcut of shape \(4, 5\)"),
    "concat of sizes": (
        lambda: fnn.parallel(fnn.conv(2, 1), fnn.conv(2, 3), merge=fnn.concat).init(KEY, (1, 5, 5, 1)),
        r"concat expected outputs alike but for the last axis; got \[\(1, 5, 5, 2\), \(1, 3, 3, 2\)\]",
    ),
    "several keys": (lambda: fnn.dense(2).init(jax.random.split(KEY, 3), X), "one random key"),
    "apply with a seed": (
        lambda: fnn.serial(fnn.relu()).apply({}, {}, X, key=0),
        "serial expected one random key; got 0",
    ),
    "repeat with a seed": (lambda: fnn.repeat(fnn.relu(), 2).apply({}, {}, X, key=0), "repeat expected one random key"),
    "a word for features": (lambda: fnn.dense("4"), "features >= 1; got '4'"),
    "flatten a list": (lambda: fnn.flatten().apply({}, {}, [1]), "flatten expected an array for x; got list"),
    "norm of integers": (lambda: fnn.layer_norm().init(KEY, jnp.ones((2, 3), int)), "a floating-point x"),
    "norm of a scalar": (lambda: fnn.group_norm(1).init(KEY, ()), r"x of shape \(\.\.\., C\)"),
    "no key": (lambda: fnn.serial(fnn.dense(2)).init(None, X), "one random key"),
    "a seed": (lambda: fnn.dense(2).init(0, X), r"got 0; pass jax.random.key\(seed\)"),
    "no shape": (
        lambda: fnn.dense(2).init(KEY, "image"),
        "an array, a jax.ShapeDtypeStruct, a shape tuple of integers, or a tree",
    ),
    "integers": (lambda: fnn.dense(2).init(KEY, jnp.ones((2, 3), int)), "a floating-point x; got int32"),
    "no axis": (lambda: fnn.dense(2).init(KEY, ()), r"dense expected x of shape \(\.\.\., C\)"),
    "no features": (lambda: fnn.dense(0), "features >= 1"),
    "negative shape": (lambda: fnn.dense(2).init(KEY, (-1, 3)), "sizes >= 0"),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=list(ERRORS))
def test_construction_errors(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()


def test_errors_name_the_path_and_the_mend():
    net = fnn.serial(features=fnn.serial(fnn.dense(4), fnn.dense(3)), out=fnn.dense(2))
    params, state = net.init(KEY, X)
    with pytest.raises(fnn.InputError, match=r"^in features/00_dense: dense expected x of shape \(\.\.\., 6\)"):
        net.apply(params, state, jnp.ones((2, 7)))
    del params["features"]["01_dense"]["kernel"]
    with pytest.raises(
        fnn.InputError, match=r"^in features/01_dense: dense expected params with \['kernel'\].*got \['bias'\]"
    ):
        net.apply(params, state, X)
    with pytest.raises(fnn.InputError, match=r"serial expected params with keys among .*got \['other'\]"):
        net.apply({"other": {}}, state, X)
    with pytest.raises(fnn.InputError, match=r"serial expected a dict of state; got \(\)"):
        net.apply({}, (), X)
    drop = fnn.serial(body=fnn.residual(fnn.repeat(fnn.dropout(0.1), 2)))
    with pytest.raises(fnn.InputError, match=r"^in body/body/dropout: dropout expected a"):
        drop.apply({}, {}, X, train=True)
    repeated = fnn.repeat(fnn.dense(6), 2)
    params, _ = fnn.repeat(fnn.dense(6), 3).init(KEY, X)
    with pytest.raises(fnn.InputError, match="stacked 2 deep"):
        repeated.apply(params, {}, X)


def test_foreign_errors_get_a_note_with_the_layer():
    def boom(params, x):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError) as caught:
        fnn.serial(inner=fnn.lift(boom)).apply({}, {}, X)
    assert caught.value.__notes__ == ["in layer 'inner'"]


def test_unknown_arguments_are_refused():
    layer = fnn.serial(fnn.dense(2))
    params, state = layer.init(KEY, X)
    with pytest.raises(TypeError, match="training"):
        layer.apply(params, state, X, training=True)


def test_batch_norm_refuses_a_state_of_other_channels():
    layer = fnn.batch_norm()
    params, _ = layer.init(KEY, X)
    _, other = layer.init(KEY, X[:, :4])
    for train in (True, False):
        with pytest.raises(fnn.InputError, match=r"a state of shapes .*'mean': \(6,\).*; got .*'mean': \(4,\)"):
            layer.apply(params, other, X, train=train)
    with pytest.raises(fnn.InputError, match=r"got .*'mean': 'float'"):
        layer.apply(params, {"mean": 0.0, "var": 1.0, "count": 0}, X)
