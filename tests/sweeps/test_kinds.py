"""Wrong kinds of things, argument by argument, through every public function: they are refused by name, or they work.

What is swept is found by introspection; only arguments that make a right call are written down here.
"""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import check, data, ops, train
from fnn.core.cases import case
from fnn.core.layer import Layer
from fnn.inspect.observe import observe

KEY = jax.random.key(0)
X = jnp.ones((2, 6, 6, 4))
LOGITS, LABELS = jnp.ones((2, 4)), jnp.zeros(2, int)
NET = fnn.serial(fnn.flatten(), fnn.dense(4))
PARAMS, STATE = NET.init(KEY, X)
SGD = optax.sgd(0.1)
RUN = train.init_state(NET, SGD, KEY, X)
BATCH = (X, LABELS)
STEP = train.make_step(NET, fnn.softmax_cross_entropy, SGD)


class _Mute:
    def __repr__(self):
        raise RuntimeError("no words")


SHORT = {"None": None, "text": "x", "float": 1.5, "bool": True, "class": int, "list": [1.5, "a"], "object": object()}
WRONG = SHORT | {
    "minus": -1,
    "nan": float("nan"),
    "inf": float("inf"),
    "huge": 10**30,
    "complex": 1j,
    "digits": 10**5000,
    "empty list": [],
    "empty dict": {},
    "dict": {"a": 1},
    "tuple": ("a", None),
    "bytes": b"x",
    "mute": _Mute(),
    "function": lambda: None,
    "int64": np.int64(2),
    "float32": np.float32(0.5),
    "scalar": jnp.asarray(2),
    "number": jnp.asarray(0.5),
    "flag": jnp.asarray(True),
    "floats": jnp.ones((2, 3)),
    "integers": np.arange(3),
    "objects": np.array([None, "a"]),
    "texts": np.array(["a", "b"]),
    "key": KEY,
    "keys": jax.random.split(KEY, 3),
    "spec": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "dtype class": jnp.float32,
    "NumPy class": np.float32,
    "set": {1, 2},
    "range": range(3),
    "pair": (np.int64(1), jnp.asarray(1)),
    "layer": fnn.relu(),
    "uncalled layer": fnn.relu,
    "uncalled optimiser": optax.sgd,
    "optimiser": optax.sgd(0.1),
}

