"""Memory that the process keeps: what the C library is told, and that page faults go."""

import platform

import pytest

from fnn import InputError, train
from fnn.train import memory
from tests.helpers import as_users_run

GLIBC = platform.libc_ver()[0] == "glibc"

FAULTS = """
import ctypes, resource, sys
from fnn import train
print(train.keep_memory() if sys.argv[1] == "kept" else None)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def use(pieces, size):
    places = [libc.malloc(size) for _ in range(pieces)]
    for place in places:
        ctypes.memset(place, 1, size)
    for place in places:
        libc.free(place)

use(8, 16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use(8, 16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_a_second_step_touches_no_fresh_pages():
    """128 MiB in pieces of 16 are freed and allocated again."""
    answer, faults = as_users_run("-c", FAULTS, "kept").split()
    assert answer == "True"
    _, without = as_users_run("-c", FAULTS, "given back").split()
    assert 10 * int(faults) < int(without)


@pytest.mark.parametrize("missing", [AttributeError, OSError, TypeError])
def test_other_c_libraries_are_left_alone(missing, monkeypatch):
    def none(_):
        raise missing

    monkeypatch.setattr(memory.ctypes, "CDLL", none)
    assert train.keep_memory() is False


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_the_size_is_that_above_which_memory_is_given_back(monkeypatch):
    told = []

    class Libc:
        gnu_get_libc_version = None

        def mallopt(self, option, value):
            told.append((option, value))
            return 1

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: Libc())
    assert train.keep_memory(5 << 20)
    assert told == [(-3, 32 << 20), (-1, 5 << 20)]


@pytest.mark.parametrize("size", [0, -1, 1 << 31, 1.5, "1", True, None])
def test_sizes_that_the_library_cannot_take_are_refused(size):
    with pytest.raises(InputError, match="keep_memory expected a number of bytes from 1 to 2147483647"):
        train.keep_memory(size)
