"""Where arrays live is said, never guessed: what a trace, a step and a user's block make of it."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import fnn
from fnn import train
from fnn.core.placement import current_placement, placement_of, whole_batch
from tests.helpers import as_users_run

ALONE = """
import jax
from fnn.core.placement import current_placement
print(jax.device_count(), current_placement())
"""


def test_a_process_with_one_device_is_single_unless_told():
    assert as_users_run("-c", ALONE) == "1 single\n"


@pytest.mark.sharded
def test_with_several_devices_a_block_says_so():
    assert jax.device_count() == 8
    with fnn.placement("single"):
        assert current_placement() == "single"
        with fnn.placement("sharded"):
            assert current_placement() == "sharded"
        assert current_placement() == "single"


def test_it_is_part_of_the_key_of_jit():
    traces = []

    @jax.jit
    def f(x):
        traces.append(whole_batch(x))
        return x

    for where in ("single", "sharded", "single", "sharded"):
        with fnn.placement(where):
            f(jnp.ones(3))
    assert traces == [True, False]


def test_the_backward_pass_is_that_of_the_place_of_the_call():
    seen = []

    def bwd(spec, residuals, dy):
        seen.append(current_placement())
        return (dy,)

    double = fnn.core.by_hand.by_hand(lambda spec, x: (x, ()), bwd)
    with fnn.placement("sharded"):
        _, pull = jax.vjp(lambda x: double(None, x), jnp.ones(3))
    pull(jnp.ones(3))
    assert seen == ["sharded"]


def test_the_arrays_tell_a_step_where_they_live():
    seen = []

    def loss(y, t):
        seen.append(current_placement())
        return ((y - t) ** 2)[:, 0]

    layer, optimizer = fnn.dense(1), optax.sgd(0.1)
    step = train.make_step(layer, loss, optimizer)
    x, t = jnp.ones((8, 3)), jnp.zeros((8, 1))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    traced = []
    for batch, where in (((x, t), "single"), (jax.device_put((x, t), split), "sharded"), ((x, t), "single")):
        seen.clear()
        now = train.init_state(layer, optimizer, jax.random.key(0), x[:1])
        assert placement_of(batch) == where
        with fnn.placement("sharded"):  # what the arrays tell counts more
            step(now, batch)
        assert set(seen) == {where} or len(traced) == 2  # the third is compiled already
        traced.append(where)


def test_what_is_no_place_is_refused():
    with pytest.raises(fnn.InputError, match='placement expected where "single" or "sharded"; got \'one\''):
        fnn.placement("one")
