"""The command `fnn-check`: what it prints and writes, and the status it ends with."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import jax
import pytest

import fnn
from fnn.check import CHECKS
from fnn.check.command import main as cli
from fnn.core import rule as registry

ROOT = Path(__file__).parents[3]
FAST = ["--workers", "1", "--quick", "--skip", ",".join(c for c in CHECKS if c not in ("automatic", "zero"))]


@pytest.fixture
def broken_tanh():
    """A registered rule whose gradient is half the true one."""
    good = fnn.rules()["tanh"]
    registry._registry.pop("tanh")
    fnn.Rule(
        **{f.name: getattr(good, f.name) for f in dataclasses.fields(good) if f.init and f.name != "bwd"},
        bwd=lambda *args: jax.tree.map(lambda g: g / 2, good.bwd(*args)),
    )
    yield
    registry._registry["tanh"] = good


def test_the_command_as_users_run_it(tmp_path):
    path = tmp_path / "report.json"
    words = ["--rule", "relu,l2", "--rule", "tanh", "--quick", "--skip", "precision,coordinates", "--json", str(path)]
    command = [sys.executable, "-m", "fnn.check", *words, "--workers", "2"]
    clean = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=clean, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.strip().splitlines()
    assert sorted(line.split()[0] for line in lines) == ["l2", "relu", "tanh"]
    assert all(line.endswith("right") and "2 cases" in line for line in lines)
    assert "\r" not in done.stderr
    assert "rules: right, in 6 calls" in done.stdout.splitlines()[-1]
    report = json.loads(path.read_text())
    assert report["ok"]
    assert [suite["name"] for suite in report["reports"]] == ["relu", "l2", "tanh"]
    assert [case["name"] for case in report["reports"][0]["reports"]] == ["relu, case 0", "relu, case 1"]
    ran = {finding["check"] for case in report["reports"][0]["reports"] for finding in case["findings"]}
    assert "automatic" in ran
    assert not ran & {"precision", "coordinates", "jit"}


MINE = """
import os

import fnn, jax
from fnn.core.cases import case

double = fnn.Rule(
    name="double",
    forward=lambda spec, x: 2 * x,
    fwd=lambda spec, x: (2 * x, ()),
    bwd=lambda spec, residuals, dy: (FACTOR * dy,),
    reference=lambda spec, x: x + x,
    cases=(case(None, (3,)), case(None, lambda key, dtype: jax.random.normal(key, (2,), dtype))),
)
relu = fnn.rules()["relu"]
for name, sizes in {"never": (), "second": (0, 3)}.items():
    when = lambda spec, x, sizes=sizes: x.shape == sizes
    relu.add("fwd", fnn.Implementation(name=name, run=relu.fwd, when=when))
