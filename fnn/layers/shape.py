"""Layers that only rearrange: nothing learned, nothing computed."""

import math

import jax

from fnn import ops
from fnn.core.errors import LARGEST, index_of, integer, require, require_array
from fnn.core.layer import Layer, Params, shown
from fnn.core.lift import lift
from fnn.core.words import described


@shown
def flatten() -> Layer:
    """x: (N, ...) -> (N, product of the rest): each example becomes a vector.

    Raises:
      InputError: x has no batch axis.

    >>> import jax, fnn
    >>> y, _ = fnn.flatten().apply({}, {}, jax.numpy.ones((2, 4, 4, 3)))
    >>> y.shape
    (2, 48)
    """

    def apply(params: Params, x: jax.Array) -> jax.Array:
        require_array("flatten", "x", x)
        require(x.ndim >= 1, "flatten", "x of shape (N, ...)", x.shape, "give x a batch axis: x[None]")
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))

    return lift(apply, name="flatten")


@shown
def reshape(*shape: int) -> Layer:
    """x: (N, ...) -> (N, *shape): each example takes a new shape, with its elements in the same order.

    Args:
      *shape: sizes of one example, without the batch axis; one of them may be -1: whatever is left.

    Raises:
      InputError: sizes that are no integers >= 1, more than one -1, or another number of elements than x has.

    >>> import jax, fnn
    >>> y, _ = fnn.reshape(4, -1, 1).apply({}, {}, jax.numpy.ones((2, 16)))
    >>> y.shape
    (2, 4, 4, 1)
    """
    came, shape = shape, tuple(n for n in map(index_of, shape) if n is not None)
    ok = len(shape) == len(came) and all(1 <= n <= LARGEST or n == -1 for n in shape) and shape.count(-1) <= 1
    fix = "write reshape(4, 4, 1) or reshape(4, -1, 1)"
    require(ok, "reshape", "sizes >= 1, at most one of them -1", described(came), fix)
    known = math.prod(n for n in shape if n != -1)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        require_array("reshape", "x", x)
        require(x.ndim >= 1, "reshape", "x of shape (N, ...)", x.shape, "give x a batch axis: x[None]")
        size = math.prod(x.shape[1:])
        fits = size % known == 0 if -1 in shape else size == known
        wanted = f"examples of {'a multiple of ' if -1 in shape else ''}{known} elements for the shape {shape}"
        require(fits, "reshape", wanted, f"{size} in each of {x.shape}", "change the sizes, or use one -1")
        # -1 is worked out an example at a time: over a batch of 0 it would be ambiguous.
        return x.reshape(x.shape[0], *(size // known if n == -1 else n for n in shape))

    return lift(apply, name="reshape")


@shown
def channel_shuffle(groups: int) -> Layer:
    """x: (..., C) -> same: each group of channels gets some of all, see `fnn.ops.channel_shuffle`."""
    groups = integer("channel_shuffle", "groups", groups)
    return lift(lambda params, x: ops.channel_shuffle(x, groups), name="channel_shuffle")


@shown
def pixel_shuffle(factor: int) -> Layer:
    """x: (N, H, W, r² C) -> (N, r H, r W, C): channels become pixels, see `fnn.ops.pixel_shuffle`."""
    factor = integer("pixel_shuffle", "factor", factor)
    return lift(lambda params, x: ops.pixel_shuffle(x, factor), name="pixel_shuffle")


@shown
def pixel_unshuffle(factor: int) -> Layer:
    """x: (N, r H, r W, C) -> (N, H, W, r² C): pixels become channels, see `fnn.ops.pixel_unshuffle`."""
    factor = integer("pixel_unshuffle", "factor", factor)
    return lift(lambda params, x: ops.pixel_unshuffle(x, factor), name="pixel_unshuffle")
