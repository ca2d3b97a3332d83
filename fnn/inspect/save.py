"""Pictures on disk: the suffix says which kind, and a folder is tried before anything long begins."""

import os
import tempfile
from pathlib import Path
from typing import Any

from fnn.core.errors import InputError
from fnn.core.paths import as_path, shown
from fnn.core.words import kind_name
from fnn.inspect.style import figure

FORMATS = ("png", "pdf", "svg")  # pixels, and two kinds in which lines and letters stay lines and letters

# PDF: letters as TrueType, which publishers ask for. SVG: the same names in it, run for run.
_RC: dict[Any, Any] = {"pdf.fonttype": 42, "svg.hashsalt": "fnn"}


def save_figure(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Write a picture in the format that the suffix of its path names: .png, .pdf or .svg; the same bytes every time.

    Args:
      figure: from any plot function.
      path: where to; the folder must be there (`output_folder` makes it).

    Returns:
      The path.

    Raises:
      InputError: another suffix, found before anything is drawn; no Figure; a path that cannot be written.
    """
    path = as_path("save_figure", path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        got = repr(path.suffix) if suffix else f"no suffix in {path.name!r}"
        raise InputError("save_figure", f"a path that ends in .{', .'.join(FORMATS)}", got, "name it picture.png")
    if not hasattr(figure, "savefig"):
        raise InputError("save_figure", "a matplotlib Figure", kind_name(figure), "pass what a plot function returned")
    import matplotlib

    date = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": None}[suffix]
    try:
        with matplotlib.rc_context(_RC):
            figure.savefig(path, format=suffix, metadata=date)
    except OSError as error:
        raise _cannot_write("save_figure", "a path that can be written", path, error) from error
    return path


def output_folder(path: str | os.PathLike[str]) -> Path:
    """A folder in which pictures can be written: made if missing, and tried. For the beginning of a program.

    Args:
      path: of the folder.

    Raises:
      InputError: a file in its place or in that of a folder above it, a folder that cannot be made or written in, or no
        matplotlib to draw with.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     output_folder(f"{folder}/out/lenet").is_dir()
    True
    """
    path = as_path("output_folder", path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # permissions do not tell of a disk that is full or mounted read-only
            pass
    except (OSError, ValueError) as error:
        raise _cannot_write("output_folder", "a folder that can be written", path, error) from error
    with figure(1, 1):  # which needs matplotlib
        return path


def _cannot_write(where: str, expected: str, path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(where, expected, f"{shown(path)} ({reason})", "choose another place")
