"""Statistics, turns, processes, and programs that fail."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.report import tables
from benchmarks.timing import rounds
from benchmarks.timing.fingerprint import fingerprint
from benchmarks.timing.machine import Copying
from benchmarks.timing.measure import Program, measure
from benchmarks.timing.worker import ProgramError, Worker
from tests.fake_programs import InProcess


@pytest.fixture(scope="module")
def record():
    worker = InProcess()
    variants = ("wrong loss", "wrong gradient", "lacks a layer", "no compiler", "diverges")
    choices = [("fnn", "hand"), ("fnn", "auto"), ("slow", "defaults"), ("fast", "defaults")]
    programs = [Program(library, variant, worker) for library, variant in choices]
    programs += [Program("peer", variant, worker) for variant in variants]
    lines = []
    return measure("tests.fake_programs", "net", programs, most_rounds=5, say=lines.append) | {"lines": lines}


def found(record):
    return {f"{p['library']}, {p['variant']}": p for p in record["programs"]}


def test_a_program_is_timed_a_step_and_compared_round_by_round(record):
    slow = found(record)["slow, defaults"]
    assert slow["turns"] == 5
    assert slow["seconds"] == pytest.approx({"low": 0.2, "median": 0.2, "high": 0.2})
    assert slow["ratio"] == pytest.approx({"low": 2.0, "median": 2.0, "high": 2.0})
    assert found(record)["fast, defaults"]["ratio"]["median"] == pytest.approx(0.5)
    assert (slow["trace_seconds"], slow["compile_seconds"], slow["temp_bytes"]) == (0.25, 0.5, 2**20)


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        ("wrong loss", "Disagrees: its loss is 2.001, not 2."),
        ("wrong gradient", "Disagrees: its gradient differs by 1.0e-02 at layer/kernel."),
        ("lacks a layer", "stax has no groups."),
        ("no compiler", "RuntimeError: no C compiler found"),
        ("diverges", "FloatingPointError: the loss became nan"),
    ],
)
def test_a_failing_program_is_reported_and_stops_nothing(record, variant, sentence):
    assert found(record)[f"peer, {variant}"] == {"library": "peer", "variant": variant, "error": sentence}
    assert any(sentence in line for line in record["lines"])
    assert f"| peer, {variant} | {sentence} |" in tables.network(record)


def test_a_process_that_dies_or_hangs_is_reported_and_started_again(tmp_path):
    with Worker(patience=20) as worker:
        request = {"source": "tests.fake_programs", "name": "net", "library": "fnn"}
        worker.ask("build", label="good", variant="hand", **request)
        worker.ask("build", label="bad", variant="dies", **request)
        assert worker.ask("first", label="good", path=str(tmp_path / "gradient.npz")) == 2.0
        assert worker.ask("run", label="good", steps=3) == pytest.approx(0.3)
        with pytest.raises(ProgramError, match="ended with status 7 at 'prepare'"):
            worker.ask("prepare", label="bad")
        with pytest.raises(ProgramError, match="was ended by another program"):
            worker.ask("run", label="good", steps=1)
        worker.ask("build", label="good", variant="hand", **request)
        assert worker.ask("run", label="good", steps=1) == pytest.approx(0.1)
        worker.ask("build", label="slow", variant="hangs", **request)
        worker._patience = 0.5
        with pytest.raises(ProgramError, match=r"stopped after 0\.5 seconds at 'prepare'"):
            worker.ask("prepare", label="slow")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not tell")
@pytest.mark.parametrize("keeps", [True, False])
def test_a_process_keeps_memory_only_when_told(keeps, monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1073741824")
    with Worker(keeps_memory=keeps) as worker:
        worker.ask("forget")
        environment = Path(f"/proc/{worker.pid}/environ").read_text().split("\0")
    assert ("MALLOC_TRIM_THRESHOLD_=1073741824" in environment) is keeps


def test_a_step_that_nobody_times_warms_the_caches():
    worker = InProcess()
    worker.ask("build", label="a", source="tests.fake_programs", name="net", library="fnn", variant="hand")
    assert worker.ask("run", label="a", steps=3, warm=True) == pytest.approx(0.3)
    assert worker.programs["a"].turns == 2
    worker.ask("run", label="a", steps=1)
    assert worker.programs["a"].turns == 3


def test_memory_is_probed_before_every_round():
    copying = Copying()
    seen = rounds.take_turns([["a"], ["a", "b"]], lambda name: float(len(copying.rates)), before=copying.sample)
    assert seen == {"a": [1.0, 2.0], "b": [None, 2.0]}
    assert all(0 < rate < 1000 for rate in copying.rates)


def test_turns_are_spread_over_the_rounds_beside_the_reference():
    planned = rounds.plan({"fnn": 2, "fast": 12, "slow": 3}, "fnn")
    assert len(planned) == 12
    assert all("fnn" in names for names in planned)
    assert [i for i, names in enumerate(planned) if "slow" in names] == [3, 7, 11]
    assert {names.index("fnn") for names in planned} >= {0, 1}, "the order must change"


def test_a_ratio_pairs_turns_of_one_round():
    got = rounds.statistics({"a": [1.0, 2.0, 4.0], "b": [None, 1.0, 8.0], "never": [None] * 3}, "a")
    assert got["b"]["turns"] == 2
    assert got["b"]["ratio"] == {"low": 0.875, "median": 1.25, "high": 1.625}
    assert "never" not in got


def test_a_fingerprint_is_that_of_what_is_computed():
    def of(f):
        return fingerprint(jax.jit(f).lower(jnp.ones((4, 3))).compile().as_text())

    assert of(lambda x: jnp.sin(x) + 1) == of(lambda other: 1 + jnp.sin(other)) is not None
    assert of(lambda x: jnp.sin(x) + 1) != of(lambda x: jnp.sin(x) + 2)
    assert fingerprint(None) is None
    assert fingerprint("no program") is None
    long = [of(lambda x, n=n: x @ np.linspace(0, n, 300, dtype=np.float32).reshape(3, 100)) for n in (1, 2)]
    assert long[0] != long[1] or long == [None, None], "a constant that the text leaves out"
