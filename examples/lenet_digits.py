"""LeNet-5 learns real handwritten digits, with gradients written by hand
======================================================================

::

    python examples/lenet_digits.py                     train, compare the gradients, draw what was learned
    python examples/lenet_digits.py --gradients auto    the same with automatic differentiation
    python examples/lenet_digits.py --help              all settings

Read it from top to bottom: a model is a Layer, that is, two pure functions; training is a pure step; the gradients of
both kinds are compared parameter by parameter; and everything the network learned is drawn into the output folder.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from fnn import check, data, inspect, models, train


def parse(argv):
    """Settings from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training images (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=0.02, help="largest learning rate (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and order (default %(default)s)")
    parser.add_argument(
        "--gradients", choices=["hand", "auto"], default="hand", help="who differentiates (default %(default)s)"
    )
    parser.add_argument("--data", default="digits", help="'digits' (built in), or a folder with MNIST's idx files")
    parser.add_argument("--out", type=Path, default=Path("out/lenet"), help="folder for pictures (default %(default)s)")
    parser.add_argument(
        "--format", choices=inspect.FORMATS, default="png", help="of the pictures (default %(default)s)"
    )
    args = parser.parse_args(argv)
    for name in ("epochs", "batch_size", "learning_rate"):
        if not 0 < getattr(args, name) < float("inf"):
            parser.error(f"--{name.replace('_', '-')} must be positive")
    if not 0 <= args.seed < 2**32:
        parser.error("--seed must be between 0 and 2**32 - 1")
    try:
        inspect.output_folder(args.out)  # before training, not after it
    except fnn.InputError as error:
        parser.error(f"--out must be a folder: {error}")
    return args


def main(argv=None):
    """Train, compare, draw; returns the test accuracy and the history."""
    started = time.perf_counter()
    args = parse(argv)
    split = data.digits(margin=4) if args.data == "digits" else data.mnist(args.data)
    moved = data.random_shift(2)
    batches = data.batches(split.train, args.batch_size, seed=args.seed, drop_last=True, augment=moved)

    layer = models.lenet5()
    schedule = optax.cosine_onecycle_schedule(args.epochs * len(batches), args.learning_rate, pct_start=0.2)
    optimizer = optax.chain(
        optax.add_decayed_weights(5e-4, mask=fnn.decay_mask),  # biases are spared
        optax.sgd(schedule, momentum=0.9, nesterov=True),
    )
    print(fnn.summary(layer, (1, *split.train.images.shape[1:])), end="\n\n")

    metrics = {"accuracy": fnn.accuracy}
    step = train.make_step(layer, fnn.softmax_cross_entropy, optimizer, metrics=metrics)
    now = train.init_state(layer, optimizer, jax.random.key(args.seed), split.train.images[:1])
    test_batches = data.batches(split.test, 512)
    test_metrics = {"loss": fnn.softmax_cross_entropy, "accuracy": fnn.accuracy}

    def test(now):
        return train.evaluate(layer, now, test_batches, test_metrics)

    with fnn.gradients(args.gradients):
        now, history = train.fit(step, now, batches, epochs=args.epochs, evaluate=test)
    accuracy = test(now)["accuracy"]  # of the state as it is: Ctrl-C ends training within an epoch
    print(f"\ntest accuracy {accuracy:.2%} of {len(split.test.labels)} images, gradients: {args.gradients}\n")

    compare_gradients(layer, split.train.images[:1], next(batches.epoch(0)))
    draw(layer, now, split.test, history, args.out, args.format)
    print(f"\npictures in {args.out}/, {time.perf_counter() - started:.0f} seconds in all")
    return accuracy, history


def compare_gradients(layer, image, batch):
    """Print hand-written against automatic gradients, and the time that a step takes with either.

    The weights are fresh ones: after training the gradients are almost zero, which would prove less.
    """
    optimizer = optax.sgd(0.01, momentum=0.9)
    now = train.init_state(layer, optimizer, jax.random.key(0), image)
    print(check.compare(layer, now, batch, fnn.softmax_cross_entropy))
    x, labels = map(jnp.asarray, batch)

    @jax.jit
    def step(params, opt_state):
        def loss(params):
            return fnn.softmax_cross_entropy(layer.apply(params, now.model_state, x, train=True)[0], labels).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    seconds = check.time_modes(step, now.params, now.opt_state, rounds=100)
    print(
        f"time of a step on {len(x)} images: hand {1e3 * seconds['hand']:.2f} ms, "
        f"auto {1e3 * seconds['auto']:.2f} ms; auto takes {seconds['auto'] / seconds['hand']:.2f} times as long"
    )


def draw(layer, now, test, history, out, suffix):
    """Save curves, filters, feature maps, confusion matrix and the worst mistakes."""
    logits, _ = jax.jit(layer.apply)(now.params, now.model_state, test.images)
    probabilities = np.asarray(jax.nn.softmax(logits))
    seen = inspect.activations(layer, now, test.images[:1])
    maps = {path: seen[path][0] for path in ("relu1", "pool1", "relu2", "pool2")}
    pictures = {
        "filters": inspect.plot_filters(now.params["conv1"]["kernel"]),
        "feature_maps": inspect.plot_feature_maps(test.images[0], maps),
        "confusion": inspect.plot_confusion(test.labels, probabilities.argmax(-1)),
        "mistakes": inspect.plot_mistakes(test.images, test.labels, probabilities),
    }
    if history:  # Ctrl-C in the first epoch leaves none
        pictures["curves"] = inspect.plot_curves(history)
    for name, figure in pictures.items():
        inspect.save_figure(figure, out / f"{name}.{suffix}")


if __name__ == "__main__":
    try:
        main()
    except (fnn.InputError, train.NonFiniteLoss) as error:
        raise SystemExit(f"error: {error}") from None