# Arguments of right calls by name, or by function and name.
GOOD = {
    "x": X,
    "kernel": jnp.ones((3, 3, 4, 2)),
    "key": KEY,
    "rate": 0.5,
    "window": 2,
    "kernel_size": 2,
    "stride": 1,
    "features": 4,
    "groups": 2,
    "output_size": 2,
    "scale": jnp.ones(4),
    "offset": jnp.ones(4),
    "mean": jnp.ones(4),
    "var": jnp.ones(4),
    "logits": LOGITS,
    "labels": LABELS,
    "predictions": LOGITS,
    "targets": LOGITS,
    "k": 1,
    "pairs": ((1, 1), (1, 1)),
    "mode": "REFLECT",
    "params": PARAMS,
    "filter": jnp.ones((2, 2)),
    "channels": 4,
    "size": 3,
    "sigma": 1.0,
    "layer": NET,
    "wrap": lambda path, leaf, copies: leaf,
    "body": fnn.relu(),
    "place": "image",
    "path": "01_dense",
    "new": fnn.dense(3),
    "compute": "float32",
    "n": 2,
    "merge": sum,
    "ys": [LOGITS, LOGITS],
    "f": lambda params, x: x,
    "init": lambda key, x: {},
    "loss": fnn.softmax_cross_entropy,
    "optimizer": SGD,
    "step": lambda now, batch: (now, {"loss": jnp.float32(1)}),
    "train_state": RUN,
    "batches": [BATCH],
    "metrics": {"accuracy": fnn.accuracy},
    "state": STATE,
    "batch": BATCH,
    "name": "relu",
    "progress": False,
    "steps": 1,
    "rounds": 1,
    "heads": 2,
    "rows": 3,
    "pieces": 2,
    "log_rates": LOGITS,
    "factor": 2,
    "hidden": 2,
    "slope": jnp.asarray(0.25),
    "indices": jnp.zeros((2, 3), int),
    "table": jnp.ones((3, 4)),
    ("rotary", "x"): jnp.ones((2, 3, 2, 4)),
    "query": jnp.ones((2, 3, 2, 4)),
    "value": jnp.ones((2, 3, 2, 4)),
    ("attention", "key"): jnp.ones((2, 3, 2, 4)),
    ("dense", "kernel"): jnp.ones((4, 2)),
    ("repeat", "layer"): fnn.relu(),
    ("separable_conv", "groups"): 1,
    ("conv", "groups"): 1,
    ("conv_transpose", "groups"): 1,
    ("sigmoid_binary_cross_entropy", "labels"): LOGITS,
    ("Layer", "init"): lambda key, x: ({}, {}),
    ("Layer", "apply"): lambda params, state, x, *, train=False, key=None: (x, state),
    ("Layer", "name"): "mine",
    ("lift", "name"): "mine",
    ("Rule", "name"): "sweep of kinds",
    ("Rule", "forward"): lambda spec, x: x,
    ("Rule", "fwd"): lambda spec, x: (x, None),
    ("Rule", "bwd"): lambda spec, residuals, dy: (dy,),
    ("Rule", "reference"): lambda spec, x: x,
    ("Rule", "cases"): (case(None, (2,)),),
    ("time_modes", "f"): lambda: LOGITS,
    ("gradients", "mode"): "hand",
    ("placement", "where"): "single",
    ("Implementation", "name"): "mine",
    ("Implementation", "run"): lambda spec, x: x,
}
# Numbers where the default is none.
PLAIN = {"stride": 2, "rank": 2, "padding": 1, "axis": -1}
# What messages call an argument, where that is not its name.
WORDS = {
    "optimizer": "optimiser",
    "train_state": "TrainState",
    "body": "Layer",
    "layer": "Layer",
    "ys": "output",
    "batch": "x",
    "batches": "x",
    "params": "array",
    "path": "child",
}
TOKENS = jnp.ones((2, 3, 4))
INPUTS = dict.fromkeys(("multi_head_attention", "transformer_block", "class_token"), TOKENS)
INPUTS["transformer_block"] = {"x": TOKENS, "context": TOKENS}
INPUTS["embed"] = jnp.zeros((2, 3), int)
# Functions that take any tree, or only pass values on.
ANYTHING = {"decay_mask", "rules", "identity.init", "identity.apply", "check_all", "keep_memory", "save", "load"}


def _public(module):
    for name, f in vars(module).items():
        if inspect.isfunction(f) and not name.startswith("_") and f.__module__.startswith("fnn."):
            yield name, f


def _methods(kind, layer):
    """init and apply of a layer as functions of their own."""
    x = LOGITS if kind == "repeat" else INPUTS.get(kind, X)
    params, state = layer.init(KEY, x)

    def init(key=KEY, x=x):
        return layer.init(key, x)

    def apply(params=params, state=state, x=x, train=False, key=KEY):
        return layer.apply(params, state, x, train=train, key=key)

    return {f"{kind}.init": init, f"{kind}.apply": apply}


def _step(train_state, batch):
    own = isinstance(train_state, train.TrainState)  # a copy: the step takes its arrays
    return STEP(jax.tree.map(jnp.copy, train_state) if own else train_state, batch)


def _arguments(name, f):
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = {n: p for n, p in inspect.signature(f).parameters.items() if p.kind not in many}
    short = name.split(".")[-1]
    found = {}
    for n, p in parameters.items():
        default = p.default is not inspect.Parameter.empty
        found[n] = GOOD.get((short, n), p.default if default else GOOD.get(n, p.default))
    missing = [n for n, value in found.items() if value is inspect.Parameter.empty]
    assert not missing, f"write down an argument {missing} that makes a right call of {name}"
    return found


