"""Every plot function at its extremes: nothing cut off, nothing empty, nothing that looks like a hole; and on disk."""

import inspect as python
import re

import numpy as np
import pytest

import fnn
from fnn import inspect
from tests.inspect.test_inspect import texts

pytest.importorskip("matplotlib")


def rand(*shape):
    return np.random.default_rng(0).normal(size=shape)


def mistakes(n, of=30, **options):
    """A picture of n mistakes."""
    probabilities = np.random.default_rng(0).dirichlet(np.ones(10), size=of)
    labels = probabilities.argmax(1)
    labels[:n] = (labels[:n] + 1) % 10
    return inspect.plot_mistakes(rand(of, 6, 6), labels, probabilities, **options)


def rows(n, **measures):
    return [{"epoch": i, "loss": 1.0 / (i + 1), **measures} for i in range(n)]


NAN = np.full((4, 4), np.nan)
HALF = np.where(np.eye(4) > 0, np.nan, 1.0)
ODD = [{"epoch": 0, "loss": np.inf}, {"epoch": 1, "loss": 2.0, "test_loss": -1.0}, {"epoch": 2, "loss": np.nan}]

PICTURES = {
    **{f"mistakes {n}": lambda n=n: mistakes(n) for n in (0, 1, 2, 3, 4, 5, 12, 20)},
    "mistakes, most=1": lambda: mistakes(9, most=np.int32(1)),
    "mistakes of 3 million": lambda: inspect.plot_mistakes(
        np.broadcast_to(rand(4, 4), (3_000_000, 4, 4)), np.arange(3_000_000) // 2_999_999, np.ones((3_000_000, 2))
    ),
    "mistakes, many classes": lambda: mistakes(2, k=99),
    "mistakes, no images": lambda: inspect.plot_mistakes(np.ones((0, 4, 4)), np.zeros(0, int), np.ones((0, 3))),
    "mistakes, nan": lambda: inspect.plot_mistakes([NAN, HALF], [1, 1], [[0.9, 0.1], [np.nan, np.nan]]),
    "mistakes, colours": lambda: inspect.plot_mistakes(255 * np.ones((2, 4, 4, 3), np.uint8), [1, 1], np.eye(2)),
    "curves 1": lambda: inspect.plot_curves(rows(1)),
    "curves 2": lambda: inspect.plot_curves(rows(2, accuracy=1.0)),
    "curves, tests alone": lambda: inspect.plot_curves(rows(3, test_accuracy=0.5)),
    "curves, odd numbers": lambda: inspect.plot_curves(ODD),
    "curves, no numbers": lambda: inspect.plot_curves([{"epoch": 7, "loss": np.nan, "accuracy": np.nan}]),
    "curves 3000": lambda: inspect.plot_curves(rows(3000)),
    "filters 1": lambda: inspect.plot_filters(rand(1, 1, 1, 1)),
    "filters 2": lambda: inspect.plot_filters(rand(3, 1, 2, 1)),
    "filters 512": lambda: inspect.plot_filters(rand(2, 2, 16, 32)),
    "filters, nan": lambda: inspect.plot_filters(NAN[:, :, None, None]),
    "filters, colours, nan": lambda: inspect.plot_filters(np.stack([HALF] * 3, 2)[..., None]),
    "filters, zero": lambda: inspect.plot_filters(np.zeros((3, 3, 1, 4))),
    "filters, huge": lambda: inspect.plot_filters(1e300 * rand(3, 3, 1, 4)),
    "maps 1": lambda: inspect.plot_feature_maps(rand(1, 1), {"a": rand(1)}),
    "maps, many channels": lambda: inspect.plot_feature_maps(rand(9, 9), {"a": rand(2, 2, 5000), "b": rand(50_000)}),
    "maps, pooled": lambda: inspect.plot_feature_maps(rand(9, 9), {"a": rand(1, 1, 20), "b": rand(1, 7, 3)}),
    "maps, nan": lambda: inspect.plot_feature_maps(NAN, {"a": NAN[..., None], "b": HALF[..., None], "c": NAN[0]}),
    "maps, dead": lambda: inspect.plot_feature_maps(np.zeros((4, 4)), {"a": np.zeros((4, 4, 3)), "b": np.zeros(9)}),
    "maps, colours": lambda: inspect.plot_feature_maps(9 * rand(4, 4, 3), {"a": rand(4, 4, 2)}),
    "maps, long title": lambda: inspect.plot_feature_maps(rand(4, 4), {"encoder/" * 30: np.zeros((4, 4, 999))}),
    "confusion 0": lambda: inspect.plot_confusion([], []),
    "confusion 1": lambda: inspect.plot_confusion([0], [0], classes=1),
    "confusion 40": lambda: inspect.plot_confusion(np.arange(40), np.arange(40)[::-1], 40),
    "confusion 300": lambda: inspect.plot_confusion(np.arange(300), np.arange(300)[::-1], 300),
}
QUICK = {
    *("mistakes 0", "mistakes 1", "mistakes 2", "mistakes 5", "mistakes, nan", "curves 1", "curves, odd numbers"),
    *("filters 1", "filters, nan", "maps 1", "maps, dead", "maps, long title", "confusion 0", "confusion 1"),
}


