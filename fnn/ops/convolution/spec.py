"""What a convolution is told before it sees an array."""

from dataclasses import dataclass

from fnn.ops.window import Pairs, Sizes


@dataclass(frozen=True)
class ConvSpec:
    """The static half of a convolution: one entry an axis, padding in explicit pairs.

    `sizes` are the spatial sizes on the strided side: of x for a convolution, of the output for a transposed one.
    """

    sizes: Sizes
    stride: Sizes
    padding: Pairs
    dilation: Sizes
    groups: int
