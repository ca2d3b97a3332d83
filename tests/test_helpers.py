"""The comparison that all tests use sees a wrong tree, shape, dtype and value, and says where."""

import jax.numpy as jnp
import pytest

from tests.helpers import assert_close, assert_same

ONE = {"kernel": jnp.array([1.0, 1000.0]), "step": jnp.array(3)}
EPS = float(jnp.finfo(jnp.float32).eps)


def test_what_is_close_passes():
    assert_close(ONE, ONE)
    assert_close({**ONE, "kernel": ONE["kernel"] + 63 * EPS * 1000}, ONE)
    assert_close((), ())
    assert_same(ONE, ONE)


@pytest.mark.parametrize("check", [assert_close, assert_same])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kernel": ONE["kernel"] + 65 * EPS * 1000}, "'kernel': "),
        ({"kernel": ONE["kernel"] * jnp.nan}, "'kernel': "),
        ({"step": jnp.array(4)}, "'step': "),
        ({"kernel": ONE["kernel"].astype(jnp.bfloat16)}, "'kernel': types"),
        ({"kernel": ONE["kernel"][None]}, "'kernel': shapes"),
        ({"more": 1.0}, "tree structs"),
    ],
)
def test_what_is_not_is_named(check, changed, message):
    with pytest.raises(AssertionError, match=message):
        check({**ONE, **changed}, ONE)