def _functions():
    filters = {name: f for name, f in _public(data.filters) if f.__module__ == "fnn.data.filters"}
    found = dict(_public(fnn)) | dict(_public(train)) | filters
    found |= {"Layer": Layer, "Rule": fnn.Rule, "lenet5": fnn.models.lenet5, "observe": observe}
    found |= {"activations": fnn.inspect.activations, "summary": fnn.summary}
    found |= {
        "serial": lambda body: fnn.serial(body),
        "parallel": lambda body, merge: fnn.parallel(body, merge=merge),
        "reshape": lambda size: fnn.reshape(size, -1),
        "step": _step,
    }
    made = {name: f for name, f in found.items() if f.__module__.startswith("fnn.layers")}
    for name, f in made.items():
        found |= _methods(name, f(**_arguments(name, f)))
    for layer in (NET, fnn.repeat(fnn.layer_norm(), 2), fnn.residual(fnn.relu())):
        found |= _methods(layer.name, layer)
    found |= _methods("remat", fnn.remat(fnn.dense(2)))
    found |= {f"ops.{name}": f for name, f in _public(ops) if f not in found.values()}
    return {name: f for name, f in found.items() if name not in ANYTHING}


FUNCTIONS = _functions()
PLACES = [(name, argument) for name, f in FUNCTIONS.items() for argument in _arguments(name, f)]
NUMBERS = [
    (name, argument, value)
    for name, f in FUNCTIONS.items()
    for argument, value in (_arguments(name, f) | {a: v for a, v in PLAIN.items() if a in _arguments(name, f)}).items()
    if isinstance(value, int | float) and not isinstance(value, bool)
]
CHECKS = [
    (name, argument)
    for name in ("compare", "audit", "bisect", "lockstep", "explain", "time_modes")
    for argument in _arguments(name, getattr(check, name))
]


def _use(name, out):
    """Run what was made: an option that was accepted must work."""
    if not isinstance(out, Layer) or name in ("Layer", "lift", "at"):
        return out
    x = jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.float32) if name == "lenet5" else INPUTS.get(name, X)

    def run(x):
        params, state = out.init(KEY, x)
        return out.apply(params, state, x, train=True, key=KEY)[0]

    return jax.eval_shape(run, x)


def _wrong(name, f, argument, value):
    """An InputError that says where and what, or the call works."""
    arguments = _arguments(name, f) | {argument: value}
    monkey = fnn.rules()
    try:
        made = f(**arguments)
    except fnn.InputError as error:
        parts = (error.where, error.expected, error.got, error.fix)
        named = any(
            name in str(error) or WORDS.get(name, name) in str(error) for name in arguments
        )  # or another one that it does not fit
        faulty = not all(parts) or not named or len(str(error)) > 1500
        assert not faulty, str(error)  # noqa: PT017
        return
    finally:
        fnn.core.rule._registry.clear()
        fnn.core.rule._registry.update(monkey)
    try:
        _use(name, made)
    except fnn.InputError as error:
        fits = isinstance(value, range | tuple | np.generic | np.ndarray | jax.Array)  # perhaps, to another x
        called = argument.endswith("_init") or argument in ("merge", "axis_name")
        assert fits or called, f"found late: {error}"  # noqa: PT017


def _sweep(name, f, argument, values):
    faults = []
    for kind, value in values.items():
        try:
            _wrong(name, f, argument, value)
        except Exception as error:
            faults.append(f"{argument} = {kind}: {type(error).__name__}: {str(error)[:150]}")
    assert not faults, f"{name}\n  " + "\n  ".join(faults)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_arguments_are_right(name):
    _use(name, FUNCTIONS[name](**_arguments(name, FUNCTIONS[name])))


@pytest.mark.parametrize(("name", "argument"), PLACES)
def test_wrong_kinds_are_refused_by_name(name, argument):
    _sweep(name, FUNCTIONS[name], argument, SHORT)


@pytest.mark.long
@pytest.mark.parametrize(("name", "argument"), PLACES)
def test_more_wrong_kinds_are_refused_by_name(name, argument):
    _sweep(name, FUNCTIONS[name], argument, WRONG)


