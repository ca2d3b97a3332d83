"""`benchmarks.gpu` on the CPU with small sizes: what it runs, keeps and says."""

import time

import pytest

from benchmarks import gpu
from benchmarks.operations.zoo import OPERATIONS
from benchmarks.report import gpu as gpu_report
from benchmarks.timing.results import read
from benchmarks.timing.worker import SHARING
from tests import fake_programs
from tests.fake_programs import InProcess


class Here(InProcess):
    """A worker without a process, as `benchmarks.gpu` makes them."""

    def __init__(self, *words, platform):
        super().__init__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def here(monkeypatch):
    for name in (*SHARING, "JAX_PLATFORMS"):
        monkeypatch.setenv(name, "cpu")  # what the command sets is put back
    monkeypatch.setattr(gpu, "Worker", Here)
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    monkeypatch.setattr(gpu, "DTYPES", {"bfloat16": gpu.DTYPES["bfloat16"]})
    monkeypatch.setattr(gpu, "CHOICES", [("fnn", "hand"), ("fnn", "auto")])
    monkeypatch.setattr(gpu, "OPERATION_CHOICES", [("fnn", "hand"), ("fnn", "auto")])


@pytest.mark.parametrize("build", [fake_programs.build, pytest.param(gpu.build, marks=pytest.mark.long)])
def test_parts_are_written_and_those_not_asked_for_are_kept(here, build, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "build", build)
    words = ["--platform", "cpu", "--small", "--out", str(tmp_path), "--minutes", "2"]
    path = tmp_path / "gpu-cpu.json"
    assert gpu.main([*words, "--only", "networks", "--names", "mlp"]) == 0
    assert gpu.main([*words, "--only", "operations", "--names", "dense"]) == 0
    found = read(path)
    assert [(r["name"], r["dtype"]) for r in found["networks"]] == [("mlp", "bfloat16")]
    assert {p["variant"] for r in found["operations"] for p in r["programs"]} == {"hand", "auto"}
    page = path.with_suffix(".md").read_text()
    assert "| mlp |" in page
    assert "| dense 128x1024 to 1024 |" in page


def test_what_has_no_time_left_does_not_begin(here):
    assert list(gpu.timed("operation", ["dense 128x1024 to 1024"], gpu.CHOICES, "cpu", 1, time.perf_counter())) == []


def test_a_command_out_of_time_is_stopped():
    text, status = gpu._within(1.0, ["sh", "-c", "sleep 60 & wait"], {})
    assert (text, status) == ("", None)


def test_a_larger_batch_has_more_examples_of_everything():
    loss = OPERATIONS["softmax cross-entropy, 1024x1000"].with_batch(2)
    assert loss.shapes["x"] == (2048, 1000)
    assert loss.fixed["labels"].shape == (2048,)
    norm = OPERATIONS["batch norm evaluation, 128x32x32x16"].with_batch(2)
    assert (norm.shapes["x"][0], norm.shapes["scale"], norm.fixed["mean"].shape) == (256, (16,), (16,))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"checks": [{"status": 0}], "networks": [{"programs": [{"library": "torch", "error": "no compiler"}]}]}, 0),
        ({"checks": [{"status": 1}]}, 1),
        ({"checks": [{"status": None}]}, 1),
        ({"checks": [{"status": 2}]}, 1),
        ({"checks": [{"status": -11}]}, 1),
        ({"operations": [{"programs": [{"library": "torch", "error": "Disagrees: its loss is 1."}]}]}, 1),
        ({"operations": [{"programs": [{"library": "fnn", "error": "no compiler"}]}]}, 1),
    ],
)
def test_wrong_rules_and_disagreement_are_errors(found, status):
    assert gpu_report.status(found) == status
