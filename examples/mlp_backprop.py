"""Backpropagation written out: a multilayer perceptron, 64-64-32-10, learns real handwritten digits
=================================================================================================

n images x = a_0 pass through layers l = 1, 2, 3 with weights W_l and biases b_l, and with
sigma(z) = 1 / (1 + e^-z) elementwise::

    z_l = a_{l-1} W_l + b_l        a_l = sigma(z_l)        p = softmax(z_3)        C = -1/n sum log p[label]

The derivatives of the cost C go the way back, by the error signals delta_l = dC/dz_l; y are the labels, one-hot::

    delta_3     = (p - y) / n                                            (BP1)
    delta_{l-1} = (delta_l W_l^T) * a_{l-1} (1 - a_{l-1})                (BP2), because sigma' = sigma (1 - sigma)
    db_l        = sum of delta_l over the images                         (BP3)
    dW_l        = a_{l-1}^T delta_l                                      (BP4)

`forward` and `backward` below say just this in jax.numpy. Then the same gradient comes from fnn, where every layer and
the loss has a backward rule of its own, and once more from automatic differentiation. Last, two networks learn from the
same start, one by `backward`, one by fnn, and go the same way.

Sources: Rumelhart, Hinton and Williams (1986), https://doi.org/10.1038/323533a0; BP1 to BP4 as in Nielsen, Neural
Networks and Deep Learning (2015), http://neuralnetworksanddeeplearning.com/chap2.html, and chap3.html for softmax.

::

    python examples/mlp_backprop.py                 check the gradients, then train with two of them
    python examples/mlp_backprop.py --help          all settings
"""
# ruff: noqa: E741 - the layer is l in the formulas, so it is l here

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from fnn import train
from fnn.inspect.table import table

BATCH_SIZE = 32
MOMENTUM = 0.9

# fnn's form of the network. The written-out form takes its params: {"layer1": {"kernel": W_1, "bias": b_1}, ...}.
NETWORK = fnn.serial(
    layer1=fnn.dense(64),
    sigma1=fnn.sigmoid(),
    layer2=fnn.dense(32),
    sigma2=fnn.sigmoid(),
    layer3=fnn.dense(10),
)


def unpack(params: dict) -> tuple[dict, dict]:
    """params -> {l: W_l}, {l: b_l}."""
    W = {l: params[f"layer{l}"]["kernel"] for l in (1, 2, 3)}
    b = {l: params[f"layer{l}"]["bias"] for l in (1, 2, 3)}
    return W, b


def sigma(z: jax.Array) -> jax.Array:
    """1 / (1 + e^-z)."""
    return 1 / (1 + jnp.exp(-z))


def forward(params: dict, x: jax.Array) -> tuple[dict, jax.Array]:
    """x: (n, 64) -> {l: a_l} for l = 0, 1, 2 and z_3 (n, 10)."""
    W, b = unpack(params)
    a = {0: x}
    for l in (1, 2):
        a[l] = sigma(a[l - 1] @ W[l] + b[l])
    return a, a[2] @ W[3] + b[3]


def backward(params: dict, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, dict]:
    """x: (n, 64) with labels (n,) -> C and its gradient, a tree like params."""
    W, _ = unpack(params)
    a, z = forward(params, x)
    n, log_p, y = len(x), jax.nn.log_softmax(z), jax.nn.one_hot(labels, 10)
    C = -(y * log_p).sum() / n

    delta = {3: (jnp.exp(log_p) - y) / n}  # BP1
    for l in (3, 2):
        delta[l - 1] = (delta[l] @ W[l].T) * a[l - 1] * (1 - a[l - 1])  # BP2
    db = {l: delta[l].sum(0) for l in (1, 2, 3)}  # BP3
    dW = {l: a[l - 1].T @ delta[l] for l in (1, 2, 3)}  # BP4
    return C, {f"layer{l}": {"bias": db[l], "kernel": dW[l]} for l in (1, 2, 3)}


def cost(params: dict, x: jax.Array, labels: jax.Array) -> jax.Array:
    """C as one writes it with fnn, which differentiates it."""
    scores, _ = NETWORK.apply(params, {}, x)
    return fnn.softmax_cross_entropy(scores, labels).mean()


