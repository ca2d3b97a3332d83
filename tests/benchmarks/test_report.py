"""Tables and charts say what the records say, and README and the report show what was measured."""

import pytest

from benchmarks import __main__ as command
from benchmarks.operations.in_fnn import PLACES
from benchmarks.report import aims, chart, mutants, tables
from benchmarks.report import page as report
from benchmarks.report.about import loads
from benchmarks.timing import results
from benchmarks.timing.results import RESULTS
from tests.helpers import as_users_run


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
        timed("fnn", "hand, XLA alone", 1.3),
        timed("stax", "defaults", 3.0),
        timed("haiku", "defaults", 2.5),
        timed("flax.nnx", "options", 1.5),
        {"library": "equinox", "variant": "defaults", "error": "failed"},
        timed("torch", "contiguous", 0.9),
        timed("torch", "compiled", 0.62),
    ],
}


def test_the_report_says_that_a_run_was_disturbed():
    record = {"load_before": [0.1], "load_after": [2.0], "others_share": 0.02}
    assert loads(record) == "load 0.1 before, 2.0 after; other processes took 2% of the cores"
    assert loads(record | {"others_share": 0.5}).startswith("**Disturbed:**")
    copies = {"copy_gib_per_second": {"low": 1.0, "median": 11.26, "high": 12.0}}
    assert loads(record | copies).endswith("; copying ran at 11.3 (1.0 to 12.0) GiB/s")


def test_the_summary_names_the_best_rival_and_marks_losses():
    row = tables.summary([TINY]).splitlines()[-1]
    assert row == ("| Tiny net | 10.00 | 1.30 | 1.10 tie | 2.50 (haiku) | 1.50 (nnx) | **0.62 slower** (compiled) |")


def test_the_table_of_a_network_shows_quartiles():
    text = tables.network(TINY)
    assert "| fnn, auto | 11.00 | 1.10 tie (0.90 to 1.30) |" in text
    assert "| fnn, hand | 10.00 | 1 |" in text
    assert "| equinox, defaults | failed |" in text


def test_operations_are_counted_by_verdict():
    assert tables.tally([TINY], "torch", "compiled") == {
        "faster": [],
        "tie": [],
        "slower": ["Tiny net"],
        "same": [],
    }
    assert "| tiny | 10.00 | 1.10 tie | - | **0.62 slower** (compiled) |" in tables.operations([TINY])


def test_one_compiled_program_is_neither_faster_nor_slower_than_itself():
    ratio = {"low": 0.7, "median": 0.8, "high": 0.9}
    hand, auto = (
        {"library": "fnn", "variant": v, "same_program": True, "seconds": ratio, "ratio": ratio}
        for v in ("hand", "auto")
    )
    record = {"name": "dense", "programs": [hand, auto]}
    assert tables.tally([record], "fnn", "auto") == {"faster": [], "tie": [], "slower": [], "same": ["dense"]}
    assert "| 0.80 same program |" in tables.operations([record])
    del auto["same_program"]
    assert tables.tally([record], "fnn", "auto")["slower"] == ["dense"]
    assert "| **0.80 slower** |" in tables.operations([record])


def test_other_processors_have_a_table_of_their_own(tmp_path):
    about = {"cores": 2, "processor": "Abacus", "python": "3", "libraries": {"jax": "9"}, "date": "1999-12-31"}
    results.write(tmp_path / "networks-abacus.json", {"machine": about, "subjects": [TINY]})
    title, machine, table = report.elsewhere(tmp_path)
    assert title == "## On Abacus"
    assert machine == "2 cores of Abacus, Python 3, jax 9; 1999-12-31."
    assert table == tables.summary([TINY])


def test_the_chart_draws_what_was_timed(tmp_path):
    pytest.importorskip("matplotlib")
    assert [bar[:2] for bar in chart.bars(TINY)][-1] == ("PyTorch", "torch")
    chart.draw([TINY], tmp_path / "chart.svg")
    text = (tmp_path / "chart.svg").read_text()
    assert ">Tiny net<" in text
    assert ">0.62<" in text


def test_blocks_of_a_page_are_replaced_and_pages_without_them_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "blocks", lambda folder: {("a.md", "speed"): "| new |", ("b.md", "truth"): "| other |"})
    (tmp_path / "a.md").write_text("before\n<!-- speed -->\n| old |\n<!-- /speed -->\nafter | old |\n")
    (tmp_path / "b.md").write_text("nothing\n")
    report.write(tmp_path, tmp_path)
    assert (tmp_path / "a.md").read_text() == "before\n<!-- speed -->\n| new |\n<!-- /speed -->\nafter | old |\n"
    assert (tmp_path / "b.md").read_text() == "nothing\n"
    assert "b.md has no lines <!-- truth --> and <!-- /truth -->" in capsys.readouterr().out


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


measured = pytest.mark.skipif(not (RESULTS / "networks.json").exists(), reason="nothing has been measured yet")


@measured
@pytest.mark.parametrize(("page", "name"), report.blocks())
def test_readme_and_documentation_show_the_results(page, name):
    shown = report.block((report.ROOT / page).read_text(), name)
    assert shown == report.blocks()[page, name], f"run python -m benchmarks.report; {page} needs <!-- {name} -->"


@measured
def test_the_pages_are_those_of_the_results():
    # In a process of its own: the modules that render the studies set up devices.
    program = "from benchmarks.report import page; print([n for n, text in page.pages().items() if text != {}])"
    read = "(page.RESULTS / n).read_text()"
    assert as_users_run("-c", program.format(read)).strip() == "[]", "run python -m benchmarks.report"


@measured
def test_results_stay_small():
    assert sum(path.stat().st_size for path in RESULTS.iterdir()) < 300_000
    assert len((RESULTS / "report.md").read_text().splitlines()) < 400


def test_the_table_of_broken_rules_counts_what_was_missed_and_accused():
    def outcome(name, kind, ours, other, **more):
        return {"name": name, "kind": kind, "said": {"ours": ours, "other": other}, **more}

    outcomes = [
        outcome("a", "sign", "wrong", ""),
        outcome("b", "sign", "wrong", "wrong"),
        outcome("c", "scale", "wrong", "", equivalent="the same"),
        outcome("d", "scale", "", "", equivalent="the same", differs="under vmap"),
        outcome("e", "correct", "", "wrong"),
        outcome("f", "correct", "", ""),
    ]
    found = mutants.condense({"checkers": ["ours", "other"], "versions": {}, "outcomes": outcomes})
    assert mutants.markdown(found).splitlines()[2:] == [
        "| scale | 1 | 0 % | 0 % |",
        "| sign | 2 | 100 % | 50 % |",
        "| **all** | 3 | 67 % | 33 % |",
        "| **false alarms** | of 2 | 0 | 1 |",
    ]
    assert mutants.short(found).splitlines()[2:] == mutants.markdown(found).splitlines()[-2:]
    assert found["equivalent"] == ["c"]
