"""Rules called on arrays, outside any transformation: one compiled program each, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fnn
from fnn.core.cases import case
from tests.helpers import assert_close


@pytest.fixture
def traced(monkeypatch):
    """A rule y = s x whose two forwards and backward can be told apart, and the list of what was traced."""
    monkeypatch.setattr(fnn.core.rule, "_registry", fnn.rules())
    calls = []

    def note(what, value):
        calls.append(what)
        return value

    rule = fnn.Rule(
        name="traced",
        forward=lambda s, x: note("forward", s * x),
        fwd=lambda s, x: note("fwd", (s * x, None)),
        bwd=lambda s, _, dy: note("bwd", (7 * dy,)),  # wrong, and so seen
        reference=lambda s, x: s * x,
        cases=(case(2.0, (3,)),),
    )
    return rule, calls


def test_a_call_on_arrays_is_compiled_once_a_mode(traced):
    rule, calls = traced
    for _ in range(2):
        assert rule(2.0, jnp.ones(3)).tolist() == [2.0] * 3
        with fnn.gradients("auto"):
            rule(2.0, jnp.ones(3))
    assert calls == ["fwd", "forward"]
    assert rule(3.0, jnp.ones(3)).tolist() == [3.0] * 3
    assert rule(2, jnp.ones(3, int)).dtype == jnp.int32  # equal to 2.0, and yet another option
    assert rule(2.0, jnp.ones(3, int)).dtype == jnp.float32


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, lambda f: lambda x: jax.vmap(f)(x[None])[0]])
def test_gradients_are_those_of_the_mode(traced, wrap):
    rule, _ = traced
    rule(2.0, jnp.ones(3))
    slope = wrap(jax.grad(lambda x: rule(2.0, x).sum()))
    assert slope(jnp.ones(3)).tolist() == [7.0] * 3
    with fnn.gradients("auto"):
        assert slope(jnp.ones(3)).tolist() == [2.0] * 3


def test_constants_inside_a_transformation(traced):
    rule, _ = traced
    constant = jnp.arange(3.0)

    def f(x):
        return (rule(2.0, constant) * x).sum()

    for g in (f, jax.jit(f)):
        value, slope = jax.value_and_grad(g)(jnp.ones(3))
        assert (float(value), slope.tolist()) == (6.0, [0.0, 2.0, 4.0])
    assert jax.vmap(f)(jnp.ones((2, 3))).tolist() == [6.0, 6.0]


@pytest.mark.parametrize("mode", ["hand", "auto"])
def test_a_model_outside_jit_equals_itself_inside(mode):
    model = fnn.serial(
        fnn.conv(4, 3, padding=1), fnn.batch_norm(), fnn.relu(), fnn.max_pool(2), fnn.dropout(0.5), fnn.dense(3)
    )
    x = jax.random.normal(jax.random.key(1), (2, 6, 6, 2))
    params, state = model.init(jax.random.key(0), x)

    def run(params, state, x):
        return model.apply(params, state, x, train=True, key=jax.random.key(2))

    with fnn.gradients(mode):
        assert_close(run(params, state, x), jax.jit(run)(params, state, x))


def test_numpy_arguments():
    x = np.array([[1.0, -2.0]], jnp.bfloat16)
    y = fnn.ops.dense(x, np.ones((2, 3), jnp.bfloat16), np.zeros(3, jnp.bfloat16))
    assert isinstance(y, jax.Array)
    assert y.dtype == jnp.bfloat16
    assert fnn.ops.relu(np.float32(-3.0)).tolist() == 0.0
    assert fnn.ops.relu(np.ones(2)).dtype == jnp.float32


@pytest.mark.parametrize("mode", ["hand", "auto"])
def test_numpy_arguments_beside_differentiated_ones(monkeypatch, mode):
    monkeypatch.setattr(fnn.core.rule, "_registry", fnn.rules())

    def forward(spec, x, w):
        return x * w.at[0].set(3.0)  # NumPy arrays have no `at`

    rule = fnn.Rule(
        name="at",
        forward=forward,
        fwd=lambda spec, x, w: (forward(spec, x, w), w),
        bwd=lambda spec, w, dy: (dy * w.at[0].set(3.0), None),
        reference=forward,
        cases=(case(None, (2,), (2,)),),
    )
    with fnn.gradients(mode):
        slope = jax.grad(lambda x: rule(None, x, np.ones(2, np.float32)).sum())(jnp.ones(2))
    assert slope.tolist() == [3.0, 1.0]


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
def test_a_sharded_batch_stays_sharded(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    placed = NamedSharding(mesh, PartitionSpec("data", None))
    x = jax.device_put(jnp.arange(16.0).reshape(8, 2) - 5, placed)
    everywhere = jax.device_put((jnp.eye(2), jnp.ones(2)), NamedSharding(mesh, PartitionSpec()))
    y = fnn.ops.relu(fnn.ops.dense(x, *everywhere))
    assert y.sharding.is_equivalent_to(placed, 2)
    assert_close(jax.device_get(y), np.maximum(np.arange(16.0, dtype=np.float32).reshape(8, 2) - 4, 0))


def test_a_rule_without_jit():
    with jax.disable_jit():
        assert fnn.ops.relu(jnp.array([-1.0, 2.0])).tolist() == [0.0, 2.0]
