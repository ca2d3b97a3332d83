"""Our own loops against the plain forms in float64, and among transformations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.kernels.library import TARGET, lacking
from fnn.ops import layer_norm
from fnn.ops.normalisation import compiled
from tests.helpers import assert_close, normal, without_kernels

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")
GROUPS = [((1, 1, 2), 1), ((3, 1, 6), 6), ((2, 129, 6), 3), ((5, 300, 4), 1), ((2, 7, 17), 17), ((3, 256, 32), 8)]
SHAPES = [(1, 2), (1, 7), (2, 3), (3, 5), (129, 3), (300, 17), (64, 256), (5, 1000), (1030, 16)]


@pytest.fixture(autouse=True)
def single():
    with fnn.placement("single"):
        yield


def arrays(*shape):
    c = shape[-1]
    return 3 + 2 * normal(0, shape), normal(1, shape), normal(2, (c,)), normal(3, (c,))


def in_float64(plain, *args):
    with jax.enable_x64(True):
        wide = plain(*(jnp.asarray(np.asarray(a), jnp.float64) for a in args))
        return jax.tree.map(lambda a: np.asarray(a, np.float32), wide)


@pytest.mark.parametrize(("rows", "c"), SHAPES)
def test_loops_are_the_plain_forms(rows, c):
    x, dy, scale, offset = arrays(rows, c)
    want = in_float64(lambda *args: compiled._normalise(1e-3, *args), x, scale, offset)
    y, mean, inv = jax.jit(lambda *args: compiled.normalise(1e-3, *args))(x, scale, offset)
    assert_close((y, mean, inv), want)
    back = (x, mean, inv, scale, dy)
    assert_close(jax.jit(compiled.normalise_back)(*back), in_float64(compiled._normalise_back, *back))


@pytest.mark.parametrize(("shape", "groups"), GROUPS)
def test_loops_over_groups_are_the_plain_forms(shape, groups):
    x, dy, scale, offset = arrays(*shape)
    want = in_float64(partial(compiled._groups, groups, 1e-3), x, scale, offset)
    y, mean, inv = jax.jit(partial(compiled.normalise_groups, groups, 1e-3))(x, scale, offset)
    assert_close((y, mean, inv), want)
    back = (x, mean, inv, scale, dy)
    backward = jax.jit(partial(compiled.normalise_groups_back, groups))
    assert_close(backward(*back), in_float64(partial(compiled._groups_back, groups), *back))


def test_group_norm_takes_them():
    x, dy, scale, offset = arrays(2, 3, 5, 8)
    slope = jax.grad(lambda *args: (fnn.ops.group_norm(*args, groups=4) * dy).sum(), (0, 1, 2))
    assert jax.jit(slope).lower(x, scale, offset).as_text().count(TARGET) == 2
    with without_kernels():
        want = slope(x, scale, offset)
    assert_close(jax.jit(slope)(x, scale, offset), want, ulps=512)


def test_a_group_of_one_number_has_no_slope():
    x, dy, scale, offset = arrays(4, 1, 8)
    assert not jax.grad(lambda x: (fnn.ops.group_norm(x, scale, offset, groups=8) * dy).sum())(x).any()


def test_what_is_not_finite_stays_so():
    """The loops may sum in any order, and assume nothing of their numbers."""
    x = jnp.ones((4, 8)).at[1, 2].set(jnp.nan).at[2, 3].set(jnp.inf)
    y, _, _ = compiled.normalise(1e-5, x, jnp.ones(8), jnp.ones(8))
    assert np.isnan(y).any(1).tolist() == [False, True, True, False]
    back = compiled.normalise_back(jnp.ones((4, 8)), jnp.ones((4, 1)), jnp.ones((4, 1)), jnp.ones(8), x)
    assert np.isnan(back[0]).all(1).tolist() == [False, True, True, False]
    assert np.isnan(back[2]).tolist() == [i == 2 for i in range(8)]
    assert np.isinf(back[2]).tolist() == [i == 3 for i in range(8)]
    z, _, _ = compiled.normalise_groups(4, 1e-5, x[None], jnp.ones(8), jnp.ones(8))
    assert np.isnan(z).any((0, 1)).tolist() == [False, False, True, True, False, False, False, False]


def test_many_members_are_xlas():
    x, _, scale, offset = (jnp.stack([a, a + 1]) for a in arrays(4, 5))
    for axes in ((0, 0, 0), (0, 0, None), (0, None, None)):
        args = [a if axis == 0 else a[0] for a, axis in zip((x, scale, offset), axes, strict=True)]
        program = jax.jit(jax.vmap(partial(compiled.normalise, 1e-5), axes))
        assert TARGET not in program.lower(*args).as_text()
        assert_close(program(*args), jax.vmap(partial(compiled._normalise, 1e-5), axes)(*args))


def test_second_derivatives_are_those_of_the_plain_form():
    x, dy, scale, offset = arrays(6, 5)

    def slope(x, scale):
        y = jax.grad(lambda x: (layer_norm(x, scale, offset) * dy).sum())(x)
        return (y**2).sum()

    by_loops = jax.jit(jax.grad(slope, (0, 1)))
    assert TARGET in by_loops.lower(x, scale).as_text()
    with fnn.gradients("auto"):
        want = jax.jit(jax.grad(slope, (0, 1)))(x, scale)
    assert_close(by_loops(x, scale), want, ulps=512)