def cut_off(fig):
    """The texts of a figure that reach over its edge, and those that lie over another one."""
    import matplotlib.text

    fig.draw_without_rendering()
    page, boxes = fig.bbox, []
    for text in fig.findobj(matplotlib.text.Text):
        # Ticks beyond the limits of an axis have a place but are not drawn.
        if text.get_text() and text.get_visible() and not re.fullmatch(r"[\d.\-−+$\\a-z{}^\s]+", text.get_text()):
            box = text.get_window_extent()
            boxes.append((text.get_text(), box))
    over = [t for t, b in boxes if b.x0 < page.x0 - 1 or b.x1 > page.x1 + 1 or b.y0 < page.y0 - 1 or b.y1 > page.y1 + 1]
    clash = [(s, t) for i, (s, a) in enumerate(boxes) for t, b in boxes[:i] if a.padded(-1).overlaps(b.padded(-1))]
    return over, clash


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in PICTURES]
)
def test_nothing_is_cut_off_or_empty(name, tmp_path):
    fig = PICTURES[name]()
    assert cut_off(fig) == ([], [])
    inspect.save_figure(fig, tmp_path / "x.png")
    from matplotlib.image import imread

    page = imread(tmp_path / "x.png")
    assert max(page.shape) < 6000
    ink = (page[..., :3].min(-1) < 0.95).any(1)  # rows of pixels on which there is something
    blank = max(map(len, re.findall("0*", "".join("01"[int(row)] for row in ink))))
    assert ink.any()
    assert blank < 0.6 * len(ink) or blank < 0.4 * fig.dpi, "most of the page is empty"


def test_every_plot_function_is_among_them():
    drawn = {name.split()[0].rstrip(",") for name in PICTURES}
    functions = {name.removeprefix("plot_") for name, _ in python.getmembers(inspect) if name.startswith("plot_")}
    assert {"maps" if name == "feature_maps" else name for name in functions} == drawn


def test_dead_maps_say_so():
    maps = {"relu": np.stack([rand(4, 4), np.zeros((4, 4)), np.zeros((4, 4)), np.full((4, 4), 2.0)], -1)}
    fig = inspect.plot_feature_maps(rand(4, 4), maps)
    assert "0 everywhere: 2 of 4" in texts(fig)
    tiles = fig.axes[1:]
    assert [[t.get_text() for t in ax.texts] for ax in tiles] == [[""], ["0"], ["0"], ["2"]]
    for ax in tiles:  # a frame shows where a white tile ends
        assert all(spine.get_visible() and spine.get_linewidth() > 0 for spine in ax.spines.values())
    assert not [t for t in texts(inspect.plot_feature_maps(rand(4, 4), {"relu": rand(4, 4, 3)})) if "0 everywhere" in t]


def test_what_is_no_number_is_amber():
    from matplotlib.colors import to_rgb

    fig = inspect.plot_feature_maps(HALF, {"a": HALF[..., None]})
    for ax in fig.axes:
        image = ax.images[0]
        np.testing.assert_allclose(image.cmap(image.get_array())[0, 0, :3], to_rgb("#e8a317"), atol=0.01)
    tile = inspect.plot_filters(np.stack([HALF] * 3, 2)[..., None]).axes[0].images[0].get_array()
    np.testing.assert_allclose(tile[0, 0], to_rgb("#e8a317"))


def test_colour_images_are_brought_into_range():
    shown = [
        inspect.plot_feature_maps(image, {"a": rand(3)}).axes[0].images[0].get_array()
        for image in (np.full((2, 2, 3), 51, np.uint8), np.array([[[-2.0, 0, 2]]]), np.full((2, 2, 3), 0.2))
    ]
    np.testing.assert_allclose(shown[0], 0.2)
    np.testing.assert_allclose(shown[1], [[[0, 0.5, 1]]])
    np.testing.assert_allclose(shown[2], 0.2)


