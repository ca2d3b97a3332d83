"""What a compiled kernel is to do, as the int64 numbers that travel in the program: no pointer is among them.

Python writes a plan when a program is lowered; the handler, which numba compiles, reads it. Sizes are those of the
buffers of the call. Numbers with a name in oneDNN's C header are oneDNN's.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

AXES = 3  # spatial axes at most
DIMS = 6  # of a memory at most: groups, outputs, inputs, three axes

# Words of a plan: its head, then its memories one after another.
KIND, ALGORITHM, BATCH, MEMORIES, SLICES, EPSILON = range(6)
STRIDE, DILATION, LOW, HIGH = range(6, 6 + 4 * AXES, AXES)
HEAD = 6 + 4 * AXES
# Words of a memory.
ARGUMENT, BUFFER, ROLE, DTYPE, NDIM, FREE, ITEM, COUNT, SIZES, STEPS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 14
MEMORY = 20

CONVOLUTION, CONVOLUTION_INPUT, CONVOLUTION_KERNEL, MATRICES = 1, 2, 3, 4
NORMALISE, NORMALISE_BACK, NORMALISE_GROUPS, NORMALISE_GROUPS_BACK = range(64, 68)  # loops of our own
SOURCE, KERNEL, RESULT = 1, 33, 17  # DNNL_ARG_SRC, WEIGHTS, DST
SOURCE_GRADIENT, KERNEL_GRADIENT, RESULT_GRADIENT = 129, 161, 145
WHOLE, SLICED, PARTIAL = 0, 1, 2  # the same for all slices; a part each; a result each, which are added

DTYPES = {"bfloat16": 2, "float32": 3}
BYTES = {"bfloat16": 2, "float32": 4}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """An argument of a primitive: where it is, and how it lies there.

    Args:
      argument: its number in oneDNN.
      buffer: its number in the call; results are counted on after the arguments.
      sizes, steps: of its axes, in oneDNN's order; steps in numbers, not in bytes.
      role: whether a slice of the batch has all of it, its part along the first axis, or a sum of its own.
      free: whether oneDNN may ask for another layout, into which it is then copied.
    """

    argument: int
    buffer: int
    sizes: Sequence[int]
    steps: Sequence[int]
    role: int
    dtype: str = "float32"
    free: bool = False

    def words(self) -> list[int]:
        """Its words in a plan."""
        head = [self.argument, self.buffer, self.role, DTYPES[self.dtype], len(self.sizes), self.free]
        head += [BYTES[self.dtype], math.prod(self.sizes)]
        return [*head, *_filled(self.sizes, DIMS), *_filled(self.steps, DIMS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A primitive of oneDNN, or a loop of our own, and its memories, for a batch that is cut into slices.

    Args:
      kind: of the primitive, as above.
      algorithm: oneDNN's number.
      batch: the examples of the sliced memories.
      slices: at most so many.
      epsilon: of a norm; its word is that of the float64.
    """

    kind: int
    memories: tuple[Memory, ...]
    batch: int
    algorithm: int = 0
    slices: int = 1 << 30
    epsilon: float = 0.0
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    low: tuple[int, ...] = ()
    high: tuple[int, ...] = ()

    def words(self) -> np.ndarray:
        """All its words."""
        head = [self.kind, self.algorithm, self.batch, len(self.memories), self.slices]
        head.append(int(np.float64(self.epsilon).view(np.int64)))
        for sizes in (self.stride, self.dilation, self.low, self.high):
            head += _filled(sizes, AXES)
        return np.array([*head, *(word for memory in self.memories for word in memory.words())], np.int64)


def dense(sizes: Sequence[int]) -> tuple[int, ...]:
    """The steps of an array that lies in the order of its axes."""
    return tuple(math.prod(sizes[i + 1 :]) for i in range(len(sizes)))


def _filled(numbers: Sequence[int], n: int) -> list[int]:
    return [*numbers, *[0] * (n - len(numbers))]
