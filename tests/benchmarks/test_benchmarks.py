"""The benchmark itself: statistics, turns, failing programs, tables, and that README shows what was measured."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import mlir

from benchmarks import __main__ as command
from benchmarks import ablation, aims, chart, layers, profile, report, rounds, tables
from benchmarks.fingerprint import fingerprint
from benchmarks.machine import RESULTS, Copying
from benchmarks.measure import Program, measure
from benchmarks.operations import OPERATIONS, PLACES, QUICK, Operation
from benchmarks.worker import ProgramError, Worker, obey, sentence_of
from fnn.core import kept
from fnn.ops.convolution import tables as conv_forms
from tests.helpers import as_users_run


class InProcess:
    """A worker without a process."""

    pid = 0

    def __init__(self):
        self.programs = {}

    def ask(self, do, **request):
        try:
            return obey(self.programs, {"do": do, **request})
        except Exception as error:
            raise ProgramError(sentence_of(error)) from error


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


def test_only_disagreement_and_our_own_failures_count_as_errors():
    def status(**program):
        return command.wrong([{"programs": [{"library": "peer", "variant": "defaults", **program}]}])

    assert status(error="RuntimeError: no C compiler found") == 0
    assert status(error="Disagrees: its loss is 3, not 2.") == 1
    assert status(error="RuntimeError: anything", library="fnn") == 1


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


def test_the_report_says_that_a_run_was_disturbed():
    record = {"load_before": [0.1], "load_after": [2.0], "others_share": 0.02}
    assert report.loads(record) == "load 0.1 before, 2.0 after; other processes took 2% of the cores"
    assert report.loads(record | {"others_share": 0.5}).startswith("**Disturbed:**")
    copies = {"copy_gib_per_second": {"low": 1.0, "median": 11.26, "high": 12.0}}
    assert report.loads(record | copies).endswith("; copying ran at 11.3 (1.0 to 12.0) GiB/s")


@pytest.mark.parametrize("module", [ablation, layers, profile])
def test_a_network_that_does_not_exist_is_named(module):
    with pytest.raises(SystemExit, match="'resnet21' is no network; choose from mlp, "):
        module.main(["resnet21"])


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


def timed(library, variant, median, low=None, high=None):
    ratio = {"low": low or median, "median": median, "high": high or median}
    return {
        "library": library,
        "variant": variant,
        "turns": 5,
        "seconds": {k: v / 100 for k, v in ratio.items()},
        "ratio": ratio,
    }


TINY = {
    "name": "tiny",
    "title": "Tiny net",
    "reference": "fnn, hand",
    "programs": [
        timed("fnn", "hand", 1.0),
        timed("fnn", "auto", 1.1, 0.9, 1.3),
        timed("stax", "defaults", 3.0),
        timed("haiku", "defaults", 2.5),
        timed("flax.nnx", "options", 1.5),
        {"library": "equinox", "variant": "defaults", "error": "failed"},
        timed("torch", "contiguous", 0.9),
        timed("torch", "compiled", 0.62),
    ],
}


def test_the_summary_names_the_best_rival_and_marks_losses():
    row = tables.summary([TINY]).splitlines()[-1]
    assert row == ("| Tiny net | 10.00 | 1.10 tie | 2.50 (haiku) | 1.50 (nnx) | **0.62 slower** (compiled) |")


def test_the_table_of_a_network_shows_quartiles():
    text = tables.network(TINY)
    assert "| fnn, auto | 11.00 (9.00 to 13.00) | 1.10 tie (0.90 to 1.30) |" in text
    assert "| fnn, hand | 10.00 (10.00 to 10.00) | 1 |" in text
    assert "| equinox, defaults | failed |" in text


def test_operations_are_counted_by_verdict():
    assert tables.tally([TINY], "torch", "compiled") == {
        "faster": [],
        "tie": [],
        "slower": ["Tiny net"],
        "same": [],
    }
    assert "| tiny | 10.00 | 1.10 tie | - | **0.62 slower** (compiled) |" in tables.operations([TINY])


def test_a_fingerprint_is_that_of_what_is_computed():
    def of(f):
        return fingerprint(jax.jit(f).lower(jnp.ones((4, 3))).compile().as_text())

    assert of(lambda x: jnp.sin(x) + 1) == of(lambda other: 1 + jnp.sin(other)) is not None
    assert of(lambda x: jnp.sin(x) + 1) != of(lambda x: jnp.sin(x) + 2)
    assert fingerprint(None) is None
    assert fingerprint("no program") is None
    long = [of(lambda x, n=n: x @ np.linspace(0, n, 300, dtype=np.float32).reshape(3, 100)) for n in (1, 2)]
    assert long[0] != long[1] or long == [None, None], "a constant that the text leaves out"


def test_one_compiled_program_is_neither_faster_nor_slower_than_itself():
    ratio = {"low": 0.7, "median": 0.8, "high": 0.9}
    hand, auto = (
        {"library": "fnn", "variant": v, "program": "a", "seconds": ratio, "ratio": ratio} for v in ("hand", "auto")
    )
    record = {"name": "dense", "programs": [hand, auto]}
    assert tables.tally([record], "fnn", "auto") == {"faster": [], "tie": [], "slower": [], "same": ["dense"]}
    assert "| 0.80 same program |" in tables.operations([record])
    auto["program"] = "b"
    assert tables.tally([record], "fnn", "auto")["slower"] == ["dense"]
    assert "| **0.80 slower** |" in tables.operations([record])


def test_other_processors_have_a_table_of_their_own(tmp_path):
    about = {"cores": 2, "processor": "Abacus", "python": "3", "libraries": {"jax": "9"}, "date": "1999-12-31"}
    (tmp_path / "networks-abacus.json").write_text(json.dumps({"machine": about, "subjects": [TINY]}))
    title, machine, table = report.elsewhere(tmp_path)
    assert title == "## Training steps on Abacus"
    assert machine == "2 cores of Abacus, Python 3, jax 9; 1999-12-31."
    assert table == tables.summary([TINY])


def test_the_chart_draws_what_was_timed(tmp_path):
    pytest.importorskip("matplotlib")
    assert [bar[:2] for bar in chart.bars(TINY)][-1] == ("PyTorch", "torch")
    chart.draw([TINY], tmp_path / "chart.svg")
    text = (tmp_path / "chart.svg").read_text()
    assert ">Tiny net<" in text
    assert ">0.62<" in text


def test_the_block_between_the_markers_is_replaced():
    old = f"before\n{report.BEGIN}\nold\n{report.END}\nafter"
    assert report.between_markers(old, "NEW") == "before\nNEW\nafter"
    assert report.between_markers("no markers", "NEW") is None


def test_a_missing_library_is_named_with_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(command.PACKAGES, "haiku", ("no_such_module", "dm-haiku"))
    assert command.main(["--only", "nothing of this name", "--no-write"]) == 0
    printed = capsys.readouterr().out
    assert "haiku is left out: dm-haiku is not installed" in printed
    assert 'pip install -e ".[bench]"' in printed


SMALL = {
    "grouped": Operation("conv", {"x": (2, 6, 6, 4), "kernel": (3, 3, 2, 6)}, {"groups": 2, "padding": 1, "stride": 2}),
    "transposed": Operation(
        "conv_transpose",
        {"x": (2, 3, 4, 2, 4), "kernel": (3, 3, 3, 2, 6)},
        {"groups": 2, "stride": 2, "padding": 1, "output_padding": 1},
    ),
    "reflect": Operation("conv", {"x": (2, 6, 5, 2), "kernel": (5, 3, 2, 3)}, {"padding": "REFLECT"}),
}


@pytest.mark.parametrize("name", SMALL)
def test_pytorch_computes_the_same_operation(name, monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import operations

    monkeypatch.setattr(operations, "OPERATIONS", SMALL)
    loss, truth = operations.build(name, "fnn", "auto, defaults").first()
    for variant in ("contiguous", "channels last"):
        other = operations.build(name, "torch", variant)
        other_loss, arrays = other.first()
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert other.run(2) > 0
        for leaf, value in truth.items():
            np.testing.assert_allclose(arrays[leaf], value, rtol=1e-4, atol=1e-5, err_msg=leaf)


@pytest.mark.parametrize("place", PLACES)
def test_an_operation_computes_the_same_in_a_loop_and_in_a_branch(place, monkeypatch):
    from benchmarks import operations

    monkeypatch.setattr(operations, "OPERATIONS", SMALL)
    loss, truth = operations.build("grouped", "fnn", "hand").first()
    other = operations.build("grouped", "fnn", f"hand, {place}")
    other_loss, arrays = other.first()
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for leaf, value in truth.items():
        np.testing.assert_allclose(arrays[leaf], value, rtol=1e-4, atol=1e-5, err_msg=leaf)
    assert other.run(2) > 0
    monkeypatch.setattr(operations, "LONG_SECONDS", 0)
    assert other.run(2) == 2 * other.run(1), "what takes long runs once"
    assert ("while" if place == "in a loop" else "conditional") in other._compiled.as_text()


def test_operations_show_what_loops_and_branches_cost():
    def program(variant, seconds, ratio):
        quartiles = [dict.fromkeys(("low", "median", "high"), value) for value in (seconds, ratio)]
        return {"library": "fnn", "variant": variant, "seconds": quartiles[0], "ratio": quartiles[1]}

    programs = [("hand", 2.0, 1.0), ("hand, in a loop", 3.0, 1.5), ("auto, in a loop", 60.0, 30.0)]
    record = {"name": "conv", "programs": [program(*row) for row in programs]}
    assert tables.inside(record, "in a loop") == (1.5, 20.0)
    assert tables.operations([record]).endswith("| 1.50 | 20.00 | - | - |")
    assert tables.slowed([record]) == ["conv in a loop (1.50)"]
    assert tuple(PLACES) == tables.INSIDE
    assert [c for c in command.operation_programs(False) if ", in a " in c[1]] == [
        ("fnn", f"{mode}, {place}") for mode in ("hand", "auto") for place in PLACES
    ]


def test_quick_operations_exist():
    assert set(QUICK) <= set(OPERATIONS)
    assert set(command.QUICK_NETWORKS) <= set(command.NETWORKS)


def test_every_product_of_a_convolution_has_a_row_of_its_formulations(monkeypatch):
    convolution = ((2, 4, 4, 3), (3, 3, 3, 4), 1, 1, 1)
    monkeypatch.setattr(layers, "convolutions", lambda name: {convolution: 2})
    monkeypatch.setattr(layers, "ROUNDS", 1)
    found = list(layers.rows("lenet5", say=lambda line: None))
    assert [row["product"] for row in found] == ["forward", "input_gradient", "kernel_gradient"]
    assert [row["count"] for row in found] == [2, 1, 2], "nobody needs the gradient of a network's input"
    assert {row["multiply_adds"] for row in found} == {2 * 16 * 9 * 12}
    for row in found:
        assert {row["chosen"], "direct"} <= set(row["seconds"])
        assert min(row["seconds"].values()) > 0


def test_sums_of_convolutions():
    times = {"direct": 2.0, "wide": 1.0}
    row = {"network": "lenet5", "convolution": "a", "product": "kernel_gradient", "count": 3, "multiply_adds": 10}
    found = {"multiply_adds_a_second": 20.0, "rows": [row | {"chosen": "direct", "seconds": times}]}
    assert layers.sums(found, "lenet5") == {"chosen": 6.0, "fastest": 3.0, "floor": 1.5}
    lines = layers.markdown(found).splitlines()
    assert "| LeNet-5 | 6000.0 | 3000.0 | 1500.0 |" in lines
    assert lines[-1] == "| lenet5 | a | kernel gradient | wide 1000.00, **direct** 2000.00 |"


def test_aims_that_are_missed_are_bold():
    def program(library, variant, ratio, mebibytes, seconds):
        costs = {"temp_bytes": mebibytes * 2**20, "trace_seconds": 0.5, "compile_seconds": seconds}
        return {
            "library": library,
            "variant": variant,
            "seconds": {"low": ratio, "median": ratio, "high": ratio},
            "ratio": {"low": ratio, "median": ratio, "high": ratio},
        } | costs

    programs = [
        program("fnn", "hand", 1.0, 8, 1.5),
        program("fnn", "auto", 1.0, 8, 1.0),
        program("stax", "defaults", 2.5, 9, 2.0),
        program("haiku", "defaults", 3.0, 9, 1.0),
        program("torch", "compiled", 0.59, 9, 1.0),
    ]
    record = {"name": "resnet20", "title": "ResNet-20", "programs": programs}
    row = "| ResNet-20 | **1.00** | 2.50 (2.5) | **0.59** (0.6) | **8.00** / 8.00 | **2.00** / 1.50 | 0 steps |"
    assert aims.markdown([record]).splitlines()[-1] == row
    mlp = aims.markdown([record | {"name": "mlp", "title": "MLP"}]).splitlines()[-1]
    assert mlp == "| MLP | **1.00** | 2.50 (1) | **0.59** (0.8) | 8.00 / 8.00 | **2.00** / 1.50 | 0 steps |"


@pytest.mark.parametrize(
    ("compiling", "step", "steps"),
    [(3.0, 2.0, "1 step"), (4.1, 1.5, "5 steps"), (2.0, 2.0, "0 steps"), (3.0, 1.0, "never")],
)
def test_longer_compiling_is_repaid_by_faster_steps(compiling, step, steps):
    hand = {"trace_seconds": 1.0, "compile_seconds": compiling - 1.0, "seconds": {"median": 1.0}}
    peer = {"trace_seconds": 1.0, "compile_seconds": 1.0, "seconds": {"median": step}}
    assert aims._repaid(hand, peer) == steps
    assert aims._repaid(hand, None) == "-"


def test_every_network_has_an_aim():
    assert set(aims.AIMS) == set(command.NETWORKS)


class TestAblation:
    def test_finds_what_a_network_uses(self):
        assert {"matmul", "shifted", "kept", "cheap"} <= set(ablation.parts("mobilenet"))
        assert not {"direct", "phases"} & set(ablation.parts("mobilenet")), "only its stem could have phases"
        assert not {"shifted", "cheap"} & set(ablation.parts("lenet5"))

    def test_takes_a_formulation_out_of_all_tables(self, monkeypatch):
        for name in ("FORWARD", "INPUT_GRADIENT", "KERNEL_GRADIENT"):
            monkeypatch.setattr(conv_forms, name, getattr(conv_forms, name))
        ablation._remove("shifted")
        tables_left = (conv_forms.FORWARD, conv_forms.INPUT_GRADIENT, conv_forms.KERNEL_GRADIENT)
        assert all(row.formulation is not conv_forms.shifted for table in tables_left for row in table)
        assert [len(table) for table in tables_left] == [len(table) - 1 for table in layers.TABLES.values()]
        assert conv_forms.shifted in {row.formulation for table in layers.TABLES.values() for row in table}

    def test_takes_kept_out(self):
        program = lambda: jax.jit(lambda x: kept.kept(x)).lower(1.0).as_text()  # noqa: E731
        assert "while" in program()
        ablation._remove("kept")
        try:
            assert "while" not in program()
        finally:
            mlir.register_lowering(kept._kept(), mlir.lower_fun(kept._loop, multiple_results=False), platform="cpu")

    def test_takes_cheap_out(self, monkeypatch):
        monkeypatch.setattr(kept, "_cheap", kept._cheap)
        x = jnp.ones(2)
        assert kept.is_cheap(kept.cheap(x))
        ablation._remove("cheap")
        assert not kept.is_cheap(kept.cheap(x))

    def test_the_step_without_a_part_is_that_of_the_network(self, monkeypatch):
        removed = []
        monkeypatch.setattr(ablation.libraries, "build", lambda *words: words)
        monkeypatch.setattr(ablation, "_remove", removed.append)
        assert ablation.build("vgg", "fnn", "auto") == ("vgg", "fnn", "auto")
        assert removed == []
        assert ablation.build("vgg", "fnn", "hand, without winograd") == ("vgg", "fnn", "hand")
        assert removed == ["winograd"]


HLO = """\
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %plus = f32[] add(%a, %b)
}

