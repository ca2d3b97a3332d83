"""Operations to time: output and the gradients of all arguments, each described once and run by JAX and by PyTorch.

Shapes are from ResNet, LeNet, MobileNet, ResNeXt and ViT, and from the reports of users who found JAX slow on CPU:
google/flax 3551, jax-ml/jax 13800, 23713, 23783, 31662 and openxla/xla 34273.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Operation:
    """One row.

    Args:
      op: the function in `fnn.ops`.
      shapes: of the arguments to differentiate, by name and in order; they are filled with normal numbers.
      options: keywords of the function.
      fixed: arrays that follow the arguments and get no gradient.
      dtype: of the arguments and of the gradient of the output.
    """

    op: str
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, np.ndarray] = field(default_factory=dict)
    dtype: str = "float32"

    def with_batch(self, factor: int) -> "Operation":
        """The same on `factor` times as many examples."""
        n = self.shapes["x"][0]
        many = ("x", "targets", "keys", "values")
        shapes = {name: (factor * s[0], *s[1:]) if name in many else s for name, s in self.shapes.items()}
        fixed = {name: np.concatenate([a] * factor) if len(a) == n else a for name, a in self.fixed.items()}
        return replace(self, shapes=shapes, fixed=fixed)

    def data(self) -> dict[str, np.ndarray]:
        """Arguments by name, the same each time."""
        random = np.random.default_rng(0)
        return {name: random.standard_normal(shape, np.float32) for name, shape in self.shapes.items()}

    def cotangent(self, shape: tuple[int, ...]) -> np.ndarray:
        """The gradient of some loss by the output."""
        return np.random.default_rng(1).standard_normal(shape, np.float32)


def conv(x, kernel, op="conv", **options):
    """A convolution without bias."""
    return Operation(op, {"x": x, "kernel": kernel}, options)


def plain(op, *shape, **options):
    """A function of one array."""
    return Operation(op, {"x": shape}, options)


def norm(op, *shape, **options):
    """A normalisation with scale and offset."""
    return Operation(op, {"x": shape, "scale": shape[-1:], "offset": shape[-1:]}, options)


def attention(*shape):
    """Queries, keys and values of one shape (N, T, H, D)."""
    return Operation("attention", {"x": shape, "keys": shape, "values": shape})


transposed = partial(conv, op="conv_transpose")
IMAGE, WIDE, STEM = (8, 56, 56, 64), (8, 28, 28, 128), (128, 32, 32, 16)
LABELS = np.arange(1024, dtype=np.int32) % 1000

OPERATIONS = {
    "dense 128x1024 to 1024": Operation("dense", {"x": (128, 1024), "kernel": (1024, 1024), "bias": (1024,)}),
    "conv 5x5, 64x32x32x1 to 6": conv((64, 32, 32, 1), (5, 5, 1, 6)),
    "conv 5x5, 64x14x14x6 to 16": conv((64, 14, 14, 6), (5, 5, 6, 16)),
    "conv 5x5, 128x16x16x16 to 20": conv((128, 16, 16, 16), (5, 5, 16, 20), padding=2),
    "conv 3x3, 32x2x2x512 to 512": conv((32, 2, 2, 512), (3, 3, 512, 512), padding=1),
    "conv 3x3, 32x28x28x1 to 32 (flax 3551)": conv((32, 28, 28, 1), (3, 3, 1, 32), padding=1),
    "conv 3x3, 32x14x14x32 to 64 (flax 3551)": conv((32, 14, 14, 32), (3, 3, 32, 64), padding=1),
    "conv 3x3, 128x32x32x16 to 16": conv(STEM, (3, 3, 16, 16), padding=1),
    "conv 3x3, 8x56x56x64 to 64": conv(IMAGE, (3, 3, 64, 64), padding=1),
    "conv 3x3, 8x28x28x128 to 128": conv(WIDE, (3, 3, 128, 128), padding=1),
    "conv 3x3 stride 2, 128x32x32x16 to 32": conv(STEM, (3, 3, 16, 32), padding=1, stride=2),
    "conv 7x7 stride 2, 4x224x224x3 to 64": conv((4, 224, 224, 3), (7, 7, 3, 64), padding=3, stride=2),
    "conv 7x7 stride 2, 8x224x224x3 to 64": conv((8, 224, 224, 3), (7, 7, 3, 64), padding=3, stride=2),
    "conv 1x1, 8x56x56x64 to 256": conv(IMAGE, (1, 1, 64, 256)),
    "conv patches 16x16, 8x224x224x3 to 192": conv((8, 224, 224, 3), (16, 16, 3, 192), stride=16),
    "conv 3x3 reflect, 8x56x56x64 to 64": conv(IMAGE, (3, 3, 64, 64), padding="REFLECT"),
    "conv 3x3 groups 4, 8x28x28x128": conv(WIDE, (3, 3, 32, 128), padding=1, groups=4),
    "conv 3x3 groups 32, 8x28x28x128": conv(WIDE, (3, 3, 4, 128), padding=1, groups=32),
    "conv depthwise 3x3, 8x56x56x96": conv((8, 56, 56, 96), (3, 3, 1, 96), padding=1, groups=96),
    "conv depthwise 3x3 stride 2, 8x56x56x96": conv((8, 56, 56, 96), (3, 3, 1, 96), padding=1, groups=96, stride=2),
    "conv depthwise 3x3, 1x124x124x256 (jax 23713)": conv((1, 124, 124, 256), (3, 3, 1, 256), padding=1, groups=256),
    "conv depthwise 3x3, 1x124x124x64 (jax 23713)": conv((1, 124, 124, 64), (3, 3, 1, 64), padding=1, groups=64),
    "conv transposed 4x4 stride 2, 8x28x28x64 to 32": transposed((8, 28, 28, 64), (4, 4, 64, 32), stride=2, padding=1),
    "conv transposed 4x4 stride 2 groups 4, 8x14x14x64": transposed(
        (8, 14, 14, 64), (4, 4, 16, 64), stride=2, padding=1, groups=4
    ),
    "conv transposed 2x2 stride 2, 8x28x28x64 to 32": transposed((8, 28, 28, 64), (2, 2, 64, 32), stride=2),
    "conv 1-D 5, 16x256x32 to 64": conv((16, 256, 32), (5, 32, 64), padding=2),
    "conv 1-D 5 groups 8, 16x256x64": conv((16, 256, 64), (5, 8, 64), padding=2, groups=8),
    # The issue has a batch of 32; an eighth of it keeps the automatic gradient below seconds.
    "conv 1-D depthwise 5, 4x1024x512 (jax 13800)": conv((4, 1024, 512), (5, 1, 512), padding=2, groups=512),
    "conv transposed 1-D 16 stride 8, 8x512x64 to 32 (jax 23783)": transposed(
        (8, 512, 64), (16, 64, 32), stride=8, padding=4
    ),
    "conv transposed 1-D 4 stride 2 groups 4, 16x256x64": transposed(
        (16, 256, 64), (4, 16, 64), stride=2, padding=1, groups=4
    ),
    "conv 3-D 3x3x3, 2x16x32x32x8 to 16": conv((2, 16, 32, 32, 8), (3, 3, 3, 8, 16), padding=1),
    "conv 3-D 3x3x3 groups 4, 2x16x16x16x32": conv((2, 16, 16, 16, 32), (3, 3, 3, 8, 32), padding=1, groups=4),
    "conv 3-D depthwise 3x3x3, 2x8x28x28x32": conv((2, 8, 28, 28, 32), (3, 3, 3, 1, 32), padding=1, groups=32),
    "conv transposed 3-D 4x4x4 stride 2, 2x8x16x16x32 to 16": transposed(
        (2, 8, 16, 16, 32), (4, 4, 4, 32, 16), stride=2, padding=1
    ),
    "conv transposed 3-D 4x4x4 stride 2 groups 4, 2x8x8x8x32": transposed(
        (2, 8, 8, 8, 32), (4, 4, 4, 8, 32), stride=2, padding=1, groups=4
    ),
    "conv transposed 3-D 3x3x3 stride 2, 1x64x64x32x64 to 1 (jax 31662, xla 34273)": transposed(
        (1, 64, 64, 32, 64), (3, 3, 3, 64, 1), stride=2, padding=1, output_padding=1
    ),
    "max pool 2x2, 128x32x32x16": plain("max_pool", *STEM, window=2),
    "max pool 3x3 stride 2, 8x112x112x64": plain("max_pool", 8, 112, 112, 64, window=3, stride=2, padding=1),
    "avg pool 2x2, 32x28x28x32 (flax 3551)": plain("avg_pool", 32, 28, 28, 32, window=2),
    "avg pool 2x2, 128x32x32x16": plain("avg_pool", *STEM, window=2),
    "avg pool 3x3 stride 2, 8x112x112x64": plain("avg_pool", 8, 112, 112, 64, window=3, stride=2, padding=1),
    "global max pool, 64x14x14x256": plain("global_max_pool", 64, 14, 14, 256),
    "global avg pool, 64x14x14x256": plain("global_avg_pool", 64, 14, 14, 256),
    "adaptive avg pool to 7, 64x14x14x256": plain("adaptive_avg_pool", 64, 14, 14, 256, output_size=7),
    "adaptive avg pool to 5, 64x14x14x256": plain("adaptive_avg_pool", 64, 14, 14, 256, output_size=5),
    "batch norm, 128x32x32x16": norm("batch_norm", *STEM),
    "batch norm evaluation, 128x32x32x16": Operation(
        "batch_norm_inference",
        {"x": STEM, "scale": (16,), "offset": (16,)},
        fixed={"mean": np.linspace(-1, 1, 16, dtype=np.float32), "var": np.linspace(0.5, 2, 16, dtype=np.float32)},
    ),
    "layer norm, 32x196x384": norm("layer_norm", 32, 196, 384),
    "group norm, 8x28x28x128 in 32": norm("group_norm", *WIDE, groups=32),
    "attention, 16x128x8x64": attention(16, 128, 8, 64),
    "attention, 1x2048x8x64": attention(1, 2048, 8, 64),
    **{
        f"{name}, 128x32x32x16": plain(name, *STEM)
        for name in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "elu", "softplus")
    },
    "softmax, 512x1000": plain("softmax", 512, 1000),
    "log softmax, 512x1000": plain("log_softmax", 512, 1000),
    "dropout, 128x32x32x16": Operation("dropout", {"x": STEM}, {"rate": 0.5}, fixed={"key": np.zeros(2, np.uint32)}),
    "softmax cross-entropy, 1024x1000": Operation(
        "softmax_cross_entropy", {"x": (1024, 1000)}, fixed={"labels": LABELS}
    ),
    "sigmoid binary cross-entropy, 1024x1000": Operation(
        "sigmoid_binary_cross_entropy", {"x": (1024, 1000)}, fixed={"labels": np.ones((1024, 1000), np.float32)}
    ),
    "squared error, 1024x1000": Operation("squared_error", {"x": (1024, 1000), "targets": (1024, 1000)}),
    "multiclass hinge, 1024x1000": Operation("hinge", {"x": (1024, 1000)}, fixed={"labels": LABELS}),
}
# For --quick: one of each kind.
QUICK = (
    "dense 128x1024 to 1024",
    "conv 5x5, 64x32x32x1 to 6",
    "conv 3x3, 128x32x32x16 to 16",
    "conv 1x1, 8x56x56x64 to 256",
    "conv 3x3 groups 4, 8x28x28x128",
    "conv depthwise 3x3, 8x56x56x96",
    "conv transposed 4x4 stride 2, 8x28x28x64 to 32",
    "conv 1-D 5, 16x256x32 to 64",
    "conv 3-D 3x3x3, 2x16x32x32x8 to 16",
    "max pool 2x2, 128x32x32x16",
    "avg pool 3x3 stride 2, 8x112x112x64",
    "batch norm, 128x32x32x16",
    "layer norm, 32x196x384",
    "attention, 16x128x8x64",
    "gelu, 128x32x32x16",
    "softmax cross-entropy, 1024x1000",
)
