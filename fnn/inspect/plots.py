"""Pictures of a training run and of what a network learned; each is a matplotlib Figure to save or show."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fnn.core.errors import require
from fnn.inspect.style import BLUE, COLUMN, FAINT, INK, PAGE, RED, bare, figure, grid_of

_MOST_TILES = 512  # each is drawn on its own; more take minutes and cannot be told apart
_BAND = 0.26  # inches for the title of a row of feature maps


def plot_curves(history: Sequence[Mapping[str, float]]) -> Any:
    """Loss, and accuracy where it was measured, against epochs; training, and test where it was evaluated.

    Args:
      history: as `fnn.train.fit` returns it: rows with "epoch", "loss", and perhaps "accuracy", "test_loss",
        "test_accuracy".

    Raises:
      InputError: no rows, or rows without "epoch" and "loss".
    """
    ok = len(history) > 0 and {"epoch", "loss"} <= set(history[0])
    require(ok, "plot_curves", 'rows with "epoch" and "loss"', list(history[:1]), "pass the history that fit returned")
    names = [name for name in ("loss", "accuracy") if {name, f"test_{name}"} & set(history[0])]
    epochs = [row["epoch"] + 1 for row in history]
    with figure(PAGE if len(names) == 2 else COLUMN, 2.4) as fig:
        for axes, name in zip(np.atleast_1d(fig.subplots(1, len(names))), names, strict=True):
            for key, color, label in ((name, FAINT, "training"), (f"test_{name}", BLUE, "test")):
                if key in history[0]:
                    scale = 100 if name == "accuracy" else 1
                    values = [scale * row.get(key, np.nan) for row in history]
                    axes.plot(epochs, values, color=color, label=label, marker="o" if len(epochs) == 1 else "", ms=3)
            axes.set(xlabel="epoch", ylabel="accuracy (%)" if name == "accuracy" else "loss")
            if name == "loss" and min(row["loss"] for row in history) > 0:
                axes.set_yscale("log")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", color=FAINT, alpha=0.25, lw=0.5)
            axes.legend(frameon=False, loc="best", fontsize=7)
        return fig


def plot_filters(kernel: Any) -> Any:
    """The filters of a first layer, one tile each, on one scale that is symmetric around zero.

    Args:
      kernel: (h, w, C, K): K tiles. With C = 3 each tile is a colour picture whose mid grey is zero; with any other C
        there is one tile an input channel and filter.

    Raises:
      InputError: not four axes, or more tiles than fit a page.
    """
    kernel = np.asarray(kernel, np.float64)
    require(kernel.ndim == 4, "plot_filters", "a kernel (h, w, C, K)", kernel.shape, "pass a 2-D convolution's kernel")
    count = kernel.shape[3] * (1 if kernel.shape[2] == 3 else kernel.shape[2])
    fix = "choose some channels, for example kernel[..., :8, :16]"
    require(1 <= count <= _MOST_TILES, "plot_filters", f"1 to {_MOST_TILES} tiles", f"{count}", fix)
    largest = float(np.abs(kernel).max(initial=0.0)) or 1.0
    if colored := kernel.shape[2] == 3:
        tiles = [0.5 + kernel[..., k] / (2 * largest) for k in range(kernel.shape[3])]
    else:
        tiles = list(np.moveaxis(kernel.reshape(*kernel.shape[:2], -1), -1, 0))
    rows, columns = grid_of(len(tiles), widest=12)
    side = min(0.62, PAGE / (columns + 1))
    with figure(side * columns + 0.7, side * (rows + 0.15) + 0.05) as fig:
        fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        axes = fig.subplots(rows, columns, squeeze=False)
        for i, ax in enumerate(axes.flat):
            bare(ax)
            if i < len(tiles):
                image = ax.imshow(tiles[i], cmap=None if colored else "RdBu_r", vmin=-largest, vmax=largest)
            else:
                ax.set_visible(False)
        if not colored:
            bar = fig.colorbar(image, ax=axes, ticks=[-largest, 0, largest], aspect=18, pad=0.03)
            bar.ax.set_yticklabels([f"-{largest:.2g}", "0", f"+{largest:.2g}"])
            bar.outline.set_linewidth(0)
            bar.set_label("weight")
        return fig


def plot_feature_maps(image: Any, maps: Mapping[str, Any], titles: Mapping[str, str] | None = None) -> Any:
    """One image and what each layer makes of it: a row a layer, a tile a channel, white the smallest value of a row.

    Args:
      image: (H, W), (H, W, 1) or (H, W, 3).
      maps: path -> (H', W', C) or (C,), as `activations` gives them for one example; a vector becomes a strip.
      titles: path -> what to write instead of the path.

    Raises:
      InputError: no maps, or some of another rank.
    """
    maps = {path: np.asarray(a, np.float64) for path, a in maps.items()}
    ok = len(maps) > 0 and all(a.ndim in (1, 3) for a in maps.values())
    got = {path: a.shape for path, a in maps.items()}
    require(ok, "plot_feature_maps", "maps (H, W, C) or (C,)", got, "take one example: a[0]")
    shape = np.shape(image)
    ok = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    require(ok, "plot_feature_maps", "an image (H, W), (H, W, 1) or (H, W, 3)", shape, "take one example: images[0]")
    rows = [("input", shape, [_drawable(image)])] + [
        ((titles or {}).get(path, path), a.shape, list(np.moveaxis(a, -1, 0)) if a.ndim == 3 else [a[None]])
        for path, a in maps.items()
    ]
    most = 16  # tiles a row that can still be made out at the width of a page
    heights = [0.22 if tiles[0].shape[0] == 1 else _tile_side(len(tiles), most) for _, _, tiles in rows]
    with figure(PAGE, sum(heights) + _BAND * len(rows)) as fig:
        bands = fig.subfigures(len(rows), 1, height_ratios=[h + _BAND for h in heights])
        for band, height, (title, shape, tiles) in zip(np.atleast_1d(bands), heights, rows, strict=True):
            more = f"  (first {most} of {len(tiles)})" if len(tiles) > most else ""
            top = 1 - 0.04 / (height + _BAND)
            band.text(0.004, top, title, fontweight="bold", va="top")
            band.text(0.996, top, f"{' x '.join(map(str, shape))}{more}", color=FAINT, fontsize=7, ha="right", va="top")
            _row_of_tiles(band, tiles[:most], height)
        return fig


def plot_confusion(labels: Any, predictions: Any, classes: int = 10) -> Any:
    """Counts of (true class, predicted class). Right answers stay pale, so that rare errors are what the eye finds.

    Args:
      labels, predictions: (N,) integers in [0, classes).
      classes: how many there are.

    Raises:
      InputError: different lengths, or a class out of range.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    same = labels.shape == predictions.shape and labels.ndim == 1
    got = f"{labels.shape} and {predictions.shape}"
    require(same, "plot_confusion", "labels and predictions (N,)", got, "pass class numbers, not probabilities")
    both = np.concatenate([labels, predictions])
    within = bool(np.all((both >= 0) & (both < classes) & (both == both.astype(int))))
    require(within, "plot_confusion", f"classes in [0, {classes})", sorted(set(both.tolist())), "set classes=")
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels.astype(int), predictions.astype(int)), 1)
    errors = counts * (1 - np.eye(classes, dtype=int))
    side = max(COLUMN, 0.32 * classes + 0.4)
    with figure(side, side + 0.1) as fig:
        axes = fig.subplots()
        shade = errors / max(1, errors.max())
        color = np.ones((classes, classes, 4)) * np.array([*_rgb(RED), 0.0])
        color[..., 3] = np.where(errors > 0, 0.25 + 0.75 * shade, 0)
        diagonal = np.arange(classes)
        color[diagonal, diagonal] = (*_rgb(BLUE), 0.12)
        axes.imshow(color)
        for (i, j), n in np.ndenumerate(counts):
            if n:
                dark = i != j and shade[i, j] > 0.5
                axes.text(j, i, f"{n}", ha="center", va="center", fontsize=7, color="white" if dark else INK)
        axes.set_xticks(diagonal)
        axes.set_yticks(diagonal)
        axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=FAINT, alpha=0.25, lw=0.4)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="predicted class", ylabel="true class")
        share = 100 * np.trace(counts) / max(1, counts.sum())
        axes.set_title(f"{errors.sum():,} of {counts.sum():,} wrong ({share:.2f} % right)")
        return fig


