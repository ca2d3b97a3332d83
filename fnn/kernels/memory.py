"""Memory by address, for code that numba compiles: every address is an int64.

What several threads touch goes through `take`, `add` and `exchange`, which are atomic.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

_I64 = ir.IntType(64)
WORD = 8  # bytes of an int64

malloc = types.ExternalFunction("aligned_alloc", types.int64(types.int64, types.int64))
free = types.ExternalFunction("free", types.void(types.int64))
yield_core = types.ExternalFunction("sched_yield", types.int32())

# Inlined into the two functions that others call, so they need no wrappers for Python.
njit: Any = numba.njit(  # type: ignore[call-overload]
    no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy"
)

# The same, and sums in any order, so that they are made of vectors; NaN and infinity stay what they are.
loop: Any = numba.njit(  # type: ignore[call-overload]
    no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy", fastmath={"reassoc", "nsz"}
)

ALIGNMENT = 64  # bytes: a cache line, and a vector of AVX-512


@intrinsic
def _pointer(typing, address):
    def code(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


@intrinsic
def word(typing, address, i):
    """The word with number i at an address: a plain read, which numba compiles soonest."""

    def code(context, builder, signature, args):
        place = builder.inttoptr(args[0], _I64.as_pointer())
        return builder.load(builder.gep(place, [args[1]]))

    return types.int64(types.int64, types.int64), code


@intrinsic
def add(typing, address, amount):
    """Add to the word at an address: what it was."""

    def code(context, builder, signature, args):
        return builder.atomic_rmw("add", builder.inttoptr(args[0], _I64.as_pointer()), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@intrinsic
def exchange(typing, address, expected, new):
    """Put a new word in the place of the expected one: whether that was there."""

    def code(context, builder, signature, args):
        place = builder.inttoptr(args[0], _I64.as_pointer())
        found = builder.cmpxchg(place, args[1], args[2], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(found, 1), _I64)

    return types.int64(types.int64, types.int64, types.int64), code


@intrinsic
def call(typing, function, argument):
    """Call the C function at an address with one word: the word that it returns."""

    def code(context, builder, signature, args):
        kind = ir.FunctionType(_I64, [_I64])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.int64(types.int64, types.int64), code


@njit
def take(address):
    """The word at an address, as other threads left it."""
    return add(address, 0)


@njit
def words(address, n):
    """The n words at an address."""
    return carray(_pointer(address), (n,), np.int64)


@njit
def put(address, values):
    """Write a tuple of words to an address, one after another."""
    place = words(address, len(values))
    for i in range(len(values)):
        place[i] = values[i]


@njit
def halves(address, n):
    """The n int32 at an address."""
    return carray(_pointer(address), (n,), np.int32)


@njit
def clear(address, n):
    """Put n zeros of 4 bytes at an address. Not `a[:] = 0`: of that numba compiles much more."""
    place = halves(address, n)
    for i in range(n):
        place[i] = 0


@njit
def copy(source, target, n):
    """Copy n words."""
    read, written = words(source, n), words(target, n)
    for i in range(n):
        written[i] = read[i]


@njit
def floats(address, n):
    """The n float32 at an address."""
    return carray(_pointer(address), (n,), np.float32)


@njit
def doubles(address, n):
    """The n float64 at an address."""
    return carray(_pointer(address), (n,), np.float64)


@njit
def allocate(n):
    """n bytes, rounded up, or 0."""
    return malloc(ALIGNMENT, rounded(n))


@njit
def rounded(n):
    """The next multiple of the alignment, at least one."""
    return (max(n, 1) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def static(name, n):
    """A function that gives the address of n words, zero at first, which live as long as the compiled code.

    Each function that numba compiles for others to call has words of its own: one must hand the address to another.
    """

    @intrinsic
    def place(typing):
        def code(context, builder, signature, args):
            kind = ir.ArrayType(_I64, n)
            if name in builder.module.globals:
                found = builder.module.globals[name]
            else:
                found = cgutils.add_global_variable(builder.module, kind, name)
                found.linkage, found.initializer, found.align = "linkonce_odr", ir.Constant(kind, None), ALIGNMENT
            return builder.ptrtoint(found, _I64)

        return types.int64(), code

    return place


def address_of(symbol):
    """A function that gives the address of what was added to the linker's symbols under a name."""

    @intrinsic
    def place(typing):
        def code(context, builder, signature, args):
            kind = ir.FunctionType(ir.VoidType(), [_I64])
            return builder.ptrtoint(cgutils.get_or_insert_function(builder.module, kind, symbol), _I64)

        return types.int64(), code

    return place
