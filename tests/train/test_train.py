"""Training: the step, evaluation and the loop."""

import io
import itertools
import re
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import train
from fnn.train import progress
from fnn.train.step import TrainState


def noise():
    """A stochastic layer with state: adds noise in training, and counts its calls."""

    def apply(params, state, x, *, train=False, key=None):
        if not train:
            return x, state
        return x + 0.1 * jax.random.normal(key, x.shape), {"calls": state["calls"] + 1}

    return fnn.Layer(lambda key, x: ({}, {"calls": jnp.zeros((), jnp.int32)}), apply, "noise")


def squared(y, t):
    return ((y - t) ** 2)[:, 0]


def batches(n, size=4):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(size, 3)).astype("f"), rng.normal(size=(size, 1)).astype("f")) for _ in range(n)]


MODEL = fnn.serial(noise=noise(), out=fnn.dense(1))
PLAIN = fnn.dense(1)
MOMENTUM = optax.sgd(0.1, momentum=0.9)
STEP = train.make_step(MODEL, squared, MOMENTUM, metrics={"bias": lambda y, t: (y - t)[:, 0]})
PLAIN_STEP = train.make_step(PLAIN, squared, MOMENTUM)


def start(model=MODEL):
    return train.init_state(model, MOMENTUM, jax.random.key(3), (1, 3))


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


