"""Images with labels, and how they come in batches."""

import reprlib
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import InputError, integer, require, require_flag, require_function
from fnn.core.words import kind_name
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

    data: Any
    batch_size: int
    seed: int | None
    drop_last: bool
    augment: Augment | None = None
    _passes: int = field(default=0, init=False, repr=False)

    @property
    def examples(self) -> int:
        """How many there are."""
        return len(jax.tree.leaves(self.data)[0])

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = self.examples
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """The next epoch: 0 at the first pass, 1 at the second, and so on."""
        epoch, self._passes = self._passes, self._passes + 1
        return self.epoch(epoch)

    def epoch(self, epoch: int) -> Iterator[Any]:
        """The batches of one epoch, 0 or more: always the same ones, however often and whenever it is asked for."""
        epoch = integer("batches", "epoch", epoch, 0, fix="count epochs from 0")
        seed, augment = self.seed, self.augment
        order = None if seed is None else permutation(self.examples, seed, epoch)

        def generate() -> Iterator[Any]:
            random = None if seed is None else np.random.RandomState((seed, epoch, _AUGMENT))
            for start in range(0, len(self) * self.batch_size, self.batch_size):
                rows = slice(start, start + self.batch_size)
                picked = rows if order is None else order[rows]
                batch = jax.tree.map(lambda a, picked=picked: a[picked], self.data)
                yield batch if augment is None or random is None else _augmented(augment, batch, random)

        return generate()


def batches(
    data: Any,
    batch_size: int,
    *,
    seed: int | None = None,
    drop_last: bool = False,
    augment: Augment | None = None,
) -> Batches:
    """A tree of (N, ...) -> an iterable of the same tree of (batch_size, ...): each example once a pass.

    It can be iterated again and again. With a seed every pass is a new order, which depends on (seed, epoch) alone:
    passes count epochs from 0, and `.epoch(i)` gives epoch i at any time, so a resumed run sees what an uninterrupted
    one sees.

    Args:
      data: any tree of arrays with one leading size N: a `Data`, a pair (x, labels) in which x may be a dict, a dict
        {"image": ..., "label": ...}. Training and evaluation want a pair. None stays None; lists of numbers are
        refused, as a list is a tree. Arrays on a device come to the host; those in a mapped file stay in the file.
      batch_size: examples in a batch; the last one is smaller when it does not divide N.
      seed: 0 to 2^32 - 1, or None: always in the order of the data.
      drop_last: leave a smaller last batch out, so that all shapes are equal and a jitted step compiles once.
      augment: `(x, random) -> x`, where x is the first part of a batch that is a tuple or list, such as the images
        of a pair, and the whole batch otherwise; random is a RandomState that depends on (seed, epoch) alone.
        Needs a seed. `random_shift` makes one for images.

    Raises:
      InputError: batch_size < 1, no examples, leaves that are no arrays of numbers or of different lengths, drop_last
        with less than one batch, augment without a seed; while iterating, an augment that changes more than numbers.

    >>> import numpy as np
    >>> pairs = batches((np.arange(5), np.arange(5) * 10), 2)
    >>> [labels.tolist() for _, labels in pairs]
    [[0, 10], [20, 30], [40]]
    >>> next(iter(batches({"image": np.ones((5, 8, 8, 1)), "label": np.arange(5)}, 2)))["label"]
    array([0, 1])
    >>> len(batches((np.arange(5),), 2, seed=0, drop_last=True))
    2
    """
    batch_size = integer("batches", "batch_size", batch_size, fix="use a whole number of examples")
    if seed is not None:
        fix = "pass such an integer, not a key, or None for the order of the data"
        seed = integer("batches", "seed", seed, 0, 2**32 - 1, fix=fix)
    require_flag("batches", "drop_last", drop_last)
    data, n = _check_tree(data)
    ok = n >= batch_size or not drop_last
    fix = "use smaller batches, or drop_last=False"
    require(ok, "batches", f"a full batch of {batch_size} with drop_last", f"{n} examples", fix)
    require_function("batches", "augment", augment, "x", "random", optional=True)
    ok = augment is None or seed is not None
    require(ok, "batches", "a seed with augment", "none", "pass seed=0, so that the changes can be repeated")
    return Batches(data, batch_size, seed, bool(drop_last), augment)


