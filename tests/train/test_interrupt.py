"""What ends a run early loses nothing: Ctrl-C, and errors in callbacks, data and evaluation."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import check, inspect, train
from fnn.core.alive import alive

LAYER, OPTIMIZER = fnn.dense(1), optax.sgd(0.1)
STEP = train.make_step(LAYER, lambda y, t: (y[:, 0] - t) ** 2, OPTIMIZER)
BATCH = (np.ones((4, 3), "f"), np.zeros(4, "f"))


def start():
    return train.init_state(LAYER, OPTIMIZER, jax.random.key(0), (1, 3))


def raising(error, step):
    def callback(event):
        if event.kind == "step" and event.step == step:
            raise error

    return callback


def pressing(step):
    return lambda event: signal.raise_signal(signal.SIGINT) if (event.kind, event.step) == ("step", step) else None


@pytest.fixture(autouse=True)
def python_handler():
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, old)


@pytest.mark.parametrize("stop", [pressing(5), raising(KeyboardInterrupt(), 5)], ids=["signal", "raised"])
def test_ctrl_c_ends_training_after_the_step(stop, capsys):
    now, history = train.fit(STEP, start(), [BATCH] * 3, epochs=9, callbacks=[stop])
    assert int(now.step) == 5
    assert alive(now)
    assert [row["step"] for row in history] == [3]
    assert "stopped by Ctrl-C in epoch 2/9 after 2 of 3 steps" in capsys.readouterr().out


def test_without_progress_ctrl_c_is_said_on_stderr(capsys):
    train.fit(STEP, start(), [BATCH] * 3, epochs=2, callbacks=[pressing(1)], progress=False)
    shown = capsys.readouterr()
    assert not shown.out
    assert "in epoch 1/2 after 1 of 3 steps" in shown.err


def test_ctrl_c_in_the_evaluation_closes_the_epoch(capsys):
    now, history = train.fit(
        STEP, start(), [BATCH] * 3, epochs=9, evaluate=lambda now: signal.raise_signal(signal.SIGINT) or {"a": 1.0}
    )
    assert int(now.step) == 3
    assert history[0]["test_a"] == 1
    assert "stopped by Ctrl-C after epoch 1/9" in capsys.readouterr().out


def test_a_second_ctrl_c_stops_at_once_and_carries_the_state():
    def twice(event):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        train.fit(STEP, start(), [BATCH] * 3, callbacks=[twice], progress=False)
    assert int(caught.value.train_state.step) == 1


def test_a_loop_within_a_loop_ends_both(capsys):
    steps = []
    inner = lambda event: steps.append(train.fit(STEP, start(), [BATCH] * 9, callbacks=[pressing(2)])[0].step)  # noqa: E731
    now, _ = train.fit(STEP, start(), [BATCH] * 3, callbacks=[inner])
    assert (int(now.step), *map(int, steps)) == (1, 2)
    assert alive(now)


def test_a_second_ctrl_c_in_the_inner_loop_stops_both_at_once():
    """The error that leaves both carries the state of the outer one."""

    def twice(event):
        for _ in range(2 if event.step == 2 else 0):
            signal.raise_signal(signal.SIGINT)

    def inner(event):
        train.fit(STEP, start(), [BATCH] * 9, callbacks=[twice], progress=False)

    with pytest.raises(KeyboardInterrupt) as caught:
        train.fit(STEP, start(), [BATCH] * 3, callbacks=[inner], progress=False)
    assert int(caught.value.train_state.step) == 1
    assert alive(caught.value.train_state)


def test_a_loop_of_another_thread_leaves_the_outer_one_alone():
    def callback(event):
        options = {"callbacks": [raising(KeyboardInterrupt(), 1)], "progress": False}
        thread = threading.Thread(target=train.fit, args=(STEP, start(), [BATCH] * 9), kwargs=options)
        thread.start()
        thread.join()

    now, _ = train.fit(STEP, start(), [BATCH] * 3, callbacks=[callback], progress=False)
    assert int(now.step) == 3


def test_other_handlers_and_threads_stay_as_they_are():
    seen = []
    mine = lambda number, frame: seen.append(number)  # noqa: E731
    signal.signal(signal.SIGINT, mine)
    now, _ = train.fit(STEP, start(), [BATCH] * 3, callbacks=[pressing(1)], progress=False)
    assert (int(now.step), seen) == (3, [signal.SIGINT])
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is mine
    thread = threading.Thread(target=lambda: seen.append(train.fit(STEP, start(), [BATCH] * 2, progress=False)[0].step))
    thread.start()
    thread.join()
    assert int(seen[-1]) == 2


class BrokenError(ValueError):
    pass


def data(n):
    yield from [BATCH] * n
    raise BrokenError("disk")


@pytest.mark.parametrize(
    ("batches", "options", "steps"),
    [
        ([BATCH] * 3, {"callbacks": [raising(BrokenError("mine"), 2)]}, 2),
        (data(2), {}, 2),
        ([BATCH, BATCH, 3], {}, 2),
        ([BATCH] * 3, {"evaluate": lambda now: 1 / 0}, 3),
        ([BATCH] * 3, {"callbacks": [raising(SystemExit(3), 1)]}, 1),
        ([], {}, 0),
    ],
    ids=["callback", "data", "batch", "evaluation", "exit", "none"],
)
def test_errors_carry_the_last_state(batches, options, steps):
    with pytest.raises((BrokenError, fnn.InputError, ZeroDivisionError, SystemExit)) as caught:
        train.fit(STEP, start(), batches, progress=False, **options)
    assert int(caught.value.train_state.step) == steps
    assert alive(caught.value.train_state)
    assert caught.value.history == []
    assert f"the state after {steps} steps is this error's attribute train_state" in caught.value.__notes__[-1]


def test_a_state_lost_in_a_step_is_said_to_be():
    def step(now, batch):
        STEP(now, batch)
        raise BrokenError("after the donation")

    with pytest.raises(BrokenError) as caught:
        train.fit(step, start(), [BATCH], progress=False)
    assert caught.value.train_state is None
    assert "donated to the step that failed, and is lost" in caught.value.__notes__[-1]


def test_a_donated_state_is_one_sentence_anywhere(tmp_path):
    now = start()
    STEP(now, BATCH)
    kernel = now.params["kernel"]
    for call in (
        lambda: STEP(now, BATCH),
        lambda: STEP(now._replace(step=jnp.int32(0)), BATCH),
        lambda: STEP.lower(now, BATCH),
        lambda: train.fit(STEP, now, [BATCH]),
        lambda: train.evaluate(LAYER, now, [BATCH], {}),
        lambda: train.save(tmp_path / "x", now),
        lambda: LAYER.apply(now.params, now.model_state, BATCH[0]),
        lambda: fnn.serial(LAYER).apply({"00_dense": now.params}, {}, BATCH[0]),
        lambda: fnn.ops.relu(kernel),
        lambda: jax.grad(lambda p: LAYER.apply(p, now.model_state, BATCH[0])[0].sum())(now.params),
        lambda: fnn.l2_penalty(now.params),
        lambda: inspect.activations(LAYER, now, BATCH[0]),
        lambda: inspect.plot_filters(kernel),
        lambda: inspect.plot_feature_maps(np.ones((4, 4)), {"a": kernel}),
        lambda: check.compare(LAYER, now, BATCH, fnn.squared_error),
        lambda: check.bisect(LAYER, now, BATCH, fnn.squared_error),
        lambda: check.audit(LAYER, now, BATCH, fnn.squared_error),
        lambda: check.check_vjp(fnn.ops.relu, kernel),
        lambda: check.plot_gradient_norms(now.params),
    ):
        with pytest.raises(fnn.InputError, match=r"with live arrays; got one that was donated to an earlier step"):
            call()


PROGRAM = """
import sys, time, jax, numpy as np, optax, fnn
from fnn import check, inspect, train
layer, optimizer = fnn.dense(1), optax.sgd(0.1)
step = train.make_step(layer, lambda y, t: (y[:, 0] - t) ** 2, optimizer)
now = train.init_state(layer, optimizer, jax.random.key(0), (1, 3))

def callback(event):
    print("step", event.step, flush=True)
    time.sleep(float(sys.argv[1]))

now, history = train.fit(step, now, [(np.ones((4, 3), "f"), np.zeros(4, "f"))] * 10**6, callbacks=[callback])
print("left with", int(now.step), len(history), flush=True)
"""


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_real_signal_to_a_real_process(twice):
    words = [sys.executable, "-c", PROGRAM, "60" if twice else "0.05"]
    process = subprocess.Popen(
        words, cwd=Path(fnn.__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "step 1\n"
    os.kill(process.pid, signal.SIGINT)
    if twice:
        assert "press it again" in process.stderr.readline() + process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    if twice:
        assert process.returncode != 0
        assert "KeyboardInterrupt" in error
    else:
        assert process.returncode == 0, error
        assert "stopped by Ctrl-C in epoch 1/1" in out
        assert out.splitlines()[-1].startswith("left with ")
