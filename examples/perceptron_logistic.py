"""The perceptron and logistic regression: one dense layer, three losses, real handwritten digits
==============================================================================================

All three models give an image x the score s = x W + b. They differ in the loss, and so in the error signal delta that
the gradient carries back to the weights::

    model       label y      prediction       loss                               delta = dl/ds
    perceptron  -1 or +1     the sign of s    max(0, -y s)                       -y if y s < 0, else 0
    logistic    0 or 1       p = sigmoid(s)   -y log p - (1 - y) log(1 - p)      p - y
    softmax     one of ten   p = softmax(s)   -sum_k y_k log p_k                 p - y

    dW = x^T delta        db = delta        (for one image; the mean of these for several)

The perceptron's loss is the hinge with margin 0: an image on the right side of the border costs nothing and teaches
nothing. A step of length 1 down its gradient, one image at a time, is Rosenblatt's rule: after a mistake, W += y x and
b += y. In the other two models every image teaches, by as much as its probabilities are off: the delta rule.

Sources: Rosenblatt (1958), https://doi.org/10.1037/h0042519; Novikoff (1962), On convergence proofs on perceptrons;
Bishop, Pattern Recognition and Machine Learning (2006), sections 4.1.7, 4.3.2 and 4.3.4.

::

    python examples/perceptron_logistic.py          compare the rules, train six models
    python examples/perceptron_logistic.py --help   all settings
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn import initializers

import fnn
from fnn import train
from fnn.inspect.table import table

# Pixels are multiples of 1/16; learned with steps of length 1, the perceptron's weights are too, and its scores are
# multiples of 1/256, all exact in float32. Half a unit in the bias keeps scores off 0, where there is neither side.
START_BIAS = -1 / 512

# The perceptron and logistic regression are the same model, (N, 64) -> (N, 1) -> (N,), trained with another loss.
ONE_SCORE = fnn.serial(
    dense=fnn.dense(1, kernel_init=initializers.zeros, bias_init=initializers.constant(START_BIAS)),
    score=fnn.reshape(),
)
TEN_SCORES = fnn.serial(dense=fnn.dense(10, kernel_init=initializers.zeros))

perceptron_loss = partial(fnn.hinge, margin=0.0)

TASKS = {"0 against the rest": lambda digits: digits == 0, "even against odd": lambda digits: digits % 2 == 0}


class Pairs(NamedTuple):
    """Images (N, 64) with labels (N,): to learn from, and to be judged by."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    def relabel(self, f: Callable[[np.ndarray], np.ndarray]) -> "Pairs":
        """The same images with labels f(labels)."""
        return Pairs(*((x, f(labels)) for x, labels in self))


class Learned(NamedTuple):
    """A trained model: its parameters, how it got there, and how often it is right."""

    params: dict
    history: list[dict[str, float]]
    train: float
    test: float


def load() -> Pairs:
    """scikit-learn's digits as vectors."""
    return Pairs(*((data.images.reshape(-1, 64), data.labels) for data in fnn.data.digits(size=8)))


