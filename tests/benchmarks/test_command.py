"""`python -m benchmarks`: what it runs, and what it calls an error."""

from benchmarks import __main__ as command
from benchmarks.operations.zoo import OPERATIONS, QUICK
from benchmarks.report import aims


def test_only_disagreement_and_our_own_failures_count_as_errors():
    def status(**program):
        return command.wrong([{"programs": [{"library": "peer", "variant": "defaults", **program}]}])

    assert status(error="RuntimeError: no C compiler found") == 0
    assert status(error="Disagrees: its loss is 3, not 2.") == 1
    assert status(error="RuntimeError: anything", library="fnn") == 1


def test_a_missing_library_is_named_with_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(command.PACKAGES, "haiku", ("no_such_module", "dm-haiku"))
    assert command.main(["--only", "nothing of this name", "--no-write"]) == 0
    printed = capsys.readouterr().out
    assert "haiku is left out: dm-haiku is not installed" in printed
    assert 'pip install -e ".[bench]"' in printed


def test_quick_operations_exist():
    assert set(QUICK) <= set(OPERATIONS)
    assert set(command.QUICK_NETWORKS) <= set(command.NETWORKS)


def test_every_network_has_an_aim():
    assert set(aims.AIMS) == set(command.NETWORKS)