def plot_mistakes(images: Any, labels: Any, probabilities: Any, k: int = 3, most: int = 12) -> Any:
    """The worst mistakes: image, true class, and the k likeliest classes with their probabilities.

    Args:
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
      labels: (N,) integers.
      probabilities: (N, classes).
      k: classes to show an image.
      most: images to show at most; those whose true class had the lowest probability come first.

    Raises:
      InputError: sizes that do not fit.
    """
    images, labels, probabilities = np.asarray(images), np.asarray(labels), np.asarray(probabilities, np.float64)
    ok = probabilities.ndim == 2 and labels.shape == probabilities.shape[:1] == images.shape[:1]
    got = f"{images.shape}, {labels.shape}, {probabilities.shape}"
    require(ok, "plot_mistakes", "images (N, ...), labels (N,), probabilities (N, classes)", got, "cut them alike")
    ok = np.issubdtype(labels.dtype, np.integer) and bool(np.all((labels >= 0) & (labels < probabilities.shape[1])))
    wanted = f"integer labels in [0, {probabilities.shape[1]})"
    require(ok, "plot_mistakes", wanted, f"{labels.dtype} {np.unique(labels)[:12]}", "pass class numbers")
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:most]
    columns = min(4, max(1, len(worst)))
    rows = max(1, -(-len(worst) // columns))
    with figure(PAGE * max(2, columns) / 4, 1.0 * rows + 0.3) as fig:
        title = f"The worst {len(worst)} of {len(wrong)} mistakes among {len(labels):,} images; the true class in blue"
        title = title if len(worst) else f"No mistakes among {len(labels):,} images"
        fig.suptitle(title, x=0.01, ha="left", fontsize=8)
        axes = fig.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1.0, 0.85] * columns)
        for ax in axes.flat[2 * len(worst) :]:
            ax.set_visible(False)
        for i, picture, bars in zip(worst, axes.flat[::2], axes.flat[1::2], strict=False):
            picture.imshow(_drawable(images[i]), cmap="gray_r")
            picture.set_title(f"true: {labels[i]}", pad=2, fontweight="normal")
            bare(picture)
            top = np.argsort(-probabilities[i], kind="stable")[:k]
            colors = [BLUE if c == labels[i] else RED for c in top]
            bars.barh(range(len(top)), probabilities[i, top], color=colors, height=0.62)
            for row, c in enumerate(top):
                p = probabilities[i, c]
                bars.text(p + 0.04, row, f"{100 * p:.0f} %", va="center", fontsize=6)
            bars.set(xlim=(0, 1.5), ylim=(max(k, 3) - 0.4, -0.6), xticks=[], yticks=range(len(top)), yticklabels=top)
            bars.tick_params(length=0, pad=2)
            bars.spines["bottom"].set_visible(False)
        return fig


def _drawable(image: Any) -> np.ndarray:
    image = np.asarray(image, np.float64)
    return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def _tile_side(n: int, most: int) -> float:
    return min(0.9, (PAGE - 0.1) / min(n, most))


def _row_of_tiles(band: Any, tiles: list, height: float) -> None:
    low, high = min(t.min() for t in tiles), max(t.max() for t in tiles)
    strip = tiles[0].shape[0] == 1
    total = height + _BAND
    for i, tile in enumerate(tiles):
        left, width = 0.004 + i * height / PAGE, 0.992 if strip else 0.94 * height / PAGE
        ax = band.add_axes((left, 0.06 / total, width, 0.94 * height / total))
        ax.imshow(tile, cmap="gray_r", vmin=low, vmax=high, aspect="auto" if strip else "equal")
        bare(ax)


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