def learn(
    model: fnn.Layer,
    loss: Callable[[Any, Any], jax.Array],
    pairs: Pairs,
    *,
    lr: float,
    batch_size: int,
    epochs: int,
    seed: int,
    l2: float = 0.0,
    callbacks: Sequence[Callable[[train.Event], bool]] = (),
) -> Learned:
    """Stochastic gradient descent on mean loss + l2/2 sum W^2.

    The penalty spares the bias, which moves the border but does not make it steeper.
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
        train.init_state(model, optimizer, jax.random.key(seed), (1, 64)),
        # Without the smaller last batch, all have one shape and the step is compiled once.
        fnn.data.batches(pairs.train, batch_size, seed=seed, drop_last=True),
        epochs=epochs,
        callbacks=callbacks,
        progress=False,
    )

    def accuracy(pair: tuple) -> float:
        return train.evaluate(model, now, [pair], {"accuracy": fnn.accuracy})["accuracy"]

    return Learned(now.params, history, accuracy(pairs.train), accuracy(pairs.test))


def no_mistake(event: train.Event) -> bool:
    """Whether an epoch ended in which the perceptron had nothing to learn: it never will have again."""
    return event.kind == "epoch" and event.measures["mistakes"] == 0


def rosenblatt(x: np.ndarray, y: np.ndarray, *, epochs: int, seed: int) -> dict:
    """The perceptron of 1958 on images (N, 64) with labels -1 and +1: no loss and no gradient, only mistakes."""
    kernel, bias = np.zeros(64, np.float32), START_BIAS
    pairs = fnn.data.batches((x, y), 1, seed=seed)
    for epoch in range(epochs):
        for (x_i,), (y_i,) in pairs.epoch(epoch):
            if y_i * (x_i @ kernel + bias) < 0:
                kernel += y_i * x_i
                bias += y_i
    return {"dense": {"bias": np.array([bias]), "kernel": kernel[:, None]}}


def perceptron(pairs: Pairs, epochs: int, seed: int) -> tuple[Learned, float]:
    """The perceptron as gradient descent, and how far its weights are from Rosenblatt's, at most.

    Its step length is always 1: another would only measure the weights in another unit.
    """
    learned = learn(
        ONE_SCORE, perceptron_loss, pairs, lr=1.0, batch_size=1, epochs=epochs, seed=seed, callbacks=[no_mistake]
    )
    by_hand = rosenblatt(*pairs.train, epochs=len(learned.history), seed=seed)
    gaps = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), learned.params, by_hand)
    return learned, max(jax.tree.leaves(gaps))


@jax.jit
def delta_rule(params: dict, x: jax.Array, y: jax.Array, l2: float) -> dict:
    """The gradient of mean loss + l2/2 sum W^2 by hand, for logistic (K = 1) and softmax regression (K = 10).

    Args:
      params: kernel W (64, K) and bias b (K,).
      x: images (n, 64).
      y: (n, K): 0 or 1 where K = 1, one-hot rows otherwise.
      l2: strength of the penalty.
    """
    W, b = params["dense"]["kernel"], params["dense"]["bias"]
    s = x @ W + b
    p = 1 / (1 + jnp.exp(-s)) if y.shape[1] == 1 else jnp.exp(s) / jnp.exp(s).sum(1, keepdims=True)
    delta = (p - y) / len(x)
    return {"dense": {"bias": delta.sum(0), "kernel": x.T @ delta + l2 * W}}


@partial(jax.jit, static_argnums=(0, 1))
def gradient(model: fnn.Layer, loss: Callable, params: dict, x: jax.Array, labels: jax.Array, l2: float) -> dict:
    """The same gradient from the library: `jax.grad` of the loss as one writes it down."""

    def objective(params: dict) -> jax.Array:
        scores, _ = model.apply(params, {}, x)
        return loss(scores, labels).mean() + l2 * fnn.l2_penalty(params)

    return jax.grad(objective)(params)


def compare_delta_rule(pairs: Pairs, l2: float, seed: int) -> list[tuple[str, str, float, float, float]]:
    """Model, parameter, largest entry of its gradient, and how far the library's two ways are from the delta rule."""
    x, digits = pairs.train
    even = TASKS["even against odd"](digits).astype(np.float32)
    draw, rows = np.random.RandomState(seed), []
    for name, model, loss, labels, y in (
        ("logistic", ONE_SCORE, fnn.sigmoid_binary_cross_entropy, even, even[:, None]),
        ("softmax", TEN_SCORES, fnn.softmax_cross_entropy, digits, np.eye(10, dtype=np.float32)[digits]),
    ):
        kernel, bias = draw.normal(size=(64, y.shape[1])), draw.normal(size=y.shape[1])
        params = {"dense": {"bias": bias.astype(np.float32), "kernel": kernel.astype(np.float32)}}
        rule = delta_rule(params, x, y, l2)
        with fnn.gradients("hand"):
            hand = gradient(model, loss, params, x, labels, l2)
        with fnn.gradients("auto"):
            auto = gradient(model, loss, params, x, labels, l2)
        for leaf in ("kernel", "bias"):
            r, h, a = (np.asarray(g["dense"][leaf]) for g in (rule, hand, auto))
            rows.append((name, leaf, *(float(abs(d).max()) for d in (r, h - r, a - r))))
    return rows


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the example and print what it finds.

    Returns:
      "delta_rule": the rows of `compare_delta_rule`; "models": a `Learned` for each name; "mistakes": of each
      perceptron in each epoch; "rosenblatt": how far its weights are from those of the rule by hand, at most.
    """
    args = parse(argv)
    pairs = load()
    n = len(pairs.train[0])
    print(f"{n:,} handwritten digits of 8x8 pixels to learn from, {len(pairs.test[0])} others to be judged by.\n")

    print("The gradient by the delta rule, dW = x^T (p - y) / n + l2 W and db = sum (p - y) / n, at random weights,")
    print("and how far fnn's two are from it, at most:\n")
    delta_rows = compare_delta_rule(pairs, args.l2, args.seed)
    header = ["model", "parameter", "largest entry", "fnn, hand", "fnn, auto"]
    print(table(header, [[m, leaf, f"{g:.3f}", f"{h:.1e}", f"{a:.1e}"] for m, leaf, g, h, a in delta_rows], left=2))
    print("\nhand: the backward rules written in fnn; auto: jax.grad of its plain formulas.\n")

    print("The perceptron, one image at a time. Mistakes in each epoch:\n")
    models, mistakes, differences = {}, {}, {}
    for task, choose in TASKS.items():
        signed = pairs.relabel(lambda digits, choose=choose: np.where(choose(digits), 1, -1).astype(np.float32))
        learned, differences[task] = perceptron(signed, args.epochs, args.seed)
        models[f"perceptron, {task}"] = learned
        mistakes[task] = [round(row["mistakes"] * n) for row in learned.history]
        print(f"{task:18}  {' '.join(map(str, mistakes[task][:20]))}{' ...' if len(mistakes[task]) > 20 else ''}")
    print(f"""
