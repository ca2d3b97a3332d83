"""Pictures of images: filters, feature maps, mistakes; each is a matplotlib Figure to save or show.

A tile is framed, so that a white one is no hole in the page; one whose numbers are all equal bears that number, so that
a silent channel says 0; entries that are no numbers are amber.
"""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from fnn.core.alive import of_live_arrays
from fnn.core.errors import integer, require
from fnn.inspect.style import BLUE, FAINT, INK, PAGE, RED, draw, figure, grid_of, limits, shortened

_MOST_TILES = 512  # each is drawn on its own; more take minutes and cannot be told apart
_MOST_ROWS = 200  # of feature maps: a picture may have 65,535 pixels a side
_LETTERS_AN_INCH = 17  # of the type in which titles are set
_LINE = 0.13  # inches a bar with a number beside it
_BAND = 0.26  # inches for the title of a row of feature maps
_LETTERS = 38  # of a title that leaves room for what stands beside it


@of_live_arrays
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
    require(kernel.size > 0, "plot_filters", "a window of at least one weight", kernel.shape, "pass another kernel")
    largest = max(map(abs, limits([kernel]))) or 1.0
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
            if i < len(tiles):
                image = draw(ax, tiles[i], None if colored else "RdBu_r", -largest, largest)
                value = kernel[..., i] if colored else tiles[i]
                _name_constant(ax, value, dark=not colored and abs(value.flat[0]) > 0.6 * largest)
            else:
                ax.set_visible(False)
        if not colored:
            bar = fig.colorbar(image, ax=axes, ticks=[-largest, 0, largest], aspect=18, pad=0.03)
            bar.ax.set_yticklabels([f"-{largest:.2g}", "0", f"+{largest:.2g}"])
            bar.outline.set_linewidth(0)
            bar.set_label("weight")
        return fig


@of_live_arrays
def plot_feature_maps(image: Any, maps: Mapping[str, Any], titles: Mapping[str, str] | None = None) -> Any:
    """One image and what each layer makes of it: a row a layer, a tile a channel, white the smallest value of a row.

    A channel that has one value everywhere bears it, and the row says how many are 0 everywhere: silent for this image,
    dead if for all.

    Args:
      image: (H, W), (H, W, 1) or (H, W, 3).
      maps: path -> (H', W', C) or (C,), as `activations` gives them for one example; a vector becomes a strip.
      titles: path -> what to write instead of the path.

    Raises:
      InputError: no maps or more than fit a picture, or some of another rank or without entries.
    """
    maps = {path: np.asarray(a, np.float64) for path, a in maps.items()}
    ok = len(maps) > 0 and all(a.ndim in (1, 3) and a.size for a in maps.values())
    got = {path: a.shape for path, a in maps.items()}
    require(ok, "plot_feature_maps", "maps (H, W, C) or (C,)", got, "take one example: a[0]")
    fits = len(maps) <= _MOST_ROWS
    require(fits, "plot_feature_maps", f"at most {_MOST_ROWS} rows", f"{len(maps)} maps", "choose some layers")
    shape = np.shape(image)
    ok = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    ok = ok and 0 not in shape
    require(ok, "plot_feature_maps", "an image (H, W), (H, W, 1) or (H, W, 3)", shape, "take one example: images[0]")
    rows = [("input", shape, [_drawable(image)])] + [
        ((titles or {}).get(path, path), a.shape, list(np.moveaxis(a, -1, 0)) if a.ndim == 3 else [a[None]])
        for path, a in maps.items()
    ]
    most = 16  # tiles a row that can still be made out at the width of a page
    heights = [0.22 if len(shape) == 1 else _tile_side(len(tiles), most) for _, shape, tiles in rows]
    with figure(PAGE, sum(heights) + _BAND * len(rows)) as fig:
        bands = fig.subfigures(len(rows), 1, height_ratios=[h + _BAND for h in heights])
        for band, height, (title, shape, tiles) in zip(np.atleast_1d(bands), heights, rows, strict=True):
            more = f"  (first {most} of {len(tiles)})" if len(tiles) > most else ""
            top = 1 - 0.04 / (height + _BAND)
            band.text(0.004, top, shortened(str(title), _LETTERS), fontweight="bold", va="top")
            dead = sum(_constant(tile) == 0 for tile in tiles)
            if dead:
                band.text(0.44, top, f"0 everywhere: {dead} of {len(tiles)}", color=RED, fontsize=7, va="top")
            band.text(0.996, top, f"{' x '.join(map(str, shape))}{more}", color=FAINT, fontsize=7, ha="right", va="top")
            _row_of_tiles(band, tiles[:most], height, strip=len(shape) == 1)
        return fig


