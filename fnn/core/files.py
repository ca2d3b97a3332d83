"""Files that are written as a whole or not at all: beside their place, then renamed."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place, flushed to the disk, when the block ends.

    If the block fails, or the process is killed, what was there before stays. An older file keeps its permissions.

    >>> path = Path(tempfile.mkdtemp()) / "x"
    >>> with whole_file(path) as file:
    ...     _ = file.write(b"all")
    >>> path.read_bytes()
    b'all'
    """
    side = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".fnn.", delete=False) as file:
            side = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(side, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(side, path)
        side = None
    finally:
        if side is not None:
            with contextlib.suppress(OSError):
                side.unlink()
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a loss of power; not every system opens folders."""
    with contextlib.suppress(OSError, AttributeError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
