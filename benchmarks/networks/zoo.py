"""The eleven networks of the benchmark."""

import dataclasses
import math
from collections.abc import Sequence

from benchmarks.networks.nodes import (
    Attention,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Flatten,
    Gelu,
    GlobalAvgPool,
    LayerNorm,
    MaxPool,
    Node,
    PositionEmbedding,
    Relu,
    Residual,
    Shape,
    Subsample,
    Tokens,
    leaves,
    parameters_of,
    places,
)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and what it is trained on.

    Attributes:
      name: for the command line and the files.
      title: for the reader of the report.
      input: shape of a batch, (N, H, W, C) or (N, C).
      classes: labels are in [0, classes), the loss is softmax cross-entropy; None: the squared error from its input.
      layers: the chain of nodes.
      dtype: what the layers compute in; parameters, loss and optimiser stay float32.
      nudge: the relative change of x that shows how far rounding may move a gradient: a hundred times x's rounding, as
        many times that of the products where they are coarser.
    """

    name: str
    title: str
    input: Shape
    classes: int | None
    layers: tuple[Node, ...]
    dtype: str = "float32"
    nudge: float = 1e-5

    def with_batch(self, batch: int | None) -> "Network":
        """The same network on batches of another size; None keeps it."""
        return self if batch is None else dataclasses.replace(self, input=(batch, *self.input[1:]))

    def places(self):
        """The nodes with paths and shapes."""
        return places(self.layers, self.input)

    def parameters(self) -> dict[str, Shape]:
        """Shapes of all trainable parameters by path.

        >>> NETWORKS["mlp"].parameters()["04_dense/kernel"]
        (1024, 10)
        """
        return {
            f"{place.path}/{name}": shape
            for place in leaves(self.places())
            for name, shape in parameters_of(place.node, place.shape).items()
        }

    def size(self) -> int:
        """Number of trainable parameters.

        >>> NETWORKS["lenet5"].size()
        61706
        """
        return sum(math.prod(shape) for shape in self.parameters().values())


def _norm_conv(features: int, window: int = 3, stride: int = 1, groups: int = 1) -> tuple[Node, ...]:
    """A convolution that keeps the size but for its stride, and batch norm, which makes a bias useless."""
    return (Conv(features, window, stride, (window - 1) // 2, groups, bias=False), BatchNorm())


def _basic_block(features: int, stride: int, shortcut: tuple[Node, ...]) -> tuple[Node, ...]:
    body = (*_norm_conv(features, stride=stride), Relu(), *_norm_conv(features))
    return (Residual(body, shortcut), Relu())


def _lenet5() -> tuple[Node, ...]:
    # A 28 x 28 digit with two zeros around it is the paper's 32 x 32 image.
    return (
        *(Conv(6, 5, padding=2), Relu(), MaxPool(2, 2)),
        *(Conv(16, 5), Relu(), MaxPool(2, 2)),
        *(Flatten(), Dense(120), Relu(), Dense(84), Relu(), Dense(10)),
    )


def _mnist_cnn() -> tuple[Node, ...]:
    stages = [node for c in (32, 64) for node in (Conv(c, 3, padding=1), Relu(), AvgPool(2, 2))]
    return (*stages, Flatten(), Dense(256), Relu(), Dense(10))


def _convnetjs() -> tuple[Node, ...]:
    stages = [node for c in (16, 20, 20) for node in (Conv(c, 5, padding=2), Relu(), MaxPool(2, 2))]
    return (*stages, Flatten(), Dense(10))


def _resnet20() -> tuple[Node, ...]:
    layers = [*_norm_conv(16), Relu()]
    for features in (16, 32, 64):
        for i in range(3):
            halve = features > 16 and i == 0
            layers += _basic_block(features, 1 + halve, (Subsample(features),) if halve else ())
    return (*layers, GlobalAvgPool(), Dense(10))


def _resnet18() -> tuple[Node, ...]:
    layers = [*_norm_conv(64, 7, 2), Relu(), MaxPool(3, 2, 1)]
    for features in (64, 128, 256, 512):
        for i in range(2):
            halve = features > 64 and i == 0
            layers += _basic_block(features, 1 + halve, _norm_conv(features, 1, 2) if halve else ())
    return (*layers, GlobalAvgPool(), Dense(1000))


def _vgg() -> tuple[Node, ...]:
    layers = []
    for features in (64, 128, 256):
        layers += [Conv(features, 3, padding=1), Relu(), Conv(features, 3, padding=1), Relu(), MaxPool(2, 2)]
    return (*layers, Flatten(), Dense(512), Relu(), Dense(10))


def _mobilenet() -> tuple[Node, ...]:
    layers, channels = [*_norm_conv(32, stride=2), Relu()], 32
    for features, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1)):
        layers += [*_norm_conv(channels, stride=stride, groups=channels), Relu(), *_norm_conv(features, 1), Relu()]
        channels = features
    return (*layers, GlobalAvgPool(), Dense(10))


def _resnext() -> tuple[Node, ...]:
    layers, channels = [*_norm_conv(64), Relu()], 64
    for width, features, stride in ((128, 256, 1), (128, 256, 1), (256, 512, 2), (256, 512, 1)):
        body = (
            *_norm_conv(width, 1),
            Relu(),
            *_norm_conv(width, 3, stride, groups=32),
            Relu(),
            *_norm_conv(features, 1),
        )
        layers += [Residual(body, _norm_conv(features, 1, stride) if features != channels else ()), Relu()]
        channels = features
    return (*layers, GlobalAvgPool(), Dense(10))


def _autoencoder() -> tuple[Node, ...]:
    down = [node for c in (32, 64, 128) for node in (Conv(c, 3, 2, 1), Relu())]
    return (*down, ConvTranspose(64, 4, 2, 1), Relu(), ConvTranspose(32, 4, 2, 1), Relu(), ConvTranspose(3, 4, 2, 1))


def _vit() -> tuple[Node, ...]:
    attend = Residual((LayerNorm(), Attention(3)))
    think = Residual((LayerNorm(), Dense(768), Gelu(), Dense(192)))
    return (
        Conv(192, 4, 4),
        Tokens(),
        PositionEmbedding(),
        *(attend, think) * 6,
        LayerNorm(),
        GlobalAvgPool(),
        Dense(10),
    )


_ALL = (
    Network("mlp", "MLP 784-1024-1024-10", (128, 784), 10, (Dense(1024), Relu(), Dense(1024), Relu(), Dense(10))),
    Network("lenet5", "LeNet-5", (128, 28, 28, 1), 10, _lenet5()),
    Network("mnist_cnn", "MNIST CNN of the flax tutorial", (128, 28, 28, 1), 10, _mnist_cnn()),
    Network("convnetjs", "ConvNetJS CIFAR-10", (128, 32, 32, 3), 10, _convnetjs()),
    Network("resnet20", "ResNet-20", (128, 32, 32, 3), 10, _resnet20()),
    Network("resnet18", "ResNet-18 at 64x64", (32, 64, 64, 3), 1000, _resnet18()),
    Network("vgg", "VGG-like at 32x32", (64, 32, 32, 3), 10, _vgg()),
    Network("mobilenet", "Depthwise separable (MobileNet-like) at 64x64", (32, 64, 64, 3), 10, _mobilenet()),
    # A batch of 16: XLA's automatic gradient of grouped convolutions takes a second an example.
    Network("resnext", "Grouped (ResNeXt-like, 32 groups) at 32x32", (16, 32, 32, 3), 10, _resnext()),
    Network("autoencoder", "Autoencoder with transposed convolutions", (64, 32, 32, 3), None, _autoencoder()),
    Network("vit", "Small ViT, patches 4x4 of 32x32", (32, 32, 32, 3), 10, _vit()),
)
NETWORKS: dict[str, Network] = {network.name: network for network in _ALL}


def asked(words: Sequence[str], otherwise: Sequence[str]) -> Sequence[str]:
    """The networks that a command line names, or all of `otherwise`.

    >>> asked([], ["vgg", "vit"]), asked(["mlp"], ["vgg", "vit"])
    (['vgg', 'vit'], ['mlp'])

    Raises:
      SystemExit: a word that is no network, with those there are.
    """
    for word in words:
        if word not in NETWORKS:
            raise SystemExit(f"{word!r} is no network; choose from {', '.join(NETWORKS)}.")
    return words or otherwise
