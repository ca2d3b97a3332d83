"""The switch between hand-written and automatic gradients, and the registry behind it."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.by_hand import by_hand
from fnn.core.cases import case

X = jnp.array([[1.0, -2.0, 3.0]])
NET = fnn.serial(a=fnn.dense(4), b=fnn.tanh(), c=fnn.dense(2))
PARAMS, STATE = NET.init(jax.random.key(0), X)


def rules_in(f, *args):
    return str(jax.make_jaxpr(f)(*args)).count("custom_vjp_call[")


def apply(x):
    return NET.apply(PARAMS, STATE, x)[0]


WRAPPERS = {
    "plain": lambda f: f,
    "inner jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, _: (c + f(x).sum(), None), 0.0, None, length=2)[0],
    "vmap": lambda f: jax.vmap(f),
    "cond": lambda f: lambda x: jax.lax.cond(True, f, lambda x: x[:, :2], x),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=list(WRAPPERS))
def test_switch_reaches_inside_transformations(wrap):
    f = wrap(apply)
    assert rules_in(f, X) == 3
    with fnn.gradients("auto"):
        assert rules_in(f, X) == 0
        with fnn.gradients("hand"):
            assert rules_in(f, X) == 3
        assert rules_in(f, X) == 0
    assert rules_in(f, X) == 3


def test_mapping_switches_only_the_named_rules_and_nests():
    with fnn.gradients({"dense": "auto"}):
        assert rules_in(apply, X) == 1
        with fnn.gradients({"tanh": "auto"}):
            assert rules_in(apply, X) == 0
        with fnn.gradients("hand"):
            assert rules_in(apply, X) == 3
    with fnn.gradients("auto"), fnn.gradients({"tanh": "hand"}):
        assert rules_in(apply, X) == 1


def test_going_back_and_forth_costs_one_trace_each():
    traces = []

    @jax.jit
    def inner(x):
        traces.append(1)
        return apply(x)

    @jax.jit
    def outer(x):
        return inner(x)

    for _ in range(3):
        outer(X)
        with fnn.gradients("auto"):
            outer(X)
    assert len(traces) == 2
    assert outer._cache_size() == 2


def test_a_thread_begins_with_the_default():
    seen = {}
    with fnn.gradients("auto"):
        thread = threading.Thread(target=lambda: seen.update(thread=rules_in(apply, X)))
        thread.start()
        thread.join()
        seen["here"] = rules_in(apply, X)
    assert seen == {"thread": 3, "here": 0}


def test_a_block_entered_in_a_thread_stays_there():
    seen = {}

    def work():
        with fnn.gradients("auto"):
            seen["before"] = rules_in(apply, X)
            entered.set()
            left.wait()
            seen["after"] = rules_in(apply, X)

    entered, left = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    with fnn.gradients("auto"), fnn.gradients("hand"):
        seen["here"] = rules_in(apply, X)
    left.set()
    thread.join()
    assert seen == {"before": 0, "here": 3, "after": 0}


def test_the_mode_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), fnn.gradients("auto"):
        raise ZeroDivisionError
    assert rules_in(apply, X) == 3


def test_second_derivatives_agree_in_both_modes():
    def loss(x):
        return jnp.sum(jnp.tanh(apply(x)) ** 2)

    hand = jax.jacfwd(jax.grad(loss))(X)
    with fnn.gradients("auto"):
        auto = jax.hessian(loss)(X)
    assert jnp.allclose(hand, auto, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(auto).max()) > 1e-3


def test_unknown_modes_and_rules_are_refused():
    with pytest.raises(fnn.InputError, match=r'"hand" or "auto".*got \'manual\''), fnn.gradients("manual"):
        pass
    with pytest.raises(fnn.InputError, match=r"rule names among .*got .'cnv'"), fnn.gradients({"cnv": "auto"}):
        pass
    refused = pytest.raises(fnn.InputError, match=r"mode for 'conv' \"hand\", \"auto\".* or .*got 'off'")
    with refused, fnn.gradients({"conv": "off"}):
        pass


def _double(spec, x):
    return 2 * x


def _double_fwd(spec, x):
    return 2 * x, None


def _double_bwd(spec, residuals, dy):
    return (3 * dy,)  # wrong on purpose, so that the tests below see which rule ran


@pytest.fixture
def scratch_registry(monkeypatch):
    monkeypatch.setattr("fnn.core.rule._registry", dict(fnn.rules()))


CASES = (case(None, (3,)),)


def make_rule(name="double", cases=CASES):
    return fnn.Rule(name=name, forward=_double, fwd=_double_fwd, bwd=_double_bwd, reference=_double, cases=cases)


def test_a_rule_of_ones_own(scratch_registry):
    double = make_rule()
    assert fnn.rules()["double"] is double
    assert jax.grad(lambda x: double(None, x))(1.0) == 3.0
    with fnn.gradients({"double": "auto"}):
        assert jax.grad(lambda x: double(None, x))(1.0) == 2.0


def test_a_rule_needs_cases_and_its_own_name(scratch_registry):
    with pytest.raises(fnn.InputError, match="Rule 'double' expected at least one case"):
        make_rule(cases=())
    assert "double" not in fnn.rules()
    with pytest.raises(fnn.InputError, match="Rule 'dense' expected a new name"):
        make_rule(name="dense")
    make_rule()
    assert make_rule() is fnn.rules()["double"]  # running a notebook cell again is no clash


def test_registry_cannot_be_changed_by_its_readers():
    fnn.rules().clear()
    assert "dense" in fnn.rules()


@pytest.mark.parametrize("mode", ["hand", "auto"])
def test_rules_compute_with_jax_on_numpy_arrays(mode):
    """NumPy would return float32 for a product in bfloat16, and refuse a range of axes in conv's bias gradient."""
    x, kernel = np.ones((2, 3), jnp.bfloat16), np.ones((3, 4), jnp.bfloat16)
    with fnn.gradients(mode):
        y = fnn.ops.dense(x, kernel)
        image, window, bias = np.ones((1, 4, 4, 2), "f4"), np.ones((3, 3, 2, 5), "f4"), np.zeros(5, "f4")
        _, pull = jax.vjp(fnn.ops.conv, image, window, bias)
        dbias = pull(np.ones((1, 2, 2, 5), "f4"))[2]
    assert isinstance(y, jax.Array)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(dbias, np.full(5, 4.0))


@pytest.mark.parametrize(
    ("fwd", "bwd", "message"),
    [
        (lambda _, x: x, lambda _, r, dy: (dy,), r"fwd to return a pair \(output, residuals\); got a traced"),
        (lambda _, x: (x, (), 0), lambda _, r, dy: (dy,), r"fwd to return a pair .*; got a tuple of 3"),
        (
            lambda _, x: (x, ()),
            lambda _, r, dy: dy,
            "bwd to return a tuple of 1, one cotangent an argument; got a trac",
        ),
        (lambda _, x: (x, ()), lambda _, r, dy: (dy, dy), r"got a tuple of 2; write \(dx,\), with None where"),
    ],
)
def test_what_a_rule_must_return(fwd, bwd, message):
    with pytest.raises(fnn.InputError, match=message):
        jax.jit(jax.grad(lambda x: by_hand(fwd, bwd, name="mine")(None, x).sum()))(jnp.ones(3))
