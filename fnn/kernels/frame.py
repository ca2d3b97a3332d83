"""What XLA hands to a handler, and takes from it: the typed FFI of jaxlib's header xla/ffi/api/c_api.h, by offsets.

A handler is a C function of one argument, the address of a call frame, that returns 0 or an error. Before it registers
one, XLA asks which version of this interface it was made for. Versions 0.3 (JAX 0.10) to 0.5 (JAX 0.12) added fields at
the ends of structures and moved none.
"""

import numpy as np

from fnn.kernels.memory import WORD, allocate, call, free, halves, njit, put, word, words

# Words of the call frame, of its lists of arguments, results and attributes, and of XLA's table of functions.
_FRAME = 22
_EXTENSION, _API, _CONTEXT, _ARGUMENTS, _RESULTS, _ATTRIBUTES = 1, 2, 3, 5, 10, 15
_COUNT, _ITEMS, _ATTRIBUTE = 2, 4, 5
_DATA = 3  # the address, in a buffer
_VERSION, _ERROR_CREATE, _ERROR_DESTROY, _SCHEDULE, _THREADS = 4, 6, 8, 17, 18
_METADATA = 1  # type of the extension that asks for the version
_INTERNAL = 13  # code of XLA's error INTERNAL

# Each 64 bytes, ended by 0, by the status of oneDNN.
_STATUS = (
    "success",
    "out of memory",
    "invalid arguments",
    "unimplemented",
    "no further implementation",
    "runtime error",
)
_WORDS = [*(f"oneDNN, status {i}: {words}".encode() for i, words in enumerate(_STATUS)), b"oneDNN, unknown status"]
_MESSAGES = np.frombuffer(b"".join(words.ljust(64, b"\0") for words in _WORDS), np.uint8).reshape(-1, 64).copy()


@njit
def version_asked(frame):
    """Whether XLA asks for the version; the answer is the one that it has itself, which was looked at before."""
    extension = word(frame, _EXTENSION)
    if extension == 0 or halves(extension + WORD, 1)[0] != _METADATA:
        return False
    metadata = word(extension, 3)
    own = halves(word(frame, _API) + _VERSION * WORD, 2)
    answer = halves(metadata + 3 * WORD, 2)
    answer[0], answer[1] = own[0], own[1]
    return True


@njit
def arguments(frame):
    """How many buffers the call reads."""
    return word(frame, _ARGUMENTS + _COUNT)


@njit
def buffer(frame, i):
    """The address of the numbers of an argument; results are counted on after the last of them."""
    n = arguments(frame)
    found = words(frame, _FRAME)
    items = found[_ARGUMENTS + _ITEMS] if i < n else found[_RESULTS + _ITEMS]
    return word(word(items, i if i < n else i - n), _DATA)


@njit
def attribute(frame):
    """The address and the number of the words of the call's one attribute, an array."""
    array = words(word(word(frame, _ATTRIBUTES + _ATTRIBUTE), 0), 3)
    return array[2], array[1]


@njit
def _drop(api, error):
    """Give back an error of XLA's, which belongs to who was told it; 0 is none."""
    if error:
        block = allocate(3 * WORD)
        put(block, (3 * WORD, 0, error))
        call(word(api, _ERROR_DESTROY), block)
        free(block)


@njit
def threads(frame):
    """How many threads XLA's pool has."""
    own = words(frame, _FRAME)
    block = allocate(8 * WORD)
    put(block, (4 * WORD, 0, own[_CONTEXT], block + 4 * WORD, 1))
    _drop(own[_API], call(word(own[_API], _THREADS), block))
    found = word(block, 4)  # 1 as before where there is no pool
    free(block)
    return found


@njit
def schedule(frame, task, argument):
    """Give XLA's pool a task, a C function of one word; whether it took it."""
    own = words(frame, _FRAME)
    block = allocate(8 * WORD)
    put(block, (5 * WORD, 0, own[_CONTEXT], task, argument))
    refused = call(word(own[_API], _SCHEDULE), block)
    _drop(own[_API], refused)
    free(block)
    return refused == 0


@njit
def error(frame, status):
    """XLA's error with a status of oneDNN."""
    block = allocate(8 * WORD)
    message = np.int64(_MESSAGES[min(status, len(_MESSAGES) - 1)].ctypes.data)
    put(block, (4 * WORD, 0, message, _INTERNAL))
    made = call(word(word(frame, _API), _ERROR_CREATE), block)
    free(block)
    return made
