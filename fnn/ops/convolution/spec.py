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

    def slides_in_plane(self, w: jax.Array) -> bool:
        """Whether it is 2-D and dense, with stride and dilation 1."""
        return w.ndim == 4 and set(self.stride) == set(self.dilation) == {1} and self.groups == 1

    def axes(self, w: jax.Array) -> tuple[Axis, ...]:
        """Its spatial axes, for a kernel w."""
        return axes_of(self.sizes, w.shape[:-2], self.stride, self.dilation, self.padding)
