"""True or False where a flag is asked for, in every public function: a string that means no would count as yes."""

import importlib
import inspect

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

MODULES = ("fnn", "fnn.ops", "fnn.train", "fnn.data", "fnn.check", "fnn.inspect", "fnn.core.cases")
ROWS = jnp.ones((2, 4, 4, 1))
# What a function with a flag needs besides, by the name of the argument; a new name is to be added here.
ARGUMENTS = {
    "x": ROWS,
    "query": ROWS,
    "key": ROWS,
    "value": ROWS,
    "features": 2,
    "heads": 1,
    "hidden": 2,
    "window": 2,
    "kernel_size": 2,
    "f": fnn.ops.relu,
    "args": ROWS,
    "name": "relu",
    "spec": None,
    "data": (np.ones(3),),
    "batch_size": 1,
    "step": fnn.train.make_step(fnn.identity(), lambda y, t: y, optax.sgd(0.1)),
    "train_state": fnn.train.TrainState({}, {}, (), 0, None),
    "batches": [],
    "layer": fnn.relu(),
    "compute": "bfloat16",
}
EMPTY = inspect.Parameter.empty
NOT_FLAGS = ("none", "SAME", "", 0, 1, 1.0, None, [], np.ones(2, bool), jnp.array(True))


def flags():
    """(module, function, flag) of every public function with a bool as default."""
    for module in MODULES:
        public = vars(importlib.import_module(module))
        for name, f in public.items():
            if name.startswith("_") or not callable(f) or not getattr(f, "__module__", "").startswith("fnn"):
                continue
            if inspect.isclass(f):  # what functions here return; but for Case, users make none
                continue
            for parameter in inspect.signature(f).parameters.values():
                if isinstance(parameter.default, bool):
                    yield pytest.param(module, name, parameter.name, id=f"{module}.{name}-{parameter.name}")


def call(module, name, flag, value):
    f = getattr(importlib.import_module(module), name)
    needed = [p.name for p in inspect.signature(f).parameters.values() if p.default is EMPTY]
    positional = [ARGUMENTS[n] for n in needed]
    return f(*positional, **{flag: value})


def test_there_are_flags_in_all_places():
    names = {(p.values[1], p.values[2]) for p in flags()}
    assert {("gelu", "approximate"), ("conv", "bias"), ("fit", "progress"), ("check_vjp", "quick")} <= names
    assert len(list(flags())) >= 14


@pytest.mark.parametrize(("module", "name", "flag"), list(flags()))
def test_only_bools_are_flags(module, name, flag):
    for value in NOT_FLAGS:
        with pytest.raises(fnn.InputError, match=f"expected True or False for {flag}; got"):
            call(module, name, flag, value)


@pytest.mark.parametrize("name", ["gelu", "avg_pool", "dense", "conv", "conv_transpose", "depthwise_conv"])
def test_numpy_bools_are_bools(name):
    f = getattr(fnn, name)
    flag = next(p.name for p in inspect.signature(f).parameters.values() if isinstance(p.default, bool))
    for value in (True, False):
        kinds = [call("fnn", name, flag, kind) for kind in (value, np.bool_(value))]
        apply = [layer.apply(layer.init(fnn_key(), ROWS.shape)[0], {}, ROWS)[0] for layer in kinds]
        np.testing.assert_array_equal(*apply)


def fnn_key():
    return jnp.zeros(2, jnp.uint32)


@pytest.mark.parametrize("layer", [fnn.dense(2), fnn.batch_norm(), fnn.dropout(0.5), fnn.serial(fnn.relu())])
def test_train_is_a_flag_of_every_layer(layer):
    params, state = layer.init(fnn_key(), ROWS)
    for value in NOT_FLAGS:
        with pytest.raises(fnn.InputError, match=r"apply expected True or False for train; got"):
            layer.apply(params, state, ROWS, train=value)
    layer.apply(params, state, ROWS, train=np.bool_(False))


def test_strings_of_torch_are_told_what_they_are_here():
    with pytest.raises(fnn.InputError, match=r"got 'none'; pass True for the tanh form .*, False for the exact one"):
        fnn.ops.gelu(ROWS, approximate="none")
    with pytest.raises(fnn.InputError, match=r"gelu expected True or False for approximate; got 'tanh'"):
        fnn.gelu("tanh")