%summing (p: f32[4,2]) -> f32[2] {
  %p = f32[4,2]{1,0} parameter(0)
  %zero = f32[] constant(0)
  %square = f32[4,2]{1,0} multiply(%p, %p)
  ROOT %reduce.1 = f32[2]{0} reduce(%square, %zero), dimensions={0}, to_apply=%add
}

%moving (p.1: f32[4,2]) -> f32[6,2] {
  %p.1 = f32[4,2]{1,0} parameter(0)
  %zero.1 = f32[] constant(0)
  ROOT %padded = f32[6,2]{1,0} pad(%p.1, %zero.1), padding=1_1x0_0
}

%multiplying (p.2: f32[4,2], p.3: f32[2,2]) -> f32[4,2] {
  %p.2 = f32[4,2]{1,0} parameter(0)
  %p.3 = f32[2,2]{1,0} parameter(1)
  %product = f32[4,2]{1,0} dot(%p.2, %p.3), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %shifted = f32[4,2]{1,0} add(%product, %product)
}

%convolving (p.4: f32[4,2], p.5: f32[2,2]) -> f32[4,2] {
  %p.4 = f32[4,2]{1,0} parameter(0)
  %p.5 = f32[2,2]{1,0} parameter(1)
  %inner = f32[4,2]{1,0} convolution(%p.4, %p.5)
  ROOT %doubled = f32[4,2]{1,0} add(%inner, %inner)
}

