"""Every rule with its batch sharded over 8 devices: the same results, and no more collectives than automatic."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

import fnn
from tests.helpers import assert_close, cotangent_like, first_of_each, float_vjp

pytestmark = pytest.mark.sharded
DEVICES = 8
COLLECTIVES = re.compile(r"\b(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
RULES = fnn.rules()
CASES = [(name, i) for name, rule in RULES.items() for i, case in enumerate(rule.cases) if case.batched]


def mesh_of(kind):
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,))


def specs_of(args, batch):
    """Shard axis 0 of every array that has the batch there; replicate the rest."""

    def spec(a):
        sharded = a.ndim > 0 and a.shape[0] == batch
        return PartitionSpec("data") if sharded else PartitionSpec()

    return jax.tree.map(spec, args)


def program(operation, mode):
    def run(args, dy):
        with fnn.gradients(mode):
            y, pull = float_vjp(operation, args)
            return y, pull(dy)

    return run


def per_example(y, batch):
    return all(a.ndim > 0 and a.shape[0] == batch for a in jax.tree.leaves(y))


def collectives(compiled):
    return sorted(COLLECTIVES.findall(compiled.as_text()))


def assert_no_more(hand, auto):
    hand, auto = collectives(hand), collectives(auto)
    assert len(hand) <= len(auto), f"hand {hand}, auto {auto}"


def draw(name, i):
    case = RULES[name].cases[i]
    args = case.sample(0)
    y = jax.eval_shape(lambda: RULES[name].forward(case.spec, *args))
    return RULES[name].of(case), args, cotangent_like(y), args[0].shape[0]


each = pytest.mark.parametrize(("name", "i"), first_of_each(CASES))


@pytest.mark.long
@each
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
def test_rule_under_jit(name, i, kind):
    operation, args, dy, batch = draw(name, i)
    want = jax.jit(program(operation, "hand"))(args, dy)
    with jax.set_mesh(mesh_of(kind)):
        placed = [jax.device_put(tree, specs_of(tree, batch)) for tree in (args, dy)]
        compiled = {m: jax.jit(program(operation, m)).lower(*placed).compile() for m in ("hand", "auto")}
        got = compiled["hand"](*placed)
    assert_close(jax.device_get(got), jax.device_get(want), names=name)
    assert_no_more(compiled["hand"], compiled["auto"])


@each
def test_rule_in_shard_map(name, i):
    operation, args, dy, batch = draw(name, i)
    if not per_example(dy, batch):
        pytest.skip("an output over the whole batch: its own tests say what it means inside shard_map")
    want = jax.jit(program(operation, "hand"))(args, dy)
    # A device sees its part of the batch, and the spec may hold sizes of the whole: only the batch axis is cut.
    with jax.set_mesh(mesh_of(AxisType.Auto)):
        outs = specs_of(want, batch)
        compiled = {
            m: jax.jit(
                jax.shard_map(
                    program(operation, m),
                    in_specs=(specs_of(args, batch), specs_of(dy, batch)),
                    out_specs=outs,
                )
            )
            .lower(args, dy)
            .compile()
            for m in ("hand", "auto")
        }
        placed = [jax.device_put(tree, specs_of(tree, batch)) for tree in (args, dy)]
        got = compiled["hand"](*placed)
        auto = compiled["auto"](*placed)
    assert_close(jax.device_get(got), jax.device_get(auto), names=name)
    assert_no_more(compiled["hand"], compiled["auto"])
    # A key shared by all devices draws the same mask on each.
    if not any(draw.domain == "key" for draw in RULES[name].cases[i].draws):
        assert_close(jax.device_get(got), jax.device_get(want), names=name)


def network(axis_name=None, rate=0.5):
    return fnn.serial(
        conv=fnn.conv(4, 3, padding="SAME", bias=False),
        norm=fnn.batch_norm(axis_name=axis_name),
        act=fnn.relu(),
        mixed=fnn.conv(4, 1),
        pool=fnn.max_pool(2),
        flat=fnn.flatten(),
        drop=fnn.dropout(rate),
        out=fnn.dense(3),
    )


def train_program(net, axis_name=None):
    def run(params, state, x, labels):
        def loss(params):
            y, new_state = net.apply(params, state, x, train=True, key=jax.random.key(5))
            value = fnn.softmax_cross_entropy(y, labels).mean()
            return (jax.lax.pmean(value, axis_name) if axis_name else value), new_state

        (value, new_state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return value, new_state, grads

    return run


X = jax.random.normal(jax.random.key(1), (16, 6, 6, 2))
LABELS = jnp.arange(16) % 3


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
def test_a_network_trains_the_same_on_a_sharded_batch(kind):
    """Batch statistics, running averages, dropout masks, values and gradients are those of one device."""
    net = network()
    params, state = net.init(jax.random.key(0), X)
    want = jax.jit(train_program(net))(params, state, X, LABELS)
    with jax.set_mesh(mesh_of(kind)):
        data = jax.device_put((X, LABELS), PartitionSpec("data"))
        weights = jax.device_put((params, state), PartitionSpec())
        compiled = {}
        for mode in ("hand", "auto"):
            with fnn.gradients(mode):
                compiled[mode] = jax.jit(train_program(net)).lower(*weights, *data).compile()
        got = compiled["hand"](*weights, *data)
    assert_close(jax.device_get(got), jax.device_get(want), ulps=256)
    assert_no_more(compiled["hand"], compiled["auto"])


@pytest.mark.parametrize("mode", ["hand", "auto"])
def test_a_network_trains_the_same_in_shard_map(mode):
    """With batch norm told the axis, and without dropout, whose masks are each device's own."""
    net = network(rate=0.0)
    params, state = net.init(jax.random.key(0), X)
    want = jax.jit(train_program(net))(params, state, X, LABELS)
    everywhere, split = PartitionSpec(), PartitionSpec("data")
    with jax.set_mesh(mesh_of(AxisType.Auto)), fnn.gradients(mode):
        mapped = jax.shard_map(
            train_program(network("data", rate=0.0), "data"),
            in_specs=(everywhere, everywhere, split, split),
            out_specs=everywhere,
        )
        got = jax.jit(mapped)(params, state, X, LABELS)
    assert_close(jax.device_get(got), jax.device_get(want), ulps=256)
