"""Keeping freed memory in the process, for training on CPU."""

import ctypes

from fnn.core.errors import LARGEST, index_of, require
from fnn.core.words import described

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_PIECE = 32 << 20  # the most that glibc allows for the second


def keep_memory(size: int = 1 << 30) -> bool:
    """Ask the C library to keep the memory that a training step frees, for the next step.

    XLA's CPU backend allocates a step's temporary arrays anew in every step. glibc, the C library of most Linux
    systems, gives them back to the operating system in between, and each page that the next step touches then costs a
    page fault. What that is worth is measured, as "memory kept", in benchmarks/results/report.md. Call it once, before
    training: it holds for the whole process, for whatever runs in it, until its end. Arrays of over 32 MiB are given
    back all the same.

    Args:
      size: bytes of free memory at the end of a heap above which glibc gives that end back.

    Returns:
      Whether the C library did as asked: False where it is not glibc.

    Raises:
      InputError: a size that is no integer from 1 to 2³¹ - 1, the most that glibc takes.

    Source: mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.

    >>> keep_memory()  # doctest: +SKIP
    True
    """
    n = index_of(size)
    ok = n is not None and 1 <= n <= LARGEST
    require(ok, "keep_memory", f"a number of bytes from 1 to {LARGEST}", described(size), "leave it out for 1 GiB")
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (another C library may have a mallopt that means something else)
        return bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST_PIECE) and libc.mallopt(_TRIM_THRESHOLD, n))
    except (AttributeError, OSError, TypeError):  # no such function; no C library to open (Windows)
        return False
