"""The geometry of a window that slides over spatial axes, shared by convolution and pooling.

With input n, window f, stride s, dilation d and padding p on both sides together, a window covers e = (f - 1) d + 1
inputs and fits floor((n + p - e) / s) + 1 times (Dumoulin and Visin, 2016, https://arxiv.org/abs/1603.07285).
"""

from collections.abc import Sequence
from operator import ge, le
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import LARGEST, InputError, index_of, require
from fnn.core.sizes import fixed, possible
from fnn.core.words import described

Ints = int | Sequence[int]
Padding = str | int | Sequence[tuple[int, int]]
Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


class Axis(NamedTuple):
    """One spatial axis and the window that slides over it: the module's n, f, s, d, and padding before and after."""

    size: int
    window: int
    stride: int
    dilation: int
    low: int
    high: int

    @property
    def extent(self) -> int:
        """e: how many inputs the window covers."""
        return (self.window - 1) * self.dilation + 1

    @property
    def padded(self) -> int:
        """n + p."""
        return self.size + self.low + self.high

    @property
    def outputs(self) -> int:
        """How many times the window fits."""
        return (self.padded - self.extent) // self.stride + 1

    def input_of(self, output: Any, tap: int) -> Any:
        """The input that an output takes at a tap; padding below 0 and from n on."""
        return output * self.stride + tap * self.dilation - self.low


def axes_of(sizes: Sizes, window: Sizes, stride: Sizes, dilation: Sizes, pads: Pairs) -> tuple[Axis, ...]:
    """One Axis from one entry of each."""
    return tuple(
        Axis(n, f, s, d, *pair) for n, f, s, d, pair in zip(sizes, window, stride, dilation, pads, strict=True)
    )


def inputs_of(axes: Sequence[Axis], output: Sizes, tap: Sizes) -> Sizes | None:
    """The position of the input that an output takes at a tap; None in the padding."""
    places = tuple(a.input_of(p, t) for a, p, t in zip(axes, output, tap, strict=True))
    return places if all(0 <= i < a.size for i, a in zip(places, axes, strict=True)) else None


def interleave(x: jax.Array) -> jax.Array:
    """x: (N, b_1, s_1, b_2, s_2, ..., C) -> (N, b_1 s_1, b_2 s_2, ..., C): blocks of s neighbours in a row.

    One axis at a time: all that explicit sharding knows.
    """
    for axis in range(1, x.ndim // 2):
        x = x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])
    return x


def sizes_of(where: str, name: str, value: int | Sequence[int], rank: int, least: int = 1) -> Sizes:
    """One integer for each of `rank` spatial axes; a single integer counts for all of them."""
    if type(value) is int and least <= value <= LARGEST:
        return (value,) * rank
    came = sizes_given(where, name, value, least, rank)
    return (came,) * rank if isinstance(came, int) else came


def sizes_given(where: str, name: str, value: object, least: int = 1, rank: int | None = None) -> int | Sizes:
    """One integer, or as many as there are spatial axes as a tuple: 1 to 3 in a layer, which does not know `rank` yet.

    Raises:
      InputError: anything else.
    """
    n = index_of(value)
    came = (integers_of(value) or ()) if n is None else (n,)
    ok = all(least <= n <= LARGEST for n in came)
    ok = ok and (n is not None or (1 <= len(came) <= 3 if rank is None else len(came) == rank))
    many = "one a spatial axis" if rank is None else str(rank)
    require(ok, where, f"{name} >= {least}, one integer or {many}", described(value), f"pass {name}={least} or more")
    return came if n is None else n


def padding_given(where: str, padding: object, *names: str) -> Padding:
    """Padding of a layer, whose number of spatial axes is not known yet: one of the names, an integer, or 1 to 3 pairs.

    Raises:
      InputError: anything else.
    """
    n = None if isinstance(padding, str) else index_of(padding)
    if isinstance(padding, str) and padding in names:
        return padding
    if n is not None and 0 <= n <= LARGEST:
        return n
    pairs = pairs_of(padding, len(padding)) if isinstance(padding, Sequence) and 1 <= len(padding) <= 3 else None
    if pairs is None:
        expected = f"padding {', '.join(names)}, an integer >= 0, or a pair (before, after) >= 0 a spatial axis"
        raise InputError(where, expected, described(padding), "use one of these")
    return pairs


