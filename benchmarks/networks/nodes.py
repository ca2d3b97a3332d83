"""What a network is made of, as plain data that no library owns.

Shapes are (N, H, W, C), (N, T, C) or (N, C); kernels are HWIO, those of transposed convolutions too: each input paints
its window, unflipped, into the output. Padding is an integer, the same on both sides of both axes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

Shape = tuple[int, ...]
EPSILON = 1e-5  # of every norm, in every library
MOMENTUM = 0.9  # of running averages: the weight of the old value


class NotSupported(Exception):  # noqa: N818
    """A library lacks a layer of this network; the message is one sentence for the report."""


@dataclass(frozen=True)
class Node:
    """A layer; its fields are its options."""

    @property
    def kind(self) -> str:
        """The class name in lower case, for paths."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Conv(Node):
    """Cross-correlation with a square kernel (window, window, C / groups, features)."""

    features: int
    window: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = True


@dataclass(frozen=True)
class ConvTranspose(Node):
    """Transposed convolution; `padding` is cropped from the full output, as in PyTorch."""

    features: int
    window: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Dense(Node):
    """x W + b over the last axis."""

    features: int


@dataclass(frozen=True)
class BatchNorm(Node):
    """Normalised by the biased variance of the batch, with running averages beside."""


@dataclass(frozen=True)
class LayerNorm(Node):
    """Normalised over the last axis."""


@dataclass(frozen=True)
class Attention(Node):
    """Self-attention of `heads` heads; the kernels of queries, keys and values are side by side in one."""

    heads: int


@dataclass(frozen=True)
class PositionEmbedding(Node):
    """A learned vector added to each token."""


@dataclass(frozen=True)
class Relu(Node):
    """max(x, 0)."""


@dataclass(frozen=True)
class Gelu(Node):
    """The tanh form, which is what JAX's libraries mean by gelu."""


@dataclass(frozen=True)
class MaxPool(Node):
    """The largest element of each window."""

    window: int
    stride: int
    padding: int = 0


@dataclass(frozen=True)
class AvgPool(Node):
    """The mean of each window, without padding: libraries do not agree on whether it counts."""

    window: int
    stride: int


@dataclass(frozen=True)
class GlobalAvgPool(Node):
    """The mean over all axes between batch and channels: pixels or tokens."""


@dataclass(frozen=True)
class Flatten(Node):
    """(N, ...) -> (N, product of the rest); a channels-first library has another order, and its next kernel too."""


@dataclass(frozen=True)
class Tokens(Node):
    """(N, H, W, C) -> (N, H W, C)."""


@dataclass(frozen=True)
class Subsample(Node):
    """Every second pixel, and zero channels half before and half after: the shortcut without parameters of ResNet."""

    features: int


@dataclass(frozen=True)
class Residual(Node):
    """body(x) + shortcut(x); an empty shortcut is the identity."""

    body: tuple[Node, ...]
    shortcut: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Place:
    """A node where it stands: its path, its input's shape, and the shape that a Flatten just before it undid."""

    path: str
    node: Node
    shape: Shape
    flattened: Shape | None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def branches(self) -> tuple[list["Place"], list["Place"]]:
        """The places in the body and in the shortcut of a Residual."""
        return tuple(
            places(part, self.shape, f"{self.path}/{name}")
            for name, part in (("body", self.node.body), ("shortcut", self.node.shortcut))
        )


def places(layers: tuple[Node, ...], shape: Shape, path: str = "") -> list[Place]:
    """The nodes of a chain with their paths and input shapes."""
    found, flattened = [], None
    for i, node in enumerate(layers):
        found.append(Place(f"{path}/{i:02d}_{node.kind}".lstrip("/"), node, shape, flattened))
        flattened = shape if isinstance(node, Flatten) else None
        shape = output_of(node, shape)
    return found


def leaves(found: list[Place]) -> Iterator[Place]:
    """The places that are no Residual, those inside of one included."""
    for place in found:
        if isinstance(place.node, Residual):
            for branch in place.branches():
                yield from leaves(branch)
        else:
            yield place


def parameters_of(node: Node, shape: Shape) -> dict[str, Shape]:
    """Shapes of a node's own parameters by name, for an input of this shape."""
    c = shape[-1]
    match node:
        case Conv(k, window, groups=groups, bias=bias):
            return {"kernel": (window, window, c // groups, k)} | ({"bias": (k,)} if bias else {})
        case ConvTranspose(k, window):
            return {"kernel": (window, window, c, k), "bias": (k,)}
        case Dense(k):
            return {"kernel": (c, k), "bias": (k,)}
        case BatchNorm() | LayerNorm():
            return {"scale": (c,), "offset": (c,)}
        case Attention():
            return {"qkv/kernel": (c, 3 * c), "qkv/bias": (3 * c,), "out/kernel": (c, c), "out/bias": (c,)}
        case PositionEmbedding():
            return {"embedding": shape[1:]}
    return {}


def output_of(node: Node, shape: Shape) -> Shape:
    """Shape of a node's output, for an input of this shape."""
    n, *sizes, c = shape
    match node:
        case Conv(k, window, stride, padding):
            return (n, *((size + 2 * padding - window) // stride + 1 for size in sizes), k)
        case ConvTranspose(k, window, stride, padding):
            return (n, *((size - 1) * stride + window - 2 * padding for size in sizes), k)
        case MaxPool(window, stride, padding):
            return (n, *((size + 2 * padding - window) // stride + 1 for size in sizes), c)
        case AvgPool(window, stride):
            return (n, *((size - window) // stride + 1 for size in sizes), c)
        case Subsample(k):
            return (n, *(-(-size // 2) for size in sizes), k)
        case Dense(k):
            return (*shape[:-1], k)
        case GlobalAvgPool():
            return (n, c)
        case Flatten():
            return (n, math.prod(shape[1:]))
        case Tokens():
            return (n, math.prod(sizes), c)
        case Residual(body):
            return output(body, shape)
    return shape


def output(layers: tuple[Node, ...], shape: Shape) -> Shape:
    """Shape of what a chain returns."""
    for node in layers:
        shape = output_of(node, shape)
    return shape