print("hello")
os.chdir("..")
"""


@pytest.mark.parametrize(("factor", "status", "verdict"), [("2", 0, "right"), ("3", 1, "WRONG")])
def test_a_module_of_the_users_own(tmp_path, factor, status, verdict):
    (tmp_path / "mine.py").write_text(MINE.replace("FACTOR", factor))
    command = [sys.executable, "-m", "fnn.check", "--import", "mine", *FAST, "--workers", "2"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=False
    )
    assert done.returncode == status, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines() if line != "hello"] == ["double"]
    assert done.stdout.splitlines()[-1].startswith(f"rules: {verdict}")


def test_a_module_adds_rows_prints_and_changes_the_folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE.replace("FACTOR", "2"))
    words = ["--import", "mine", "--rule", "relu,double", *FAST, "--workers", "2", "--json", "-"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "fnn.check", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    relu, double = json.loads(done.stdout)["reports"]
    assert double["remarks"] == []
    assert [line.split("'")[1] for line in relu["remarks"]] == ["never"]


def test_two_devices_serve_shard_map():
    command = "s = main(['--list', '--rule', 'l2'])"
    program = f"import jax; from fnn.check.command.main import main; {command}; print(len(jax.devices()))"
    clean = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=clean, check=True
    )
    assert done.stdout.splitlines()[-1] == "2"


def test_a_wrong_rule(capsys, broken_tanh):
    assert cli.main(["--rule", "relu,tanh", *FAST, "--json", "-"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert not report["ok"]
    assert [suite["ok"] for suite in report["reports"]] == [True, False]
    assert [line.split()[-1] for line in err.splitlines()] == ["right", "WRONG"]

    assert cli.main(["--rule", "tanh", *FAST]) == 1
    text = capsys.readouterr().out
    assert "the gradient is 0.5 times the true one" in text
    assert text.splitlines()[-1].startswith("rules: WRONG, says automatic")


def test_dtype_and_seed_reach_the_cases(capsys):
    reports = []
    for words in (["--dtype", "bfloat16"], ["--seed", "1"], ["--seed", "0"]):
        assert cli.main(["--rule", "relu", *FAST, *words, "--json", "-"]) == 0
        reports.append(json.loads(capsys.readouterr().out)["reports"][0]["reports"][0]["leaves"])
    assert [leaves[0]["dtype"] for leaves in reports] == ["bfloat16", "float32", "float32"]
    assert reports[1] != reports[2]


def test_list(capsys):
    assert cli.main(["--list"]) == 0
    text = capsys.readouterr().out
    for name, rule in fnn.rules().items():
        assert f"{name} {len(rule.cases)}" in " ".join(text.split())
    assert text.endswith(f"checks: {', '.join(CHECKS)}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rule", "rleu"], r"--rule expected rules among absolute_error, .*; got rleu; choose from these"),
        (["--skip", "jti"], "--skip expected checks among .*; got jti"),
        (["--seed", "-1"], "--seed expected a number from 0 to 4294967295; got -1"),
        (
            ["--import", "jsno"],
            "--import expected a module that can be imported from .*; got ModuleNotFoundError: No mod",
        ),
        (["--import", "json"], "--import expected modules that register rules; got json; name those to whose tables"),
        (
            ["--import", "mine.py"],
            "--import expected the name of a module, such as .*; got 'mine.py'; leave",
        ),
        (
            ["--import", "a/mine"],
            "--import expected the name of a module, such as .*; got 'a/mine'; leave",
        ),
        (["--workers", "0"], "--workers expected 1 or more; got 0; 1 checks in this process"),
        (["--shape", "2,3"], "--shape expected --model MODULE:NAME beside it; got none"),
        (
            ["--json", "no/such/folder/x.json"],
            "--json expected the path of a file in a folder that exists; got no/such",
        ),
        (["--json", ""], "--json expected the path of a file"),
        (["--json", "."], r"--json expected the path of a file in a folder that exists; got \."),
        (["--model", "fnn", "--shape", "2,3"], "--model fnn expected MODULE:NAME; got fnn; such as"),
        (
            ["--model", "no_such:x"],
            "expected a module that can be imported from .*; got ModuleNotFoundError: No module",
        ),
        (["--model", "fnn:lenet"], "expected 'lenet' in fnn; got no such name"),
        (["--model", "fnn:models"], "expected a Layer or .*; got module; return one"),
        (["--model", "fnn:conv"], r"expected conv\(\) to return a Layer or .*; got TypeError: conv\(\) missing"),
        (["--model", "fnn:relu"], "expected --shape for a Layer; got none; give the batch's shape"),
        (["--model", "fnn:relu", "--shape", "4,3"], "expected a model with parameters; got none"),
        (["--model", "fnn:relu", "--shape", "4"], r"expected logits \(N, ..., classes\) as output; got"),
        (["--model", "fnn:relu", "--quick"], "--model expected no options that are for rules; got --quick"),
        (
            ["--model", "fnn.models:lenet5", "--shape", "2,5"],
            r"expected a Layer that takes \(2, 5\); got InputError: in conv1",
        ),
    ],
)
def test_unusable_words(words, message, capsys):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert not out
    assert len(err.splitlines()) == 1
    assert re.search(message, err), err


@pytest.mark.parametrize(
    "words",
    [["--dtype", "float8"], ["--shape", "a"], ["--shape=-1,3"], ["--rule", "relu", "--model", "x:y"], ["--mod", "x"]],
)
def test_words_that_the_parser_refuses(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "usage: fnn-check" in capsys.readouterr().err


NETS = """
    import jax, jax.numpy as jnp, fnn

    small = fnn.serial(hidden=fnn.dense(3), drop=fnn.dropout(0.5), out=fnn.dense(2))

    def whole():
        x = jnp.arange(8.0).reshape(2, 4) / 8
        layer = fnn.serial(out=fnn.dense(2))
        return (layer, *layer.init(jax.random.key(0), x), (x, jnp.array([0, 1])), fnn.softmax_cross_entropy)

    def leaves():
        raise SystemExit(0)

    def interrupted():
        raise KeyboardInterrupt

    def unfit():
        layer, params, state, (x, labels), loss = whole()
        return layer, params, state, (x, labels), lambda y, labels: jnp.zeros(3) @ y
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A user's module in the current folder."""
    (tmp_path / "user_nets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("user_nets", None)


def test_a_layer_on_a_random_batch(nets, capsys):
    assert cli.main(["--model", "user_nets:small", "--shape", "4,5", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    leaves = {leaf["path"]: leaf for leaf in report["comparison"]["leaves"]}
    assert leaves["hidden/kernel"]["shape"] == [5, 3]
    assert leaves["hidden/kernel"]["dtype"] == "float32"


def test_a_whole_model_that_is_right_then_wrong(nets, capsys, monkeypatch):
    assert cli.main(["--model", "user_nets:whole", "--dtype", "bfloat16", "--json", "-"]) == 0
    leaves = json.loads(capsys.readouterr().out)["comparison"]["leaves"]
    assert {leaf["dtype"] for leaf in leaves} == {"bfloat16"}
    dense = fnn.rules()["dense"]
    wrong = registry.by_hand(
        dense.fwd, lambda *args: (dense.bwd(*args)[0], -dense.bwd(*args)[1], *dense.bwd(*args)[2:])
    )
    monkeypatch.setitem(dense.__dict__, "_hand", wrong)
    assert cli.main(["--model", "user_nets:whole", "--json", "report.json"]) == 1
    text = capsys.readouterr().out
    assert "The gradients DIFFER in out/kernel." in text
    assert "out is wrong: its own kernel gradient is off" in text
    report = json.loads(Path("report.json").read_text())
    assert not report["ok"]
    assert not report["comparison"]["ok"]
    assert [row["path"] for row in report["audit"]["rows"] if row["verdict"] == "WRONG"] == ["out"]


@pytest.mark.parametrize(("name", "said"), [("leaves", "got SystemExit: 0"), ("interrupted", "interrupted")])
def test_a_model_that_stops_the_process(nets, capsys, name, said):
    assert cli.main(["--model", f"user_nets:{name}"]) == 2
    assert said in capsys.readouterr().err


def test_a_model_that_cannot_run(nets, capsys):
    assert cli.main(["--model", "user_nets:unfit"]) == 2
    err = capsys.readouterr().err
    assert "--model user_nets:unfit expected a model and a loss that run on the batch; got " in err
    assert "Traceback" not in err


def test_json_is_written_through_a_link(tmp_path):
    path, link = tmp_path / "report.json", tmp_path / "link.json"
    path.write_text("old")
    link.symlink_to(path)
    assert cli.main(["--rule", "relu", *FAST, "--json", str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(path.read_text())["ok"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told_after_the_result(capsys):
    assert cli.main(["--rule", "relu", *FAST, "--json", "/dev/full"]) == 2
    out, err = capsys.readouterr()
    assert "rules: right" in out  # minutes of work are told all the same
    said = "fnn-check: --json /dev/full: No space left on device; the report there is not whole"
    assert err.splitlines()[-1] == said


def test_a_terminal_sees_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["--rule", "relu", *FAST]) == 0
    err = capsys.readouterr().err
    assert "0 of 1 rules, 1 of 2 calls" in err
    assert err.endswith("\r\x1b[K")


def test_the_console_script():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"fnn-check": "fnn.check.command.main:main"}
