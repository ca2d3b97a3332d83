"""Paths as callers bring them, and as messages show them."""

import os
from pathlib import Path

from fnn.core.errors import InputError


def as_path(where: str, path: str | bytes | os.PathLike[str]) -> Path:
    """A path of any kind that Python takes; not a file number, which `open` would take, too."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise InputError(where, "a path", repr(path), "pass a str or a pathlib.Path")
    try:
        return Path(os.fsdecode(path))
    except (TypeError, ValueError) as error:  # whatever the caller's own __fspath__ does
        raise InputError(where, "a path", repr(path), f"it is none: {error}") from error


def shown(path: str | Path) -> str:
    """A name as text that can be printed, whatever bytes it is made of.

    >>> shown("caf\\udce9")
    'caf\\\\xe9'
    """
    return os.fsencode(path).decode("utf8", "backslashreplace")
