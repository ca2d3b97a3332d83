"""The README's first command, at a size for tests."""

import gzip
import importlib.util
import re
import struct
from pathlib import Path

import numpy as np
import pytest

import fnn
from tests.helpers import as_users_run

PATH = Path(__file__).parents[2] / "examples" / "lenet_digits.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("lenet_digits", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(example, folder, *flags):
    return example.main(["--out", str(folder), *flags])


@pytest.mark.long  # and the gallery of the documentation runs the whole of it
def test_it_learns_compares_and_draws(tmp_path):
    printed = as_users_run(str(PATH), "--out", str(tmp_path), "--epochs", "3")
    assert float(re.search(r"test accuracy ([\d.]+)%", printed).group(1)) > 90
    losses = [float(loss) for loss in re.findall(r"epoch +\d+/3 +loss ([\d.]+)", printed)]
    assert losses[-1] < 0.5 < losses[0]
    assert "total" in printed
    assert "61,706" in printed
    assert "The gradients agree in all 10 parameters" in printed
    assert "conv1/kernel" in printed
    assert "time of a step on 32 images: hand" in printed
    assert "epoch 3/3" in printed
    names = {"curves", "filters", "feature_maps", "confusion", "mistakes"}
    assert {path.stem for path in tmp_path.glob("*.png")} == names
    assert all(path.stat().st_size > 5_000 for path in tmp_path.glob("*.png"))


@pytest.mark.long
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(example, tmp_path, monkeypatch):
    monkeypatch.setattr(example, "compare_gradients", lambda *args: None)
    monkeypatch.setattr(example, "draw", lambda *args: None)

    def losses(seed, *flags):
        _, history = run(example, tmp_path, "--epochs", "1", "--seed", seed, *flags)
        return [row["loss"] for row in history] + [row["test_loss"] for row in history]

    assert losses("1") == losses("1")
    assert losses("1") != losses("2")
    # By hand and automatically it is the same training, up to rounding.
    np.testing.assert_allclose(losses("1"), losses("1", "--gradients", "auto"), rtol=1e-3)


def write_mnist(folder, n):
    random = np.random.RandomState(0)
    for prefix in ("train", "t10k"):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = random.randint(0, 50, (n, 28, 28)).astype(np.uint8)
        for i, label in enumerate(labels):
            images[i, 2 * label : 2 * label + 6, 4:24] = 255
        with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">IIII", 0x803, n, 28, 28) + images.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels.tobytes())


@pytest.mark.long
def test_it_trains_on_a_folder_of_mnist_files(example, tmp_path, monkeypatch):
    monkeypatch.setattr(example, "compare_gradients", lambda *args: None)
    monkeypatch.setattr(example, "draw", lambda *args: None)
    write_mnist(tmp_path, 320)
    accuracy, _ = run(example, tmp_path, "--data", str(tmp_path), "--epochs", "6")
    assert accuracy > 0.9


def test_wrong_flags_are_refused(example, tmp_path, capsys):
    for flags, message in [
        (["--epochs", "0"], "--epochs must be positive"),
        (["--batch-size", "-1"], "--batch-size must be positive"),
        (["--gradients", "both"], "invalid choice"),
        (["--learning-rate", "nan"], "--learning-rate must be positive"),
        (["--seed", "-1"], "--seed must be between"),
        (["--out", __file__], "--out must be a folder: output_folder expected a folder that can be written"),
        (["--out", "/proc/out"], "--out must be a folder: output_folder expected a folder that can be written"),
        (["--format", "bmp"], "invalid choice: 'bmp'"),
    ]:
        with pytest.raises(SystemExit) as caught:
            run(example, tmp_path, *flags)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    with pytest.raises(fnn.InputError, match="folder"):
        run(example, tmp_path, "--data", str(tmp_path / "missing"))
    with pytest.raises(fnn.InputError, match="a full batch of 5000"):
        run(example, tmp_path, "--batch-size", "5000")
