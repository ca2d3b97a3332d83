"""The README's Python runs as printed."""

import re
from pathlib import Path

import fnn

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


def test_the_counts_of_rules_and_cases():
    rules = fnn.rules()
    cases = sum(len(rule.cases) for rule in rules.values())
    assert f"Each of the {len(rules)} rules is tested on {cases} calls" in README.read_text().replace("\n", " ")