class TestStep:
    def test_is_the_optimisers_step_on_the_mean_loss(self):
        now = start(PLAIN)
        x, t = batches(1)[0]
        params = jax.tree.map(np.asarray, now.params)
        error = x @ params["kernel"] + params["bias"] - t
        now, measures = PLAIN_STEP(now, (x, t))
        np.testing.assert_allclose(measures["loss"], np.mean(error**2), rtol=1e-6)
        want = params["kernel"] - 0.1 * (2 * x.T @ error / 4)
        np.testing.assert_allclose(now.params["kernel"], want, rtol=1e-5, atol=1e-7)
        assert int(now.step) == 1

    def test_updates_the_layers_state_and_measures_metrics(self):
        now, measures = STEP(start(), batches(1)[0])
        assert int(now.model_state["noise"]["calls"]) == 1
        assert set(measures) == {"loss", "bias", "skipped"}
        assert measures["bias"].shape == ()

    def test_each_step_draws_from_its_own_key(self):
        now = start()
        batch = batches(1)[0]
        x, key = batch[0], jax.random.clone(now.key)
        for n in range(2):
            params = jax.tree.map(np.asarray, now.params)
            y, _ = MODEL.apply(params, {"noise": {"calls": 0}}, x, train=True, key=jax.random.fold_in(key, n))
            now, measures = STEP(now, batch)
            np.testing.assert_allclose(measures["loss"], np.mean((y - batch[1]) ** 2), rtol=1e-5)

    def test_penalty_is_added(self):
        penalised = train.make_step(PLAIN, squared, MOMENTUM, penalty=lambda p: 100.0 + 0 * p["bias"].sum())
        batch = batches(1)[0]
        plain, more = PLAIN_STEP(start(PLAIN), batch)[1], penalised(start(PLAIN), batch)[1]
        np.testing.assert_allclose(more["loss"], plain["loss"] + 100, rtol=1e-6)

    def test_half_precision_losses_are_averaged_in_float32(self):
        losses = jnp.full((4096,), 1.0, jnp.bfloat16)
        layer = fnn.lift(
            lambda p, x: losses[: x.shape[0]] + 0 * p["w"], lambda key, x: {"w": jnp.zeros((), "bfloat16")}
        )
        step = train.make_step(layer, lambda y, t: y, optax.sgd(0.0))
        _, measures = step(
            train.init_state(layer, optax.sgd(0.0), jax.random.key(0), (1,)), (np.zeros(4096), np.zeros(4096))
        )
        assert measures["loss"].dtype == jnp.float32
        assert float(measures["loss"]) == 1.0

    @pytest.mark.parametrize(("platform", "chooses"), [("cpu", False), ("tpu", True)])
    def test_on_cpu_a_branch_updates_and_elsewhere_entries_are_chosen(self, platform, chooses):
        step = train.make_step(PLAIN, squared, MOMENTUM)
        now = train.init_state(PLAIN, MOMENTUM, jax.random.key(0), (4, 3))
        program = jax.export.export(jax.jit(step), platforms=[platform])(now, batches(1)[0]).mlir_module()
        assert bool(re.search(r"stablehlo.select .*: tensor<i1>, tensor<3x1xf32>", program)) == chooses

    def test_a_loss_that_is_not_finite_changes_nothing_but_the_counter(self):
        x, t = batches(1)[0]
        now, _ = STEP(start(), (x, t))
        before = jax.tree.map(jnp.copy, now)
        after, measures = STEP(now, (np.full_like(x, np.nan), t))
        assert not np.isfinite(measures["loss"])
        assert_same(before._replace(step=before.step + 1), after)

    def test_the_state_that_goes_in_is_donated(self):
        now = start()
        STEP(now, batches(1)[0])
        assert now.params["out"]["kernel"].is_deleted()

    def test_optimisers_that_keep_the_parameters_can_be_donated(self):
        keeper = optax.GradientTransformation(lambda params: params, lambda g, kept, params: (g, kept))
        now = train.init_state(PLAIN, keeper, jax.random.key(0), (1, 3))
        after, _ = train.make_step(PLAIN, squared, keeper)(now, batches(1)[0])
        assert jax.tree.map(jnp.shape, after.opt_state) == jax.tree.map(jnp.shape, after.params)

    def test_obeys_the_gradient_mode_of_the_call(self):
        seen = []
        layer = fnn.lift(
            lambda p, x: seen.append("trace") or fnn.ops.dense(x, p["w"]), lambda k, x: {"w": jnp.ones((3, 1))}
        )
        step = train.make_step(layer, squared, MOMENTUM)
        batch, now = batches(1)[0], train.init_state(layer, MOMENTUM, jax.random.key(0), (1, 3))
        seen.clear()
        for mode in ("hand", "auto", "hand", "auto"):
            with fnn.gradients(mode):
                now, _ = step(now, batch)
        assert len(seen) == 2

    @pytest.mark.parametrize(
        ("batch", "message"),
        [
            (np.ones(3), r"step expected a batch \(x, labels\); got an array, float64 of shape \(3,\)"),
            ((np.ones(3),), r"got a tuple of 1; pass both: step"),
            (
                (np.ones((3, 3)), np.ones((2, 1))),
                r"same number of examples on axis 0; got x \(3, 3\) and labels \(2, 1\)",
            ),
            ((np.ones((3, 3)), np.float32(1)), r"same number of examples on axis 0; got x \(3, 3\) and labels \(\)"),
            ((np.ones((0, 3)), np.ones((0, 1))), r"at least one example in a batch; got an empty batch"),
        ],
    )
    def test_refuses_bad_batches(self, batch, message):
        with pytest.raises(fnn.InputError, match=message):
            STEP(start(), batch)

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match="metrics with other names; got loss"):
            train.make_step(PLAIN, squared, MOMENTUM, metrics={"loss": squared})
        with pytest.raises(fnn.InputError, match=r"metrics \{name: f\(outputs, labels\)\}"):
            train.make_step(PLAIN, squared, MOMENTUM, metrics=[squared])
        with pytest.raises(fnn.InputError, match=r"a penalty of shape \(\); got \(1,\)"):
            train.make_step(PLAIN, squared, MOMENTUM, penalty=lambda p: p["bias"])(start(PLAIN), batches(1)[0])


class TestEvaluate:
    metrics = {"error": lambda y, t: jnp.abs(y - t)[:, 0], "mean_error": lambda y, t: jnp.abs(y - t).mean()}  # noqa: RUF012

    def test_is_the_mean_over_examples_whatever_the_batches(self):
        now = start(PLAIN)
        x, t = batches(1, size=10)[0]
        want = np.mean(np.abs(x @ now.params["kernel"] + now.params["bias"] - t))
        for size in (10, 4):
            cut = [(x[i : i + size], t[i : i + size]) for i in range(0, 10, size)]
            got = train.evaluate(PLAIN, now, cut, self.metrics)
            np.testing.assert_allclose([got["error"], got["mean_error"]], want, rtol=1e-6)

    def test_is_compiled_once(self):
        seen = []
        layer = fnn.lift(lambda p, x: seen.append("trace") or x)
        for _ in range(3):
            train.evaluate(layer, ({}, {}), batches(2), self.metrics)
        assert len(seen) == 1

    def test_runs_in_evaluation_mode(self):
        now, (x, t) = start(), batches(1)[0]
        twice = [train.evaluate(MODEL, now, [(x, t)], self.metrics) for _ in range(2)]
        assert twice[0] == twice[1]

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match="at least one batch; got none"):
            train.evaluate(fnn.identity(), ({}, {}), [], self.metrics)
        with pytest.raises(fnn.InputError, match=r"error of shape \(4,\) or \(\), .*; got \(4, 1\)"):
            train.evaluate(fnn.identity(), ({}, {}), batches(1), {"error": lambda y, t: t})


