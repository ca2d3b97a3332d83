"""`jax.export` with symbolic sizes: every layer, loss, metric and rule, value and gradient, for three platforms."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import fnn
from fnn import train
from fnn.core.sizes import known, possible
from tests.catalogue import LAYERS, MEASURES, SIZES
from tests.helpers import is_float
from tests.sweeps.test_modes import with_gradients

PLATFORMS = ("cpu", "cuda", "tpu")
EXAMPLES = [(name, i) for name, makers in LAYERS.items() for i in range(len(makers))]
REPRESENTATIVES = [("conv", 2), ("batch_norm", 0), ("max_pool", 1), ("avg_pool", 1)]
SHAPES = {"b, 9, 10, 4": [(3, 9, 10, 4)], "b, h, w, 4": [(3, 7, 11, 4), (1, 8, 6, 4)]}


def exported(f, *args):
    return export.export(jax.jit(f), platforms=PLATFORMS)(*args)


def spec_like(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def assert_alike(got, want):
    def check(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = (
            np.asarray(jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v) for v in (a, b)
        )
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(b).max(initial=0.0)))

    jax.tree.map(check, got, want)


def trained(layer):
    """`(params, state, x, seed) -> evaluated output, training output, new state and gradients`."""

    def run(params, state, x, seed):
        def loss(params, x):
            y, after = layer.apply(params, state, x, train=True, key=jax.random.key(seed))
            return jnp.sin(y).sum(), (y, after)

        return layer.apply(params, state, x)[0], jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    return run


def check_layer(layer, symbols, concrete, run=True):
    sizes = next(iter(concrete))
    params, state = layer.init(jax.random.key(0), sizes)
    f = trained(layer)
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    x = jax.ShapeDtypeStruct(export.symbolic_shape(symbols), jnp.float32)
    program = exported(f, spec_like(params), spec_like(state), x, seed)
    assert program.platforms == PLATFORMS
    for shape in concrete if run else ():
        x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
        assert_alike(program.call(params, state, x, jnp.uint32(3)), jax.jit(f)(params, state, x, jnp.uint32(3)))
    return program


@pytest.mark.parametrize(("name", "i"), REPRESENTATIVES)
@pytest.mark.long
def test_layers_of_many_sizes(name, i):
    check_layer(LAYERS[name][i](), "b, h, w, 4", SHAPES["b, h, w, 4"])


@pytest.mark.long
@pytest.mark.parametrize("symbols", SHAPES)
@pytest.mark.parametrize(("name", "i"), EXAMPLES)
def test_layers_are_themselves_once_exported(name, i, symbols):
    if name == "position_embedding" and "h" in symbols:
        pytest.skip("it has an embedding for each place that init was shown")
    check_layer(LAYERS[name][i](), symbols, SHAPES[symbols])


NETWORKS = {
    "lenet": (lambda: fnn.models.lenet5(), "b, 32, 32, 1", [(2, 32, 32, 1), (3, 32, 32, 1)]),
    "residual": (
        lambda: fnn.serial(
            fnn.conv(64, 3, stride=2, padding="SAME", bias=False),
            fnn.batch_norm(),
            fnn.relu(),
            fnn.residual(
                fnn.serial(fnn.conv(64, 3, padding="SAME"), fnn.batch_norm(), fnn.relu(), fnn.conv(64, 3, padding=1)),
                after=fnn.relu(),
            ),
            fnn.residual(fnn.conv(64, 3, stride=2, padding="SAME"), fnn.conv(64, 1, stride=2, padding="SAME")),
            fnn.repeat(fnn.serial(fnn.depthwise_conv(3, padding="SAME"), fnn.conv(64, 1), fnn.relu()), 2),
            fnn.global_avg_pool(),
            fnn.dropout(0.1),
            fnn.dense(3),
        ),
        "b, h, w, 3",
        [(2, 16, 13, 3), (1, 9, 12, 3)],
    ),
    "one axis": (
        lambda: fnn.serial(
            fnn.conv(16, 5, padding="CAUSAL"), fnn.max_pool(2), fnn.conv(16, 3, dilation=2), fnn.avg_pool(3, stride=1)
        ),
        "b, n, 4",
        [(2, 19, 4), (1, 24, 4)],
    ),
    "three axes": (
        lambda: fnn.serial(fnn.conv(8, 3, padding="SAME"), fnn.relu(), fnn.conv(4, 2, stride=2), fnn.global_max_pool()),
        "b, d, h, w, 2",
        [(2, 4, 5, 6, 2), (1, 6, 4, 3, 2)],
    ),
    "16 channels": (
        lambda: fnn.serial(fnn.conv(16, 3, padding="SAME"), fnn.relu(), fnn.conv(16, 3), fnn.flatten(), fnn.dense(3)),
        "b, 9, 10, 16",
        [(2, 9, 10, 16), (1, 9, 10, 16)],
    ),
}


@pytest.mark.parametrize(
    "name", ["16 channels", *[pytest.param(n, marks=pytest.mark.long) for n in NETWORKS if n[0] != "1"]]
)
def test_networks(name):
    make, symbols, concrete = NETWORKS[name]
    check_layer(make(), symbols, concrete)


# Sizes that a symbol leaves open: whether (h - 2) * (w - 2) is positive, how much SAME pads.
OPEN = {
    "batch_norm behind VALID": lambda: fnn.serial(fnn.conv(4, 3), fnn.batch_norm()),
    "batch_norm behind a stride": lambda: fnn.serial(fnn.conv(4, 3, stride=2), fnn.batch_norm()),
    "REPLICATE under a stride": lambda: fnn.conv(4, 3, stride=2, padding="REPLICATE"),
}


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.long
def test_sizes_that_a_symbol_leaves_open(name):
    check_layer(OPEN[name](), "b, h, w, 4", SHAPES["b, h, w, 4"])


def symbolic_batch(args):
    """Specs of the arguments: axis 0 of those that are as long as the first becomes `b`."""
    (b,) = export.symbolic_shape("b")
    n = args[0].shape[0]

    def spec(a):
        batched = hasattr(a, "shape") and a.ndim and a.shape[0] == n
        return None if a is None else jax.ShapeDtypeStruct((b, *a.shape[1:]) if batched else a.shape, a.dtype)

    return [spec(a) for a in args]


@pytest.mark.long
def test_rules():
    """Every case of every rule whose batch is one, with the batch symbolic."""
    wrong = []
    for name, rule in fnn.rules().items():
        for i, case in enumerate(rule.cases):
            args = case.sample(i)
            if not case.batched:
                continue
            specs = symbolic_batch(args)
            try:
                exported(with_gradients(rule.of(case), args), *specs)
            except Exception as error:  # all in one list, whatever their kind
                wrong.append(f"{name} {i}: {type(error).__name__}: {str(error).splitlines()[0]}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@pytest.mark.parametrize("name", MEASURES)
def test_losses_and_metrics(name):
    for f, *draws in MEASURES[name]:
        args = [draw(jax.random.key(j), jnp.float32) for j, draw in enumerate(draws)]
        run = with_gradients(f, args) if all(map(is_float, args[:1])) else f
        assert_alike(exported(run, *symbolic_batch(args)).call(*args), jax.jit(run)(*args))


def test_a_training_step():
    """The update of a whole step, for any batch."""
    model, optimizer = fnn.serial(fnn.conv(16, 3), fnn.batch_norm(), fnn.flatten(), fnn.dense(3)), optax.sgd(0.1)
    step = train.make_step(model, fnn.softmax_cross_entropy, optimizer, metrics={"accuracy": fnn.accuracy})

    def update(params, state, opt_state, x, labels):
        now = train.TrainState(params, state, opt_state, jnp.int32(0), jax.random.key(1))
        after, measures = step(now, (x, labels))
        return after.params, after.model_state, measures

    now = train.init_state(model, optimizer, jax.random.key(0), (1, 6, 6, 2))
    (b,) = export.symbolic_shape("b")
    batch = jax.ShapeDtypeStruct((b, 6, 6, 2), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.int32)
    trees = now.params, now.model_state, now.opt_state
    program = exported(update, *spec_like(trees), *batch)
    for n in (2, 5):
        x, labels = jnp.asarray(np.random.default_rng(n).normal(size=(n, 6, 6, 2)), jnp.float32), jnp.arange(n) % 3
        assert_alike(program.call(*trees, x, labels), jax.jit(update)(*trees, x, labels))


@pytest.mark.skipif(importlib.util.find_spec("flatbuffers") is None, reason="flatbuffers, which serialises, is missing")
def test_serialisation():
    program = check_layer(fnn.conv(4, 3, stride=2, padding="SAME"), "b, h, w, 4", [SIZES], run=False)
    layer = fnn.conv(4, 3, stride=2, padding="SAME")
    params, _ = layer.init(jax.random.key(0), SIZES)
    x = jnp.ones((2, 7, 8, 4))
    again = export.deserialize(program.serialize())
    assert_alike(again.call(params, {}, x, jnp.uint32(0)), trained(layer)(params, {}, x, jnp.uint32(0)))


def test_what_can_be_decided_still_raises():
    """A window larger than any size that the symbols leave, channels that do not fit."""
    x = jax.ShapeDtypeStruct(export.symbolic_shape("b, h, 2, 4"), jnp.float32)
    for layer, words in ((fnn.conv(4, 3), "at least as large as its window"), (fnn.max_pool(3), "its window")):
        params, _ = layer.init(jax.random.key(0), SIZES)
        with pytest.raises(fnn.InputError, match=words):
            exported(lambda params, x, layer=layer: layer.apply(params, {}, x)[0], params, x)
    layer = fnn.reshape(3, 4)
    with pytest.raises(fnn.InputError, match="12 elements"):
        exported(lambda x: layer.apply({}, {}, x)[0], x)


def test_comparisons_without_an_answer():
    b, h = export.symbolic_shape("b, h")
    assert known(lambda: 2 * b >= 2)
    assert not known(lambda: h >= 2)
    assert possible(lambda: h >= 2)
    assert not possible(lambda: h <= 0)
