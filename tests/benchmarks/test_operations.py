"""An operation computes the same in every library and place."""

import numpy as np
import pytest

from benchmarks.operations import in_fnn
from benchmarks.operations.in_fnn import PLACES
from benchmarks.operations.zoo import Operation

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
    from benchmarks.operations import libraries

    monkeypatch.setattr(libraries, "OPERATIONS", SMALL)
    loss, truth = libraries.build(name, "fnn", "auto, defaults").first()
    for variant in ("contiguous", "channels last"):
        other = libraries.build(name, "torch", variant)
        other_loss, arrays = other.first()
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert other.run(2) > 0
        for leaf, value in truth.items():
            np.testing.assert_allclose(arrays[leaf], value, rtol=1e-4, atol=1e-5, err_msg=leaf)


@pytest.mark.parametrize("place", PLACES)
def test_an_operation_computes_the_same_in_a_loop_and_in_a_branch(place, monkeypatch):
    from benchmarks.operations import libraries

    monkeypatch.setattr(libraries, "OPERATIONS", SMALL)
    loss, truth = libraries.build("grouped", "fnn", "hand").first()
    other = libraries.build("grouped", "fnn", f"hand, {place}")
    other_loss, arrays = other.first()
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for leaf, value in truth.items():
        np.testing.assert_allclose(arrays[leaf], value, rtol=1e-4, atol=1e-5, err_msg=leaf)
    assert other.run(2) > 0
    monkeypatch.setattr(in_fnn, "LONG_SECONDS", 0)
    assert other.run(2) == 2 * other.run(1), "what takes long runs once"
    assert ("while" if place == "in a loop" else "conditional") in other._compiled.as_text()