A hyperplane parts 0 from the rest, so the mistakes come to an end, as Novikoff proved. None parts even from odd.
Rosenblatt's rule, which knows no gradient, ends at the same weights; largest difference {max(differences.values()):g}.
""")

    regression = {"lr": args.learning_rate, "batch_size": 32, "epochs": args.epochs, "seed": args.seed}
    for task, choose in TASKS.items():
        zero_or_one = pairs.relabel(lambda digits, choose=choose: choose(digits).astype(np.float32))
        models[f"logistic, {task}"] = learn(ONE_SCORE, fnn.sigmoid_binary_cross_entropy, zero_or_one, **regression)
    for name, l2 in (("softmax, all ten", 0.0), (f"softmax, all ten, L2 {args.l2:g}", args.l2)):
        models[name] = learn(TEN_SCORES, fnn.softmax_cross_entropy, pairs, l2=l2, **regression)

    def row(name: str, learned: Learned) -> list[str]:
        sizes = [np.linalg.norm(learned.params["dense"][leaf]) for leaf in ("kernel", "bias")]
        return [name, f"{learned.train:.1%}", f"{learned.test:.1%}", *(f"{size:.2f}" for size in sizes)]

    header = ["model", "train accuracy", "test accuracy", "|W|", "|b|"]
    print(table(header, [row(name, learned) for name, learned in models.items()]))
    print("\nThe L2 penalty holds W back and spares b. What no hyperplane can part needs hidden layers: see")
    print("examples/mlp_backprop.py.")
    return {"delta_rule": delta_rows, "models": models, "mistakes": mistakes, "rosenblatt": differences}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Settings from the command line; with an impossible one the program ends and says why."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training images (default %(default)s)")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=0.5,
        help="of the regressions (default %(default)s); the perceptron's is 1",
    )
    parser.add_argument("--l2", type=float, default=0.001, help="strength of the penalty (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the images (default %(default)s)")
    args = parser.parse_args(argv)
    for ok, message in (
        (args.epochs >= 1, "--epochs must be positive"),
        (args.learning_rate > 0, "--learning-rate must be positive"),
        (args.l2 >= 0, "--l2 must not be negative"),
        (0 <= args.seed < 2**32, "--seed must be from 0 to 2**32 - 1"),
    ):
        if not ok:
            parser.error(message)
    return args


if __name__ == "__main__":
    main()