@of_live_arrays
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
    k, most = integer("plot_mistakes", "k", k), integer("plot_mistakes", "most", most)
    images, labels, probabilities = np.asarray(images), np.asarray(labels), np.asarray(probabilities, np.float64)
    ok = probabilities.ndim == 2 and labels.shape == probabilities.shape[:1] == images.shape[:1]
    ok = ok and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3)))
    got = f"{images.shape}, {labels.shape}, {probabilities.shape}"
    require(ok, "plot_mistakes", "images (N, ...), labels (N,), probabilities (N, classes)", got, "cut them alike")
    ok = np.issubdtype(labels.dtype, np.integer) and bool(np.all((labels >= 0) & (labels < probabilities.shape[1])))
    wanted = f"integer labels in [0, {probabilities.shape[1]})"
    require(ok, "plot_mistakes", wanted, f"{labels.dtype} {np.unique(labels)[:12]}", "pass class numbers")
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:most]
    which = "The one mistake" if len(wrong) == 1 else f"The worst {len(worst)} of {len(wrong)} mistakes"
    title = f"{which} among {len(labels):,} images; the true class in blue"
    title = title if len(worst) else f"No mistakes among {len(labels):,} images"
    columns = min(4, max(2, len(worst)))  # of one alone the title would be wider than the page
    rows = -(-len(worst) // columns)
    width = PAGE * columns / 4
    lines = textwrap.wrap(title, int(_LETTERS_AN_INCH * width))
    side = max(1.0, _LINE * min(k, probabilities.shape[1]))  # of an image, or of its bars where they are many
    with figure(width, side * rows + 0.14 * len(lines) + 0.16) as fig:
        if not len(worst):
            fig.text(0.02, 0.5, title, va="center")
            return fig
        fig.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8)
        axes = fig.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1.0, 0.85] * columns)
        for ax in axes.flat[2 * len(worst) :]:
            ax.set_visible(False)
        for i, picture, bars in zip(worst, axes.flat[::2], axes.flat[1::2], strict=False):
            image = _drawable(images[i])
            draw(picture, image, None if image.ndim == 3 else "gray_r", *limits([image]))
            _name_constant(picture, image, dark=image.ndim == 3 and image.flat[0] < 0.5)
            picture.set_title(f"true: {labels[i]}", pad=2, fontweight="normal")
            top = np.argsort(-probabilities[i], kind="stable")[:k]
            lengths = np.clip(np.nan_to_num(probabilities[i, top]), 0, 1)
            colors = [BLUE if c == labels[i] else RED for c in top]
            bars.barh(range(len(top)), lengths, color=colors, height=0.62)
            for row, c in enumerate(top):
                bars.text(lengths[row] + 0.04, row, f"{100 * probabilities[i, c]:.0f} %", va="center", fontsize=6)
            bars.set(
                xlim=(0, 1.5), ylim=(max(len(top), 3) - 0.4, -0.6), xticks=[], yticks=range(len(top)), yticklabels=top
            )
            bars.tick_params(length=0, pad=2)
            bars.spines["bottom"].set_visible(False)
        return fig


def _drawable(image: Any) -> np.ndarray:
    """(H, W), or (H, W, 3) in 0..1: bytes and what lies outside are brought there."""
    whole = np.issubdtype(np.asarray(image).dtype, np.integer)
    pixels = np.asarray(image, np.float64)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        return pixels[..., 0]
    if pixels.ndim == 3:
        low, high = limits([pixels])
        pixels = np.where(np.isfinite(pixels), pixels, np.nan)
        if whole and low >= 0 and high <= 255:
            pixels = pixels / 255
        elif low < 0 or high > 1:
            pixels = (pixels - low) / (high - low or 1)
    return pixels


def _tile_side(n: int, most: int) -> float:
    return min(0.9, (PAGE - 0.1) / min(n, most))


def _row_of_tiles(band: Any, tiles: list[Any], height: float, *, strip: bool) -> None:
    low, high = limits(tiles)
    total = height + _BAND
    for i, tile in enumerate(tiles):
        left, width = 0.004 + i * height / PAGE, 0.992 if strip else 0.94 * height / PAGE
        ax = band.add_axes((left, 0.06 / total, width, 0.94 * height / total))
        colored, first = tile.ndim == 3, tile.flat[0]
        draw(ax, tile, None if colored else "gray_r", low, high, aspect="auto" if strip else "equal")
        _name_constant(ax, tile, dark=first < 0.5 if colored else first - low > 0.5 * (high - low))


def _constant(tile: np.ndarray) -> float | None:
    """The number that stands everywhere, None where there are several; of one pixel only 0 counts."""
    value = float(tile.flat[0])
    return value if np.all(tile == value) and (tile.size > 1 or value == 0) else None


def _name_constant(axes: Any, tile: np.ndarray, *, dark: bool) -> None:
    value = _constant(tile)
    text = "no numbers" if not np.isfinite(tile).any() else "" if value is None else f"{value:.2g}"
    color = "white" if dark else INK
    axes.text(0.5, 0.5, text, color=color, transform=axes.transAxes, ha="center", va="center", fontsize=6)
