"""MNIST and the data sets that are distributed in its form."""

import os
from pathlib import Path

import numpy as np

from fnn.core.errors import InputError, integer, require
from fnn.core.paths import as_path, shown
from fnn.data.batches import Data, Split
from fnn.data.idx import read_idx


def mnist(folder: str | bytes | os.PathLike[str], size: int = 32, *, classes: int = 10) -> Split:
    """folder -> Split of images (60000, size, size, 1) and (10000, size, size, 1) with labels, from four IDX files.

    For MNIST and data sets in its form (Fashion-MNIST, KMNIST), as distributed: `train-images-idx3-ubyte`,
    `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, each with or without `.gz`, and with
    `.idx` in place of `-idx`; capitals do not matter.

    Args:
      folder: where the files lie.
      size: height and width of the images; 28x28 pixels are padded with zeros on all sides, to 32 for LeNet-5.
      classes: labels are 0 to classes - 1.

    Raises:
      InputError: a missing, damaged or empty file, labels that do not match the images or are none of the classes,
        images larger than `size`, images for testing of another size than those for training.
    """
    folder = as_path("mnist", folder)
    size = integer("mnist", "size", size, fix="use size=32 for LeNet-5")
    classes = integer("mnist", "classes", classes, most=2**32, fix="use classes=10 for MNIST")
    try:
        # Of two names that differ in capitals alone, the first in the order of the alphabet.
        files = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True) if path.is_file()}
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "pass the folder, not one of its files"
        raise InputError("mnist", "a folder with IDX files", shown(folder), fix) from error
    except (OSError, ValueError) as error:
        got = f"{shown(folder)}, which cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError("mnist", "a folder with IDX files", got, "check the path and its permissions") from error
    pairs = {prefix: _read_pair(files, folder, prefix, classes) for prefix in ("train", "t10k")}
    sizes = {prefix: f"{images.shape[1]}x{images.shape[2]}" for prefix, (images, _) in pairs.items()}
    same = sizes["train"] == sizes["t10k"]
    fix = "take both from the same data set"
    require(same, "mnist (t10k)", f"images of {sizes['train']}, as in train", sizes["t10k"], fix)
    return Split(*(_pad(prefix, *pair, size) for prefix, pair in pairs.items()))


def _read_pair(files: dict[str, Path], folder: Path, prefix: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(_find(files, folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_find(files, folder, f"{prefix}-labels-idx1-ubyte"))
    where = f"mnist ({prefix})"
    require(
        images.ndim == 3 and images.dtype == np.uint8 and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer),
        where,
        "uint8 images (N, H, W) and integer labels (N,)",
        f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}",
        "check that images and labels are not exchanged",
    )
    same = len(images) == len(labels)
    require(same, where, f"a label for each of {len(images)} images", f"{len(labels)} labels", "download both again")
    require(images.size > 0, where, "at least one image", f"shape {images.shape}", "download the files again")
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        got = f"{labels[outside[0]]}, the label of image {outside[0]}"
        raise InputError(where, f"labels in [0, {classes})", got, "check the file, or say classes=")
    return images, labels


def _pad(prefix: str, images: np.ndarray, labels: np.ndarray, size: int) -> Data:
    _, height, width = images.shape
    wanted = f"size >= {max(height, width)}, that of the images"
    require(size >= max(height, width), f"mnist ({prefix})", wanted, size, "use size=32 for LeNet-5")
    pads = [((size - n) // 2, (size - n + 1) // 2) for n in (height, width)]
    pixels = np.pad(images, ((0, 0), *pads))[..., None].astype(np.float32)
    pixels /= 255
    return Data(pixels, labels.astype(np.int32))


def _find(files: dict[str, Path], folder: Path, name: str) -> Path:
    names = [n + ending for n in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz")]
    for candidate in names:
        if candidate in files:
            return files[candidate]
    got = f"none of them in {shown(folder)}"
    raise InputError("mnist", f"one of {', '.join(names)}", got, "put the file into the folder")
