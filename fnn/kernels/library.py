"""Which oneDNN there is, and whether XLA can call it from here: found once, at the first trace that may use it."""

import ctypes
import functools
import os
import pickle
import re
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from fnn.core.storage import TARGET

VARIABLE = "FNN_ONEDNN"
_WHEEL = "onednn-cpu-gomp"
_INSTALL = 'pip install "fnn[cpu]"'
_OPENMP = 2  # oneDNN's number of the runtime
# Versions of XLA's interface for handlers in whose header the offsets of `frame` were read.
_INTERFACES = ((0, 3), (0, 4), (0, 5))


@dataclass(frozen=True)
class Kernels:
    """The library behind compiled CPU kernels.

    Attributes:
      path: its file, "" without one.
      version: as "3.2.0".
      instructions: the largest set of instructions that it uses here, in its own words, as "avx512_core_bf16".
      threads: how many it takes at once: those of XLA's pool, one for each core.
      missing: why there are none, "" where there are.
    """

    path: str = ""
    version: str = ""
    instructions: str = ""
    threads: int = 0
    missing: str = ""

    def __str__(self) -> str:
        if self.missing:
            return f"no compiled CPU kernels: {self.missing}"
        return f"oneDNN {self.version}, {self.instructions}, {self.threads} threads of XLA, {self.path}"


_one_at_a_time = threading.Lock()


def kernels() -> Kernels:
    """Which compiled CPU kernels there are, or why none: looked for once a process, with oneDNN and numba loaded.

    oneDNN is taken from the file that the environment variable FNN_ONEDNN names ("none": do without), from the wheel
    that `pip install "fnn[cpu]"` brings, or from the system, in this order. Without it everything runs as XLA compiles
    it.

    >>> import fnn
    >>> print(fnn.ops.kernels())  # doctest: +SKIP
    oneDNN 3.2.0, avx512_core_bf16, 2 threads of XLA, /usr/lib/libdnnl.so.3
    """
    with _one_at_a_time:  # traces in several threads would register the handler twice
        return _found()


@functools.cache
def _found() -> Kernels:
    missing = _unsupported()
    if missing:
        return Kernels(missing=missing)
    try:  # numba refuses to be imported beside a NumPy that it does not know
        from fnn.kernels import dnnl as dnnl
    except ImportError as error:
        return Kernels(missing=f"numba cannot be imported: {error}")
    reasons = []
    for path in _candidates():
        found = _opened(path)
        if not found.missing:
            _register(path)
            return found
        reasons.append(found.missing)
    return Kernels(missing="; ".join(reasons) or f"oneDNN is not installed, {_INSTALL} brings it")


def lacking() -> str:
    """Why there are no kernels, "" where there are."""
    return kernels().missing


def computes(*args: Any) -> bool:
    """Whether there are kernels for arrays of one dtype: float32, and bfloat16 where the processor multiplies it."""
    dtypes = {a.dtype.name for a in args}
    return dtypes == {"float32"} or (dtypes == {"bfloat16"} and kernels().instructions in _WITH_BFLOAT16)


def _unsupported() -> str:
    asked = os.environ.get(VARIABLE, "")
    if asked.lower() == "none":
        return f"{VARIABLE} says none"
    if find_spec("numba") is None:
        return f"numba is not installed, {_INSTALL} brings it"
    if sys.byteorder != "little" or sys.maxsize < 1 << 32:
        return "they are for processors of 64 bits, little end first"
    version = _interface()
    known = ", ".join(f"{major}.{minor}" for major, minor in _INTERFACES)
    return "" if version in _INTERFACES else f"XLA's interface for handlers is {version}, fnn knows {known}"


def _interface() -> tuple[int, ...]:
    """The version of XLA's interface, as its header has it."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        text = header.read_text()
    except OSError:
        return ()
    return tuple(int(number) for number in re.findall(r"^#define XLA_FFI_API_(?:MAJOR|MINOR) (\d+)", text, re.M))


def _candidates() -> Iterator[str]:
    asked = os.environ.get(VARIABLE, "")
    if asked:
        yield asked
        return
    try:
        own = sorted(str(file.locate()) for file in files(_WHEEL) or () if file.name.startswith("libdnnl.so"))
    except PackageNotFoundError:
        own = []
    yield from (str(Path(path).resolve()) for path in own[:1])
    system = find_library("dnnl")
    if system is not None:
        yield system


class _Version(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("patch", ctypes.c_int),
        ("hash", ctypes.c_char_p),
        ("runtime", ctypes.c_uint),
    )


def _opened(path: str) -> Kernels:
    """What a file holds."""
    from fnn.kernels import dnnl

    try:
        library = ctypes.CDLL(path)
        version_of = library.dnnl_version
        version_of.restype = ctypes.POINTER(_Version)
        version = version_of().contents
        words = f"{version.major}.{version.minor}.{version.patch}"
        absent = [name for name in dnnl.FUNCTIONS if not hasattr(library, name)]
    except (OSError, AttributeError) as error:
        return Kernels(missing=f"{path} cannot be loaded: {error}")
    if version.major != 3:
        return Kernels(missing=f"{path} is oneDNN {words}, not 3")
    if version.runtime != _OPENMP:
        return Kernels(missing=f"{path} was not built for OpenMP")
    if absent:
        return Kernels(missing=f"{path} has no {absent[0]}")
    isa = library.dnnl_get_effective_cpu_isa()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Kernels(str(Path(path)), words, _INSTRUCTIONS.get(isa, hex(isa)), cores)


# oneDNN's numbers in dnnl_cpu_isa_t.
_INSTRUCTIONS = {
    0x1: "sse41",
    0x3: "avx",
    0x7: "avx2",
    0xF: "avx2_vnni",
    0x1F: "avx2_vnni_2",
    0x27: "avx512_core",
    0x67: "avx512_core_vnni",
    0xE7: "avx512_core_bf16",
    0x1EF: "avx512_core_fp16",
    0xFEF: "avx512_core_amx",
    0x1FEF: "avx512_core_amx_fp16",
}
_WITH_BFLOAT16 = tuple(words for isa, words in _INSTRUCTIONS.items() if isa & 0xE7 == 0xE7)


def _register(path: str) -> None:
    """Compile the handler, or take it from numba's cache, and tell XLA."""
    import llvmlite.binding as llvm

    from fnn.kernels import dnnl, job, loops

    library = ctypes.CDLL(path)
    for name in dnnl.FUNCTIONS:
        llvm.add_symbol(dnnl.PREFIX + name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    stamp = zlib.crc32(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))) or 1
    _alive.append(library)
    for symbol, make in ((loops.SYMBOL, loops.loops_of), (job.TASK, job.task_of)):
        compiled = _compiled(make, stamp)
        llvm.add_symbol(symbol, compiled.address)
        _alive.append(compiled)
    handler = _compiled(job.handler_of, stamp)
    _alive.append(handler)
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(handler.ctypes), platform="cpu")


def _compiled(make: Callable[[int, bool], Any], stamp: int) -> Any:
    """With numba's cache on disk, where it finds a place for it and what lies there is whole."""
    try:
        return make(stamp, True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
        return make(stamp, False)


_alive: list[object] = []  # what XLA calls by address
