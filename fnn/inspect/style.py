"""How pictures look: one palette, one type size, no lines without information. matplotlib is imported when needed."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fnn.core.errors import InputError

COLUMN, PAGE = 3.5, 7.0  # inches: the widths of one and of two columns of a paper
BLUE, RED, INK, FAINT = "#2f5d8a", "#c2452d", "#222222", "#8a8a8a"
AMBER = "#e8a317"  # pixels that are no numbers, in whatever colours the others come

_RC: dict[Any, Any] = {  # matplotlib's type of its names is a list of all of them
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "text.color": INK,
    "lines.linewidth": 1.3,
    "savefig.dpi": 200,
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """An empty Figure in house style; nothing global is touched, so threads and notebooks stay as they are.

    Raises:
      InputError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        fix = 'install the extras: pip install "fnn[examples]"'
        raise InputError("plots", "matplotlib", "none installed", fix) from error
    with matplotlib.rc_context(_RC):
        yield Figure(figsize=(width, height), dpi=200, layout="constrained")


def draw(axes: Any, image: np.ndarray, colors: str | None, low: float, high: float, **options: Any) -> Any:
    """An image (H, W) in a map of colours from low to high, or (H, W, 3) in 0..1 as it is; amber where it is no number.

    A hairline around it shows where a white one ends.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if colors is None:
        shown = axes.imshow(np.where(np.isnan(image).any(-1, keepdims=True), to_rgb(AMBER), image), **options)
    else:
        tones = colormaps[colors].with_extremes(bad=AMBER)
        shown = axes.imshow(np.ma.masked_invalid(image), cmap=tones, vmin=low, vmax=high, **options)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=FAINT, alpha=0.4, linewidth=0.4)
    return shown


def limits(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """The smallest and the largest finite number, 0 and 1 where there is none."""
    found = [a[np.isfinite(a)] for a in arrays]
    found = [a for a in found if a.size]
    return (min(float(a.min()) for a in found), max(float(a.max()) for a in found)) if found else (0.0, 1.0)


def shortened(text: str, most: int) -> str:
    """The text, its middle left out where it is longer than `most` characters.

    >>> shortened("encoder/blocks/03_conv", 12)
    'encode…_conv'
    """
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def grid_of(n: int, widest: int) -> tuple[int, int]:
    """Rows and columns for n tiles: at least as wide as high, at most `widest` across, the fewest empty places.

    >>> grid_of(6, 12), grid_of(64, 12), grid_of(20, 12)
    ((2, 3), (8, 8), (4, 5))
    """
    candidates = range(min(math.ceil(math.sqrt(n)), widest), min(n, widest) + 1)
    columns = min(candidates, key=lambda c: (-n % c, c))
    return math.ceil(n / columns), columns
