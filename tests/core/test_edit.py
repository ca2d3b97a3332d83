"""Cutting a composition, taking a layer out and putting another in, with parameters and state that follow."""

import jax
import jax.numpy as jnp
import optax
import pytest

import fnn
from tests.helpers import assert_close

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 3))


def net():
    block = fnn.residual(fnn.serial(dense=fnn.dense(6), norm=fnn.batch_norm()), after=fnn.relu())
    body = fnn.serial(stem=fnn.dense(6), block=block, more=fnn.repeat(fnn.dense(6), 2))
    return fnn.serial(body=fnn.remat(body), act=fnn.tanh(), out=fnn.dense(2))


def start():
    return fnn.train.init_state(net(), optax.sgd(0.1), KEY, X)


@pytest.mark.parametrize("path", ["body", "act", "out", "body/stem", "body/block", "body/more"])
def test_a_prefix_computes_what_the_whole_computes_there(path):
    now = start()
    features, params, state = fnn.prefix(net(), now, path)
    y, new = features.apply(params, state, X)
    assert jax.tree.structure((params, state)) == jax.tree.structure(features.init(KEY, X))
    seen = fnn.inspect.activations(net(), now, X)
    last = {"body": "body/more/dense", "body/block": "body/block/after", "body/more": "body/more/dense"}.get(path, path)
    want = seen[last]
    assert_close(y, want[-1] if "more" in last else want)
    assert_close(new, state)
    assert params["body"]["stem"]["kernel"] is now.params["body"]["stem"]["kernel"]