def _check_tree(data: Any) -> tuple[Any, int]:
    """The tree with NumPy arrays for leaves, and their length."""
    try:
        leaves, tree = jax.tree_util.tree_flatten_with_path(data)
    except (TypeError, ValueError) as error:  # keys that cannot be sorted, an iterator
        got, fix = f"what is no tree ({str(error).splitlines()[0]})", "use strings for keys and arrays for leaves"
        raise InputError("batches", "a tree of arrays (N, ...)", got, fix) from error
    got = "None" if data is None else f"{type(data).__name__} without any"
    require(len(leaves) > 0, "batches", "a tree of arrays (N, ...)", got, "pass (images, labels), or a dict of arrays")
    arrays = {jax.tree_util.keystr(path): _check_leaf(jax.tree_util.keystr(path), leaf) for path, leaf in leaves}
    lengths = [len(a) for a in arrays.values()]
    if len(set(lengths)) > 1:
        got = str(lengths) if isinstance(data, tuple | list) and len(data) == len(lengths) else _lengths(arrays)
        raise InputError("batches", "arrays of one length", got, "pass one label for each image")
    require(lengths[0] > 0, "batches", "at least one example", "none", "check what was loaded")
    return jax.tree.unflatten(tree, list(arrays.values())), lengths[0]


def _lengths(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{len(a)} at {name}" for name, a in arrays.items())


def _check_leaf(name: str, leaf: Any) -> np.ndarray:
    at = f" at {name}" if name else ""
    expected = f"an array (N, ...){at}"
    if not hasattr(leaf, "__array__"):
        got = f"{kind_name(leaf)} {reprlib.repr(leaf)}"
        raise InputError("batches", expected, got, "convert lists of numbers with np.asarray")
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise InputError("batches", expected, f"keys of dtype {leaf.dtype}", "pass jax.random.key_data(keys)")
    if isinstance(leaf, np.ma.MaskedArray):
        raise InputError("batches", expected, "a masked one, whose mask would be lost", "pass a.filled(...)")
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError, RuntimeError) as error:  # traced, deleted, on another library's device, ...
        got = f"a {kind_name(leaf)} that NumPy cannot read ({str(error).splitlines()[0]})"
        raise InputError("batches", expected, got, "pass an array with numbers, outside of jit") from error
    ok = jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
    fix = "convert it to numbers, for example to indices of classes"
    require(ok, "batches", f"an array of numbers{at}", f"dtype {array.dtype}", fix)
    require(array.ndim > 0, "batches", expected, f"one number of dtype {array.dtype}", "give it a leading axis")
    return array


def _augmented(augment: Augment, batch: Any, random: np.random.RandomState) -> Any:
    """The batch with its first part changed, or the whole if it has no parts."""
    x = batch[0] if isinstance(batch, tuple | list) else batch
    leaves, tree = jax.tree.flatten(batch)
    old, new = jax.tree.flatten(x), jax.tree.flatten(augment(x, random))
    expected, got = (f"{tree} with {[np.shape(a)[:1] for a in some]}" for some, tree in (old, new))
    fix = "return x in the form in which it came"
    require(expected == got, "augment", f"x to stay {expected}", textwrap.shorten(got, 200), fix)
    return jax.tree.unflatten(tree, new[0] + leaves[len(old[0]) :])


def permutation(n: int, *seeds: int) -> np.ndarray:
    """A random order of range(n) that depends on the seeds alone.

    From NumPy's RandomState, whose stream is frozen (NEP 19): the same order with every version of NumPy.
    """
    return np.random.RandomState(seeds).permutation(n)
