"""Options for the compiler: probed, dropped where unknown, chosen by size, and those of one step alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import train
from fnn.train import compiler

LIBRARY, SCHEDULER = "xla_cpu_experimental_ynn_fusion_type", "xla_cpu_scheduler_type"
PIECE = "xla_multiheap_size_constraint_per_heap"
LAYER, SGD = fnn.dense(1), optax.sgd(0.1)
BATCH = np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)


def traced(entries):
    """A program whose largest array has so many float32 entries; nothing is allocated."""
    return jax.jit(lambda x: jnp.sin(x).sum()).trace(jax.ShapeDtypeStruct((entries,), jnp.float32))


def step_and_state(**options):
    step = train.make_step(LAYER, fnn.squared_error, SGD, **options)
    return step, train.init_state(LAYER, SGD, jax.random.key(0), BATCH[0])


def test_cpu_has_options_and_other_platforms_have_none():
    assert sorted(train.compiler_options()) == [LIBRARY, SCHEDULER]
    assert train.compiler_options(platform="gpu") == train.compiler_options(platform="tpu") == {}


def test_the_dict_is_the_callers():
    train.compiler_options().clear()
    assert train.compiler_options()


def test_what_the_compiler_does_not_know_is_left_out(monkeypatch):
    tuned = {"cpu": {"xla_no_such_option": "1", SCHEDULER: "no such scheduler", LIBRARY: "LIBRARY_FUSION_TYPE_DOT"}}
    monkeypatch.setattr(compiler, "_TUNED", tuned)
    assert train.compiler_options() == {LIBRARY: "LIBRARY_FUSION_TYPE_DOT"}


def test_each_option_is_tried_once():
    train.compiler_options()
    before = compiler._known.cache_info().misses
    train.compiler_options()
    assert compiler._known.cache_info().misses == before


@pytest.mark.parametrize(("mebibytes", "piece"), [(1, 16), (10, 16), (12, 32), (21, 32), (22, None), (100, None)])
def test_pieces_of_memory_hold_the_largest_array_and_a_half(mebibytes, piece):
    found = train.compiler_options(traced(mebibytes << 18)).get(PIECE)
    assert found == (piece and str(piece << 20))


def test_arrays_inside_loops_and_branches_count():
    def program(x):
        large = jnp.zeros((10 << 20,))

        def loop(x):
            return jax.lax.fori_loop(0, 2, lambda _, total: total + (large + total).sum(), x)

        return jax.lax.cond(x > 0, loop, jnp.sin, x)

    assert PIECE not in train.compiler_options(jax.jit(program).trace(1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"platform": 3}, r'compiler_options expected "cpu", "gpu", "tpu" or None; got 3; name the platform'),
        (
            {"program": len},
            r"compiler_options expected a traced program; got builtin_function_or_method; pass jax.jit\(f\).trace",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(fnn.InputError, match=message):
        train.compiler_options(**arguments)


def test_options_belong_to_the_step_and_can_be_switched_off(monkeypatch):
    asked = []
    monkeypatch.setattr(compiler, "compiler_options", lambda program: asked.append(program) or {"xla_no_such": "1"})
    step, now = step_and_state()
    with pytest.raises(Exception, match="xla_no_such"):
        step(now, BATCH)
    step, now = step_and_state(compiler_options={})
    now, measures = step(now, BATCH)
    assert np.isfinite(measures["loss"])
    assert len(asked) == 1, "only the step without options of its own asks for them"
    assert float(jax.jit(lambda x: x + 1)(1.0)) == 2.0, "another program is compiled without them"


def test_inside_another_jit_the_outer_options_count():
    step, now = step_and_state(compiler_options={LIBRARY: "LIBRARY_FUSION_TYPE_DOT"})
    _, measures = jax.jit(step)(now, BATCH)
    assert np.isfinite(measures["loss"])


def test_options_are_chosen_anew_for_another_batch(monkeypatch):
    asked = []
    monkeypatch.setattr(compiler, "compiler_options", lambda program: asked.append(program) or {})
    step, now = step_and_state()
    for size in (4, 4, 2, 4):
        now, _ = step(now, tuple(part[:size] for part in BATCH))
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (3, r"make_step expected compiler_options \{name: value\} or None; got 3"),
        ({LIBRARY: [1]}, f"make_step expected a string or a number for compiler option {LIBRARY}; got \\[1\\]"),
        (
            {"xla_no_such": "1"},
            "expected compiler_options that this XLA knows; got xla_no_such='1'; check its name and",
        ),
        ({SCHEDULER[:-1]: "1"}, f"got {SCHEDULER[:-1]}='1'; did you mean {SCHEDULER}"),
        ({SCHEDULER: "no such scheduler"}, f"got {SCHEDULER}='no such scheduler'; check its name and its value"),
    ],
)
def test_options_that_the_compiler_would_refuse_are_refused_when_the_step_is_made(options, message):
    with pytest.raises(fnn.InputError, match=message):
        train.make_step(LAYER, fnn.squared_error, SGD, compiler_options=options)
