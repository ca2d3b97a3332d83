"""The chart of the report: for each network a row of bars, the time of a step over that of fnn by hand."""

import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report.tables import JAX_PEERS, SHORT, best, best_of_torch
from fnn.inspect.style import BLUE, FAINT, INK, RED, figure

COLUMNS = 3
COLOURS = {
    "fnn": BLUE,
    "stax": "#c9b458",
    "flax.nnx": "#6f9f6a",
    "equinox": "#8d74a8",
    "haiku": "#d08b4c",
    "torch": RED,
}
TITLE = """\
Time of a training step over that of fnn with hand-written gradients (1, the line): bars to the right are slower.
Full bars: libraries at their defaults, and PyTorch's fastest variant. Hollow bars: with fnn's compiler options."""
SMALLER = {
    r"(?s) <metadata>.*?</metadata>\n": "",
    r" font-family: [^;\"]*;": "",
    r'<style type="text/css">': "<style>text{font-family:sans-serif}",
    r' clip-path="[^"]*"': "",
    r"(?s)<clipPath.*?</clipPath>": "",
    r'(?m)^ *</?g(?: id="[^"]*")?>\n': "",
    r'(?<=[ "])(\d+\.\d)\d+(?=[ "])': r"\1",
    r' transform="rotate\(-?0 [^"]*"': "",
    r"(?m)^ +": "",
    r' *\n(?=[LMz"])': " ",
}
LETTERS = 36  # of a title on one line
LOWEST = 0.25
WIDE, HIGH = 8.2, 1.7  # inches: of the page, and of a row of panels


def draw(records: Sequence[Mapping], path: Path) -> None:
    """Write the chart as SVG.

    Full bars are programs at their library's defaults, hollow ones JAX libraries with fnn's compiler options. PyTorch
    is its fastest variant.
    """
    import matplotlib

    picture = io.StringIO()
    rows = max(1, math.ceil(len(records) / COLUMNS))
    longest = max((bar[2] for record in records for bar in bars(record)), default=1.0)
    # Text as text keeps the file small and lets a reader search it; without a date it changes only with the numbers.
    with (
        figure(WIDE, HIGH * rows + 0.4) as page,
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fnn"}),
    ):
        panels = page.subplots(rows, COLUMNS, sharex=True, squeeze=False).ravel()
        for axes, record in zip(panels, records, strict=False):
            _panel(axes, record, longest)
        for axes in panels[len(records) :]:
            axes.set_visible(False)
        page.suptitle(TITLE, fontsize=8, x=0.01, ha="left")
        page.savefig(picture, format="svg", metadata={"Date": None}, facecolor="white")
    path.write_text(smaller(picture.getvalue()))


def smaller(svg: str) -> str:
    """Matplotlib's SVG at a fifth of its size.

    It has a style with a list of fonts for every word, a clip for every line, groups, and millionths of a point.
    """
    for pattern, new in SMALLER.items():
        svg = re.sub(pattern, new, svg)
    classes: dict[str, str] = {}
    svg = re.sub('style="([^"]*)"', lambda m: f'class="{classes.setdefault(m[1], f"s{len(classes)}")}"', svg)
    sheet = "".join(f".{name}{{{style}}}" for style, name in classes.items())
    return svg.replace("<style>", f"<style>{sheet}")


def bars(record: Mapping) -> list[tuple[str, str, float, bool]]:
    """Label, library, ratio and whether at defaults, in the order in which they are drawn."""
    chosen = [("fnn auto", best(record, [("fnn", "auto, defaults")]), True)]
    chosen.append(("fnn auto", best(record, [("fnn", "auto")]), False))
    for library in JAX_PEERS:
        chosen.append((SHORT.get(library, library), best(record, [(library, "defaults")]), True))
        chosen.append((SHORT.get(library, library), best(record, [(library, "options")]), False))
    torch = best_of_torch(record)
    chosen.append(("PyTorch", torch, True))
    return [
        (label, program["library"], program["ratio"]["median"], full)
        for label, program, full in chosen
        if program is not None and program.get("ratio") is not None
    ]


def _panel(axes, record, longest):
    found = bars(record)
    labels = list(dict.fromkeys(label for label, *_ in found))
    for label, library, ratio, full in found:
        # A hollow bar stands in the lower part of the full one of its library.
        place, height = (labels.index(label), 0.72) if full else (labels.index(label) + 0.24, 0.24)
        colour = COLOURS[library]
        axes.barh(place, ratio - 1, height, left=1, color=colour if full else "white", edgecolor=colour, linewidth=0.6)
        if full:
            # Beyond the longer of the two bars.
            both = [other for name, _, other, _ in found if name == label]
            end, side = (max(both), 1) if ratio >= 1 else (min(both), -1)
            axes.annotate(
                f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}",
                (end, place),
                (3 * side, 0),
                textcoords="offset points",
                va="center",
                ha="left" if side > 0 else "right",
                fontsize=6,
            )
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(LOWEST, 2.2 * max(longest, 2))
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if tick <= 2 * longest]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, labelsize=6.5)
    axes.tick_params(axis="x", length=0, labelbottom=True)
    axes.grid(axis="x", color=FAINT, linewidth=0.25)
    axes.set_axisbelow(True)
    axes.invert_yaxis()
    axes.set_title(textwrap.fill(record.get("title", record["name"]), LETTERS), fontsize=7.5)