def require_same_rank(where: str, **options: object) -> int | None:
    """The number of spatial axes that options of a layer agree on; None where all hold for any number.

    Raises:
      InputError: tuples of different lengths.
    """
    lengths = {name: len(value) for name, value in options.items() if isinstance(value, tuple)}
    ok = len(set(lengths.values())) <= 1
    require(ok, where, "options for the same number of spatial axes", f"{lengths}", "give each one entry an axis")
    return next(iter(lengths.values()), None)


def missing_axis(shape: tuple, rank: int, channels: int | None = None) -> str:
    """What to do about an x whose shape is not (N, *spatial, C) with `rank` spatial axes."""
    if len(shape) > rank + 2:
        return "drop axes, or init the layer with an input that has as many, the batch's among them"
    if len(shape) != rank + 1:
        return "add axes"
    if channels is not None and shape[-1] == channels:
        return "give x a batch axis: x[None]"
    if channels == 1:
        return "give x a channel axis: x[..., None]"
    return "give x a batch axis: x[None], or a channel axis: x[..., None]"


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
        total = [(-(-n // s) - 1) * s + e - n for n, s, e in zip(sizes, stride, extents, strict=True)]
        lows = [jax.core.max_dim(t, 0) // 2 for t in total]
        # Negative where windows skip the last inputs: of symbolic sizes those are cropped, and the output is
        # ceil(n / s) in so many words, equal to that of any other SAME layer.
        highs = [max(t, 0) - low if isinstance(t, int) else t - low for t, low in zip(total, lows, strict=True)]
        return tuple(zip(lows, highs, strict=True))
    if name == "CAUSAL" and len(sizes) == 1:
        return ((extents[0] - 1, 0),)
    amount = None if name else index_of(padding)
    if amount is not None and 0 <= amount <= LARGEST:
        return ((amount, amount),) * len(sizes)
    pairs = pairs_of(padding, len(sizes))
    if pairs is None:
        raise InputError(
            where,
            f"padding VALID, SAME, CAUSAL (1-D), an integer >= 0, or {len(sizes)} pairs (before, after) >= 0",
            described(padding),
            "use one of these",
        )
    return pairs


def pairs_of(came: object, rank: int) -> Pairs | None:
    """`rank` pairs (before, after) of integers >= 0 as a tuple of tuples; None if something else came."""
    if not isinstance(came, Sequence) or isinstance(came, str | bytes) or len(came) != rank:
        return None
    pairs = tuple((pair[0], pair[1]) for pair in map(integers_of, came) if pair is not None and len(pair) == 2)
    return pairs if len(pairs) == rank and all(_is_amount(n) for pair in pairs for n in pair) else None


def padded_sizes(sizes: Sizes, pads: Pairs) -> Sizes:
    """n + p for each axis."""
    return tuple(n + low + high for n, (low, high) in zip(sizes, pads, strict=True))


def output_sizes(where: str, sizes: Sizes, window: Sizes, stride: Sizes, dilation: Sizes, pads: Pairs) -> Sizes:
    """floor((n + p - e) / s) + 1 for each axis.

    Raises:
      InputError: a window larger than the padded input.
    """
    axes = axes_of(sizes, window, stride, dilation, pads)
    for a in axes:
        require(
            possible(le, a.extent, a.padded),
            where,
            f"an input at least as large as its window ({a.extent} in this axis)",
            f"{a.size} padded to {a.padded} (spatial sizes {sizes}, window {window})",
            "use a smaller window, less dilation, more padding, or a larger input",
        )
    return tuple(a.outputs for a in axes)


def useful_stride(stride: Sizes, sizes: Sizes, pads: Pairs, outputs: Sizes) -> Sizes:
    """The same steps, those that no second window takes cut to the padded input: gradients are made in such blocks."""
    axes = zip(stride, sizes, pads, outputs, strict=True)
    return tuple(min(s, n + low + high) if fixed(n, o) and o == 1 else s for s, n, (low, high), o in axes)


def integers_of(value: object) -> Sizes | None:
    """A sequence of integers, also as a NumPy or JAX array of one axis; None if something else came."""
    if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, jax.core.Tracer):
        value = value.tolist() if value.ndim == 1 and jnp.issubdtype(value.dtype, jnp.integer) else None
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return None
    came: list[Any] = [n if jax.export.is_symbolic_dim(n) else index_of(n) for n in value]
    return None if any(n is None for n in came) else tuple(came)


def _is_amount(n: int) -> bool:
    return possible(ge, n, 0) and possible(le, n, LARGEST)
