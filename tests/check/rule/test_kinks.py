"""Kinks and ties: conventions that are listed, and those that bind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import check
from fnn.check.rule.examine import examine
from tests.broken import VALUES, failed, relu, says, unary


class TestKinks:
    def test_the_convention_is_listed(self):
        for at_zero in (0.0, 0.25, 1.0):
            report = check.check_vjp(relu(at_zero), jnp.array([-1.0, 0.0, 2.0]), checks=(*VALUES, "kinks", "jacobian"))
            assert report, str(report)
            (line,) = report.kinks
            assert line.startswith("x at (1,): derivatives between")
            taken = float(line.rpartition(" ")[2])
            assert abs(taken) == pytest.approx(at_zero * 1.125, rel=0.4)
        assert report.leaves[0].verdict in ("kink", "agree")

    @pytest.mark.parametrize("at_zero", [-0.1, 1.1, np.nan])
    def test_outside_the_interval_fails(self, at_zero):
        report = check.check_vjp(relu(at_zero), jnp.array([-1.0, 0.0, 2.0]), checks=("kinks",))
        assert failed(report) == {"kinks"}
        assert "entry (1,)" in says(report, "kinks")

    def test_what_lies_beside_kinks_is_judged(self):
        x = jnp.array([0.0, 2.0, 0.0, 1.0, -1.0])
        for name in VALUES:
            assert failed(check.check_vjp(relu(0.0, above=1.001), x, checks=(name,))) == {name}

    @pytest.mark.long
    def test_many_kinks_are_found_and_excluded(self):
        x = jnp.where(jnp.arange(600) % 3 == 0, 0.0, jnp.linspace(-2, 3, 600))
        report = check.check_vjp(relu(0.0), x, checks=("differences", "kinks"))
        assert report, str(report)
        assert report.kinks[-1] == "x: 196 more entries"
        wrong = unary(lambda x: jnp.maximum(x, 0), lambda x, dy: (dy * (x > 0)).at[400].multiply(0.9))
        assert failed(check.check_vjp(wrong, x, checks=("differences", "kinks"))) == {"differences"}

    def test_a_registered_rule_follows_the_plain_form(self):
        def plain(x):
            return jnp.where(x > 0, x, 0)  # slope 0 at 0

        x = jnp.array([-1.0, 0.0, 2.0])
        for at_zero, wrong in ((0.0, set()), (1.0, {"automatic"})):
            report = examine("relu", relu(at_zero), (x,), auto=plain, strict=True, checks=("automatic", "kinks"))
            assert failed(report) == wrong
            assert examine("relu", relu(at_zero), (x,), auto=plain, checks=("automatic", "kinks"))

    def test_ties_between_integers_are_tried_for_registered_rules(self):
        """The point has no kink; the check goes to integers, where there is one."""
        x = jnp.array([-0.1, 1.0])
        report = examine("relu", relu(1.0), (x,), auto=jax.nn.relu, strict=True, checks=("automatic",))
        assert "at integers" in says(report, "automatic")
        assert not report