ENTRY %main (x: f32[4,2], w: f32[2,2]) -> (f32[2], f32[6,2]) {
  %x = f32[4,2]{1,0} parameter(0)
  %w = f32[2,2]{1,0} parameter(1)
  %ynn_fusion = f32[4,2]{1,0} fusion(%x, %w), kind=kCustom, calls=%multiplying, metadata={op_name="dot"}
  %sum_fusion = f32[2]{0} fusion(%ynn_fusion), kind=kLoop, calls=%summing
  %pad_fusion = f32[6,2]{1,0} fusion(%x), kind=kLoop, calls=%moving
  %tanh.3 = f32[4,2]{1,0} tanh(%x)
  %conv = f32[4,2]{1,0} convolution(%x, %w)
  %conv_fusion = f32[4,2]{1,0} fusion(%x, %w), kind=kOutput, calls=%convolving
  %foreign = f32[4,2]{1,0} custom-call(%x, %w), custom_call_target="elsewhere"
  %while.5 = (f32[4,2]{1,0}, pred[]) while(%pair), condition=%c, body=%b
  ROOT %out = (f32[2]{0}, f32[6,2]{1,0}) tuple(%sum_fusion, %pad_fusion)
}
"""


class TestProfile:
    def test_operations_are_told_apart_by_what_they_compute(self):
        found = profile.kinds(HLO)
        assert found["ynn_fusion"] == profile.PRODUCTS
        assert found["sum_fusion"] == profile.SUMS
        assert found["pad_fusion"] == profile.COPIES
        assert found["tanh.3"] == profile.ELEMENTWISE
        untraced = {"conv", "conv_fusion", "foreign"}
        assert not {*untraced, "while.5", "x", "out"} & set(found), "their time is that of others, or unknown"

    def test_operations_that_run_at_once_share_the_time(self):
        """Four seconds, in the middle two of which both run: the parts must not add up to six."""
        long = {"ph": "X", "name": "a", "ts": 0.0, "dur": 4e6}
        found = profile.totals([long, {"ph": "X", "name": "b", "ts": 1e6, "dur": 2e6}], {"a": "sums", "b": "copies"})
        assert {kind: seconds for kind, seconds in found.items() if seconds} == {"sums": 3.0, "copies": 1.0}

    def test_what_no_kind_has_is_left_for_convolutions(self):
        parts = dict.fromkeys(profile.KINDS, 0.001)
        found = {"subjects": [{"title": "LeNet-5", "seconds": 0.01, "parts": parts}]}
        row = profile.markdown(found).splitlines()[-1]
        assert row == "| LeNet-5 | 10.0 | 1.0 | 1.0 | 1.0 | 1.0 | 6.0 |"


measured = pytest.mark.skipif(not (RESULTS / "networks.json").exists(), reason="nothing has been measured yet")


@measured
def test_the_table_in_readme_is_that_of_the_results():
    shown = re.search(f"{report.BEGIN}.*?{report.END}", report.README.read_text(), re.DOTALL)
    assert shown, f"README needs the lines {report.BEGIN} and {report.END}"
    assert shown.group() == report.readme(json.loads((RESULTS / "networks.json").read_text()))


@measured
def test_the_report_is_that_of_the_results():
    # In a process of its own: the modules that render the other sections set up devices.
    program = "from benchmarks import report; print(report.markdown() == (report.RESULTS / 'report.md').read_text())"
    assert as_users_run("-c", program).strip() == "True", "run python -m benchmarks.report"
