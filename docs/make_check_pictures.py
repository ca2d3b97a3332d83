"""Draws the pictures of the documentation about checking gradients: python docs/make_check_pictures.py"""

from pathlib import Path

import jax
import optax

import fnn
from fnn import data
from fnn.check.model.lockstep import lockstep
from fnn.check.plots import plot_errors, plot_lockstep, plot_steps

HERE = Path(__file__).parent


def step_size():
    """The V of GELU's rule."""
    return plot_steps(fnn.ops.gelu, jax.random.normal(jax.random.key(0), (64,)))


def border_bug():
    """The input gradient of a 5x5 convolution whose last row and column of windows were forgotten."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (8, 16, 16, 4)), jax.random.normal(keys[1], (5, 5, 4, 8))

    def pull(dy):
        return jax.vjp(lambda x: fnn.ops.conv(x, kernel), x)[1](dy)[0]

    dy = jax.random.normal(keys[2], (8, 12, 12, 8))
    hand = pull(dy.at[:, -1].set(0).at[:, :, -1].set(0))
    with fnn.gradients("auto"), jax.enable_x64(True):
        x, kernel, dy = (a.astype("float64") for a in (x, kernel, dy))
        true = pull(dy)
    title = "dx of a convolution that crops one window too many at the end of both axes"
    return plot_errors(hand, true, title=title)


def training():
    """LeNet-5 on digits by hand and automatically."""
    split = data.digits(margin=4)
    batches = data.batches(split.train, 32, seed=0, drop_last=True)
    optimizer = optax.sgd(0.02, momentum=0.9)
    result = lockstep(
        fnn.models.lenet5(), fnn.ops.softmax_cross_entropy, batches, optimizer, key=jax.random.key(0), steps=100
    )
    print(result)
    return plot_lockstep(result)


if __name__ == "__main__":
    for name, draw in (("step_size", step_size), ("border_bug", border_bug), ("lockstep", training)):
        path = HERE / f"{name}.png"
        draw().savefig(path, dpi=150)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
