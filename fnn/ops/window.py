"""The geometry of a window that slides over spatial axes, shared by convolution and pooling.

With input n, window f, stride s, dilation d and padding p on both sides together, a window covers e = (f - 1) d + 1
inputs and fits floor((n + p - e) / s) + 1 times (Dumoulin and Visin, 2016, https://arxiv.org/abs/1603.07285).
"""

from collections.abc import Sequence
from operator import ge, le

import jax

from fnn.core.errors import InputError, require
from fnn.core.sizes import possible

Ints = int | Sequence[int]
Padding = str | int | Sequence[tuple[int, int]]
Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def sizes_of(where: str, name: str, value: int | Sequence[int], rank: int, least: int = 1) -> Sizes:
    """One integer for each of `rank` spatial axes; a single integer counts for all of them."""
    came = (value,) * rank if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else None
    ok = came is not None and len(came) == rank and all(isinstance(n, int) and n >= least for n in came)
    require(ok, where, f"{name} >= {least}, one integer or {rank}", repr(value), f"pass {name}={least} or more")
    return came


def pad_pairs(
    where: str, padding: str | int | Sequence, sizes: Sizes, window: Sizes, stride: Sizes, dilation: Sizes
) -> Pairs:
    """Padding (before, after) for each spatial axis.

    Args:
      where: who asks, for messages.
      padding: `"VALID"` (none); `"SAME"` (output ceil(n / s), the odd one after); `"CAUSAL"` (1-D: all before, so that
        no output sees a later input); an integer for all sides; or one (before, after) pair an axis.
      sizes: spatial sizes of the input.
      window, stride, dilation: as in the module's formula.

    Raises:
      InputError: an unknown name, negative padding, or pairs that do not match the axes.
    """
    extents = [(f - 1) * d + 1 for f, d in zip(window, dilation, strict=True)]
    name = padding if isinstance(padding, str) else None
    if name == "VALID":
        return ((0, 0),) * len(sizes)
    if name == "SAME":
        # -n % s inputs are missing to whole strides, a number that is bounded even for a symbolic n.
        total = [jax.core.max_dim(e - s + -n % s, 0) for n, s, e in zip(sizes, stride, extents, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    if name == "CAUSAL" and len(sizes) == 1:
        return ((extents[0] - 1, 0),)
    if isinstance(padding, int) and not isinstance(padding, bool) and padding >= 0:
        return ((padding, padding),) * len(sizes)
    pairs = pairs_of(padding, len(sizes))
    if pairs is None:
        raise InputError(
            where,
            f"padding VALID, SAME, CAUSAL (1-D), an integer >= 0, or {len(sizes)} pairs (before, after) >= 0",
            repr(padding),
            "use one of these",
        )
    return pairs


def pairs_of(came: object, rank: int) -> Pairs | None:
    """`rank` pairs (before, after) of integers >= 0 as a tuple of tuples; None if something else came."""
    ok = isinstance(came, Sequence) and len(came) == rank and all(_is_pair(p) for p in came)
    return tuple((before, after) for before, after in came) if ok else None


def output_sizes(where: str, sizes: Sizes, window: Sizes, stride: Sizes, dilation: Sizes, pads: Pairs) -> Sizes:
    """floor((n + p - e) / s) + 1 for each axis.

    Raises:
      InputError: a window larger than the padded input.
    """
    out = []
    for n, f, s, d, (low, high) in zip(sizes, window, stride, dilation, pads, strict=True):
        extent, padded = (f - 1) * d + 1, n + low + high
        require(
            possible(le, extent, padded),
            where,
            f"an input at least as large as its window ({extent} in this axis)",
            f"{n} padded to {padded} (spatial sizes {sizes}, window {window})",
            "use a smaller window, less dilation, more padding, or a larger input",
        )
        out.append((padded - extent) // s + 1)
    return tuple(out)


def _is_pair(p: object) -> bool:
    return isinstance(p, Sequence) and len(p) == 2 and all(_is_amount(n) for n in p)


def _is_amount(n: object) -> bool:
    return (isinstance(n, int) or jax.export.is_symbolic_dim(n)) and possible(ge, n, 0)