def test_a_prefix_keeps_names_and_what_is_around():
    features, params, _ = fnn.prefix(net(), start(), "body/block")
    assert [name for name, _ in features.children] == ["body"]
    assert [name for name, _ in features.children[0][1].children] == ["stem", "block"]
    assert repr(features).count("remat") == 1
    assert sorted(params["body"]) == ["block", "stem"]
    mixed = fnn.precision(fnn.serial(a=fnn.dense(4), b=fnn.dense(2)), "bfloat16", integers=True)
    cut, *trees = fnn.prefix(mixed, mixed.init(KEY, X), "a")
    assert cut.apply(*trees, jnp.ones((2, 3), int))[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("path", ["body", "body/block", "body/block/body/norm", "out", "act"])
def test_a_child_is_the_layer_with_its_own(path):
    now = start()
    layer, params, state = fnn.child(net(), now, path)
    want_params, want_state = now.params, now.model_state
    for name in path.split("/"):
        want_params, want_state = want_params.get(name, {}), want_state.get(name, {})
    assert (params, state) == (want_params, want_state) or params is want_params
    y, _ = layer.apply(params, state, jnp.ones((4, 3 if path == "body" else 6)))
    assert y.shape[0] == 4


def test_replacing_keeps_everything_else_and_trains():
    now = start()
    changed, params, state = fnn.replace(net(), now, "out", fnn.dense(5), key=jax.random.key(7), x=X)
    assert params["out"]["kernel"].shape == (6, 5)
    assert params["body"] == now.params["body"]
    assert state == now.model_state
    assert changed.apply(params, state, X)[0].shape == (4, 5)
    fresh = changed.init(jax.random.key(7), X)[0]["out"]
    assert_close(params["out"], fresh)
    assert jax.tree.structure((params, state)) == jax.tree.structure(changed.init(KEY, X))


def test_replacing_inside_with_or_without_parameters():
    now = start()
    norm = fnn.group_norm(2)
    changed, params, state = fnn.replace(net(), now, "body/block/body/norm", norm, key=KEY, x=X)
    assert state == {}
    assert params["body"]["block"]["body"]["dense"] is now.params["body"]["block"]["body"]["dense"]
    assert repr(changed).count("group_norm(2)") == 1
    assert repr(changed).count("remat") == 1
    _, params, _ = fnn.replace(net(), now, "body/stem", fnn.lift(lambda p, x: jnp.tile(x, 2)), key=KEY, x=X)
    assert sorted(params["body"]) == ["block", "more"]
    _, params, state = fnn.replace(changed, (params | now.params, {}), "act", fnn.batch_norm(), key=KEY, x=X)
    assert sorted(params) == ["act", "body", "out"]
    assert sorted(state) == ["act"]


def test_what_replaces_a_layer_inside_a_precision_computes_in_it():
    body = fnn.serial(hidden=fnn.dense(4), act=fnn.relu())
    mixed = fnn.remat(fnn.precision(fnn.serial(body=body, out=fnn.dense(2)), "bfloat16", output="float32"))
    part = fnn.child(mixed, mixed.init(KEY, X), "body")
    for layer, x, paths in ((mixed, X, ("out", "body/hidden")), (part[0], X.astype("bfloat16"), ("hidden",))):
        pair = part[1:] if layer is part[0] else mixed.init(KEY, X)
        for path in paths:
            changed, params, state = fnn.replace(layer, pair, path, fnn.dense(4), key=KEY, x=x)
            changed, params, state = fnn.replace(changed, (params, state), path, fnn.dense(4), key=KEY, x=x)
            assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
            assert changed.apply(params, state, x)[0].dtype == (x.dtype if layer is part[0] else jnp.float32)
            seen = fnn.inspect.activations(changed, (params, state), x)
            assert seen[path].dtype == jnp.bfloat16
    head = fnn.precision(fnn.dense(2), "float32")
    changed, params, state = fnn.replace(mixed, mixed.init(KEY, X), "out", head, key=KEY, x=X)
    assert fnn.inspect.activations(changed, (params, state), X)["out"].dtype == jnp.float32


def test_shared_layers_are_followed():
    block = fnn.shared(fnn.serial(dense=fnn.dense(3), act=fnn.tanh()))
    layer = fnn.serial(a=block, b=block, out=fnn.dense(1))
    params, state = layer.init(KEY, X)
    one, own, _ = fnn.child(layer, (params, state), "b/dense")
    assert own == params["a"]["dense"]
    assert one.shared is None
    features, kept, _ = fnn.prefix(layer, (params, state), "b")
    assert sorted(kept) == ["a"]
    assert_close(features.apply(kept, {}, X)[0], fnn.inspect.activations(layer, (params, state), X)["b/act"])
    inner, kept, _ = fnn.prefix(layer, (params, state), "b/dense")
    assert sorted(kept) == ["a", "b"]
    assert_close(inner.apply(kept, {}, X)[0], fnn.inspect.activations(layer, (params, state), X)["b/dense"])
    _, changed, _ = fnn.replace(layer, (params, state), "b", fnn.dense(3), key=KEY, x=X)
    assert sorted(changed) == ["a", "b", "out"]  # the other place keeps what both had
    assert changed["a"] == params["a"]
    _, changed, _ = fnn.replace(layer, (params, state), "out", fnn.dense(2), key=KEY, x=X)
    assert sorted(changed) == ["a", "out"]


REPEATED = r"a layer that stands there once; got '.*' among the copies of repeat; take the whole repeat"
ERRORS = {
    "no child": (
        lambda: fnn.child(net(), start(), "bdy"),
        r"child expected a child 'bdy'; got serial without it; name one",
    ),
    "dots": (
        lambda: fnn.child(net(), start(), "body.stem"),
        "got serial without it; join names by a slash: 'body/stem'",
    ),
    "no child of a leaf": (lambda: fnn.child(net(), start(), "out/a"), "got dense without it; a single layer has no"),
    "no path": (lambda: fnn.child(net(), start(), ""), "child expected names joined by a slash for path; got ''"),
    "half a path": (lambda: fnn.prefix(net(), start(), "body/"), "prefix expected names joined by a slash"),
    "copies": (lambda: fnn.child(net(), start(), "body/more/dense"), REPEATED),
    "copies replaced": (lambda: fnn.replace(net(), start(), "body/more/dense", fnn.relu(), key=KEY, x=X), REPEATED),
    "prefix of a sum": (
        lambda: fnn.prefix(net(), start(), "body/block/body"),
        "prefix expected a serial that holds 'body'; got residual; cut it in front or behind; fnn.child takes",
    ),
    "other features": (
        lambda: fnn.replace(net(), start(), "body", fnn.dense(5), key=KEY, x=X),
        r"replace expected layers that fit the new one; got out/kernel \(6, 2\); replace the layers that read",
    ),
    "no new layer": (
        lambda: fnn.replace(net(), start(), "out", fnn.relu, key=KEY, x=X),
        "replace expected a Layer for new",
    ),
    "no pair": (lambda: fnn.prefix(net(), {}, "out"), r"prefix expected a TrainState, or a pair \(params, state\)"),
    "no layer": (lambda: fnn.child({}, ({}, {}), "out"), "child expected a Layer for layer"),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=list(ERRORS))
def test_errors(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()
