"""What a batch is: a pair (x, labels), arrays or trees of arrays that share their leading axis."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.dtypes import wide_dtype
from fnn.core.errors import ARRAYS, InputError, require, require_function, require_leaves
from fnn.core.words import described


def split_batch(where: str, batch: Any) -> tuple[Any, Any, int]:
    """x, labels and the number of examples.

    Raises:
      InputError: not a pair, leading axes of different sizes, or no example at all.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        one = where == "step"
        fix = (
            "pass both: step(train_state, (x, labels))" if one else "pass a list of pairs, [(x, labels)] for one batch"
        )
        raise InputError(where, "a batch (x, labels)", described(batch), fix)
    x, labels = batch
    require_leaves(where, x=x, labels=labels)
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(part)] for part in (x, labels)]
    sizes = {shape[:1] for part in shapes for shape in part}
    if len(sizes) != 1 or () in sizes:
        lists = [name for name, part in (("x", x), ("labels", labels)) if _is_list_of_numbers(part)]
        raise InputError(
            where,
            "x and labels with the same number of examples on axis 0",
            f"x {_words(x, shapes[0])} and labels {_words(labels, shapes[1])}",
            f"make an array of it: np.asarray({lists[0]})" if lists else "cut both with the same indices",
        )
    (n,) = sizes.pop()
    require(n > 0, where, "at least one example in a batch", "an empty batch", "skip empty batches")
    return x, labels, n


def mean(values: jax.Array) -> jax.Array:
    """The mean over every axis, taken in float32 at least: half precision cannot count a batch."""
    values = jnp.asarray(values)
    return values.mean(dtype=wide_dtype(values))


def named_functions(where: str, metrics: Any) -> tuple[Any, ...]:
    """The items of `{name: function}`, a hashable tuple.

    Raises:
      InputError: not a mapping from names to functions.
    """
    ok = isinstance(metrics, Mapping) and all(isinstance(name, str) and callable(f) for name, f in metrics.items())
    require(ok, where, "metrics {name: f(outputs, labels)}", described(metrics), "pass a dict of functions by name")
    for name, f in metrics.items():
        require_function(where, f"metrics[{name!r}]", f, "outputs", "labels")
    return tuple(metrics.items())


def _is_list_of_numbers(part: Any) -> bool:
    leaves = jax.tree.leaves(part)
    return isinstance(part, list | tuple) and bool(leaves) and not any(isinstance(leaf, ARRAYS) for leaf in leaves)


def _words(part: Any, shapes: list[Any]) -> str:
    if _is_list_of_numbers(part):
        return f"a {type(part).__name__} of {len(part)}"
    return str(shapes[0] if len(shapes) == 1 else shapes)
