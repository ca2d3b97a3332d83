"""Trees of inputs: every combinator, a step, evaluation and the tables take more than one array."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import data, train
from tests.helpers import assert_close

KEY = jax.random.key(0)
X = {"image": jnp.ones((4, 6, 6, 2)), "extra": (jnp.ones((4, 3)), jnp.arange(4.0)[:, None])}
SHAPES = {"image": (4, 6, 6, 2), "extra": ((4, 3), (4, 1))}


def model():
    """A network of two branches that meet."""
    image = fnn.serial(conv=fnn.conv(3, (3, 3)), act=fnn.relu(), flat=fnn.flatten(), drop=fnn.dropout(0.5))
    extra = fnn.serial(
        first=fnn.at(0, fnn.dense(6)), second=fnn.at(1, fnn.dense(6)), sum=fnn.lift(lambda p, x: x[0] + x[1])
    )
    return fnn.serial(
        image=fnn.at("image", image),
        extra=fnn.at("extra", extra),
        join=fnn.lift(lambda params, x: jnp.concatenate([x["image"], x["extra"]], axis=-1)),
        out=fnn.dense(2),
    )


def specs(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


def test_init_takes_arrays_and_shapes_of_a_tree():
    net = model()
    params, state = net.init(KEY, X)
    assert_close(net.init(KEY, SHAPES), (params, state))
    assert_close(net.init(KEY, jax.eval_shape(lambda: X)), (params, state))
    assert sorted(params) == ["extra", "image", "out"]
    assert net.apply(params, state, X)[0].shape == (4, 2)


def test_at_equals_the_layer_on_the_part():
    for layer in (fnn.serial(a=fnn.dense(5), drop=fnn.dropout(0.5)), fnn.batch_norm()):
        x = jax.random.normal(KEY, (4, 3))
        params, state = layer.init(KEY, x)
        y, new = layer.apply(params, state, x, train=True, key=KEY)
        for whole, place in (({"a": x, "b": 2 * x}, "a"), ((x, 2 * x), 0), ([x], 0), (data.Data(x, x), "labels")):
            part = fnn.at(place, layer)
            assert_close(part.init(KEY, whole), (params, state))
            out, new_state = part.apply(params, state, whole, train=True, key=KEY)
            assert_close(new_state, new)
            assert type(out) is type(whole)
            kept = [leaf for leaf in jax.tree.leaves(out) if any(leaf is old for old in jax.tree.leaves(whole))]
            assert len(kept) == len(jax.tree.leaves(whole)) - 1
            assert_close(getattr(out, place) if place == "labels" else out[place], y)


def test_residual_adds_leaf_by_leaf_and_repeat_carries_a_tree():
    body = fnn.serial(a=fnn.at("a", fnn.dense(3)), b=fnn.at("b", fnn.dense(3, bias=False)))
    x = {"a": jnp.ones((4, 3)), "b": jnp.ones((2, 3))}
    block = fnn.residual(body)
    params, state = block.init(KEY, x)
    y, _ = block.apply(params, state, x)
    want, _ = body.apply(params["body"], {}, x)
    assert_close(y, {"a": want["a"] + x["a"], "b": want["b"] + x["b"]})
    deep = fnn.repeat(fnn.remat(block), 3)
    params, state = deep.init(KEY, x)
    unrolled = fnn.serial(**{f"c{i}": block for i in range(3)})
    copies = {f"c{i}": jax.tree.map(lambda a, i=i: a[i], params) for i in range(3)}
    assert_close(deep.apply(params, state, x)[0], unrolled.apply(copies, {}, x)[0])


def test_parallel_gives_every_branch_the_tree():
    net = fnn.parallel(
        left=fnn.at("a", fnn.dense(2)), right=fnn.at("b", fnn.dense(2)), merge=lambda ys: (ys[0]["a"], ys[1]["b"])
    )
    x = {"a": jnp.ones((4, 3)), "b": jnp.ones((4, 5))}
    y, _ = net.apply(*net.init(KEY, x), x)
    assert [a.shape for a in y] == [(4, 2), (4, 2)]


def heads_on_a_tree():
    """A net with two heads, their loss, and batches of twelve examples."""
    heads = fnn.parallel(kind=fnn.dense(3), size=fnn.dense(1), merge=lambda ys: {"kind": ys[0], "size": ys[1][:, 0]})
    net = fnn.serial(body=model(), heads=heads)
    rows = np.random.default_rng(0)
    labels = {"kind": rows.integers(0, 3, 12), "size": rows.normal(size=12).astype("f")}
    x = jax.tree.map(lambda a: rows.normal(size=(12, *a.shape[1:])).astype("f"), X)

    def loss(y, t):
        return fnn.softmax_cross_entropy(y["kind"], t["kind"]) + fnn.squared_error(y["size"], t["size"])

    return net, loss, data.batches((x, labels), 4, seed=0)


def test_a_step_evaluation_and_a_loop_take_trees_of_inputs_outputs_and_labels():
    net, loss, batches = heads_on_a_tree()
    x, labels = batches.data
    step = train.make_step(
        net, loss, optax.adam(0.03), metrics={"right": lambda y, t: fnn.accuracy(y["kind"], t["kind"])}
    )
    now = train.init_state(net, optax.adam(0.03), KEY, x)
    now, history = train.fit(step, now, batches, epochs=30, progress=False)
    assert history[-1]["loss"] < history[0]["loss"] / 2
    whole = train.evaluate(net, now, [(x, labels)], {"loss": loss})
    parts = train.evaluate(net, now, data.batches((x, labels), 5), {"loss": loss})
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)


@pytest.mark.long
def test_checks_take_trees_of_inputs_outputs_and_labels():
    net, loss, batches = heads_on_a_tree()
    now = train.init_state(net, optax.adam(0.03), KEY, next(iter(batches))[0])
    assert fnn.check.compare(net, now, next(iter(batches)), loss, key=KEY)
    audit = fnn.check.audit(net, now, next(iter(batches)), loss, key=KEY, rounds=1)
    assert audit
    assert {"body/image/conv", "body/extra/first", "heads/size"} <= {row.path for row in audit.rows}


def test_tables_and_activations_show_the_parts_of_a_tree():
    table = fnn.summary(model(), SHAPES)
    rows = {line.split()[0]: line.split(maxsplit=2) for line in table.splitlines()}
    assert rows["image/conv"][1] == "conv"
    assert rows["image/conv"][2].startswith("(4, 4, 4, 3) ")
    assert rows["extra/second"][2].startswith("0 (4, 6), 1 (4, 6) ")
    net = fnn.serial(both=fnn.lift(lambda params, x: {"a": x, "b": x[0]}, name="both"))
    assert "both   both  a (2, 3), b (3,) " in fnn.summary(net, (2, 3))
    seen = fnn.inspect.activations(model(), model().init(KEY, X), X)
    extra = ["extra/first", "extra/second", "extra/sum"]
    assert list(seen) == ["image/conv", "image/act", "image/flat", "image/drop", *extra, "join", "out"]


TREE = {"a": jnp.ones((4, 3)), "b": jnp.ones((4, 3))}
ERRORS = {
    "no part": (
        lambda: fnn.at("c", fnn.relu()).apply({}, {}, TREE),
        r"at expected x with a part 'c'; got one with",
    ),
    "no part in init": (
        lambda: fnn.at("c", fnn.relu()).init(KEY, TREE),
        r"at expected x with a part 'c'; got one with",
    ),
    "no position": (lambda: fnn.at(2, fnn.relu()).init(KEY, ((1,), (2,))), r"a part 2; got one with \[0, 1\]"),
    "position of an array": (
        lambda: fnn.at(0, fnn.relu()).init(KEY, (4, 3)),
        r"a part 0; got an array, float32 of shape \(4, 3\)",
    ),
    "key of an array": (
        lambda: fnn.at("a", fnn.relu()).apply({}, {}, jnp.ones(3)),
        "a part 'a'; got an array",
    ),
    "place": (
        lambda: fnn.at(-1, fnn.relu()),
        r"a key or a position >= 0 for place; got -1; write at",
    ),
    "no layer": (lambda: fnn.at("a", fnn.relu), "at expected a Layer for layer; got the function relu; call it"),
    "other trees": (
        lambda: fnn.residual(fnn.lift(lambda p, x: x["a"])).init(KEY, TREE),
        r"residual expected a shortcut that returns PyTreeDef\(\*\), as the body; got PyTreeDef\({'a': \*, 'b': \*}\); "
        "return the same tree from both",
    ),
    "shapes in a tree": (
        lambda: fnn.residual(fnn.at("a", fnn.dense(2))).init(KEY, TREE),
        r"a shortcut of shape \(4, 2\), as the body returns; got \(4, 3\)",
    ),
    "repeat of a tree": (
        lambda: fnn.repeat(fnn.at("a", fnn.dense(2)), 2).init(KEY, TREE),
        "repeat only layers that",
    ),
    "one array": (
        lambda: fnn.dense(2).init(KEY, TREE),
        "dense expected one array for x; got a dict of 2; apply it to one part, fnn.at\\('a', layer\\), or join",
    ),
    "one array for a tuple": (
        lambda: fnn.dense(2).init(KEY, ((1, 3), (1, 2))),
        r"got a tuple of 2; apply it to one part, fnn.at\(0, layer\), or join the parts with fnn.lift",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=list(ERRORS))
def test_errors(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()
