"""Sweeps over every registered rule: no operation can be added without passing here."""

import jax
import numpy as np
import pytest

import fnn

RULES = fnn.rules()
CASES = [(name, i) for name, rule in RULES.items() for i in range(len(rule.cases))]
COMPOSED = ("remat", "scan", "shard_map")
each_case = pytest.mark.parametrize(("name", "i"), CASES, ids=[f"{name}-{i}" for name, i in CASES])


@pytest.mark.parametrize("name", RULES)
def test_rule_is_right_at_a_glance(name):
    """Its first case, by the checks that compile little; the others are in the long sweep."""
    (report,) = fnn.check.check_rule(name, cases=[0], quick=True).raise_if_wrong().reports
    passed = {finding.check for finding in report.findings if finding.verdict == "pass"}
    assert passed >= {"primal", "cotangents", "automatic", "precision", "vmap", "placement"}


@pytest.mark.long
@each_case
def test_rule_is_right(name, i):
    """In bfloat16, float16, float32 and float64, against JAX, differences and the textbook, under transformations."""
    # One case shows whether a rule composes; test_sharding has all on eight devices, test_pairs has pairs of them.
    skip = ("pairs", *COMPOSED) if i else ("pairs",)
    (report,) = fnn.check.check_rule(name, cases=[i], skip=skip).raise_if_wrong().reports
    passed = {finding.check for finding in report.findings if finding.verdict == "pass"}
    assert passed >= {"primal", "cotangents", "automatic", "precision", "vmap", "jvp_of_grad", "grad_of_grad"}
    if sum(a.size for a in jax.tree.leaves(RULES[name].cases[i].sample(i)) if hasattr(a, "size")):
        assert passed >= {"differences", "coordinates", "adjoint"} or report.leaves[0].shape[0] == 0


EMPTY = [(name, i) for name, i in CASES if any(0 in np.shape(a) for a in RULES[name].cases[i].sample(i))]


@pytest.mark.long
@pytest.mark.parametrize(("name", "i"), EMPTY)
def test_empty_batches_go_through_pairs_of_transformations(name, i):
    """JAX has programs of its own for arrays without elements."""
    fnn.check.check_rule(name, cases=[i], checks=["pairs"]).raise_if_wrong()


@each_case
def test_auto_mode_leaves_no_custom_rule_in_the_program(name, i):
    rule = RULES[name]
    args, call = rule.cases[i].sample(i), rule.of(rule.cases[i])
    assert "custom_vjp" in str(jax.make_jaxpr(call)(*args))
    with fnn.gradients("auto"):
        assert "custom_vjp" not in str(jax.make_jaxpr(call)(*args))
