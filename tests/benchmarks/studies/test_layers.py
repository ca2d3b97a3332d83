"""Every convolution of a network in all implementations: counts and sums."""

import pytest

from benchmarks.studies import ablation, layers, profile


def test_every_product_of_a_convolution_has_a_row_of_its_implementations(monkeypatch):
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
    assert lines[-1] == "| lenet5 | a | - | - | **direct** 2,000, wide 1,000 |"


@pytest.mark.parametrize("module", [ablation, layers, profile])
def test_a_network_that_does_not_exist_is_named(module):
    with pytest.raises(SystemExit, match="'resnet21' is no network; choose from mlp, "):
        module.main(["resnet21"])