class Shuffled:
    """Batches in an order that depends on the epoch."""

    def __init__(self, items):
        self.items, self.asked = items, []

    def __len__(self):
        return len(self.items)

    def epoch(self, i):
        self.asked.append(i)
        return (self.items[j] for j in np.random.default_rng(i).permutation(len(self.items)))


class TestFit:
    def test_history(self):
        evaluate = lambda now: {"error": now.step * 1.0}  # noqa: E731
        _, history = train.fit(STEP, start(), batches(3), epochs=2, evaluate=evaluate, progress=False)
        assert [(row["epoch"], row["step"], row["test_error"]) for row in history] == [(0, 3, 3.0), (1, 6, 6.0)]
        assert list(history[0]) == ["epoch", "step", "loss", "bias", "test_error", "examples_per_second", "seconds"]
        assert history[0]["examples_per_second"] == pytest.approx(12 / history[0]["seconds"])
        assert all(type(value) in (int, float) for row in history for value in row.values())

    def test_means_weigh_examples(self):
        (x, t), (z, u) = batches(1)[0], batches(1, size=1)[0]
        frozen = train.make_step(PLAIN, squared, optax.sgd(0.0))
        now = train.init_state(PLAIN, optax.sgd(0.0), jax.random.key(0), (1, 3))
        losses = [float(np.mean((a @ now.params["kernel"] - b) ** 2)) for a, b in ((x, t), (z, u))]
        _, history = train.fit(frozen, now, [(x, t), (z, u)], progress=False)
        assert history[0]["loss"] == pytest.approx((4 * losses[0] + losses[1]) / 5, rel=1e-5)

    def test_a_resumed_run_repeats_an_uninterrupted_one_bit_for_bit(self):
        data = Shuffled(batches(3))
        whole, history = train.fit(STEP, start(), data, epochs=4, progress=False)
        half, first = train.fit(STEP, start(), data, epochs=2, progress=False)
        saved = TrainState(*jax.tree.map(jnp.copy, tuple(half)))
        resumed, second = train.fit(STEP, saved, data, epochs=4, first_epoch=2, progress=False)
        assert_same(whole, resumed)
        assert [row["loss"] for row in history] == [row["loss"] for row in first + second]
        assert [row["epoch"] for row in second] == [2, 3]
        assert data.asked == [0, 1, 2, 3, 0, 1, 2, 3]

    def test_callbacks_see_every_step_and_epoch(self):
        seen = []
        train.fit(STEP, start(), batches(2), epochs=2, progress=False, callbacks=[seen.append])
        assert [(e.kind, e.epoch, e.step) for e in seen] == [
            *(("step", 0, 1), ("step", 0, 2), ("epoch", 0, 2)),
            *(("step", 1, 3), ("step", 1, 4), ("epoch", 1, 4)),
        ]
        assert seen[2].measures["loss"] == pytest.approx(np.mean([e.measures["loss"] for e in seen[:2]]))

    @pytest.mark.parametrize(("kind", "steps"), [("step", 1), ("epoch", 3)])
    def test_a_callback_that_returns_true_ends_training(self, kind, steps):
        stop = lambda event: event.kind == kind  # noqa: E731
        now, history = train.fit(STEP, start(), batches(3), epochs=9, progress=False, callbacks=[stop])
        assert int(now.step) == steps
        assert [row["step"] for row in history] == [steps]

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match="a generator, which is empty after the first of 2 epochs"):
            train.fit(STEP, start(), (b for b in batches(1)), epochs=2)
        with pytest.raises(fnn.InputError, match="at least one batch an epoch; got none in epoch 1/1"):
            train.fit(STEP, start(), [], progress=False)
        with pytest.raises(fnn.InputError, match="first_epoch from 0 to 2; got 3"):
            train.fit(STEP, start(), batches(1), epochs=2, first_epoch=3)
        named = train.make_step(PLAIN, squared, MOMENTUM, metrics={"seconds": squared})
        with pytest.raises(fnn.InputError, match=r"other names for measures; got \['seconds'\]"):
            train.fit(named, start(PLAIN), batches(1), progress=False)

    def test_a_generator_is_enough_for_one_epoch(self):
        now, _ = train.fit(STEP, start(), itertools.islice(batches(3), 2), progress=False)
        assert int(now.step) == 2


