"""What the benchmark of loops and vmap does, in small: no time is judged here."""

import jax
import pytest

from benchmarks.studies import loops
from tests.helpers import assert_close


def test_repeat_and_serial_train_the_same_blocks(monkeypatch):
    monkeypatch.setattr(loops, "BLOCKS", 2)
    programs = [loops.blocks(kind, (2, 4, 4, 3)) for kind in ("repeat", "serial")]
    counts = [sum(a.size for a in jax.tree.leaves(params)) for _, (params, _) in programs]
    assert counts[0] == counts[1]
    equations = [str(jax.make_jaxpr(function)(*given)) for function, given in programs]
    assert ["scan" in text for text in equations] == [True, False]


@pytest.mark.parametrize("kind", ["ensemble", "per example"])
def test_mapped_kernel_gradients_agree_by_hand_and_automatically(kind):
    function, given = loops.kernels(kind, (3, 2, 3), (2, 4, 4))
    hand, auto = (loops.compiled((function, given), mode)() for mode in loops.MODES)
    assert hand.shape == (loops.MEMBERS if kind == "ensemble" else 2, 3, 3, 2, 3)
    assert_close(hand, auto)


def test_a_row_is_told_by_kind_and_mode(monkeypatch):
    small = {"": lambda: loops.kernels("ensemble", (1, 2, 3), (2, 3, 3))}
    monkeypatch.setattr(loops, "SUBJECTS", {"ensemble, 1x1": small})
    row = loops.row("ensemble, 1x1", 1)
    assert list(row["programs"]) == ["hand", "auto"]
    row["programs"]["auto"] = {"seconds": {"median": 0.5}, "ratio": {"median": 2.0}}
    assert "| ensemble, 1x1 | auto | 500 | 2.00 |" in loops.markdown({"rows": [row]})
