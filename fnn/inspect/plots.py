"""Pictures of numbers: how training went, and what is taken for what; each is a matplotlib Figure to save or show."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fnn.core.alive import of_live_arrays
from fnn.core.errors import InputError, integer, require
from fnn.inspect.style import BLUE, COLUMN, FAINT, INK, PAGE, RED, figure

_MOST_NUMBERS = 40  # classes whose counts can be written into their cells on a page


def plot_curves(history: Sequence[Mapping[str, float]]) -> Any:
    """Loss, and accuracy where it was measured, against epochs; training, and test where it was evaluated.

    Args:
      history: as `fnn.train.fit` returns it: rows with "epoch", "loss", and perhaps "accuracy", "test_loss",
        "test_accuracy".

    Raises:
      InputError: no rows, or rows without "epoch" and "loss".
    """
    ok = len(history) > 0 and all({"epoch", "loss"} <= set(row) for row in history)
    require(ok, "plot_curves", 'rows with "epoch" and "loss"', list(history[:1]), "pass the history that fit returned")
    measured = set().union(*history)
    names = [name for name in ("loss", "accuracy") if {name, f"test_{name}"} & measured]
    epochs = [row["epoch"] + 1 for row in history]
    with figure(PAGE if len(names) == 2 else COLUMN, 2.4) as fig:
        for axes, name in zip(np.atleast_1d(fig.subplots(1, len(names))), names, strict=True):
            drawn = []
            for key, color, label in ((name, FAINT, "training"), (f"test_{name}", BLUE, "test")):
                if key in measured:
                    values = _column(history, key) * (100 if name == "accuracy" else 1)
                    axes.plot(epochs, values, color=color, label=label, marker="o" if _has_lone(values) else "", ms=3)
                    drawn.append(values)
            axes.set(xlabel="epoch", ylabel="accuracy (%)" if name == "accuracy" else "loss")
            finite = np.concatenate(drawn)[np.isfinite(np.concatenate(drawn))]
            if name == "loss" and finite.size and finite.min() > 0:
                axes.set_yscale("log")
            if name == "accuracy" and not finite.size:
                axes.set_ylim(0, 100)
            missing = int(np.isnan(drawn[0]).sum())
            if missing:
                axes.set_title(f"no number in {missing} of {len(epochs)} epochs", color=RED, fontweight="normal")
            axes.set_xlim(_around(epochs))
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.grid(axis="y", color=FAINT, alpha=0.25, lw=0.5)
            axes.legend(frameon=False, loc="best", fontsize=7)
        return fig


def _column(history: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """The finite numbers of a measure, NaN where it was not taken or is infinite."""
    try:
        values = np.array([float(row.get(key, np.nan)) for row in history])
    except (TypeError, ValueError) as error:
        raise InputError(
            "plot_curves", f"numbers for {key}", str(error), "pass the history that fit returned"
        ) from error
    return np.where(np.isfinite(values), values, np.nan)


def _has_lone(values: np.ndarray) -> bool:
    """Whether a number stands between two gaps, where a line would not show it."""
    there = np.pad(np.isfinite(values), 1)
    return bool(np.any(there[1:-1] & ~there[:-2] & ~there[2:]))


def _around(epochs: list[Any]) -> tuple[float, float]:
    margin = max(0.5, 0.04 * (epochs[-1] - epochs[0]))
    return epochs[0] - margin, epochs[-1] + margin


@of_live_arrays
def plot_confusion(labels: Any, predictions: Any, classes: int = 10) -> Any:
    """Counts of (true class, predicted class). Right answers stay pale, so that rare errors are what the eye finds.

    Args:
      labels, predictions: (N,) integers in [0, classes).
      classes: how many there are.

    Raises:
      InputError: different lengths, or a class out of range.
    """
    classes = integer("plot_confusion", "classes", classes)
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    same = labels.shape == predictions.shape and labels.ndim == 1
    got = f"{labels.shape} and {predictions.shape}"
    require(same, "plot_confusion", "labels and predictions (N,)", got, "pass class numbers, not probabilities")
    both = np.concatenate([labels, predictions])
    ok = both.dtype.kind in "biuf"
    require(ok, "plot_confusion", "class numbers", f"dtype {both.dtype}", "count the classes from 0")
    outside = np.unique(both[~((both >= 0) & (both < classes) & (both == np.floor(both)))]).tolist()
    ok = not outside
    require(ok, "plot_confusion", f"classes in [0, {classes})", outside[:12], "set classes=")
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels.astype(int), predictions.astype(int)), 1)
    errors = counts * (1 - np.eye(classes, dtype=int))
    written = classes <= _MOST_NUMBERS
    side = max(COLUMN, 0.32 * min(classes, _MOST_NUMBERS) + 0.4)
    with figure(side, side + 0.1) as fig:
        axes = fig.subplots()
        shade = errors / max(1, errors.max())
        color = np.ones((classes, classes, 4)) * np.array([*_rgb(RED), 0.0])
        color[..., 3] = np.where(errors > 0, 0.25 + 0.75 * shade, 0)
        diagonal = np.arange(classes)
        color[diagonal, diagonal] = (*_rgb(BLUE), 0.12)
        axes.imshow(color)
        for (i, j), n in np.ndenumerate(counts):
            if n and written:
                dark = i != j and shade[i, j] > 0.5
                axes.text(j, i, f"{n}", ha="center", va="center", fontsize=7, color="white" if dark else INK)
        if written:
            axes.set_xticks(diagonal)
            axes.set_yticks(diagonal)
            axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
            axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
            axes.grid(which="minor", color=FAINT, alpha=0.25, lw=0.4)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="predicted class", ylabel="true class")
        share = 100 * np.trace(counts) / max(1, counts.sum())
        told = f"{errors.sum():,} of {counts.sum():,} wrong ({share:.2f} % right)"
        axes.set_title(told if counts.any() else "no examples")
        return fig


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
