"""A layer as a value: how it shows itself, what it says when it is misused, what makes one of a function."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

import fnn

KEY = jax.random.key(0)
X = jnp.ones((4, 3))
CALL = "write y, state = layer.apply(params, state, x), with params, state = layer.init(key, x)"


def test_repr_is_the_layer_as_a_tree():
    net = fnn.serial(
        stem=fnn.conv(6, (5, 5), padding="SAME"),
        stage=fnn.repeat(fnn.residual(fnn.separable_conv(6, 3, rank=2), after=fnn.leaky_relu(0.1)), 3),
        out=fnn.remat(fnn.dense(2, bias=False, kernel_init=jax.nn.initializers.zeros)),
    )
    assert (
        repr(net)
        == """\
serial(
  stem=conv(6, (5, 5), padding='SAME'),
  stage=repeat(
    residual=residual(
      body=serial(
        depthwise=depthwise_conv(3, rank=2, bias=False),
        pointwise=conv(6, 1),
      ),
      shortcut=identity(),
      after=leaky_relu(0.1),
    ),
    n=3,
  ),
  out=dense(2, bias=False, kernel_init=the function zeros, remat),
)"""
    )


@pytest.mark.parametrize("name", ["dense", "max_pool", "batch_norm", "dropout", "relu", "flatten", "conv"])
def test_repr_shows_what_a_layer_was_made_with(name):
    options = {"dense": "4", "max_pool": "2", "dropout": "0.5", "conv": "4, (3, 3), stride=2"}.get(name, "")
    words = f"{name}({options})"
    assert repr(eval(f"fnn.{words}")) == words
    filter_pool = fnn.filter_pool(jnp.ones((2, 2)))  # an array is never written out
    assert repr(filter_pool) == "filter_pool(an array, float32 of shape (2, 2))"


def square(params, x):
    return x**2


MISUSED = {
    "called": (
        lambda: fnn.dense(2)(X),
        f"dense expected its function apply to be called; got a call of the layer itself; {CALL}",
    ),
    "called in grad": (lambda: jax.grad(fnn.relu())(1.0), "relu expected its function apply to be called"),
    "apply of x": (lambda: fnn.relu().apply(X), f"relu.apply expected params, state and x; got one argument; {CALL}"),
    "apply without state": (
        lambda: fnn.relu().apply({}, X),
        f"relu.apply expected params, state and x; got two arguments; {CALL}; state is {{}} where init returned {{}}",
    ),
    "init without x": (
        lambda: fnn.dense(2).init(KEY),
        "dense.init expected a key and an example input x; got one argument; write params, state = layer.init(key, x)",
    ),
    "layer for merge": (
        lambda: fnn.parallel(fnn.relu(), merge=fnn.relu()),
        "a function merge(outputs); got the layer relu()",
    ),
    "layer for f": (lambda: fnn.lift(fnn.relu()), "a function f(params, x); got the layer relu()"),
    "class, then function": (
        lambda: fnn.serial(fnn.dense, jax.nn.relu),
        "serial expected a Layer for argument 0, counted from 0; got the function dense; call it: dense("
        "features) makes a layer",
    ),
    "function of JAX": (
        lambda: fnn.serial(fnn.dense(2), jax.nn.relu),
        "serial expected a Layer for argument 1, counted from 0; got the function relu; use fnn's layer where "
        "there is one, fnn.relu(), or wrap it: fnn.lift(lambda params, x: relu(x))",
    ),
    "train by position": (
        lambda: fnn.relu().apply({}, {}, X, True),
        "relu.apply expected params, state and x; got 4 arguments; pass train and key by name: layer.apply(params, "
        "state, x, train=True, key=key)",
    ),
    "a layer made of an array": (
        lambda: fnn.relu(X),
        f"relu expected the options of a layer, which it makes; got an array, float32 of shape {X.shape}; functions of "
        "arrays are in fnn.ops; of the layer write y, state = layer.apply(params, state, x)",
    ),
    "a layer with options made of an array": (lambda: fnn.max_pool(X), "; functions of arrays are in fnn.ops; of"),
    "an array for features": (
        lambda: fnn.dense(jnp.ones((2, 3))),
        "one output feature; functions of arrays are in fnn.ops; of the layer",
    ),
    "two axes too many": (
        lambda: fnn.conv(4, 3).apply(fnn.conv(4, 3).init(KEY, (1, 8, 2))[0], {}, jnp.ones((1, 8, 8, 8, 2))),
        "drop axes, or init the layer with an input that has as many, the batch's among them",
    ),
    "init of a pair": (
        lambda: fnn.lift(lambda params, x: x, lambda key, x: ({}, {})).init(KEY, X),
        "lambda expected init to return a dict of params; got a tuple of 2; return the parameters alone, {} where "
        "there are none; state=lambda key, x: {...} makes the state",
    ),
    "another number of features": (
        lambda: fnn.dense(2).apply({"kernel": jnp.ones((144, 2)), "bias": jnp.ones(2)}, {}, jnp.ones((4, 196))),
        "for a kernel (144, 2); got (4, 196); init the layer with an input of this shape",
    ),
    "options": (lambda: fnn.Layer(lambda key, x: 0, lambda params, state, x, *, train, key: 0, options=[1]), "strings"),
}


@pytest.mark.parametrize(("call", "message"), MISUSED.values(), ids=list(MISUSED))
def test_what_is_misused_says_what_to_do(call, message):
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        call()


def test_a_tuple_of_integers_is_a_shape_and_any_other_holds_inputs():
    seen = []
    layer = fnn.lift(lambda params, x: x, lambda key, x: seen.append(x) or {})
    spec = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    cases = {
        (2, 3): spec(2, 3),
        (): spec(),
        ((2, 3), (4,)): (spec(2, 3), spec(4)),
        ((2, 3), ()): (spec(2, 3), spec()),
    }
    for x, want in cases.items():
        layer.init(KEY, x)
        assert seen[-1] == want, x
    for x, want in [
        ([(2,)], [spec(2)]),
        ({"a": (2,), "b": ((3,), X)}, {"a": spec(2), "b": (spec(3), spec(4, 3))}),
        ({"size": ()}, {"size": spec()}),
        (fnn.data.Data((1, 2), (1,)), fnn.data.Data(spec(1, 2), spec(1))),
    ]:
        layer.init(KEY, x)
        assert seen[-1] == want
    for x in ([2, 3], (2, 3.0), (2, "a"), {"a": 3}, ((2, 3), 4), fnn.data.Data(2, 3)):
        with pytest.raises(fnn.InputError, match=r"init expected an array, a jax.ShapeDtypeStruct, a shape tuple"):
            layer.init(KEY, x)


def averages():
    """A state of one's own: the mean of all batches so far, subtracted."""

    def f(params, x, *, state, train):
        if not train:
            return (x - state["mean"]) * params["scale"], state
        count = state["count"] + 1
        mean = state["mean"] + (x.mean(0) - state["mean"]) / count
        return (x - mean) * params["scale"], {"mean": mean, "count": count}

    return fnn.lift(
        f,
        lambda key, x: {"scale": jnp.ones(x.shape[-1])},
        state=lambda key, x: {"mean": jnp.zeros(x.shape[-1]), "count": jnp.zeros((), jnp.int32)},
        name="averages",
    )


