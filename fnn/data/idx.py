"""The IDX format, in which MNIST and its kin are distributed, gzipped or not.

    bytes 0, 1     zero
    byte 2         element type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    byte 3         number of axes
    then           the size of each axis, 4 bytes each; then the elements, the last axis fastest; all big-endian

Source: LeCun, Cortes and Burges, The MNIST database, http://yann.lecun.com/exdb/mnist
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from fnn.core.errors import InputError, require
from fnn.data.batches import Data, Split

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | Path) -> np.ndarray:
    """path -> the array in the file, in this machine's byte order.

    Args:
      path: an IDX file; a gzipped one is known by its content, whatever its name.

    Raises:
      InputError: no such file, damaged gzip, no IDX header, fewer or more bytes than the header promises.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels-idx1-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    ...     read_idx(path).tolist()
    [5, 0, 4]
    """
    path = Path(path)
    where = f"read_idx({path.name})"
    require(path.is_file(), where, "an IDX file", f"no file {path}", "check the path")
    content = path.read_bytes()
    if content.startswith(GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(where, "a whole gzip file", f"a damaged one ({error})", "download it again") from error
    axes = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * axes
    if len(content) < start or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise InputError(
            where, "an IDX header: 00 00, type, axes, sizes", f"bytes {content[:8].hex(' ')}", "check that this is IDX"
        )
    dtype = np.dtype(TYPES[content[2]])
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    expected = start + math.prod(shape) * dtype.itemsize
    require(
        len(content) == expected,
        where,
        f"{expected} bytes for {dtype.name} of shape {shape}",
        f"{len(content)}, {'truncated' if len(content) < expected else 'with trailing bytes'}",
        "download it again",
    )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def mnist(folder: str | Path, size: int = 32) -> Split:
    """folder -> Split of images (60000, size, size, 1) and (10000, size, size, 1) with labels, from four IDX files.

    For MNIST and data sets in its form (Fashion-MNIST, KMNIST), as distributed: `train-images-idx3-ubyte`,
    `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, each with or without `.gz`, and with
    `.idx` in place of `-idx`.

    Args:
      folder: where the files lie.
      size: height and width of the images; 28x28 pixels are padded with zeros on all sides, to 32 for LeNet-5.

    Raises:
      InputError: a missing, damaged or empty file, labels that do not match the images, images larger than `size`.
    """
    folder = Path(folder)
    require(folder.is_dir(), "mnist", "a folder with IDX files", f"{folder}", "pass the folder, not one of its files")
    return Split(_read_pair(folder, "train", size), _read_pair(folder, "t10k", size))


def _read_pair(folder: Path, prefix: str, size: int) -> Data:
    images = read_idx(_find(folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{prefix}-labels-idx1-ubyte"))
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
    _, height, width = images.shape
    fits = isinstance(size, int) and size >= max(height, width)
    require(fits, where, f"size >= {max(height, width)}, that of the images", repr(size), "use size=32 for LeNet-5")
    pads = [((size - n) // 2, (size - n + 1) // 2) for n in (height, width)]
    pixels = np.pad(images, ((0, 0), *pads))[..., None].astype(np.float32)
    pixels /= 255
    return Data(pixels, labels.astype(np.int32))


def _find(folder: Path, name: str) -> Path:
    names = [n + ending for n in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise InputError("mnist", f"one of {', '.join(names)}", f"none of them in {folder}", "put the file into the folder")
