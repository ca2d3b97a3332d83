"""What is stored once for all that read it, and what is computed again instead."""

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.core.kept import cheap, is_cheap
from fnn.ops import batch_norm, batch_norm_inference, group_norm, layer_norm, leaky_relu, relu, tanh
from tests.helpers import as_users_run

X = jnp.linspace(-1.0, 1.0, 24).reshape(2, 3, 4)
NORMS = {
    "batch": lambda x: batch_norm(x, None, None)[0],
    "inference": lambda x: batch_norm_inference(x, None, None, jnp.zeros(4), jnp.ones(4)),
    "layer": lambda x: layer_norm(x, None, None),
    "group": lambda x: group_norm(x, None, None, groups=2),
}


ONE_DEVICE = """
import jax, jax.numpy as jnp
from fnn.core.kept import kept
assert jax.device_count() == 1
for x in (jnp.float32(2), jnp.zeros((0, 3)), jnp.arange(6, dtype="int8").reshape(2, 3), jnp.arange(4.0)):
    assert (jax.jit(kept)(x) == x).all() and kept(x).dtype == x.dtype
x = jnp.arange(12.0).reshape(3, 4)
assert (jax.jit(jax.vmap(kept))(x) == x).all()
assert jax.grad(lambda x: (kept(x) ** 2).sum())(x).tolist() == (2 * x).tolist()
body = jax.jit(lambda x: kept(x)).lower(jnp.ones((4, 4))).as_text()
assert "dynamic_update_slice" in body
print("right")
"""


def test_kept_on_one_device_stores_what_it_was_given():
    assert as_users_run("-c", ONE_DEVICE) == "right\n"


def stored(f):
    """Whether the gradient of f's sum stores something."""
    return "stablehlo.while" in jax.jit(jax.grad(lambda x: f(x).sum())).lower(X).as_text()


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_an_activation_is_stored_unless_it_follows_a_norm(norm):
    assert stored(lambda x: relu(2 * x))
    assert not stored(lambda x: relu(norm(x)))
    assert not stored(lambda x: leaky_relu(norm(x)))
    assert stored(lambda x: relu(norm(x) + x)), "a sum of blocks is no longer a few steps from what is stored"
    assert stored(lambda x: tanh(norm(x))), "an exponential costs more than reading it"


@pytest.mark.parametrize("around", [jax.jit, jax.checkpoint], ids=["jit", "checkpoint"])
def test_what_is_differentiated_as_a_whole_is_stored(around):
    """There the norm and the activation are traced first and differentiated after, one by one."""
    assert stored(around(lambda x: relu(NORMS["layer"](x))))


def test_cheap_marks_one_array_and_dies_with_it():
    x, same = jnp.ones(3), jnp.ones(3)
    assert cheap(x) is x
    assert is_cheap(x)
    assert not is_cheap(same)
    number = id(x)
    del x
    assert number not in fnn.core.kept._cheap
