"""Pooling layers: the functions of `ops.pool_*`, without parameters."""

import jax

from fnn import ops
from fnn.core.errors import require_flag
from fnn.core.layer import Layer, Params, shown
from fnn.core.lift import lift
from fnn.layers.rank import with_rank
from fnn.ops.window import Ints, Padding, padding_given, sizes_given


@shown
def max_pool(window: Ints, *, stride: Ints | None = None, padding: Padding = "VALID") -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, C): the largest element of every window, as `fnn.ops.max_pool` says.

    >>> import jax, fnn
    >>> y, _ = fnn.max_pool(2).apply({}, {}, jax.numpy.ones((1, 4, 4, 3)))
    >>> y.shape
    (1, 2, 2, 3)
    """
    window, stride, padding = _options("max_pool", window, stride, padding)
    return lift(lambda params, x: ops.max_pool(x, window, stride=stride, padding=padding), name="max_pool")


@shown
def avg_pool(
    window: Ints, *, stride: Ints | None = None, padding: Padding = "VALID", count_padding: bool = False
) -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, C): the mean of every window, as `fnn.ops.avg_pool` says."""
    window, stride, padding = _options("avg_pool", window, stride, padding)
    require_flag("avg_pool", "count_padding", count_padding)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return ops.avg_pool(x, window, stride=stride, padding=padding, count_padding=count_padding)

    return lift(apply, name="avg_pool")


@shown
def global_max_pool() -> Layer:
    """x: (N, *spatial, C) -> (N, C): the largest element of every channel."""
    return lift(lambda params, x: ops.global_max_pool(x), name="global_max_pool")


@shown
def global_avg_pool() -> Layer:
    """x: (N, *spatial, C) -> (N, C): the mean of every channel."""
    return lift(lambda params, x: ops.global_avg_pool(x), name="global_avg_pool")


@shown
def adaptive_avg_pool(output_size: Ints) -> Layer:
    """x: (N, *spatial, C) -> (N, *output_size, C): means over even bins, as `fnn.ops.adaptive_avg_pool` says."""
    output_size = sizes_given("adaptive_avg_pool", "output_size", output_size)
    return lift(lambda params, x: ops.adaptive_avg_pool(x, output_size), name="adaptive_avg_pool")


def _options(where: str, window: Ints, stride: Ints | None, padding: Padding) -> tuple[Ints, Ints | None, Padding]:
    window = sizes_given(where, "window", window)
    stride = None if stride is None else sizes_given(where, "stride", stride)
    padding = padding_given(where, padding, "VALID", "SAME", "CAUSAL")
    return with_rank(where, "window", window, stride=stride, padding=padding), stride, padding
