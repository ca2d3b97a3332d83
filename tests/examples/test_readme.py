"""The README's Python runs as printed."""

import json
import re
from pathlib import Path

import fnn
from fnn.check.mutate.table import markdown
from tests.helpers import as_users_run

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


COMPARED = """
x, labels = next(iter(batches))
compared = fnn.check.compare(model, state, (x[:8], labels[:8]), fnn.softmax_cross_entropy, key=jax.random.key(1))
print(compared, history[0]["loss"] > history[-1]["loss"], bool(compared), sep="\\n")
"""


def test_the_model_in_fifteen_lines():
    program = BLOCKS[0]
    assert len(program.strip().splitlines()) <= 15
    printed = as_users_run("-c", program + COMPARED)
    assert float(re.search(r"'accuracy': ([\d.]+)", printed).group(1)) > 0.9
    assert printed.splitlines()[-2:] == ["True", "True"], printed


def test_a_run_that_is_started_again_goes_on(tmp_path):
    (again,) = (block for block in BLOCKS if "train.load" in block)
    first, second = (again.replace("20", str(epochs)) for epochs in (1, 3))
    tell = 'print([row["epoch"] for row in history], int(state.step) == 3 * len(batches))\n'
    program = f"import os\nos.chdir({str(tmp_path)!r})\n" + BLOCKS[0].replace("epochs=20", "epochs=1") + first + second
    assert as_users_run("-c", program + tell).splitlines()[-1] == "[1, 2] True"


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
    rules = {name: rule for name, rule in fnn.rules().items() if rule.fwd.__module__.startswith("fnn.")}
    cases = sum(len(rule.cases) for rule in rules.values())
    assert f"Each of the {len(rules)} rules is tested on {cases} calls" in README.read_text().replace("\n", " ")
