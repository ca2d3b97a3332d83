"""Images with labels, and how they come in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fnn.core.errors import require, require_flag
from fnn.data.augment import Augment

_AUGMENT = 1  # sets the stream of augmentation apart from that of the order


class Data(NamedTuple):
    """Examples in order.

    Attributes:
      images: (N, H, W, C) float32 in 0..1.
      labels: (N,) int32, classes from 0.
    """

    images: np.ndarray
    labels: np.ndarray


class Split(NamedTuple):
    """What to learn from and what to be judged by."""

    train: Data
    test: Data


@dataclass
class Batches:
    """See `batches`."""

    arrays: tuple[np.ndarray, ...]
    batch_size: int
    seed: int | None
    drop_last: bool
    augment: Augment | None = None
    _passes: int = field(default=0, init=False, repr=False)

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = len(self.arrays[0])
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The next epoch: 0 at the first pass, 1 at the second, and so on."""
        epoch, self._passes = self._passes, self._passes + 1
        return self.epoch(epoch)

    def epoch(self, epoch: int) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches of one epoch, 0 or more: always the same ones, however often and whenever it is asked for."""
        require(isinstance(epoch, int) and epoch >= 0, "batches", "an epoch >= 0", repr(epoch), "count epochs from 0")
        n = len(self.arrays[0])
        order = None if self.seed is None else permutation(n, self.seed, epoch)

        def generate() -> Iterator[tuple[np.ndarray, ...]]:
            random = None if self.augment is None else np.random.RandomState((self.seed, epoch, _AUGMENT))
            for start in range(0, len(self) * self.batch_size, self.batch_size):
                rows = slice(start, start + self.batch_size)
                batch = [a[rows] if order is None else a[order[rows]] for a in self.arrays]
                if random is not None:
                    batch[0] = self.augment(batch[0], random)
                yield tuple(batch)

        return generate()


def batches(
    data: Sequence[np.ndarray],
    batch_size: int,
    *,
    seed: int | None = None,
    drop_last: bool = False,
    augment: Augment | None = None,
) -> Batches:
    """(N, ...), (N, ...) -> an iterable of (batch_size, ...), (batch_size, ...): each example once a pass.

    It can be iterated again and again. With a seed every pass is a new order, which depends on (seed, epoch) alone:
    passes count epochs from 0, and `.epoch(i)` gives epoch i at any time, so a resumed run sees what an uninterrupted
    one sees.

    Args:
      data: arrays with one leading size N, such as the images and labels of a `Data`.
      batch_size: examples in a batch; the last one is smaller when it does not divide N.
      seed: 0 to 2^32 - 1, or None: always in the order of the data.
      drop_last: leave a smaller last batch out, so that all shapes are equal and a jitted step compiles once.
      augment: `(images, random) -> images`, applied to the first array of every batch; random is a RandomState that
        depends on (seed, epoch) alone. Needs a seed. `random_shift` makes one.

    Raises:
      InputError: batch_size < 1, no examples, arrays of different lengths, drop_last with less than one batch,
        augment without a seed.

    >>> import numpy as np
    >>> pairs = batches((np.arange(5), np.arange(5) * 10), 2)
    >>> [labels.tolist() for _, labels in pairs]
    [[0, 10], [20, 30], [40]]
    >>> len(batches((np.arange(5),), 2, seed=0, drop_last=True))
    2
    """
    ok = isinstance(batch_size, int) and batch_size >= 1
    require(ok, "batches", "batch_size >= 1", repr(batch_size), "use a whole number of examples")
    ok = seed is None or (isinstance(seed, int) and 0 <= seed < 2**32)
    require(ok, "batches", "seed from 0 to 2**32 - 1, or None", repr(seed), "pass an integer, not a key")
    require_flag("batches", "drop_last", drop_last)
    ok = isinstance(data, Sequence) and len(data) > 0 and all(np.ndim(a) >= 1 for a in data)
    require(ok, "batches", "a tuple of arrays (N, ...)", type(data).__name__, "pass (images, labels)")
    arrays = tuple(np.asarray(a) for a in data)
    lengths = [len(a) for a in arrays]
    require(len(set(lengths)) == 1, "batches", "arrays of one length", lengths, "pass one label for each image")
    require(lengths[0] > 0, "batches", "at least one example", "none", "check what was loaded")
    ok = lengths[0] >= batch_size or not drop_last
    fix = "use smaller batches, or drop_last=False"
    require(ok, "batches", f"a full batch of {batch_size} with drop_last", f"{lengths[0]} examples", fix)
    ok = augment is None or seed is not None
    require(ok, "batches", "a seed with augment", "none", "pass seed=0, so that the changes can be repeated")
    return Batches(arrays, batch_size, seed, drop_last, augment)


def permutation(n: int, *seeds: int) -> np.ndarray:
    """A random order of range(n) that depends on the seeds alone.

    From NumPy's RandomState, whose stream is frozen (NEP 19): the same order with every version of NumPy.
    """
    return np.random.RandomState(seeds).permutation(n)
