"""The verdict on one array, which checks of rules and of models share, and the numbers of its row."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.check.tolerance import MODEL, OPERATION, limit_of, rounding
from fnn.check.verdict import NOTHING, Difference, leaf_of, verdict_on

ONE = Difference(1.0, 1e-9, 1.0, 1.0)
KINK = Difference(0.5, np.inf, 0.0, 1.0, kink=True)


@pytest.mark.parametrize(
    ("hand", "auto", "seen", "beyond", "free", "want"),
    [
        (1.0, 1.0, ONE, False, True, ("agree", "")),
        (1.0, 1.0, NOTHING, False, True, ("agree", "")),
        (2.0, 2.0, ONE, False, True, ("DIFFER", "differences")),
        (2.0, None, ONE, False, True, ("DIFFER", "hand")),
        (2.0, 1.0, ONE, True, True, ("DIFFER", "hand")),
        (1.0, 2.0, ONE, True, True, ("DIFFER", "auto")),
        (2.0, 3.0, ONE, True, True, ("DIFFER", "")),  # both are wrong
        (2.0, 1.0, NOTHING, True, True, ("DIFFER", "")),
        (2.0, 1.0, Difference(1.0, 5.0, 1.0, 1.0), True, True, ("DIFFER", "")),  # too blunt to tell
        (0.25, 0.0, KINK, True, True, ("kink", "")),
        (0.25, 0.0, KINK, True, False, ("DIFFER", "")),  # a convention that binds
        (1.5, 0.0, KINK, True, True, ("DIFFER", "")),  # no slope at all
        (0.25, None, KINK, False, True, ("kink", "")),
        (0.0, 0.0, KINK, False, True, ("agree", "")),
        (np.nan, 1.0, ONE, True, True, ("DIFFER", "hand")),
        (np.nan, np.nan, KINK, True, True, ("DIFFER", "")),
    ],
)
def test_verdicts(hand, auto, seen, beyond, free, want):
    assert verdict_on(hand, auto, seen, 1e-6, beyond=beyond, free=free) == want


def test_a_row():
    true = np.array([[1.0, -4.0], [0.0, 2.0]])
    hand = true + np.array([[0.0, 2.0**-21], [0.0, 0.0]])
    leaf = leaf_of("w", jnp.float32, hand, true, true, verdict="DIFFER")
    assert (leaf.path, leaf.shape, leaf.dtype, leaf.worst, leaf.verdict) == ("w", (2, 2), "float32", (0, 1), "DIFFER")
    assert leaf.absolute == 2.0**-21
    assert leaf.relative == 2.0**-23
    assert leaf.ulps == 1
    assert leaf.cosine == pytest.approx(1)
    assert (leaf.hand, leaf.auto, leaf.numeric) == (-4 + 2.0**-21, -4, None)
    small = leaf_of("w", jnp.float32, true + np.array([[0.0, 0.0], [2.0**-22, 0.0]]), true, true)
    assert small.ulps == 1  # of the array's rms, as the entry itself is 0


def test_rows_of_nothing_and_of_what_is_not_finite():
    empty = np.zeros((0, 3))
    leaf = leaf_of("w", "bfloat16", empty, None, empty)
    assert (leaf.worst, leaf.hand, leaf.absolute, leaf.relative, leaf.ulps) == ((), None, 0, 0, 0)
    assert np.isnan(leaf.cosine)
    leaf = leaf_of("w", "float32", np.array([1.0, np.nan]), np.ones(2), np.ones(2))
    assert (leaf.worst, leaf.absolute, leaf.relative, leaf.ulps) == ((1,), np.inf, np.inf, np.inf)


def test_tolerance_follows_the_precision_and_the_noise():
    assert rounding(2.0**-23, 3.0, 0.0, OPERATION) == 64 * 3 * 2.0**-23
    assert rounding(2.0**-23, 3.0, 5.0, MODEL) == 1024 * (3 * 2.0**-23 + 5)
    assert rounding(2.0**-7, 3.0, 5.0, MODEL) == 16 * (3 * 2.0**-7 + 5)
    assert rounding(2.0**-7, 3.0, 5.0, OPERATION) == 16 * 3 * 2.0**-7 + 8 * 5
    assert limit_of("float64", 0.0) > 0
