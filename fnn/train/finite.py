"""An update is made only where it is finite: the loss, its gradient, and what the update changes.

Checking all of it beforehand would read every array twice: on CPU a fifth more time for a large dense network, on a GPU
several kernels more for each array. So the gradient is read once, and of the update what may be wrong though the
gradient is right: a rate shows in a part of each array, a square that overflows in narrow ones.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.dtypes import wide_dtype
from fnn.core.placement import whole_batch
from fnn.core.sharding import varying

_LARGE = 1 << 16  # elements; none of LeNet-5's arrays, and no bias or scale, is larger
_JOINED = 1 << 12  # arrays of fewer elements are looked at together: one fusion to compile instead of one each


def update_if_finite(
    advance: Callable[..., Any],
    old: tuple[Any, ...],
    value: jax.Array,
    gradient: Any,
    state: Any,
    *,
    evaluates: Callable[[], bool],
) -> tuple[tuple[Any, ...], jax.Array]:
    """`advance(old, state, gradient)` where all is finite, else `old`; and () int32, what was not finite.

    Args:
      advance: `((params, state, opt_state), state, gradient) -> (params, state, opt_state)`.
      old: the state of the last step, of which each array may be overwritten.
      value, gradient, state: the loss, its gradient, the new model state.
      evaluates: whether `advance`, traced once, evaluated the loss again, as a line search does.

    Returns:
      The new state and 0; or `old`, and 1 + the place of what is not finite, which `verdict` names. An entry that was
      inf or nan before may stay so: an optimiser may begin with a best loss of inf. A gradient that is too
      large to be squared in float32 counts as not finite. Of new parameters on one device the first 65,536 entries are
      looked at, of the new optimiser state arrays narrower than float32; all of both where `evaluates()`.
    """
    slopes = [value, *map(_squarable, jax.tree.leaves(gradient))]

    def changed(came: Any, old: Any) -> list[jax.Array]:
        pairs = zip(jax.tree.leaves(came), jax.tree.leaves(old), strict=True)
        return [jnp.where(jnp.isfinite(b), a, jnp.zeros_like(a)) if _inexact(a) else a for a, b in pairs]

    def looked_at(old: tuple[Any, ...], came: tuple[Any, ...]) -> list[tuple[int, jax.Array]]:
        params, state, slots = map(changed, came, old)
        opt_state: list[jax.Array | None] = [*slots]
        if not evaluates():
            params = list(map(_part, params)) if whole_batch(*params) else params
            opt_state = [a if _inexact(a) and wide_dtype(a) != a.dtype else None for a in slots]
        return [(i, a) for i, a in enumerate([*slopes, *params, *state, *opt_state]) if a is not None]

    def chosen(old: tuple[Any, ...], *new: Any) -> tuple[tuple[Any, ...], jax.Array]:
        came = advance(old, *new)
        first = _first(looked_at(old, came))
        return jax.tree.map(partial(jnp.where, first == 0), came, old), first

    def in_place(old: tuple[Any, ...], *new: Any) -> tuple[tuple[Any, ...], jax.Array]:
        came = advance(old, *new)  # the compiler drops what of it is not looked at
        look = _Look(looked_at(old, came))
        if evaluates():
            return jax.tree.map(partial(jnp.where, look.fine), came, old), jnp.where(look.fine, 0, look.verdict())
        update = lambda *args: (advance(*args), jnp.int32(0))  # noqa: E731
        came, wrong = jax.lax.cond(look.fine, update, lambda old, *_: (old, look.verdict()), old, *new)
        return came, wrong

    # A choice entry by entry makes XLA compute the optimiser's update once for its own state and again for the
    # parameters, from copies of both, as neither may be overwritten before the other has read it. On CPU a branch
    # updates them in place. On GPU and TPU a branch would wait for the loss; and where devices may disagree, inside
    # `shard_map`, one that communicates would hang.
    if any(map(varying, slopes)):
        return chosen(old, state, gradient)
    new, wrong = jax.lax.platform_dependent(old, state, gradient, cpu=in_place, default=chosen)
    return new, wrong


def verdict(old: tuple[Any, ...], number: int) -> str:
    """In words, what `update_if_finite` returned for a state of this structure, and what may help."""
    params, state, opt_state = (
        [
            jax.tree_util.keystr(path, simple=True, separator="/")
            for path, _ in jax.tree_util.tree_leaves_with_path(tree)
        ]
        for tree in old
    )
    root = "a square root, norm or logarithm at 0 has such a slope: add a small number under it"
    rate = "lower the learning rate, or use optax.clip_by_global_norm"
    texts = [
        "the loss is not finite",
        *(f"the gradient of parameter {path} is not finite; {root}" for path in params),
        *(f"the update of parameter {path} is not finite; {rate}" for path in params),
        *(f"the layer's new state {path} is not finite; scale the inputs" for path in state),
        *(f"the optimiser's new state {path} is not finite; {rate}" for path in opt_state),
    ]
    return texts[number - 1]


def _first(arrays: Iterable[tuple[int, jax.Array]]) -> jax.Array:
    """() int32, 1 + the number of the first of these arrays that is not finite; 0 if all are.

    Arrays of one shape are read by one kernel, which says by the largest of its numbers which one it was; not those
    that devices may hold in parts, in different ways.
    """
    arrays = [(number, a) for number, a in arrays if _inexact(a)]
    whole, last = whole_batch(*(a for _, a in arrays)), max(number for number, _ in arrays) + 1
    groups: dict[Any, list[jax.Array]] = {}
    for number, a in arrays:
        marks = jnp.where(jnp.isfinite(a), jnp.int32(0), jnp.int32(last - number))
        groups.setdefault(a.shape if whole else number, []).append(marks)
    largest = jnp.stack([jnp.max(reduce(jnp.maximum, marks), initial=0) for marks in groups.values()]).max()
    return jnp.where(largest == 0, 0, last + 1 - largest)


class _Look:
    """The same for CPU: small arrays joined to a vector, of others the largest entry; a nan stays one.

    What is not finite, entry by entry, takes XLA's CPU backend several times as long. Arrays that devices may hold in
    parts are never joined: that would gather them.
    """

    def __init__(self, arrays: Any):
        arrays = [(number, jnp.abs(a)) for number, a in arrays if _inexact(a)]
        wide = max((wide_dtype(a) for _, a in arrays), key=lambda dtype: dtype.itemsize)
        whole = whole_batch(*(a for _, a in arrays))
        parts = [a.reshape(-1) if whole and a.size <= _JOINED else jnp.max(a, initial=0)[None] for _, a in arrays]
        self.numbers, self.ends = np.array([n for n, _ in arrays]), np.cumsum([part.size for part in parts])
        self.seen = jnp.concatenate([part.astype(wide) for part in parts])
        self.fine = jnp.isfinite(self.seen.max())

    def verdict(self) -> jax.Array:
        """() int32, 1 + the number of the first array that is not finite."""
        at = (self.ends <= jnp.argmax(~jnp.isfinite(self.seen))).sum()
        return 1 + jnp.asarray(self.numbers, jnp.int32)[at]


def _squarable(gradient: jax.Array) -> jax.Array:
    """The gradient, inf where an optimiser's square of it would overflow: Adam would never move that entry again."""
    limit = math.sqrt(jnp.finfo(wide_dtype(gradient)).max)
    return jnp.where(jnp.abs(gradient) <= limit, gradient, jnp.inf)


def _part(a: jax.Array) -> jax.Array:
    """The first entries of a large array: a rate that is not finite shows in each."""
    return a if a.size <= _LARGE else a.reshape(-1)[:_LARGE]


def _inexact(a: jax.Array) -> bool:
    return jnp.issubdtype(a.dtype, jnp.inexact)
