"""The IDX format, in which MNIST and its kin are distributed, gzipped or not.

    bytes 0, 1     zero
    byte 2         element type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    byte 3         number of axes
    then           the size of each axis, 4 bytes each; then the elements, the last axis fastest; all big-endian

Source: LeCun, Cortes and Burges, The MNIST database, http://yann.lecun.com/exdb/mnist
"""

import gzip
import math
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from fnn.core.errors import InputError, require
from fnn.core.paths import as_path, shown

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
_MOST_AXES = 64  # of a NumPy array
_RATIO = 1032  # the most that deflate can shrink: 258 bytes to 2 bits (https://zlib.net/zlib_tech.html)
_IMPLAUSIBLE = 1 << 12  # times as many bytes in this order of the sizes as in the other: sizes are small numbers
_CHUNK = 1 << 20  # bytes read at once, so that memory grows with what came and never with what was promised


def read_idx(path: str | bytes | os.PathLike[str]) -> np.ndarray:
    """path -> the array in the file, in this machine's byte order; floats as they are, NaN included.

    Never takes more memory than the file holds or, where it is gzipped, than its header asks for.

    Args:
      path: an IDX file; a gzipped one is known by its content, whatever its name.

    Raises:
      InputError: no file that can be read, damaged gzip, no IDX header or that of no possible array, fewer or more
        bytes than the header promises.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels-idx1-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    ...     read_idx(path).tolist()
    [5, 0, 4]
    """
    path = as_path("read_idx", path)
    where = f"read_idx({shown(path.name)})"
    with _reading(where, path) as (file, size, packed):
        head = file.read(4)
        sizes = file.read(4 * head[3]) if len(head) == 4 else b""
        dtype = _check_header(where, head, sizes)
        start = len(head) + len(sizes)
        shape, swapped = (tuple(np.frombuffer(sizes, order).tolist()) for order in (">u4", "<u4"))
        wanted, little = (math.prod(s) * dtype.itemsize for s in (shape, swapped))
        most = _RATIO * size if packed else size - start
        content = bytearray()
        if wanted <= most:
            for chunk in _chunks(file, wanted + 1):
                content += chunk
            came = len(content) if packed or len(content) < wanted else most
            about = "at least " if packed and came > wanted else ""
        elif packed and little <= most:
            came = sum(map(len, _chunks(file, little + 1)))
            about = "at least " if came > little else ""
        else:
            came, about = most, "at most " if packed else ""
    if came != wanted:
        few = "truncated" if came < wanted else "with trailing bytes"
        reverse = came == little or 0 < little * _IMPLAUSIBLE <= wanted
        order = "; its sizes are byte-swapped, probably" if reverse else ""
        raise InputError(
            where,
            f"{start + wanted} bytes for {dtype.name} of shape {shape}",
            f"{about}{start + came}, {few}{order}",
            "write sizes and elements most significant byte first" if reverse else "download it again",
        )
    # NumPy counts the bytes of an array without its empty axes, and these in a signed word.
    possible = math.prod(max(1, n) for n in shape) * dtype.itemsize <= sys.maxsize
    require(possible, where, "the header of a possible array", f"shape {shape}", "check that this is IDX")
    array = np.frombuffer(content, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def _reading(where: str, path: Path) -> Iterator[tuple[BufferedIOBase, int, bool]]:
    """An open file, unpacked if it is gzipped; its size, and whether it is."""
    try:
        mode = path.stat().st_mode  # before it is opened, since a pipe would wait for its other end
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file, but a pipe or a device:"
            raise InputError(where, "an IDX file", f"{kind} {shown(path)}", "pass the path of one file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            if not packed:
                yield file, size, False
                return
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield unpacked, size, True
            except (OSError, EOFError, zlib.error) as error:
                got = f"a damaged one ({error})"
                raise InputError(where, "a whole gzip file", got, "download it again") from error
    except FileNotFoundError as error:
        raise InputError(where, "an IDX file", f"no file {shown(path)}", "check the path") from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        got = f"{shown(path)}, which cannot be read ({reason})"
        raise InputError(where, "an IDX file", got, "check the path and its permissions") from error


def _check_header(where: str, head: bytes, sizes: bytes) -> np.dtype:
    """The type of the elements."""
    if len(head) < 4 or len(sizes) < 4 * head[3] or head[:2] != b"\0\0" or head[2] not in TYPES:
        reverse = len(head) == 4 and head[2:] == b"\0\0" and head[1] in TYPES
        order, fix = (", byte-swapped, probably", "write it most significant byte first") if reverse else ("", "")
        got = f"bytes {(head + sizes)[:8].hex(' ')}{order}"
        raise InputError(where, "an IDX header: 00 00, type, axes, sizes", got, fix or "check that this is IDX")
    axes = head[3]
    require(axes <= _MOST_AXES, where, f"at most {_MOST_AXES} axes", f"{axes}", "check that this is IDX")
    return np.dtype(TYPES[head[2]])


def _chunks(file: BufferedIOBase, most: int) -> Iterator[bytes]:
    """The next bytes, `most` at most."""
    while most > 0 and (chunk := file.read(min(_CHUNK, most))):
        yield chunk
        most -= len(chunk)
