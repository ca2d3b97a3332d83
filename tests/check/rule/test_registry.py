"""`check_rule` and `check_all`: registered rules, their cases, and bad arguments."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import check
from fnn.core.by_hand import by_hand


class TestRegistry:
    def test_check_rule(self):
        suite = check.check_rule("relu", cases=[0], checks=("automatic", "zero"))
        assert suite
        assert suite.name == "relu"
        assert [report.name for report in suite.reports] == ["relu, case 0"]
        assert suite.seconds > 0
        assert {f.check for f in suite.reports[0].findings} == {"automatic", "zero"}
        half = check.check_rule("relu", cases=[0], checks=("automatic",), dtype="bfloat16")
        assert half.reports[0].leaves[0].dtype == "bfloat16"

    def test_check_all(self):
        seen = []
        suite = check.check_all(names=["relu", "dense"], checks=("zero",), quick=True, progress=seen.append)
        assert suite
        assert [s.name for s in suite.reports] == [s.name for s in seen] == ["relu", "dense"]
        assert seen[0] is suite.reports[0]
        plain = json.loads(suite.to_json())
        assert plain["ok"] is True
        assert [r["name"] for r in plain["reports"]] == ["relu", "dense"]
        assert plain["seconds"] >= plain["reports"][0]["seconds"] > 0

    def test_a_broken_registered_rule_is_found(self):
        rule = fnn.rules()["relu"]
        old = rule._hand
        wrong = by_hand(rule.fwd, lambda spec, r, dy: jax.tree.map(lambda d: -d, rule.bwd(spec, r, dy)))
        object.__setattr__(rule, "_hand", wrong)
        try:
            suite = check.check_rule("relu", cases=[0], checks=("automatic", "zero"))
        finally:
            object.__setattr__(rule, "_hand", old)
        assert not suite
        assert {f.check for f in suite.failures()} == {"automatic"}
        assert suite.flat()[0].diagnosis[0].endswith("the gradient has the wrong sign.")

    def test_user_mistakes_are_named(self):
        message = r"check_rule expected a rule, or its name: one of .*; got 'relux'; did you mean"
        with pytest.raises(fnn.InputError, match=message):
            check.check_rule("relux")
        with pytest.raises(fnn.InputError, match=r"case numbers below \d+; got \[1000\]"):
            check.check_rule("relu", cases=[1000])
        for cases in ([], 0, [0.5], ["0"]):
            with pytest.raises(fnn.InputError, match="check_rule expected a list of case numbers"):
                check.check_rule("relu", cases=cases)
        for seed in (-1, 0.5, "0"):
            with pytest.raises(fnn.InputError, match="seed from 0 to"):
                check.check_rule("relu", seed=seed)
        with pytest.raises(fnn.InputError, match="a list of rules, one at least; got 5"):
            check.check_all(names=5)
        with pytest.raises(fnn.InputError, match="a list of checks; got 3"):
            check.check_rule("relu", skip=3)
        with pytest.raises(fnn.InputError, match=r"a list of rules, one at least; got \[\]"):
            check.check_all(names=[])
        with pytest.raises(fnn.InputError, match="at least one check; got all of them skipped"):
            check.check_rule("relu", skip=check.CHECKS)
        with pytest.raises(fnn.InputError, match=r"a dtype among .*; got 'int8'"):
            check.check_rule("relu", dtype="int8")
        with pytest.raises(fnn.InputError, match=r"check_rule expected checks among .*; got \['no'\]"):
            check.check_rule("relu", checks=("no",))

    def test_numpys_numbers_and_single_names(self):
        for seed in (np.uint8(255), jnp.int32(1)):
            assert (
                check.check_vjp(jnp.sin, jnp.ones(3), checks=("automatic", "shard_map"), seed=seed).verdict == "right"
            )
        suite = check.check_all(names="relu", checks="linear", skip="vmap", seed=np.int64(1), quick=True)
        assert {f.check for report in suite.flat() for f in report.findings} == {"linear"}
        assert check.check_rule("relu", cases=np.array([1]), checks="zero")

    def test_generators_are_read_once(self):
        suite = check.check_all(names=iter(["relu", "tanh"]), checks=(c for c in ("zero", "linear")), quick=True)
        assert {f.check for report in suite.flat() for f in report.findings} == {"zero", "linear"}
        assert [part.name for part in suite.reports] == ["relu", "tanh"]
        report = check.check_vjp(jnp.sin, jnp.ones(3), checks=["zero", "linear"], skip=iter(["zero"]))
        assert {f.check for f in report.findings} == {"linear"}
