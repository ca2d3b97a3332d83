"""Under JAX's own strict modes every layer, loss, metric, rule and training step runs as without them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import train
from tests.catalogue import LAYERS, MEASURES, SIZES, public_layers, public_measures
from tests.helpers import is_float


@contextlib.contextmanager
def configured(name, value):
    """A setting that has no context manager of its own in JAX, put back at the end."""
    old = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, old)


def traced(f, *args):
    jax.eval_shape(f, *args)


def compiled(f, *args):
    jax.block_until_ready(jax.jit(f)(*args))


def at_once(f, *args):
    """Operation by operation, outside jit."""
    jax.block_until_ready(f(*args))


# Where a mode shows its complaints: while JAX traces, in each operation, or in compiled programs.
MODES = {
    "rank_promotion": (lambda: jax.numpy_rank_promotion("raise"), traced),
    "dtype_promotion": (lambda: jax.numpy_dtype_promotion("strict"), traced),
    "tracer_leaks": (jax.checking_leaks, traced),
    "matmul_precision": (lambda: jax.default_matmul_precision("highest"), traced),
    "key_reuse": (lambda: jax.debug_key_reuse(True), compiled),
    "infs": (lambda: configured("jax_debug_infs", True), at_once),
    "nans": (lambda: jax.debug_nans(True), at_once),
    "no_jit": (jax.disable_jit, at_once),
    "transfer_guard": (lambda: jax.transfer_guard("disallow"), compiled),
    "x64": (lambda: jax.enable_x64(True), traced),
}
QUICK = ("dtype_promotion",)
each_mode = pytest.mark.parametrize(
    "mode", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in MODES]
)
each_gradient = pytest.mark.parametrize("gradients", ["hand", pytest.param("auto", marks=pytest.mark.long)])


def run_all(mode, gradients, calls):
    """Run each of the calls `(name, f, args)` under the mode; what they raise comes as one failure."""
    context, how = MODES[mode]
    wrong = []
    for name, f, args in calls:
        try:
            with context(), fnn.gradients(gradients):
                how(f, *jax.tree.map(fresh, args))
        except Exception as error:  # all of them in one list, whatever their kind
            wrong.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def fresh(a):
    """Keys are used once a call."""
    is_key = hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    return jax.random.clone(a) if is_key else a


def with_gradients(f, args):
    """`args -> (f(*args), pullback of ones)`, differentiated in the floating arguments."""
    where = [i for i, a in enumerate(args) if is_float(a)]

    def run(*args):
        def on_floats(*floats):
            full = list(args)
            for i, a in zip(where, floats, strict=True):
                full[i] = a
            return f(*full)

        y, pull = jax.vjp(on_floats, *[args[i] for i in where])
        return y, pull(jax.tree.map(jnp.ones_like, y))

    return run


def layer_calls(dtypes):
    for dtype in dtypes:
        x = jnp.asarray(np.random.default_rng(0).normal(size=SIZES), dtype)
        for name, makers in LAYERS.items():
            for i, make in enumerate(makers):
                layer = make()
                params, state = layer.init(jax.random.key(0), x)

                def run(params, state, x, key, layer=layer):
                    def loss(params, x):
                        y, after = layer.apply(params, state, x, train=True, key=key)
                        return jnp.square(y.astype(jnp.float32)).sum(), (y, after)

                    evaluated, _ = layer.apply(params, state, x)
                    return evaluated, jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

                yield f"{name} {i} {jnp.dtype(dtype)}", run, (params, state, x, jax.random.key(1))


def measure_calls(dtypes):
    for dtype in dtypes:
        for name, calls in MEASURES.items():
            for i, (f, *draws) in enumerate(calls):
                args = [draw(jax.random.key(j), dtype) for j, draw in enumerate(draws)]
                yield f"{name} {i} {jnp.dtype(dtype)}", with_gradients(f, args), args


def rule_calls(dtypes):
    for dtype in dtypes:
        for name, rule in fnn.rules().items():
            for i, case in enumerate(rule.cases):
                args = case.sample(i, dtype)
                yield f"rule {name} {i} {jnp.dtype(dtype)}", with_gradients(rule.of(case), args), args


def test_nothing_public_is_missing():
    assert public_layers() == set(LAYERS)
    assert public_measures() == set(MEASURES)


@each_mode
@each_gradient
def test_layers(mode, gradients):
    dtypes = (jnp.float32, jnp.bfloat16) if mode == "dtype_promotion" else (jnp.float32,)
    run_all(mode, gradients, layer_calls(dtypes))


@each_mode
@each_gradient
def test_losses_and_metrics(mode, gradients):
    dtypes = (jnp.float32, jnp.bfloat16) if mode == "dtype_promotion" else (jnp.float32,)
    run_all(mode, gradients, measure_calls(dtypes))


@pytest.mark.long  # layers and measures call all of them
@each_mode
@each_gradient
def test_rules(mode, gradients):
    dtypes = (jnp.float32, jnp.bfloat16) if mode == "dtype_promotion" else (jnp.float32,)
    run_all(mode, gradients, rule_calls(dtypes))


@each_mode
def test_training(mode):
    """init_state, a compiled step with dropout and batch norm, an epoch of fit, and evaluate."""
    model = fnn.serial(
        fnn.conv(4, 3, padding="SAME"), fnn.batch_norm(), fnn.relu(), fnn.max_pool(2), fnn.dropout(0.1), fnn.flatten(),
        fnn.dense(3),
    )  # fmt: skip
    x, labels = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 6, 2)), jnp.float32), jnp.arange(4) % 3
    metrics, optimizer = {"accuracy": fnn.accuracy}, optax.sgd(0.1)
    # The guard refuses jax.random.key and jnp.zeros themselves: a state is made before it begins.
    before = contextlib.nullcontext if mode == "transfer_guard" else MODES[mode][0]
    with before():
        now = train.init_state(model, optimizer, jax.random.key(0), x[:1])
    with MODES[mode][0]():
        step = train.make_step(model, fnn.softmax_cross_entropy, optimizer, metrics=metrics)
        now, history = train.fit(step, now, [(x, labels)] * 2, epochs=1, progress=False)
        assert np.isfinite(history[0]["loss"])
        assert set(train.evaluate(model, now, [(x, labels)], metrics)) == {"accuracy"}