@pytest.mark.long
@pytest.mark.parametrize(("name", "argument"), CHECKS)
def test_wrong_kinds_are_refused_by_checks(name, argument):
    _sweep(name, getattr(check, name), argument, {kind: v for kind, v in SHORT.items() if kind != "None"})


@pytest.mark.parametrize(("name", "argument"), PLACES)
def test_traced_values_are_refused_by_name(name, argument):
    for spec in (jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)):
        jax.eval_shape(lambda value: _sweep(name, FUNCTIONS[name], argument, {"traced": value}), spec)


def _program(name, argument, value):
    """What a call computes: the program of a layer, or the values of an operation."""
    out = FUNCTIONS[name](**_arguments(name, FUNCTIONS[name]) | {argument: value})
    if name == "fit":
        return len(out[1])  # the history has times in it
    if not isinstance(out, Layer):
        return out

    def run(x):
        params, state = out.init(KEY, x)
        return out.apply(params, state, x, train=True, key=KEY)[0]

    x = jnp.ones((2, 32, 32, 1)) if name == "lenet5" else INPUTS.get(name, X)
    return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(run)(x)))


def _compilations():
    return sum(f._cache_size() for rule in fnn.rules().values() for f in rule._eager.values())


@pytest.mark.parametrize(("name", "argument", "value"), NUMBERS)
def test_numbers_of_numpy_and_jax_are_numbers(name, argument, value):
    make = (
        (np.int64, np.int16, np.asarray, jnp.asarray)
        if isinstance(value, int)
        else (np.float64, np.float32, jnp.asarray)
    )
    value = value if isinstance(value, int) else float(np.float32(value))  # exact in every precision
    want, before = _program(name, argument, value), _compilations()
    for kind in make:
        jax.tree.map(np.testing.assert_array_equal, _program(name, argument, kind(value)), want)
    assert _compilations() == before, "another kind of number is another program"


@pytest.mark.parametrize(
    ("name", "argument", "value"), [n for n in NUMBERS if n[1] in ("window", "kernel_size", "stride", "dilation")]
)
def test_numbers_of_numpy_and_jax_are_numbers_in_tuples(name, argument, value):
    want, before = _program(name, argument, (value, value)), _compilations()
    for pair in ((np.int64(value), jnp.asarray(value)), [np.int32(value)] * 2, np.array([value] * 2)):
        jax.tree.map(np.testing.assert_array_equal, _program(name, argument, pair), want)
    assert _compilations() == before


IMAGES = fnn.serial(conv=fnn.conv(4, 3), flat=fnn.flatten(), out=fnn.dense(2))
IMAGE_PARAMS = IMAGES.init(KEY, (1, 8, 8, 1))[0]
DROP = fnn.dropout(0.5)


def _seeds():
    return {"params": {}, "state": {}, "x": X, "train": True}


