"""The first two examples do what they print: run with few epochs, and held to their claims."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


perceptron_logistic = load("perceptron_logistic")
mlp_backprop = load("mlp_backprop")


def numbers(result):
    """All that a run found, without the time it took."""
    clocks = ("examples_per_second", "seconds")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: None if getattr(path[-1], "key", "") in clocks else np.asarray(leaf).tolist(), result
    )


@pytest.fixture(scope="module")
def linear():
    return perceptron_logistic.main(["--epochs", "6", "--l2", "0.01"])


@pytest.fixture(scope="module")
def mlp():
    return mlp_backprop.main(["--epochs", "5"])


class TestPerceptronLogistic:
    def test_the_delta_rule_is_the_gradient(self, linear):
        assert [row[:2] for row in linear["delta_rule"]] == [
            (model, leaf) for model in ("logistic", "softmax") for leaf in ("kernel", "bias")
        ]
        for _, _, largest, *differences in linear["delta_rule"]:
            assert largest > 0.05
            assert max(differences) < 1e-6

    def test_the_perceptron_is_rosenblatts_to_the_last_bit(self, linear):
        assert linear["rosenblatt"] == {"0 against the rest": 0, "even against odd": 0}

    def test_the_perceptron_stops_where_it_makes_no_mistake(self, linear):
        assert linear["mistakes"]["0 against the rest"][-1] == 0
        assert len(linear["mistakes"]["0 against the rest"]) < 6
        assert linear["models"]["perceptron, 0 against the rest"].train == 1
        assert len(linear["mistakes"]["even against odd"]) == 6
        assert min(linear["mistakes"]["even against odd"]) > 100

    def test_accuracy(self, linear):
        test = {name: learned.test for name, learned in linear["models"].items()}
        assert test["perceptron, 0 against the rest"] > 0.98
        assert test["logistic, 0 against the rest"] > 0.98
        assert test["perceptron, even against odd"] > 0.8
        assert test["logistic, even against odd"] > 0.87
        assert test["softmax, all ten"] > 0.93
        assert test["softmax, all ten, L2 0.01"] > 0.91

    def test_the_penalty_shrinks_the_kernel_and_not_the_bias(self, linear):
        free, held = (
            linear["models"][name].params["dense"] for name in ("softmax, all ten", "softmax, all ten, L2 0.01")
        )
        assert jnp.linalg.norm(held["kernel"]) < 0.8 * jnp.linalg.norm(free["kernel"])
        assert jnp.linalg.norm(held["bias"]) > 0.95 * jnp.linalg.norm(free["bias"])


class TestMlpBackprop:
    def test_three_gradients_agree_in_every_parameter(self, mlp):
        paths = [f"layer{i}/{leaf}" for i in (1, 2, 3) for leaf in ("bias", "kernel")]
        assert [row[0] for row in mlp["gradients"]] == paths
        for _, largest, *differences in mlp["gradients"]:
            assert largest > 1e-3
            assert max(differences) < 1e-6 * max(largest, 0.1)

    def test_entries_shrink_on_the_way_back(self, mlp):
        largest = {path: entry for path, entry, *_ in mlp["gradients"]}
        assert largest["layer1/kernel"] < largest["layer2/kernel"] < largest["layer3/kernel"]

    def test_both_runs_follow_one_curve(self, mlp):
        for ours, theirs in zip(mlp["written_out"], mlp["fnn"], strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
            assert ours["test_accuracy"] == pytest.approx(theirs["test_accuracy"], abs=0.005)

    def test_it_learns(self, mlp):
        assert len(mlp["written_out"]) == 5
        assert mlp["written_out"][-1]["test_accuracy"] > 0.9

    def test_forward_is_the_network(self):
        network, x = mlp_backprop.NETWORK, np.random.RandomState(0).uniform(size=(3, 64)).astype(np.float32)
        params, state = network.init(jax.random.key(1), x)
        params = jax.tree.map(lambda p: p + 0.1, params)  # biases begin at 0, where a missing one would not show
        _, z = mlp_backprop.forward(params, x)
        np.testing.assert_allclose(z, network.apply(params, state, x)[0], atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("module", [perceptron_logistic, mlp_backprop])
def test_the_same_seed_gives_the_same_numbers(module):
    first, second, other = (numbers(module.main(["--epochs", "1", "--seed", seed])) for seed in "112")
    assert first == second
    assert first != other


@pytest.mark.parametrize("module", [perceptron_logistic, mlp_backprop])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "--epochs must be positive"),
        (["--learning-rate", "-1"], "--learning-rate must be positive"),
        (["--seed", "-1"], "--seed must be from 0"),
        (["--epoch", "many"], "invalid int value"),
    ],
)
def test_impossible_settings_are_refused(module, flags, message, capsys):
    with pytest.raises(SystemExit):
        module.main(flags)
    assert message in capsys.readouterr().err


def test_a_negative_penalty_is_refused(capsys):
    with pytest.raises(SystemExit):
        perceptron_logistic.main(["--l2", "-1"])
    assert "--l2 must not be negative" in capsys.readouterr().err