class TestNonFiniteLoss:
    def test_names_the_step_and_the_broken_batch(self):
        data = batches(4)
        data[1] = (data[1][0].copy(), data[1][1])
        data[1][0][0, :2] = np.inf
        with pytest.raises(
            train.NonFiniteLoss, match=r"step 1 \(epoch 1/1\) is (nan|inf): .*parameters are finite.*2 entries"
        ) as caught:
            train.fit(STEP, start(), data, progress=False)
        assert caught.value.step == 1
        # Read one step late: steps 0 and 2 were made, 1 was not applied.
        want = start()
        want, _ = STEP(want, data[0])
        want, _ = STEP(want._replace(step=want.step + 1), data[2])
        assert_same(want, caught.value.train_state)

    def test_names_the_first_parameter_that_is_not_finite(self):
        now = start()
        broken = {"out": {"bias": now.params["out"]["bias"], "kernel": now.params["out"]["kernel"].at[0].set(jnp.nan)}}
        with pytest.raises(train.NonFiniteLoss, match=r"step 0 .*: parameter out/kernel is not finite"):
            train.fit(STEP, now._replace(params=broken), batches(3), progress=False)

    def test_when_everything_is_finite_but_the_loss(self):
        step = train.make_step(PLAIN, lambda y, t: y[:, 0] / 0.0, MOMENTUM)
        with pytest.raises(
            train.NonFiniteLoss, match="all parameters and x are finite; look at the labels and the loss"
        ):
            train.fit(step, start(PLAIN), batches(1), progress=False)

    def test_says_which_labels_came(self):
        step = train.make_step(PLAIN, fnn.softmax_cross_entropy, MOMENTUM)
        (x, _), labels = batches(1)[0], np.arange(1, 9)
        with pytest.raises(
            train.NonFiniteLoss, match=r"the labels \(integers from 1 to \d; classes count from 0\) and"
        ):
            train.fit(step, start(PLAIN), [(x, labels[: len(x)])], progress=False)

    def test_the_last_step_is_checked_too(self):
        x, t = batches(1)[0]
        with pytest.raises(train.NonFiniteLoss, match="step 0"):
            train.fit(STEP, start(), [(x * np.nan, t)], progress=False)


class TestProgress:
    def test_one_plain_line_an_epoch_when_the_output_is_no_terminal(self, capsys):
        train.fit(STEP, start(), batches(2), epochs=2, evaluate=lambda now: {"error": 0.25})
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("epoch 1/2  ")
        for part in ("loss ", "bias ", "test error 0.2500", " examples/s", " s  ", " left"):
            assert part in lines[1]

    def test_live_in_a_terminal(self):
        from rich.console import Console

        out = io.StringIO()
        live = progress.Live(0, 2, None, Console(file=out, force_terminal=True, width=120))
        row = {"epoch": 0, "step": 2, "loss": 0.5, "examples_per_second": 1234.0, "seconds": 1.0}
        with live:
            live.step_ends(0, {"loss": 0.75}, 5678.0)
            live.bar.refresh()
            live.step_ends(0, {"loss": 0.25}, 5678.0)
            live.epoch_ends(row)
        text = out.getvalue()
        assert "loss 0.7500  5,678 examples/s" in text
        assert "loss 0.2500" not in text  # two updates within a tenth of a second
        assert "epoch 1/2  loss 0.5000  1,234 examples/s  1.0 s" in text
        assert live.bar.tasks[0].total == 4  # learned from the first epoch

    def test_live_only_where_there_is_a_terminal(self, monkeypatch):
        assert type(progress.make_display(False, 0, 1, 1)) is progress.Display
        assert type(progress.make_display(True, 0, 1, 1)) is progress.Lines
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        assert type(progress.make_display(True, 0, 1, 1)) is progress.Live

    def test_clock(self):
        assert [progress.clock(s) for s in (5.4, 65, 7207)] == ["0:05", "1:05", "2:00:07"]


def test_a_donated_state_is_refused():
    layer, optimizer = fnn.dense(1), optax.sgd(0.1)
    step = fnn.train.make_step(layer, lambda y, t: (y[:, 0] - t) ** 2, optimizer)
    batch = (jnp.ones((4, 3)), jnp.zeros(4))
    first = fnn.train.init_state(layer, optimizer, jax.random.key(0), (1, 3))
    step(first, batch)
    with pytest.raises(fnn.InputError, match="a TrainState with live arrays; got one that was donated"):
        step(first, batch)
    with pytest.raises(fnn.InputError, match="got <class 'dict'>"):
        step({}, batch)


