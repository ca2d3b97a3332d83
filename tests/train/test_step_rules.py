"""What a step and an evaluation take: shapes of losses, what is not finite, optimisers, and any trace state."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import PartitionSpec

import fnn
from fnn import train
from fnn.train import finite

LAYER, SGD = fnn.dense(1), optax.sgd(0.1)
X = np.random.default_rng(0).normal(size=(8, 3)).astype("f")
T = X.sum(1)


def squared(y, t):
    return (y[:, 0] - t) ** 2


def start(optimizer=SGD, layer=LAYER):
    return train.init_state(layer, optimizer, jax.random.key(0), (1, 3))


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in leaves)


WRONG = {
    "column against row": (
        lambda y, t: (y - t) ** 2,
        r"\(8, 8\) from outputs \(8, 1\) and labels \(8,\); outputs were b",
    ),
    "column": (lambda y, t: (y - t[:, None]) ** 2, r"\(8, 1\) .*reduce it over all axes but the first"),
    "other number": (lambda y, t: (y[:3, 0] - t[:3]) ** 2, r"\(3,\) .*give one number an example"),
    "tuple": (lambda y, t: (squared(y, t), 1), "a tuple of 2; return the .* alone"),
    "none": (lambda y, t: None, "got None"),
    "complex": (lambda y, t: y[:, 0] + 1j, r"complex64 of shape \(8,\)"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("where", ["loss", "metric", "evaluate"])
def test_one_rule_for_losses_and_metrics(name, where):
    f, message = WRONG[name]
    loss, metrics = (f, {}) if where == "loss" else (squared, {"m": f})

    def call():
        if where == "evaluate":
            return train.evaluate(LAYER, (start().params, {}), [(X, T)], metrics)
        return train.make_step(LAYER, loss, SGD, metrics=metrics)(start(), (X, T))

    with pytest.raises(fnn.InputError, match=message):
        call()


@pytest.mark.parametrize(
    "loss", [lambda y, t: 1.0, lambda y, t: y[:, 0] > t, lambda y, t: t.astype(int)], ids=["number", "bool", "int"]
)
def test_a_loss_must_have_a_gradient(loss):
    with pytest.raises(fnn.InputError, match="loss to give a floating-point array"):
        train.make_step(LAYER, loss, SGD)(start(), (X, T))
    train.make_step(LAYER, squared, SGD, metrics={"m": loss})(start(), (X, T))


def test_penalties_are_one_number():
    for penalty, message in (
        (lambda p: p["bias"], r"got \(1,\)"),
        (lambda p: None, "None"),
        (lambda p: (p, 1), "tuple"),
    ):
        with pytest.raises(fnn.InputError, match=message):
            train.make_step(LAYER, squared, SGD, penalty=penalty)(start(), (X, T))
    train.make_step(LAYER, squared, SGD, penalty=lambda p: 0)(start(), (X, T))


def root(y, t):
    return jnp.sqrt(jnp.abs(y[:, 0] - t))


# The loss is finite, and so is the gradient but in the first two.
BROKEN = {
    "gradient": (root, SGD, None, "the gradient of parameter bias is not finite"),
    "penalty": (squared, SGD, lambda p: jnp.sqrt((p["kernel"] * 0).sum()), "the gradient of parameter kernel"),
    "rate nan": (squared, optax.sgd(float("nan")), None, "the update of parameter bias"),
    "schedule inf": (squared, optax.sgd(lambda n: jnp.inf), None, "the update of parameter bias"),
    "overflow": (squared, optax.sgd(3e38), None, "the update of parameter"),
    "large, rate nan": (squared, optax.sgd(float("nan")), None, "the update of parameter bias"),
    "large, for the kernel": (
        squared,
        optax.multi_transform({"a": SGD, "b": optax.sgd(float("inf"))}, {"bias": "a", "kernel": "b"}),
        None,
        "the update of parameter kernel",
    ),
    "square": (lambda y, t: y[:, 0] * 1e30, optax.adam(0.1), None, "the gradient of parameter bias is not finite"),
}


def as_elsewhere(*operands, cpu, default):
    """As `lax.platform_dependent` on a GPU."""
    return default(*operands)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_finite_changes_nothing_and_is_named(name, elsewhere, joined, monkeypatch):
    monkeypatch.setattr(finite, "whole_batch", lambda *args: joined)
    if name.startswith("large"):
        monkeypatch.setattr(finite, "_LARGE", 2)
    if elsewhere:
        monkeypatch.setattr(jax.lax, "platform_dependent", as_elsewhere)
    loss, optimizer, penalty, message = BROKEN[name]
    step = train.make_step(LAYER, loss, optimizer, penalty=penalty)
    now = start(optimizer)
    x, t = (X * 0, T * 0) if name == "gradient" else (X, T)
    before = jax.tree.map(np.asarray, now[:3])
    with pytest.raises(
        train.NonFiniteLoss, match=f"step 0 .epoch 1/1. was not taken: its loss is .*, but {message}"
    ) as e:
        train.fit(step, now, [(x, t)] * 3, progress=False)
    assert same(before, e.value.train_state[:3])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_square_that_a_narrow_optimiser_state_cannot_hold_is_refused(elsewhere, monkeypatch):
    if elsewhere:
        monkeypatch.setattr(jax.lax, "platform_dependent", as_elsewhere)
    optimizer = optax.adam(1e-3)
    params = jax.tree.map(lambda a: a.astype("float16"), start().params)
    now = start(optimizer)._replace(params=params, opt_state=optimizer.init(params))
    step = train.make_step(LAYER, lambda y, t: y[:, 0] * 300, optimizer)
    before = jax.tree.map(np.asarray, now[:3])
    with pytest.raises(train.NonFiniteLoss, match="the optimiser's new state 0/nu/bias is not finite") as e:
        train.fit(step, now, [(X.astype("float16"), T)], progress=False)
    assert same(before, e.value.train_state[:3])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_model_state_that_is_not_finite_is_refused(elsewhere, monkeypatch):
    if elsewhere:
        monkeypatch.setattr(jax.lax, "platform_dependent", as_elsewhere)
    layer = fnn.Layer(
        lambda key, x: ({"w": jnp.ones(3)}, {"mean": jnp.zeros(())}),
        lambda p, s, x, *, train=False, key=None: (x * p["w"], {"mean": x.sum() * 1e38}),
    )
    step = train.make_step(layer, lambda y, t: y[:, 0] - t, SGD)
    with pytest.raises(train.NonFiniteLoss, match="the layer's new state mean is not finite") as caught:
        train.fit(step, start(layer=layer), [(np.full((8, 3), 9, "f"), T)], progress=False)
    assert float(caught.value.train_state.model_state["mean"]) == 0


def test_large_arrays_are_checked_too_and_a_large_gradient_is_no_error(monkeypatch):
    monkeypatch.setattr(finite, "_LARGE", 1)
    now, measures = train.make_step(LAYER, lambda y, t: y[:, 0] * 1e12, optax.sgd(1e-12))(start(), (X, T))
    assert int(measures["skipped"]) == 0
    before = jax.tree.map(np.asarray, now[:3])
    after, measures = train.make_step(LAYER, root, SGD)(now, (X * 0, T * 0 + before[0]["bias"]))
    assert int(measures["skipped"]) > 0
    assert same(before, after[:3])


def test_in_shard_map_a_broken_gradient_is_skipped_on_all_devices():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    step = train.make_step(LAYER, root, SGD)
    now, batch = start(), (np.ones((8, 3), "f"), np.arange(8, dtype="f"))
    place = PartitionSpec("d")
    run = jax.shard_map(
        lambda now, batch: jax.tree.map(lambda a: jnp.ravel(a)[None], step(now, batch)[0].params),
        mesh=mesh, in_specs=(PartitionSpec(), place), out_specs=place,
    )  # fmt: skip
    zero = now._replace(params=jax.tree.map(jnp.zeros_like, now.params))
    assert all(not np.asarray(a).any() for a in jax.tree.leaves(jax.jit(run)(zero, batch)))


def optimizers():
    """All of optax that one rate makes, and what needs more than that."""
    for module in (optax, optax.contrib):
        for name, f in sorted(vars(module).items()):
            if not name.startswith("_") and inspect.isfunction(f):
                parameters = inspect.signature(f).parameters
                required = [p.name for p in parameters.values() if p.default is p.empty]
                if "learning_rate" in parameters and required in ([], ["learning_rate"]):
                    yield name, lambda f=f: f(learning_rate=1e-2)
    c = optax.contrib
    sam = lambda **o: c.sam(optax.sgd(0.1), optax.chain(c.normalize(), optax.sgd(0.05)), **o)  # noqa: E731
    yield "polyak_sgd", optax.polyak_sgd
    yield "reduce_on_plateau", lambda: optax.chain(optax.adam(0.01), c.reduce_on_plateau())
    yield "schedule_free", lambda: c.schedule_free(optax.sgd(0.1), 0.1)
    yield "sam", sam
    yield "sam opaque", lambda: sam(opaque_mode=True)
    yield "sam in a chain", lambda: optax.chain(optax.clip_by_global_norm(1.0), sam())
    yield "backtracking", lambda: optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5))
    yield "multi steps", lambda: optax.MultiSteps(optax.polyak_sgd(), 2)
    yield "apply_if_finite", lambda: optax.apply_if_finite(optax.adam(0.1), 3)
    yield "inject", lambda: optax.inject_hyperparams(optax.adam)(0.1)
    yield "masked", lambda: optax.masked(optax.sgd(0.1), {"bias": True, "kernel": True})
    parts = {"a": optax.adam(0.1), "b": optax.set_to_zero()}
    yield "frozen", lambda: optax.multi_transform(parts, {"bias": "b", "kernel": "a"})


OPTIMIZERS = dict(optimizers())
FEW = ("polyak_sgd", "reduce_on_plateau", "schedule_free_sgd", "sam in a chain", "multi steps", "sophia")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FEW else [pytest.mark.long]) for n in OPTIMIZERS], ids=list(OPTIMIZERS)
)
def test_any_optimiser_of_optax_trains(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = OPTIMIZERS[name]()
        step, now = train.make_step(LAYER, squared, optimizer), start(optimizer)
        shapes = jax.tree.map(jnp.shape, now)
        now, history = train.fit(step, now, [(X, T)] * 2, epochs=2, progress=False)
    assert jax.tree.map(jnp.shape, now) == shapes
    assert all(np.isfinite(row["loss"]) for row in history)
    if name != "scale_by_rprop":  # without a sign it climbs
        assert history[1]["loss"] <= history[0]["loss"] * 1.001


def test_an_optimiser_that_misses_an_argument_of_its_own_says_so():
    odd = optax.GradientTransformationExtraArgs(lambda p: (), lambda g, s, p=None, *, mine: (g, s))
    with pytest.raises(TypeError, match="mine"):
        train.make_step(LAYER, squared, odd)(start(odd), (X, T))


STEP = train.make_step(LAYER, squared, SGD)
ONE = jnp.ones(3)


def take(x=None):
    """A step on concrete arguments, whatever is traced around it."""
    loss = STEP(start(), (X, T))[1]["loss"]
    return loss if x is None else loss + 0 * x.sum()


AROUND = {
    "jit": lambda: jax.jit(take)(),
    "grad": lambda: jax.value_and_grad(take)(ONE)[0],
    "vmap": lambda: jax.vmap(take)(ONE)[0],
    "jvp": lambda: jax.jvp(take, (ONE,), (ONE,))[0],
    "linearize": lambda: jax.linearize(take, ONE)[0],
    "scan": lambda: jax.lax.scan(lambda c, _: (take(), None), jnp.zeros(()), None, length=1)[0],
    "cond": lambda: jax.lax.cond(True, take, take, ONE),
    "checkpoint": lambda: jax.checkpoint(take)(ONE),
    "make_jaxpr": lambda: jax.core.eval_jaxpr(*(lambda j: (j.jaxpr, j.consts))(jax.make_jaxpr(take)()))[0],
    "jit of grad": lambda: jax.jit(jax.value_and_grad(take))(ONE)[0],
    "export": lambda: jax.export.export(jax.jit(take))(ONE).call(ONE),
    "eval": lambda: jnp.float32(train.evaluate(LAYER, (start().params, {}), [(X, T)], {"m": squared})["m"]),
}


@pytest.mark.parametrize("name", AROUND)
def test_a_step_on_concrete_arguments_runs_under_any_transformation(name):
    np.testing.assert_allclose(AROUND[name](), take(), rtol=1e-6)


def test_evaluate_fit_and_lower_run_under_jit_on_concrete_arguments():
    now, seen = start(), []
    fixed = jax.tree.map(jnp.copy, start().params)

    @jax.jit
    def f(x):
        seen.append(train.evaluate(LAYER, (fixed, {}), [(X, T)], {"m": squared})["m"])
        seen.append(train.fit(STEP, now, [(X, T)], progress=False)[1][0]["loss"])
        STEP.lower(jax.eval_shape(start), (X, T))
        return x

    f(ONE)
    np.testing.assert_allclose(seen, take(), rtol=1e-6)
    with pytest.raises(fnn.InputError, match="got one that a transformation of JAX traces; call it outside jit"):
        jax.jit(lambda p: train.evaluate(LAYER, (p, {}), [(X, T)], {"m": squared}))(fixed)
    with pytest.raises(fnn.InputError, match="fit expected arrays with values"):
        jax.jit(lambda now: train.fit(STEP, now, [(X, T)], progress=False))(start())


@pytest.mark.long
def test_with_jit_switched_off():
    with jax.disable_jit():
        loss = take()
    np.testing.assert_allclose(loss, take(), rtol=1e-6)
