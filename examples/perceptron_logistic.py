"""The perceptron and logistic regression: one dense layer, three losses, real handwritten digits.

All three models score an image x by s = x W + b. They differ in the loss, and so in the gradient, which is always the
same product with another error signal (n images, mean over them):

    dW = x^T delta / n        db = sum delta / n

    model       labels y      prediction     loss                                  error delta = dl/ds
    perceptron  -1 or +1      sign of s      max(0, -y s)                          -y where y s < 0, else 0
    logistic    0 or 1        p = sigma(s)   -y log p - (1 - y) log(1 - p)         p - y
    softmax     one of ten    p = softmax(s) -sum_k y_k log p_k                    p - y

The perceptron's loss is the hinge with margin 0: an image on the right side of the border costs nothing and teaches
nothing. One image at a time, with learning rate 1, its gradient step is Rosenblatt's rule: after a mistake, W += y x and
b += y. For the other two, the error is how far the probabilities are off: the delta rule.

Sources: Rosenblatt (1958), https://doi.org/10.1037/h0042519; Novikoff (1962), On convergence proofs on perceptrons;
Bishop, Pattern Recognition and Machine Learning (2006), sections 4.1.7, 4.3.2 and 4.3.4.

    python examples/perceptron_logistic.py --help
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn import initializers

import fnn
from fnn import train

# Pixels are multiples of 1/16. With learning rate 1 the perceptron's weights are too, and its scores multiples of 1/256:
# float32 holds them all exactly. Half such a unit in the bias keeps every score off 0, where the hinge has its kink.
START_BIAS = -1 / 512

# The perceptron and logistic regression are one model: a dense layer with one output, (N, 64) -> (N, 1) -> (N,).
ONE_SCORE = fnn.serial(
    dense=fnn.dense(1, kernel_init=initializers.zeros, bias_init=initializers.constant(START_BIAS)),
    score=fnn.reshape(),
)
TEN_SCORES = fnn.serial(dense=fnn.dense(10, kernel_init=initializers.zeros))

perceptron_loss = partial(fnn.hinge, margin=0.0)


class Learned(NamedTuple):
    """A trained model: its parameters, the history of its training, and how often it is right."""

    params: Any
    history: list[dict[str, float]]
    train_accuracy: float
    test_accuracy: float


def learn(
    model: fnn.Layer,
    loss: Any,
    train_pair: tuple,
    test_pair: tuple,
    *,
    lr: float,
    batch_size: int,
    epochs: int,
    seed: int,
    l2: float = 0.0,
) -> Learned:
    """Gradient descent on mean loss + l2 / 2 sum W^2, until `epochs` are over or one of them passed without a mistake.

    The biases are no part of the penalty: they place the border, and shrinking them would only misplace it.
    """
    optimizer = optax.sgd(lr)
    step = train.make_step(
        model,
        loss,
        optimizer,
        penalty=lambda params: l2 * fnn.l2_penalty(params),
        metrics={"mistakes": fnn.zero_one},
    )
    now, history = train.fit(
        step,
        train.init_state(model, optimizer, jax.random.key(seed), train_pair[0]),
        fnn.data.batches(train_pair, batch_size, seed=seed),
        epochs=epochs,
        callbacks=[lambda event: event.kind == "epoch" and event.measures["mistakes"] == 0],
        progress=False,
    )

    def accuracy(pair: tuple) -> float:
        return train.evaluate(model, now.params, now.state, [pair], {"accuracy": fnn.accuracy})["accuracy"]

    return Learned(now.params, history, accuracy(train_pair), accuracy(test_pair))


def rosenblatt(x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> dict:
    """The perceptron as of 1958: no loss, no gradient, only mistakes."""
    kernel, bias = np.zeros(x.shape[1], np.float32), START_BIAS
    pairs = fnn.data.batches((x, y), 1, seed=seed)
    for epoch in range(epochs):
        for (x_i,), (y_i,) in pairs.epoch(epoch):
            if y_i * (x_i @ kernel + bias) < 0:
                kernel += y_i * x_i
                bias += y_i
    return {"dense": {"kernel": kernel[:, None], "bias": np.array([bias])}}


def delta_rule(params: dict, x: jax.Array, y: jax.Array, l2: float) -> dict:
    """The gradient of the mean loss + l2 / 2 sum W^2, by hand.

    Args:
      params: of either model; kernel W (64, K) and bias b (K,).
      x: (n, 64).
      y: (n, 1) of 0 and 1, or one-hot (n, 10).
      l2: the strength of the penalty.
    """
    W, b = params["dense"]["kernel"], params["dense"]["bias"]
    s = x @ W + b
    p = 1 / (1 + jnp.exp(-s)) if y.shape[1] == 1 else jnp.exp(s) / jnp.exp(s).sum(1, keepdims=True)
    delta = (p - y) / len(x)
    return {"dense": {"kernel": x.T @ delta + l2 * W, "bias": delta.sum(0)}}


def check_delta_rule(x: np.ndarray, digits: np.ndarray, l2: float, seed: int) -> list[tuple]:
    """(model, parameter, largest gradient, max |by hand - fnn|, max |by hand - automatic|) at random weights."""
    even, one_hot = is_even(digits).astype(np.float32), np.eye(10, dtype=np.float32)[digits]
    rows = []
    for name, model, loss, labels, y in (
        ("logistic", ONE_SCORE, fnn.sigmoid_binary_cross_entropy, even, even[:, None]),
        ("softmax", TEN_SCORES, fnn.softmax_cross_entropy, digits, one_hot),
    ):
        zeros, state = model.init(jax.random.key(seed), x)
        params = jax.tree.map(lambda p: jax.random.normal(jax.random.key(seed), p.shape), zeros)

        def objective(params, model=model, state=state, loss=loss, labels=labels):
            scores, _ = model.apply(params, state, x)
            return loss(scores, labels).mean() + l2 * fnn.l2_penalty(params)

        by_hand = delta_rule(params, x, y, l2)["dense"]
        library = jax.grad(objective)(params)["dense"]  # through the backward rules written in fnn
        with fnn.gradients("auto"):
            automatic = jax.grad(objective)(params)["dense"]  # through the plain formulas
        for leaf in ("kernel", "bias"):
            h, f, a = by_hand[leaf], library[leaf], automatic[leaf]
            rows.append((name, leaf, *(float(abs(v).max()) for v in (h, h - f, h - a))))
    return rows


def is_zero(digits: np.ndarray) -> np.ndarray:
    """The digit 0 against the rest: a hyperplane can part them."""
    return digits == 0


def is_even(digits: np.ndarray) -> np.ndarray:
    """0, 2, 4, 6 and 8 against the odd digits: too much to ask of one hyperplane."""
    return digits % 2 == 0


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the example.

    Returns:
      "models": a `Learned` by name; "mistakes": of each perceptron, epoch by epoch; "rosenblatt": how far its weights are
      from the rule by hand; "delta_rule": the rows of `check_delta_rule`.
    """
    args = parse(argv)
    split = fnn.data.digits(size=8)
    (x, digits), (test_x, test_digits) = ((images.reshape(-1, 64), labels) for images, labels in split)
    print(f"{len(x):,} handwritten digits of 8x8 pixels to learn from, {len(test_x)} to be tested on.\n")

    print("1. The perceptron: mistakes in each epoch")
    models, mistakes, rosenblatt_gap = {}, {}, {}
    for task, choose in (("0 against the rest", is_zero), ("even against odd", is_even)):
        # The learning rate only sets the unit of the weights: the border stays where it is. So 1, as in the paper.
        y, test_y = (np.where(choose(d), 1, -1).astype(np.float32) for d in (digits, test_digits))
        learned = learn(
            ONE_SCORE, perceptron_loss, (x, y), (test_x, test_y), lr=1.0, batch_size=1, epochs=args.epochs, seed=args.seed
        )
        models[f"perceptron, {task}"] = learned
        mistakes[task] = [round(row["mistakes"] * len(x)) for row in learned.history]
        by_hand = rosenblatt(x, y, len(learned.history), args.seed)
        gaps = jax.tree.map(lambda a, b: float(abs(a - b).max()), learned.params, by_hand)
        rosenblatt_gap[task] = max(jax.tree.leaves(gaps))
        print(f"   {task:18}  {' '.join(map(str, mistakes[task]))}")
    print(f"""   An epoch without a mistake ends the training: if a hyperplane parts the classes, there will be one
   (Novikoff's theorem). If none does, the mistakes go on for ever.
   Rosenblatt's rule by hand, W += y x and b += y after a mistake, arrives at the same weights:
   largest difference {max(rosenblatt_gap.values()):g}.
""")
    return models


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser()
    return parser.parse_args(argv)