def test_curves_show_single_numbers_and_say_what_is_missing():
    loss = inspect.plot_curves(ODD).axes[0]
    training, test = loss.lines
    assert (training.get_marker(), test.get_marker()) == ("o", "o")
    assert loss.get_title(loc="left") == "no number in 2 of 3 epochs"
    assert loss.get_yscale() == "linear"  # of a test loss below 0 there is no logarithm
    assert inspect.plot_curves(rows(5)).axes[0].get_yscale() == "log"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inspect.plot_curves([*rows(1), {"epoch": 1}]), 'rows with "epoch" and "loss"'),
        (lambda: inspect.plot_curves([{"epoch": 0, "loss": "low"}]), "numbers for loss; got .*low"),
        (lambda: inspect.plot_confusion(["a"], ["b"]), "class numbers; got dtype <U1"),
        (lambda: inspect.plot_confusion([0], [np.nan]), r"classes in \[0, 10\); got \[nan\]"),
        (lambda: inspect.plot_confusion([0], [0], classes=0), "classes >= 1; got 0"),
        (lambda: inspect.plot_mistakes(np.ones((1, 2)), [0], [[1.0]]), r"got \(1, 2\), \(1,\), \(1, 1\)"),
        (lambda: inspect.plot_mistakes(np.ones((1, 2, 2, 4)), [0], [[1.0]]), r"got \(1, 2, 2, 4\)"),
        (lambda: mistakes(1, k=0), "k >= 1; got 0"),
        (lambda: mistakes(1, most=1.5), "most >= 1; got 1.5"),
        (lambda: inspect.plot_filters(np.ones((0, 3, 1, 2))), r"at least one weight; got \(0, 3, 1, 2\)"),
        (lambda: inspect.plot_feature_maps(np.ones((2, 2)), {"a": np.ones((2, 0, 3))}), r"got \{'a': \(2, 0, 3\)\}"),
        (lambda: inspect.plot_feature_maps(np.ones((2, 0)), {"a": np.ones(3)}), r"an image .*; got \(2, 0\)"),
        (
            lambda: inspect.plot_feature_maps(np.ones((2, 2)), dict.fromkeys(range(300), np.ones(2))),
            "at most 200 rows; got 300 maps; choose some layers",
        ),
        (lambda: inspect.save_figure(None, "x.png"), "a matplotlib Figure; got NoneType"),
        (lambda: inspect.save_figure(None, "x.bmp"), r"ends in \.png, \.pdf, \.svg; got '\.bmp'; name it picture\.png"),
        (lambda: inspect.save_figure(None, "x"), "got no suffix in 'x'"),
        (lambda: inspect.save_figure(mistakes(0), "/proc/x.png"), r"can be written; got /proc/x\.png \("),
        (lambda: inspect.save_figure(mistakes(0), "/nowhere/x.png"), r"can be written; got /nowhere/x\.png \(No such"),
        (lambda: inspect.output_folder("/proc/out"), r"a folder that can be written; got /proc/out \("),
        (lambda: inspect.output_folder("/proc"), r"a folder that can be written; got /proc \("),
        (lambda: inspect.output_folder(__file__), r"can be written; got .*test_pictures.py \(File exists\); choose"),
        (lambda: inspect.output_folder(__file__ + "/out"), r"can be written; got .*out \(Not a directory\); choose"),
        (lambda: inspect.output_folder("a\0b"), r"can be written; got"),
        (lambda: inspect.output_folder(None), r"a path; got None"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()


MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.mark.parametrize("suffix", [*inspect.FORMATS, "SVG"])
def test_the_suffix_says_the_format_and_the_bytes_are_the_same_every_time(tmp_path, suffix):
    first, second = (inspect.save_figure(mistakes(2), tmp_path / f"{i}.{suffix}").read_bytes() for i in range(2))
    assert first == second
    assert first.startswith(MAGIC[suffix.lower()])
    # Letters and bars are drawn as such, not as pixels: the only images are the two of the mistakes.
    if suffix.lower() == "svg":
        assert first.count(b"<image") == 2
        assert first.count(b"<path") > 10
    if suffix == "pdf":
        assert first.count(b"/Subtype /Image") == 2
        assert b"/TrueType" in first or b"/CIDFontType2" in first


def test_a_folder_is_made_with_all_above_it(tmp_path):
    assert inspect.output_folder(str(tmp_path / "a" / "b")).is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())  # the trial leaves nothing behind
