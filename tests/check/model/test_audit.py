"""Which layer is wrong, which rule is wrong, and what each layer costs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.check.model.audit import audit
from fnn.check.model.bisect import bisect, rules_of
from fnn.check.report import GradientError

X, T = jax.random.normal(jax.random.key(1), (8, 3)), jax.random.normal(jax.random.key(2), (8, 2))
NET = fnn.serial(one=fnn.dense(4), act=fnn.tanh(), two=fnn.dense(4), norm=fnn.layer_norm(), out=fnn.dense(2))
PARAMS, STATE = NET.init(jax.random.key(0), X)
BATCH = (np.asarray(X), np.asarray(T))


@pytest.fixture
def broken():
    """A function that breaks one rule by hand, its cotangents run through `wrong`, until the end of the test."""
    old = {}

    def install(name, wrong):
        rule = fnn.rules()[name]
        old.setdefault(rule, rule._hand)

        def bwd(spec, residuals, dy):
            return wrong(*rule.bwd(spec, residuals, dy))

        object.__setattr__(rule, "_hand", fnn.core.by_hand.by_hand(rule.fwd, bwd))

    yield install
    for rule, hand in old.items():
        object.__setattr__(rule, "_hand", hand)


def verdicts(result):
    return {row.path: row.verdict for row in result.rows}


class TestAudit:
    @pytest.mark.long  # the docstring of `audit` has one, too
    def test_a_right_model(self):
        result = audit(NET, (PARAMS, STATE), BATCH, fnn.squared_error, rounds=2)
        assert result
        assert list(verdicts(result)) == ["one", "act", "two", "norm", "out", "(loss)"]
        assert set(verdicts(result).values()) == {"right"}
        assert str(result).endswith("Every layer is right on its own, and so is the model.")
        rows = {row.path: row for row in result.rows}
        assert [leaf.path for leaf in rows["two"].leaves] == ["input", "output", "bias", "kernel"]
        assert rows["one"].local < 1e-5
        assert rows["one"].cumulative < 1e-5
        assert rows["act"].cumulative is None
        assert rows["act"].gradient is None
        assert min(row.seconds[mode] for row in result.rows for mode in ("hand", "auto")) > 0
        # Both keep x (8, 3) of a dense layer, and not the kernel; the output of tanh by hand.
        assert rows["one"].saved == {"hand": 8 * 3 * 4, "auto": 8 * 3 * 4}
        assert rows["act"].saved["hand"] == 8 * 4 * 4

        def objective(params, probe):
            y, _ = NET.apply(params, STATE, X, train=True)
            return fnn.squared_error(y + probe, T).mean()

        slopes, cotangent = jax.grad(objective, (0, 1))(PARAMS, jnp.zeros((8, 2)))
        norm = np.sqrt(sum(float((a**2).sum()) for a in jax.tree.leaves(slopes["two"])))
        assert rows["two"].gradient == pytest.approx(norm, rel=1e-5)
        assert rows["out"].cotangent == pytest.approx(float(jnp.linalg.norm(cotangent)), rel=1e-5)

    def test_a_bug_in_the_middle_leaves_the_layers_before_it_right(self, broken):
        broken("layer_norm", lambda dx, *rest: (1.01 * dx, *rest))
        result = audit(NET, (PARAMS, STATE), BATCH, fnn.squared_error, rounds=1)
        assert not result
        wanted = {"one": "inherits", "act": "right", "two": "inherits", "norm": "WRONG", "out": "right"}
        assert wanted.items() <= verdicts(result).items()
        assert result.guilty == ("norm",)
        one = result.rows[0]
        assert one.local < 1e-5
        assert one.cumulative == pytest.approx(0.01, rel=0.1)
        assert "norm is wrong: its own input gradient is off by 1.0e-02" in str(result)
        assert str(result).endswith("one, two only inherit it.")
        with pytest.raises(GradientError, match="norm is wrong"):
            result.raise_if_wrong()
        plain = json.loads(result.to_json())
        assert plain["ok"] is False
        assert plain["rows"][3]["verdict"] == "WRONG"

    def test_a_bug_in_the_loss_is_named(self, broken):
        net = fnn.dense(2)
        broken("squared_error", lambda *all_: (all_[0] * 2, *all_[1:]))
        result = audit(net, net.init(jax.random.key(0), X), BATCH, fnn.squared_error, rounds=1)
        assert verdicts(result) == {"dense": "inherits", "(loss)": "WRONG"}

    @pytest.mark.long
    def test_copies_checkpoints_keys_states_and_integers(self, broken):
        block = fnn.serial(d=fnn.dense(3), drop=fnn.dropout(0.5))
        pick = fnn.lift(lambda p, x: p["table"][x], lambda key, x: {"table": jnp.eye(4, 3)}, name="embed")
        sign = fnn.lift(lambda p, x: {"y": x, "count": jnp.arange(3)}, name="sign")
        back = fnn.lift(lambda p, x: x["y"] + x["count"], name="back")
        net = fnn.serial(pick, fnn.repeat(block, 2), sign, back, fnn.remat(fnn.serial(r=fnn.dense(2))))
        x = jnp.arange(8) % 4
        params, state = net.init(jax.random.key(0), x)

        broken("dense", lambda dx, dkernel, dbias: (dx, dkernel.at[0, 0].add(1e-6), dbias))
        result = audit(net, (params, state), (x, T), fnn.squared_error, key=jax.random.key(3), rounds=1)
        assert result.guilty == ("01_repeat/serial/d", "04_serial/r")
        assert len(result.rows) == 7
        rows = {row.path: row for row in result.rows}
        copies = rows["01_repeat/serial/d"]
        assert [leaf.shape for leaf in copies.leaves] == [(2, 8, 3), (2, 8, 3), (2, 3), (2, 3, 3)]

    @pytest.mark.long
    def test_half_precision(self, broken):
        net = fnn.serial(a=fnn.dense(3), act=fnn.tanh(), b=fnn.dense(2))
        params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (net.init(jax.random.key(0), X)[0], X))
        t = T.astype(jnp.bfloat16)
        broken("tanh", lambda dx: (dx * 0.99,))
        result = audit(net, (params, {}), (x, t), fnn.squared_error, rounds=1)
        assert verdicts(result) == {"a": "inherits", "act": "WRONG", "b": "right", "(loss)": "right"}

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match="audit expected rounds >= 1; got 0"):
            audit(NET, (PARAMS, STATE), BATCH, fnn.squared_error, rounds=0)
        with pytest.raises(fnn.InputError, match="a model with parameters; got none"):
            audit(fnn.identity(), ({}, {}), (X, X), fnn.squared_error)
        with pytest.raises(fnn.InputError, match=r"audit expected a batch \(x, labels\)"):
            audit(NET, (PARAMS, STATE), X, fnn.squared_error)


class TestBisect:
    def test_names_the_rules_that_are_wrong(self, broken):
        broken("tanh", lambda dx: (dx.at[0, 0].multiply(1.001),))
        broken("dense", lambda dx, dkernel, dbias: (dx, dkernel, -dbias))
        result = bisect(NET, (PARAMS, STATE), BATCH, fnn.squared_error)
        assert not result
        assert result.guilty == ("dense", "tanh")
        assert {row.rule for row in result.rows if row.verdict == "right"} == {"layer_norm", "squared_error"}
        rows = {row.rule: row for row in result.rows}
        assert rows["dense"].relative == pytest.approx(2)
        assert rows["dense"].worst.endswith("/bias")
        assert rows["tanh"].worst.startswith("one/")
        assert str(result).endswith("WRONG: dense, tanh.")
        assert json.loads(result.to_json())["rows"][0]["verdict"] == "WRONG"

    def test_a_model_without_rules(self):
        net = fnn.lift(lambda p, x: x @ p["w"], lambda key, x: {"w": jnp.ones((3, 2))})
        params, state = net.init(jax.random.key(0), X)
        result = bisect(net, (params, state), BATCH, lambda y, t: ((y - t) ** 2).mean(-1))
        assert result
        assert str(result).endswith("The model uses no rule.")

    def test_derivatives_that_are_not_fnns_are_said(self):
        half = jax.custom_vjp(lambda x: x * 1)
        half.defvjp(lambda x: (x, None), lambda _, dy: (dy / 2,))
        net = fnn.serial(fnn.dense(3), fnn.lift(lambda p, x: half(x), name="half"))
        result = bisect(net, net.init(jax.random.key(0), X), BATCH, lambda y, t: (y.sum(-1) - t.sum(-1)) ** 2)
        assert any("not fnn's are in the model" in note for note in result.notes)

    def test_rules_inside_loops_are_found(self):
        net = fnn.repeat(fnn.serial(fnn.dense(3), fnn.relu()), 2)
        params, state = net.init(jax.random.key(0), X)
        assert rules_of(lambda p: net.apply(p, state, X)[0], params) == ("dense", "relu")

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match=r"bisect expected a batch \(x, labels\)"):
            bisect(NET, (PARAMS, STATE), X, fnn.squared_error)
