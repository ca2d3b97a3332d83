"""What a convolution is told before it sees an array."""

from dataclasses import dataclass

import jax

from fnn.ops.window import Axis, Pairs, Sizes, axes_of


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

    def axes(self, w: jax.Array) -> tuple[Axis, ...]:
        """Its spatial axes, for a kernel w."""
        return axes_of(self.sizes, w.shape[:-2], self.stride, self.dilation, self.padding)
