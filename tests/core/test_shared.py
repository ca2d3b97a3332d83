"""Weight sharing: the laws of a layer that stands in several places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.helpers import assert_close

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 3))


def test_gradients_of_all_places_add_up():
    block = fnn.shared(fnn.serial(dense=fnn.dense(3), act=fnn.tanh()))
    plain = fnn.serial(dense=fnn.dense(3), act=fnn.tanh())
    net = fnn.serial(a=block, mid=fnn.relu(), b=block, c=fnn.remat(block))
    free = fnn.serial(a=plain, mid=fnn.relu(), b=plain, c=plain)
    params, _ = net.init(KEY, X)
    assert sorted(params) == ["a"]
    copies = {name: params["a"] for name in "abc"}
    assert_close(net.apply(params, {}, X)[0], free.apply(copies, {}, X)[0])
    slope = jax.grad(lambda p: net.apply(p, {}, X)[0].sum())(params)["a"]
    slopes = jax.grad(lambda p: free.apply(p, {}, X)[0].sum())(copies)
    assert_close(slope, jax.tree.map(lambda *leaves: sum(leaves), *slopes.values()))


def test_what_is_not_marked_is_not_shared():
    dense = fnn.dense(3)
    assert sorted(fnn.serial(a=dense, b=dense).init(KEY, X)[0]) == ["a", "b"]
    assert sorted(fnn.serial(a=fnn.shared(dense), b=fnn.shared(dense)).init(KEY, X)[0]) == ["a", "b"]


def test_the_state_passes_from_place_to_place_and_keys_differ():
    norm = fnn.shared(fnn.batch_norm())
    net = fnn.serial(a=norm, b=norm)
    params, state = net.init(KEY, X)
    assert sorted(state) == ["a"]
    _, state = net.apply(params, state, X, train=True)
    assert state["a"]["count"] == 2
    drop = fnn.shared(fnn.dropout(0.5))
    both = fnn.parallel(drop, drop, merge=tuple)
    (a, b), _ = both.apply({}, {}, jnp.ones(64), train=True, key=KEY)
    assert not jnp.array_equal(a, b)


def test_two_inputs_through_one_encoder():
    encoder = fnn.shared(fnn.serial(hidden=fnn.dense(4), act=fnn.tanh()))
    net = fnn.serial(
        left=fnn.at("left", encoder),
        right=fnn.at("right", encoder),
        distance=fnn.lift(lambda params, x: jnp.abs(x["left"] - x["right"]).sum(-1)),
    )
    same, other = {"left": X, "right": X}, {"left": X, "right": X + 1}
    params, state = net.init(KEY, same)
    assert_close(net.apply(params, state, same)[0], jnp.zeros(4))
    assert net.apply(params, state, other)[0].min() > 0


def test_what_looks_at_layers_sees_every_place_and_counts_parameters_once():
    block = fnn.shared(fnn.serial(dense=fnn.dense(3), norm=fnn.batch_norm()))
    net = fnn.serial(body=fnn.repeat(fnn.serial(a=block, b=block), 2), out=fnn.dense(1))
    params, state = net.init(KEY, X)
    table = fnn.summary(net, X)
    count = sum(p.size for p in jax.tree.leaves(params))
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    assert rows["total"][3] == str(count)
    assert rows["body/serial/b/dense"][-3:] == ["-", "-", "72"]
    assert "and 56 bytes of state" in table
    seen = fnn.inspect.activations(net, (params, state), X)
    assert list(seen)[:4] == [f"body/serial/{place}/{name}" for place in "ab" for name in ("dense", "norm")]
    y, _ = net.apply(params, state, X)
    assert_close(seen["out"], y)


@pytest.mark.long
def test_checks_see_every_place():
    block = fnn.shared(fnn.serial(dense=fnn.dense(3), norm=fnn.batch_norm()))
    net = fnn.serial(body=fnn.repeat(fnn.serial(a=block, b=block), 2), out=fnn.dense(1))
    params, state = net.init(KEY, X)
    audit = fnn.check.audit(net, (params, state), (X, jnp.ones((4, 1))), fnn.squared_error, rounds=1)
    assert audit
    assert [row.path for row in audit.rows][2] == "body/serial/b/dense"
    assert fnn.check.compare(net, (params, state), (X, jnp.ones((4, 1))), fnn.squared_error)


def test_a_composition_that_is_built_again_still_shares():
    block = fnn.shared(fnn.dense(3))
    net = fnn.serial(a=block, b=fnn.remat(block))
    for again in (fnn.precision(net, "float32"), net.rebuild([fnn.dense(3), fnn.dense(3)])):
        params, _ = again.init(KEY, X)
        assert sorted(params) == ["a"]
        assert_close(again.apply(params, {}, X)[0], net.apply(params, {}, X)[0])


def test_repr_says_shared():
    assert repr(fnn.shared(fnn.dense(3))) == "dense(3, shared)"


def deep():
    block = fnn.shared(fnn.dense(3))
    return fnn.serial(left=fnn.serial(a=block), right=fnn.serial(a=block, b=fnn.relu()))


def shallow_and_deep():
    block = fnn.shared(fnn.dense(3))
    return fnn.serial(left=block, right=fnn.serial(a=block))


ERRORS = {
    "two compositions": (
        deep,
        r"serial expected a shared layer in one composition; got one at left and at right",
    ),
    "two depths": (shallow_and_deep, "a shared layer in one composition; got one at left and at right"),
    "repeat": (
        lambda: fnn.repeat(fnn.shared(fnn.dense(3)), 2),
        "of their own; got a shared one; for one set",
    ),
    "no layer": (lambda: fnn.shared(fnn.dense), "shared expected a Layer for layer"),
    "other features": (
        lambda: fnn.serial(*[fnn.shared(fnn.dense(4))] * 2).init(KEY, X),
        r"in 01_dense: shared expected the parameters and state of 00_dense: .*\[3, 4\]'.*; got .*\[4, 4\]'",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=list(ERRORS))
def test_errors(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()


def test_a_shared_layer_trains():
    import optax

    block = fnn.shared(fnn.serial(dense=fnn.dense(3), act=fnn.tanh()))
    net = fnn.serial(a=block, b=block, out=fnn.dense(1))
    step = fnn.train.make_step(net, fnn.squared_error, optax.adam(0.05))
    now = fnn.train.init_state(net, optax.adam(0.05), KEY, X)
    batch = X, np.sin(X.sum(1, keepdims=True))
    losses = []
    for _ in range(60):
        now, measures = step(now, batch)
        losses.append(float(measures["loss"]))
    assert losses[-1] < losses[0] / 3