MESSAGES = {
    "no batch axis": (
        lambda: IMAGES.apply(IMAGE_PARAMS, {}, jnp.ones((8, 8, 1))),
        "in conv: conv expected x of shape (N, *spatial, C) with 2 spatial axes, as many as the kernel (3, 3, 1, 4) "
        "has; got x of shape (8, 8, 1); give x a batch axis: x[None]",
    ),
    "no channel axis": (
        lambda: IMAGES.apply(IMAGE_PARAMS, {}, jnp.ones((5, 8, 8))),
        "got x of shape (5, 8, 8); give x a channel axis: x[..., None]",
    ),
    "one axis": (
        lambda: ops.conv(jnp.ones((8, 8, 3)), jnp.ones((3, 3, 2, 4))),
        "give x a batch axis: x[None], or a channel axis: x[..., None]",
    ),
    "init without batch": (
        lambda: fnn.conv(4, (3, 3)).init(KEY, (8, 8, 1)),
        "with 2 spatial axes, as its kernel_size, rank, stride or padding say; got x of shape (8, 8, 1); give x a",
    ),
    "pool without batch": (
        lambda: fnn.max_pool((2, 2)).apply({}, {}, jnp.ones((8, 8, 3))),
        "max_pool expected x of shape (N, *spatial, C) with 2 spatial axes, one for each entry of its options; got "
        "x of shape (8, 8, 3); give x a batch axis",
    ),
    "filter without batch": (
        lambda: ops.filter_pool(jnp.ones((8, 8, 3)), data.filters.box(2)),
        "as many spatial axes as the filter (2, 2); got x of shape (8, 8, 3); give x a batch axis",
    ),
    "dense of one feature": (
        lambda: ops.dense(jnp.ones(5), jnp.ones((1, 4))),
        "x of shape (..., 1) for a kernel (1, 4); got (5,); give x a channel axis: x[..., None]",
    ),
    "dense of one image": (
        lambda: ops.dense(jnp.ones((2, 6)), jnp.ones((12, 4))),
        "got (2, 6); give x a batch axis, x[None], and flatten it",
    ),
    "another kernel": (
        lambda: IMAGES.apply({**IMAGE_PARAMS, "out": {"kernel": jnp.ones((144, 3))}}, {}, jnp.ones((1, 8, 8, 1))),
        "in out: dense expected a kernel of shape (any, 2); got (144, 3); pass the params that init returned",
    ),
    "another window": (
        lambda: fnn.conv(4, 3).apply({"kernel": jnp.ones((5, 5, 1, 4))}, {}, jnp.ones((1, 8, 8, 1))),
        "conv expected a kernel of shape (3, 3, any, 4); got (5, 5, 1, 4)",
    ),
    "a list for a kernel": (
        lambda: IMAGES.apply({**IMAGE_PARAMS, "conv": {"kernel": [1.0]}}, {}, jnp.ones((1, 8, 8, 1))),
        "in conv: conv expected an array for kernel; got list",
    ),
    "no params": (
        lambda: NET.apply(None, {}, X),
        "serial expected a dict of params; got None; pass the params that init",
    ),
    "state of nothing": (lambda: NET.apply(PARAMS, None, X), "serial expected a dict of state; got None"),
    "a word for train": (
        lambda: NET.apply(PARAMS, {}, X, train="yes"),
        "serial.apply expected True or False for train",
    ),
    "a seed": (
        lambda: DROP.apply(**_seeds(), key=0),
        "dropout expected one random key; got 0; pass jax.random.key(seed)",
    ),
    "keys": (
        lambda: DROP.apply(**_seeds(), key=jax.random.split(KEY)),
        "one random key; got an array, key<fry> of shape (2,)",
    ),
    "a list of layers": (lambda: fnn.serial([fnn.relu()]), "unpack it: serial(*layers)"),
    "an empty list": (lambda: fnn.serial([]), "got []; unpack it: serial(*layers)"),
    "a generator": (lambda: fnn.serial(fnn.relu() for _ in range(2)), "unpack it: serial(*layers)"),
    "a dict of layers": (lambda: fnn.serial({"a": fnn.relu()}), "unpack it: serial(**layers)"),
    "a dict for a body": (lambda: fnn.residual({"a": fnn.relu()}), "join them: fnn.serial(**layers)"),
    "numbers for layers": (lambda: fnn.serial((3, 4)), "wrap functions with fnn.lift"),
    "a function of JAX": (
        lambda: fnn.serial(jax.nn.relu),
        "got the function relu; use fnn's layer where there is one, fnn.relu(), or wrap it: fnn.lift(lambda params, x:",
    ),
    "not called": (lambda: fnn.serial(fnn.relu), "got the function relu; call it: relu() makes a layer, relu does not"),
    "a function of one": (
        lambda: fnn.lift(jnp.tanh),
        "lift expected a function f(params, x); got the function tanh of",
    ),
    "shapes by name": (lambda: fnn.dense(2).init(KEY, {"a": (1, 3), "b": (1, 2)}), "one array for x; got a dict of 2"),
    "a list for a shape": (
        lambda: fnn.dense(2).init(KEY, [1, 3]),
        "a shape tuple of integers, or a tree of these for x",
    ),
    "a shape with None": (
        lambda: fnn.dense(2).init(KEY, (None, 3)),
        "got (None, 3); pass an example input or its shape",
    ),
    "sgd": (
        lambda: train.make_step(NET, fnn.softmax_cross_entropy, optax.sgd),
        "an optimiser with the functions init and update; got the function sgd; call it: sgd(...) makes an optimiser",
    ),
    "a class for a loss": (
        lambda: train.make_step(NET, dict, SGD),
        "a function loss(outputs, labels); got the class dict",
    ),
    "one argument": (lambda: train.make_step(NET, lambda y: y, SGD), "got the function <lambda> of other arguments"),
    "one callback": (
        lambda: train.fit(STEP, RUN, [BATCH], callbacks=print),
        "a list of functions for callbacks; got the function print; put it in a list",
    ),
    "epochs": (lambda: train.fit(STEP, RUN, [BATCH], epochs=1.5), "fit expected an integer epochs >= 1; got 1.5"),
    "swapped": (
        lambda: fnn.softmax_cross_entropy(LABELS, LOGITS),
        "floating-point logits first, then labels; got logits",
    ),
    "an initialiser uncalled": (
        lambda: fnn.dense(2, kernel_init=jax.nn.initializers.lecun_normal).init(KEY, (1, 3)),
        "kernel_init to return float32 of shape (3, 2); got the function init; use one of jax.nn.initializers, called",
    ),
    "an initialiser of another shape": (
        lambda: fnn.dense(2, bias_init=lambda key, shape, dtype: jnp.ones(3)).init(KEY, (1, 3)),
        "bias_init to return float32 of shape (2,); got an array, float32 of shape (3,)",
    ),
    "an init without state": (
        lambda: Layer(lambda key, x: {}, lambda params, state, x, *, train, key: (x, state)).init(KEY, (1,)),
        "layer.init expected init to return two dicts, params and state; got {}; return a pair",
    ),
    "an apply without state": (
        lambda: Layer(lambda key, x: ({}, {}), lambda params, state, x, *, train, key: x).apply({}, {}, X),
        "layer expected apply to return (y, state), state a dict; got an array",
    ),
    "an apply without a key": (
        lambda: Layer(lambda key, x: ({}, {}), lambda params, state, x: (x, state)),
        "Layer 'layer' expected a function apply(params, state, x, train=, key=); got the function <lambda> of other",
    ),
    "traced": (
        lambda: jax.eval_shape(lambda rate: ops.dropout(X, KEY, rate), 0.5),
        "whose value is not known here; pass a number known before tracing: a Python number, or a static argument",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    call, message = MESSAGES[case]
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        call()


def test_shapes_may_come_as_a_tree():
    layer = fnn.lift(lambda params, x: x["a"], lambda key, x: {"w": jnp.ones(x["a"].shape[-1:] + x["b"][0].shape)})
    params, _ = layer.init(KEY, {"a": (np.int64(1), 3), "b": ((2, 4), jnp.ones(2))})
    assert params["w"].shape == (3, 2, 4)


def test_an_old_key_is_a_key():
    y, _ = DROP.apply(**_seeds(), key=jax.random.PRNGKey(0))
    assert y.shape == X.shape


@pytest.mark.parametrize(("name", "argument", "value"), NUMBERS)
def test_what_is_no_number_is_refused(name, argument, value):
    wrong = [
        True,
        np.bool_(True),
        jnp.asarray(True),
        1j,
        "1",
        float("nan"),
        float("inf"),
        -float("inf"),
        10**400,
        np.array([1.0, 2.0]),
    ]
    for came in wrong + ([1.5, np.float32(2), jnp.asarray(2.0)] if isinstance(value, int) else []):
        with pytest.raises(fnn.InputError, match=WORDS.get(argument, argument)):
            FUNCTIONS[name](**_arguments(name, FUNCTIONS[name]) | {argument: came})