def compare(params: dict, x: np.ndarray, labels: np.ndarray) -> list[tuple[str, float, float, float]]:
    """Parameter, largest entry of its gradient by `backward`, and how far fnn's two are from it, at most."""
    gradient = jax.jit(jax.grad(cost))
    with fnn.gradients("hand"):
        hand = gradient(params, x, labels)
    with fnn.gradients("auto"):
        auto = gradient(params, x, labels)
    _, written_out = jax.jit(backward)(params, x, labels)
    rows = []
    for path, g in jax.tree_util.tree_leaves_with_path(written_out):
        layer, leaf = (key.key for key in path)
        arrays = (np.asarray(d) for d in (g, hand[layer][leaf] - g, auto[layer][leaf] - g))
        rows.append((f"{layer}/{leaf}", *(float(abs(d).max()) for d in arrays)))
    return rows


def make_written_out_step(optimizer: optax.GradientTransformation) -> Callable:
    """What `train.make_step` returns for this network, with `backward` in place of any differentiation."""

    @jax.jit
    def step(now: train.TrainState, batch: tuple) -> tuple[train.TrainState, dict[str, jax.Array]]:
        C, gradient = backward(now.params, *batch)
        updates, opt_state = optimizer.update(gradient, now.opt_state)
        params = optax.apply_updates(now.params, updates)
        return now._replace(params=params, opt_state=opt_state, step=now.step + 1), {"loss": C}

    return step


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the example and print what it finds.

    Returns:
      "gradients": the rows of `compare`; "written_out" and "fnn": the histories of the two runs, a dict for each epoch.
    """
    args = parse(argv)
    (x, labels), test = ((data.images.reshape(-1, 64), data.labels) for data in fnn.data.digits(size=8))
    print(f"{len(x):,} handwritten digits of 8x8 pixels to learn from, {len(test[0])} others to be judged by.\n")
    optimizer = optax.sgd(args.learning_rate, momentum=MOMENTUM)

    def start() -> train.TrainState:
        return train.init_state(NETWORK, optimizer, jax.random.key(args.seed), (1, 64))

    print("The gradient by the recursion written out, and how far fnn's two are from it, at most:\n")
    rows = compare(start().params, x, labels)
    header = ["parameter", "largest entry", "fnn, hand", "fnn, auto"]
    print(table(header, [[path, f"{g:.4f}", f"{h:.1e}", f"{a:.1e}"] for path, g, h, a in rows]))
    print("""
hand: the backward rules written in fnn; auto: jax.grad of its plain formulas.
From the scores back to the image the entries shrink: BP2 multiplies by a (1 - a), which is 1/4 at most.
""")

    def run(step: Callable) -> list[dict[str, float]]:
        return train.fit(
            step,
            start(),
            # Without the smaller last batch, all have one shape and the step is compiled once.
            fnn.data.batches((x, labels), BATCH_SIZE, seed=args.seed, drop_last=True),
            epochs=args.epochs,
            evaluate=lambda now: train.evaluate(NETWORK, now, [test], {"accuracy": fnn.accuracy}),
            progress=False,
        )[1]

    print(f"Training, {BATCH_SIZE} images a step, momentum {MOMENTUM}, by the recursion and by fnn's own rules:\n")
    ours = run(make_written_out_step(optimizer))
    theirs = run(train.make_step(NETWORK, fnn.softmax_cross_entropy, optimizer))
    print_curves(ours, theirs)
    return {"gradients": rows, "written_out": ours, "fnn": theirs}


def print_curves(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    """Both runs side by side, after 1, 2, 4, 8, ... epochs and at the end."""
    gaps = [abs(a["loss"] - b["loss"]) for a, b in zip(ours, theirs, strict=True)]
    shown = sorted({2**i for i in range(len(ours).bit_length())} | {len(ours)})
    rows = []
    for epoch in shown:
        a, b = ours[epoch - 1], theirs[epoch - 1]
        losses = [f"{a['loss']:.5f}", f"{b['loss']:.5f}", f"{gaps[epoch - 1]:.1e}"]
        rows.append([str(epoch), *losses, f"{a['test_accuracy']:.2%}", f"{b['test_accuracy']:.2%}"])
    header = ["epoch", "loss by recursion", "by fnn", "difference", "test accuracy by recursion", "by fnn"]
    print(table(header, rows))
    print(f"""
The losses differ by {max(gaps):.1e} at most. That is rounding: the two add up the same products in another order.
A high learning rate magnifies such specks until the runs part: try --learning-rate 1.""")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Settings from the command line; with an impossible one the program ends and says why."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training images (default %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=0.3, help="step length (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and order (default %(default)s)")
    args = parser.parse_args(argv)
    for ok, message in (
        (args.epochs >= 1, "--epochs must be positive"),
        (args.learning_rate > 0, "--learning-rate must be positive"),
        (0 <= args.seed < 2**32, "--seed must be from 0 to 2**32 - 1"),
    ):
        if not ok:
            parser.error(message)
    return args


if __name__ == "__main__":
    main()