def test_a_lifted_function_keeps_a_state():
    net = fnn.serial(mean=averages(), out=fnn.dense(2))
    params, state = net.init(KEY, X)
    assert sorted(params) == ["mean", "out"]
    for i in range(3):
        _, state = net.apply(params, state, X * i, train=True)
    assert state["mean"]["count"] == 3
    assert jnp.allclose(state["mean"]["mean"], 1.0)
    _, same = net.apply(params, state, X)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, same, state))


def test_a_lifted_function_draws_in_training_alone():
    noise = fnn.lift(lambda params, x, *, key: x if key is None else x + jax.random.normal(key, x.shape), name="noise")
    net = fnn.serial(a=noise, b=noise)
    assert jnp.array_equal(net.apply({}, {}, X)[0], X)
    assert jnp.array_equal(net.apply({}, {}, X, key=KEY)[0], X)
    y, _ = net.apply({}, {}, X, train=True, key=KEY)
    assert not jnp.array_equal(y, X)
    with pytest.raises(fnn.InputError, match=r"^in a: noise expected a key in training; got key=None; pass key="):
        net.apply({}, {}, X, train=True)


def test_params_and_state_of_a_lifted_function_are_drawn_from_different_keys():
    draw = lambda key, x: {"a": jax.random.normal(key, (3,))}  # noqa: E731
    params, state = fnn.lift(lambda params, x, *, state: (x, state), draw, state=draw).init(KEY, X)
    assert not jnp.array_equal(params["a"], state["a"])


