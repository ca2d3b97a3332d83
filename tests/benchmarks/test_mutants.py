"""The broken rules and the machinery around them; `python -m benchmarks.mutants` runs them all."""

import copy
import dataclasses
import doctest
import json

import jax
import jax.numpy as jnp
import pytest

import fnn
from benchmarks.mutants import __main__ as command
from benchmarks.mutants import catalogue, correct, differ, mutant, operators, special, suite
from benchmarks.mutants.catalogue import mutants
from benchmarks.mutants.correct import USERS, correct_calls
from benchmarks.mutants.differ import differs
from benchmarks.mutants.rivals import CHECKERS, bridge
from benchmarks.mutants.suite import OURS, Outcome
from benchmarks.mutants.table import false_alarms, missed, text
from benchmarks.timing import results

KINDS = (
    "sign, zero, scale, entry, nan, dtype, precision, place, border, shift, mean, stale, cotangent, zero cotangent, "
    "random, one dtype, transformation, option, ties, region, second order, primal, formula"
)


def test_at_least_200_bugs_of_all_kinds_in_all_rules():
    found = mutants()
    assert sum(not m.equivalent for m in found.values()) >= 200
    assert {m.kind for m in found.values()} == set(KINDS.split(", "))
    assert {m.rule for m in found.values()} == set(fnn.rules())
    assert all(m.cases() for m in found.values())
    assert all(name == m.name and name.startswith(f"{m.rule}/") and m.what for name, m in found.items())


def test_a_rule_registered_later_changes_no_mutant_of_the_others(monkeypatch):
    before = set(mutants())
    late = {f"late_{name}": copy.copy(rule) for name, rule in fnn.rules().items()}
    for name, rule in late.items():
        object.__setattr__(rule, "name", name)
    for module in (mutant, operators, special, catalogue):
        monkeypatch.setattr(module, "rules", lambda: late | fnn.rules())
    mutants.cache_clear()
    try:
        after = mutants()
    finally:
        mutants.cache_clear()
    assert {name for name, m in after.items() if m.rule not in late} == before
    assert any(m.rule in late for m in after.values())


def test_what_is_read_off_the_rules():
    rules = fnn.rules()
    assert not mutant.saves_floats(rules["max_pool"])
    assert mutant.saves_floats(rules["relu"])
    assert not mutant.saves_arguments(rules["dropout"])
    assert mutant.saves_arguments(rules["max_pool"])
    assert not mutant.varies_with_residuals(rules["relu"])
    assert mutant.varies_with_residuals(rules["hinge"])
    assert not mutant.returns_axes(rules["l2"])
    assert not mutant.is_real(rules["hinge"], 1)


@pytest.mark.parametrize("module", [catalogue, correct, differ])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


def test_cases_that_cannot_show_a_bug_are_left_out_and_small_ones_come_first():
    of_one_case = next(m for m in mutants().values() if m.kind == "option")
    assert [f"{of_one_case.rule}/only case {i}" for i, _ in of_one_case.cases()] == [of_one_case.name]
    sizes = [sum(a.size for a in case.sample(0) if a is not None) for _, case in mutants()["conv/dx unflipped"].cases()]
    assert sizes == sorted(sizes)
    assert 0 not in sizes


def long(*names):
    return [pytest.param(name, marks=pytest.mark.long) for name in names]


BUGS = (
    "squared_error/no dtargets",
    "conv/dx unflipped",
    "max_pool/ties last",
    "dropout/fresh mask",
    "softmax/no sum",
    "log_softmax/y for e^y",
    "layer_norm/no xhat term",
    "silu/only bfloat16",
    "pad/border dropped",
)


@pytest.mark.parametrize("name", ["l2/no half", "relu/1 at 0", "dense/dx reshaped", *long(*BUGS)])
def test_a_bug_is_caught(name):
    outcome = suite.run_mutant(name, [OURS])
    assert outcome.said[OURS]
    assert "raises" not in outcome.said[OURS], "a mutant that does not run is no wrong gradient"
    assert outcome.case[OURS] in dict(mutants()[name].cases())


RIGHT = ("hinge, case 0, zeros", "user: tied maximum, split", "user: two outputs")


@pytest.mark.parametrize("name", ["l2, case 1", *long(*RIGHT)])
def test_right_code_is_not_accused(name):
    assert suite.run_correct(name, [OURS]).said == {OURS: ""}


def test_at_least_300_correct_calls_of_all_rules_and_of_users():
    names = [call.name for call in correct_calls()]
    assert len(names) == len(set(names)) >= 300
    assert sum(name.startswith("user: ") for name in names) == len(USERS) >= 30
    assert {name.split(",")[0] for name in names} >= set(fnn.rules())


