"""A rule on one page."""

import importlib

import jax.numpy as jnp
import pytest

import fnn
from fnn.check.rule.explain import explain
from fnn.core import rule
from fnn.core.cases import case


@pytest.fixture(scope="module")
def dense():
    return explain("dense")


class TestExplain:
    def test_says_formula_shapes_and_source(self, dense):
        assert "dx = dy W^T" in dense.formula
        assert dense.shapes == {
            "x": "float32[8, 3]",
            "kernel": "float32[3, 4]",
            "bias": "float32[4]",
            "output": "float32[8, 4]",
        }
        assert list(dense.source) == ["forward", "fwd", "bwd"]
        assert dense.source["bwd"].startswith("def _bwd(spec, residuals, dy):\n    x, kernel, bias = residuals")

    def test_counts_equations_and_bytes(self, dense):
        assert dense.hand.equations == 3  # two products and a sum
        assert dense.hand.residual_bytes == 4 * (8 * 3 + 3 * 4 + 4)
        assert dense.auto.residual_bytes == 4 * (8 * 3 + 3 * 4)
        assert dense.hand.extra_bytes == dense.auto.extra_bytes == 0
        names = [eqn.primitive.name for eqn in dense.auto_jaxpr.eqns]
        assert names.count("dot_general") == 2
        relu = explain("relu")
        assert relu.hand.residual_bytes == 4 * 40
        assert relu.hand.extra_bytes == 0  # y lives anyway
        assert relu.auto.extra_bytes > 0

    def test_stands_side_by_side_where_there_is_room(self, dense, monkeypatch):
        monkeypatch.setenv("COLUMNS", "140")
        wide = str(dense)
        (line,) = [line for line in wide.splitlines() if line.startswith("backward, by hand")]
        assert line.endswith("| backward, automatic")
        assert max(map(len, wide.splitlines())) <= 140
        monkeypatch.setenv("COLUMNS", "80")
        lines = str(dense).splitlines()
        assert lines.index("backward, automatic") > lines.index("backward, by hand") + 5
        assert "3 equations; 160 bytes of residuals, 0 beyond arguments and outputs" in lines

    def test_shows_what_a_table_makes_rules_of_and_shared_formulas(self):
        assert "jnp.where(y > 0, dy, 0)" in explain("relu").source["dx, in bwd"]
        assert "dx = inv (g - " in explain("layer_norm").formula

    @pytest.mark.parametrize("name", ["dropout", "batch_norm", "softmax_cross_entropy"])
    def test_keys_integers_and_several_outputs(self, name):
        page = explain(name, case=len(fnn.core.rule.rules()[name].cases) - 1)
        assert page.hand.equations > 0
        assert page.auto.equations > 0
        if name == "batch_norm":
            assert "output 2" in page.shapes

    def test_every_rule_states_a_formula(self):
        module = importlib.import_module("fnn.check.rule.explain")  # the package's `explain` is the function

        missing = [name for name, r in rule.rules().items() if " = " not in module._formula(r)]
        assert missing == []

    def test_a_rule_without_words_or_files(self, monkeypatch):
        monkeypatch.setattr(rule, "_registry", dict(rule._registry))
        names = {"__name__": "typed_in", "Rule": rule.Rule, "case": case, "jnp": jnp}
        exec(
            "Rule(name='twice', forward=lambda _, x: 2 * x, fwd=lambda _, x: (2 * x, ()),"
            "bwd=lambda _, kept, dy: (2 * dy,), reference=lambda _, x: x + x, cases=(case(None, (3,)),))",
            names,
        )
        page = explain("twice")
        assert page.formula.startswith("(none: state the formula")
        assert "has no source file" in page.source["bwd"]
        assert page.hand.residual_bytes == 0

    def test_refuses_unknown_names_and_cases(self):
        with pytest.raises(fnn.InputError, match=r"got 'convv'; did you mean 'conv' or 'conv_transpose'\?"):
            explain("convv")
        with pytest.raises(fnn.InputError, match="'layer_norm'"):
            explain("norm")
        with pytest.raises(fnn.InputError, match=r"one of \['absolute_error'"):
            explain("qqq")
        with pytest.raises(fnn.InputError, match="a case of 'l2' from 0 to 1; got 2"):
            explain("l2", case=2)
