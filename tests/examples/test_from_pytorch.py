"""The functions of docs/from_pytorch.md carry weights so that the outputs are PyTorch's."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn

PAGE = Path(__file__).parents[2] / "docs" / "from_pytorch.md"
BLOCK, FROM_TORCH, TO_FNN = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
READ = {}
exec(compile(BLOCK, str(PAGE), "exec"), READ)


def fill(shape, seed):
    """Whole numbers from -5 to 5 that no exchange of axes leaves as they are."""
    i = np.arange(np.prod(shape))
    return ((i * i + 3 * seed * i + seed) % 11 - 5).reshape(shape).astype(np.float32)


def network(groups):
    """Its parameters, in this order and PyTorch's shapes, are fill(shape, 0), fill(shape, 1), ...; variances 1/4, 4.

    Conv2d(2, 4, (2, 3), stride=(1, 2), padding=1, groups=groups), ConvTranspose2d(4, 2, (3, 2), stride=2, padding=1,
    output_padding=1, groups=groups), BatchNorm2d(2), Flatten(), Linear(100, 3)
    """
    conv, conv_bias, up, up_bias, weight, bias, mean, _, dense, dense_bias = (
        fill(shape, seed)
        for seed, shape in enumerate(
            [(4, 2 // groups, 2, 3), (4,), (4, 2 // groups, 3, 2), (2,), (2,), (2,), (2,), (2,), (3, 100), (3,)]
        )
    )
    net = fnn.serial(
        conv=fnn.conv(4, (2, 3), stride=(1, 2), padding=1, groups=groups),
        up=fnn.conv_transpose(2, (3, 2), stride=2, padding=1, output_padding=1, groups=groups),
        norm=fnn.batch_norm(),
        flatten=fnn.flatten(),
        dense=fnn.dense(3),
    )
    params = {
        "conv": {"kernel": READ["conv"](conv), "bias": conv_bias},
        "up": {"kernel": READ["conv_transpose"](up, groups), "bias": up_bias},
        "norm": READ["norm"](weight, bias),
        "dense": {"kernel": READ["dense_behind_flatten"](dense, 2, 10, 5), "bias": dense_bias},
    }
    return net, params, {"norm": READ["averages"](mean, np.array([0.25, 4], np.float32), 7)}


# What PyTorch 2.14.1 returns for these weights and the input below.
OUTPUTS = {1: [5616.89111, 4300.36914, 2618.48877], 2: [-6073.42676, -45.03811, -3409.38062]}


@pytest.mark.parametrize("groups", [1, 2])
def test_outputs_are_those_of_pytorch(groups):
    net, params, state = network(groups)
    x = fill((1, 2, 4, 5), 11).transpose(0, 2, 3, 1)
    own_params, own_state = net.init(jax.random.key(0), x)
    for ours, carried in ((own_params, params), (own_state, {**own_state, **state})):
        assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, carried)
    y, _ = net.apply(params, {**own_state, **state}, x)
    np.testing.assert_allclose(y[0], OUTPUTS[groups], rtol=1e-5)


def test_the_network_of_the_page_takes_a_state_dict():
    shapes = {"0.weight": (6, 1, 5, 5), "0.bias": (6,), "4.weight": (10, 384), "4.bias": (10,)}
    shapes |= {f"1.{name}": (6,) for name in ("weight", "bias", "running_mean", "running_var")}
    weights = {name: abs(fill(shape, 0)) for name, shape in shapes.items()} | {"1.num_batches_tracked": np.int64(7)}
    names = {**READ, "weights": weights}
    exec(compile(TO_FNN, str(PAGE), "exec"), names)
    for ours, carried in zip(
        names["model"].init(jax.random.key(0), (2, 12, 12, 1)), (names["params"], names["state"]), strict=True
    ):
        assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, carried)
    assert names["y"].shape == (2, 10)


def test_the_network_of_the_page_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    names = dict(READ)
    for block in (FROM_TORCH, TO_FNN):
        exec(compile(block, str(PAGE), "exec"), names)
    wanted = names["net"](torch.from_numpy(names["images"])).detach()
    np.testing.assert_allclose(names["y"], wanted, atol=1e-5)


def test_the_table_says_what_the_functions_do():
    C, H, W = 2, 3, 4
    names = {"w": fill((5, 2, 3, 4), 1), "C": C, "H": H, "W": W}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "| `" in line]
    for row, (name, w, args) in zip(
        rows,
        [
            ("dense", fill((3, 5), 1), ()),
            ("conv", names["w"], ()),
            ("conv_transpose", names["w"], ()),
            ("dense_behind_flatten", fill((5, C * H * W), 1), (C, H, W)),
        ],
        strict=True,
    ):
        (code,) = re.findall(r"`(w\..*?)`", row[3])
        np.testing.assert_array_equal(eval(code, {**names, "w": w}), READ[name](w, *args))


def test_one_and_three_spatial_axes():
    assert READ["conv"](np.ones((5, 3, 7))).shape == (7, 3, 5)
    assert READ["conv"](np.ones((5, 3, 7, 8, 9))).shape == (7, 8, 9, 3, 5)
    assert READ["conv_transpose"](np.ones((6, 5, 7)), groups=3).shape == (7, 2, 15)
    assert READ["dense_behind_flatten"](np.ones((4, 6)), 2, 3).shape == (6, 4)