def test_protected_arguments_are_not_moved():
    calls = {call.name: call for call in correct_calls()}
    args = calls["batch_norm_inference, case 0, zeros"].sample("float32")
    assert not args[0].any()
    assert args[4].min() >= 0.5
    labels = calls["hinge, case 0, times 1e3"].sample("float32")[1]
    assert set(labels.ravel().tolist()) == {-1.0, 1.0}


def test_equivalent_mutants_do_not_differ_and_bugs_do():
    equivalent = [m for m in mutants().values() if m.equivalent]
    assert equivalent
    assert [differs(m, ("float32",)) for m in equivalent[:1]] == [""]
    assert differs(mutants()["dense/db averaged"], ("float32",)).startswith("first derivatives of case ")


def test_check_grads_sees_a_sign_and_false_alarms_do_not_count_for_it():
    checkers = ["check_grads float32", "check_grads float64"]
    outcome = suite.run_mutant("l2/absolute", [*checkers])
    assert all(outcome.said.values())
    # It accuses relu at 0 by hand; as the rule is right there, catching a bug at that point would prove nothing.
    assert suite.run_correct("user: relu at 0, by 0", checkers[:1]).said["check_grads float32"]


def test_gradcheck_through_the_bridge():
    torch = pytest.importorskip("torch")
    with jax.enable_x64(True):
        x = torch.tensor([[1.0, 2.0, -3.0]], dtype=torch.float64, requires_grad=True)
        y = bridge(lambda a: (jnp.sin(a), 2 * a))(x)
        (y[0].sum() + y[1].sum()).backward()
    torch.testing.assert_close(x.grad, torch.cos(x.detach()) + 2)
    for checker in ("gradcheck slow", "gradcheck fast"):
        assert checker in CHECKERS
        assert suite.run_mutant("l2/absolute", [checker]).said[checker]
        assert suite.run_correct("l2, case 0", [checker]).said[checker] == ""


def test_the_command_writes_its_outcomes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    path = tmp_path / "mutants.json"
    options = ["--rules", "l2", "--kinds", "formula,nan", "--no-rivals", "--workers", "1"]
    assert command.main([*options, "--json", str(path), "--write"]) == 0
    printed = capsys.readouterr()
    assert "3 (100.0 %)" in printed.out
    assert "0 mistakes of fnn.check" in printed.out
    assert "[3/3" in printed.err
    written = json.loads(path.read_text())
    assert written["checkers"] == [OURS]
    assert [o["name"] for o in written["outcomes"]] == ["l2/nan w", "l2/no half", "l2/absolute"]
    found = results.read(tmp_path / "results" / "mutants.json")
    assert [(each["kind"], each["count"]) for each in found["bugs"]] == [("formula", 2), ("nan", 1)]


def test_the_command_fails_where_the_checker_does(monkeypatch, capsys):
    blind = Outcome("l2/no half", "l2", "formula", "2 w for w", {OURS: ""}, differs="first derivatives")
    monkeypatch.setattr(command, "run", lambda *args: [blind])
    assert command.main(["--rules", "l2", "--kinds", "formula", "--no-rivals"]) == 1
    assert "1 mistakes of fnn.check" in capsys.readouterr().out
    with pytest.raises(fnn.InputError, match=r"--rules expected names among .*; got \['no'\]"):
        command.main(["--rules", "no"])
    with pytest.raises(fnn.InputError, match="--kinds"):
        command.main(["--kinds", "no"])


def test_the_table_counts_and_names_mistakes():
    rival = "check_grads"
    outcomes = [
        Outcome("a/one", "a", "sign", "minus", {OURS: "bad", rival: ""}),
        Outcome("a/two", "a", "sign", "plus", {OURS: "", rival: ""}, differs="second derivatives"),
        Outcome("a/three", "a", "scale", "", {OURS: "", rival: ""}, equivalent="the same for y and -y"),
        Outcome("a, case 0", "a", "correct", "", {OURS: "", rival: "bad"}),
        Outcome("a, case 1", "a", "correct", "", {OURS: "wrongly accused", rival: ""}),
    ]
    assert [o.name for o in missed(outcomes)] == ["a/two"]
    declared = dataclasses.replace(outcomes[2], differs="under vmap")
    assert missed([declared]) == [declared]
    assert [o.name for o in false_alarms(outcomes)] == ["a, case 1"]
    lines = text(outcomes, [OURS, rival]).splitlines()
    assert [" ".join(line.split()) for line in lines[2:6:3] + lines[3:4]] == [
        "sign 2 1 (50.0 %) 0 (0.0 %)",
        "false alarms 2 1 1",
        "all 2 1 (50.0 %) 0 (0.0 %)",
    ]
    for line in (
        "  a/two: plus (second derivatives)",
        "  a, case 1: wrongly accused",
        "  a/three: the same for y and -y",
    ):
        assert line in lines
