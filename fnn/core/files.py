"""Files that are written as a whole or not at all: beside their place, then renamed."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place, flushed to the disk, when the block ends.

    If the block fails, or the process is killed, what was there before stays; a killed process leaves the file beside
    it, `.fnn.*`. An older file keeps its permissions.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x"
    >>> with whole_file(path) as file:
    ...     _ = file.write(b"all")
    >>> path.read_bytes()
    b'all'
    """
    side = None
    try:
        name = path.parent / f".fnn.{secrets.token_hex(8)}"
        number = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        side = name
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(number)
        if path.exists():
            os.chmod(side, path.stat().st_mode & 0o777)
        os.replace(side, path)
        side = None
    finally:
        if side is not None:
            with contextlib.suppress(OSError):
                side.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a loss of power; not every system opens folders."""
    with contextlib.suppress(OSError, AttributeError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
