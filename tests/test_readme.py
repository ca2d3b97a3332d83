"""The README's Python runs as printed."""

import json
import re
from pathlib import Path

import fnn
from fnn.check.mutate.table import markdown

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_model_in_fifteen_lines(capsys):
    program = BLOCKS[0]
    assert len(program.strip().splitlines()) <= 15
    names = {}
    exec(compile(program, "README", "exec"), names)
    assert names["history"][-1]["loss"] < names["history"][0]["loss"]
    printed = capsys.readouterr().out.splitlines()[-1]
    assert float(re.search(r"'accuracy': ([\d.]+)", printed).group(1)) > 0.9

    comparison = fnn.check.compare(
        names["model"],
        names["state"].params,
        names["state"].state,
        next(iter(names["batches"])),
        fnn.softmax_cross_entropy,
        key=names["jax"].random.key(1),
    )
    assert comparison, str(comparison)


def test_a_wrong_rule_is_diagnosed_as_printed(capsys):
    (program,) = (block for block in BLOCKS if "def logdet" in block)
    exec(compile(program, "README", "exec"), {})
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"```\n(diagnosis:.*?)```", README.read_text(), re.DOTALL)
    assert "logdet: WRONG" in printed
    assert shown in printed


def test_the_table_of_mutants_is_that_of_the_results():
    report = json.loads((README.parent / "benchmarks/results/mutants.json").read_text())
    assert markdown(report, report["checkers"]) in README.read_text()


def test_the_counts_of_rules_and_cases():
    rules = fnn.rules()
    cases = sum(len(rule.cases) for rule in rules.values())
    assert f"Each of the {len(rules)} rules is tested on {cases} calls" in README.read_text().replace("\n", " ")