BATCH = batches(1)[0]
NO_BATCHES = {
    "a list of labels": (
        lambda: PLAIN_STEP(start(PLAIN), (BATCH[0], [0, 1, 2, 0])),
        "got x (4, 3) and labels a list of 4; make an array of it: np.asarray(labels)",
    ),
    "x alone": (
        lambda: PLAIN_STEP(start(PLAIN), BATCH[0]),
        "step expected a batch (x, labels); got an array, float32 of shape (4, 3); pass both: step(train_state, (x,",
    ),
    "one batch": (
        lambda: train.evaluate(PLAIN, start(PLAIN), BATCH, {"error": squared}),
        "got an array, float32 of shape (4, 3); pass a list of pairs, [(x, labels)] for one batch",
    ),
}


@pytest.mark.parametrize(("call", "message"), NO_BATCHES.values(), ids=list(NO_BATCHES))
def test_what_is_no_batch(call, message):
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        call()


def test_a_trained_pair_becomes_a_train_state_of_its_own():
    net = fnn.serial(hidden=fnn.dense(4), norm=fnn.batch_norm(), out=fnn.dense(1))
    old = start(net)
    new, params, state = fnn.replace(net, old, "out", fnn.dense(1), key=jax.random.key(5), x=(1, 3))
    args = (new, MOMENTUM, jax.random.key(6), (1, 3))
    now = train.init_state(*args, params=params, model_state=state)
    for ours, theirs in ((now.params, params), (now.model_state, state)):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    other = train.init_state(*args, params=jax.device_get(params))
    assert jax.tree.structure(other) == jax.tree.structure(now)
    train.make_step(new, squared, MOMENTUM)(now, BATCH)
    assert np.isfinite(net.apply(old.params, old.model_state, BATCH[0])[0]).all()  # nothing of it was donated
    with pytest.raises(fnn.InputError, match="init_state expected params with live arrays"):
        train.init_state(*args, params=now.params)


KERNEL = {"kernel": np.ones((3, 1), "f")}
WRONG = {
    "missing": (KERNEL, "init_state expected the layer's params; got bias is missing; pass those of this layer"),
    "more": (KERNEL | {"bias": np.ones(1, "f"), "scale": np.ones(1, "f")}, "got scale is not expected;"),
    "shape": (KERNEL | {"bias": np.ones(2, "f")}, "got bias is float32 (2,), not float32 (1,);"),
    "dtype": (KERNEL | {"bias": np.ones(1, "i")}, "got bias is int32 (1,), not float32 (1,);"),
    "nothing": (optax.EmptyState(), "bias is missing"),
    "containers": (OrderedDict(start(PLAIN).params), "got its containers are others;"),
    "text": (KERNEL | {"bias": "b"}, "init_state expected an array for params bias; got str"),
}


@pytest.mark.parametrize(("params", "message"), WRONG.values(), ids=list(WRONG))
def test_params_of_another_layer_are_refused(params, message):
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        train.init_state(PLAIN, MOMENTUM, jax.random.key(0), (1, 3), params=params)


def test_model_state_of_another_layer_is_refused():
    with pytest.raises(fnn.InputError, match="the layer's model_state; got noise/calls is missing"):
        train.init_state(MODEL, MOMENTUM, jax.random.key(0), (1, 3), model_state={})


OTHERS = {
    "moments": (optax.adam(0.1), optax.sgd(0.1), "ScaleByAdamState, EmptyState; got EmptyState, EmptyState"),
    "momentum": (MOMENTUM, optax.sgd(0.1), "TraceState, EmptyState; got EmptyState, EmptyState"),
    "length": (
        optax.chain(optax.clip(1.0), MOMENTUM),
        MOMENTUM,
        "EmptyState, TraceState, EmptyState; got TraceState, EmptyState",
    ),
}


@pytest.mark.parametrize(("ours", "its", "words"), OTHERS.values(), ids=list(OTHERS))
def test_the_state_of_another_optimiser_is_named(ours, its, words):
    now = train.init_state(PLAIN, its, jax.random.key(0), (1, 3))
    message = f"step expected its optimiser's opt_state, {words}; give make_step the optimiser that init_state"
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        train.make_step(PLAIN, squared, ours)(now, BATCH)