ZERO = lambda key, x: {"n": jnp.zeros(())}  # noqa: E731
LIFTS = {
    "state unasked": (lambda: fnn.lift(square, state=ZERO), "got state= beside an f without one; write f(params, x, *"),
    "state unknown": (lambda: fnn.lift(lambda params, x, *, state: 0), "got an f that takes state, and no state="),
    "no function": (lambda: fnn.lift(square, state={}), "lift expected a function state(key, x) or None; got {}"),
    "more arguments": (lambda: fnn.lift(lambda params, x, *, state, mask: 0, state=ZERO), "f(params, x, state=); got"),
    "state alone": (
        lambda: fnn.lift(lambda params, x, *, state: x, state=ZERO, name="mine").apply({}, {"n": jnp.ones(())}, X),
        "mine expected f to return (y, state) with a state like {'n': 'float32[]'}; got an array",
    ),
    "another state": (
        lambda: fnn.lift(lambda params, x, *, state: (x, {"n": X}), state=ZERO).apply({}, {"n": jnp.ones(())}, X),
        "a state like {'n': 'float32[]'}; got {'n': 'float32[4, 3]'}; return the state with the same tree",
    ),
}


@pytest.mark.parametrize(("call", "message"), LIFTS.values(), ids=list(LIFTS))
def test_lift_refuses(call, message):
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("f", [fnn.ops.relu, fnn.ops.gelu, fnn.ops.silu, lambda x: fnn.ops.squared_error(x, 2 * x)])
def test_python_numbers_are_refused_by_operations_and_differentiated_by_grad_in_both_modes(f, mode):
    with fnn.gradients(mode):
        with pytest.raises(fnn.InputError, match=r"expected an array for \w+; got float"):
            f(3.0)
        assert jnp.allclose(jax.grad(f)(3.0), jax.grad(f)(jnp.float32(3.0)))


def test_the_pair_of_a_layer_and_a_train_state_are_the_same_to_evaluate_activations_and_checks():
    net, data = fnn.serial(out=fnn.dense(2)), [(X, jnp.ones((4, 2)))]
    now = fnn.train.init_state(net, optax.sgd(0.1), KEY, X)
    pair = now.params, now.model_state
    metrics = {"error": fnn.squared_error}
    assert fnn.train.evaluate(net, now, data, metrics) == fnn.train.evaluate(net, pair, data, metrics)
    seen = [fnn.inspect.activations(net, model, X)["out"] for model in (now, pair)]
    assert jnp.array_equal(*seen)
    assert fnn.check.compare(net, now, data[0], fnn.squared_error)
    for call in (
        lambda model: fnn.train.evaluate(net, model, data, metrics),
        lambda model: fnn.inspect.activations(net, model, X),
        lambda model: fnn.check.bisect(net, model, data[0], fnn.squared_error),
    ):
        for wrong in (now.params, (now.params,), (X, X), None):
            with pytest.raises(fnn.InputError, match=r"expected a TrainState, or a pair \(params, state\); got"):
                call(wrong)


def test_a_lambda_is_named_so_in_paths():
    net = fnn.serial(fnn.lift(lambda params, x: x), fnn.lift(square))
    assert [name for name, _ in net.children] == ["00_lambda", "01_square"]
