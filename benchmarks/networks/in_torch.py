"""The networks in PyTorch, eager with either memory layout, or compiled.

The optimiser is the fused SGD, one kernel for all parameters; gradients are set to None between steps.
"""

import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.networks import nodes
from benchmarks.networks.nodes import Place
from benchmarks.networks.program import LEARNING_RATE, SGD_MOMENTUM, Costs
from benchmarks.networks.weights import (
    Slot,
    Weights,
    channels_first_dense,
    draw_batch,
    draw_weights,
    neutral,
    transposed,
)
from benchmarks.networks.zoo import Network

Slots = list[tuple[Slot, nn.Parameter]]


def build(network: Network, variant: str) -> "TorchProgram":
    """The program of one variant."""
    return TorchProgram(network, variant)


def device() -> str:
    """ "cuda" in a process that was given a GPU (see `benchmarks.timing.worker`), else "cpu"."""
    return "cuda" if os.environ.get("JAX_PLATFORMS") == "cuda" else "cpu"


def temporary(device: str, step: Callable[[], object]) -> int | None:
    """Bytes that one step takes on a GPU beyond what is alive before it; None on a CPU, which does not tell."""
    if device == "cpu":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


class TorchProgram:
    """A `Program` of PyTorch."""

    def __init__(self, network: Network, variant: str):
        self._network, self._compiled = network, variant == "compiled"
        # The compiler is given the layout that its own documentation advises for convolutions.
        layout = torch.contiguous_format if variant == "contiguous" else torch.channels_last
        self._slots: Slots = []
        self._device = device()
        self._model = _chain(network.places(), self._slots).to(self._device, memory_format=layout)
        assert len(self._slots) == len(list(self._model.parameters())), "a parameter of torch has no slot"
        self._weights = draw_weights(network)
        x, labels = draw_batch(network)
        x = torch.from_numpy(x).to(self._device)
        self._x = x.permute(0, 3, 1, 2).contiguous(memory_format=layout) if x.ndim == 4 else x
        self._labels = self._x if network.classes is None else torch.from_numpy(labels).long().to(self._device)
        self._forward = torch.compile(self._loss) if self._compiled else self._loss
        self._optimizer, self._costs = None, None

    def prepare(self) -> Costs:
        """As `Program` says; the whole first step counts as compiling, since torch.compile compiles in it."""
        if self._costs is None:
            self._begin()
            start = time.perf_counter()
            self._step()
            seconds = time.perf_counter() - start
            self._costs = Costs(None, seconds if self._compiled else 0.0, temporary(self._device, self._step))
            self._begin()
        return self._costs

    def first(self) -> tuple[float, Weights]:
        """As `Program` says."""
        self.prepare()
        self._begin()
        loss = float(self._step())
        buffers = {slot: self._optimizer.state[p]["momentum_buffer"].cpu().numpy() for slot, p in self._slots}
        gradient = {path: array.copy() for path, array in neutral(buffers).items()}
        self._begin()
        return loss, gradient

    def run(self, steps: int) -> float:
        """As `Program` says."""
        self.prepare()
        start = time.perf_counter()
        for _ in range(steps):
            loss = self._step()
        value = loss.item()
        seconds = time.perf_counter() - start
        if not np.isfinite(value):
            raise FloatingPointError(f"the loss became {value}; its time would mean nothing")
        return seconds

    def _begin(self) -> None:
        with torch.no_grad():
            for slot, parameter in self._slots:
                parameter.copy_(torch.from_numpy(slot.carry(self._weights)))
        parameters = self._model.parameters()
        self._optimizer = torch.optim.SGD(parameters, LEARNING_RATE, SGD_MOMENTUM, fused=True)

    def _loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        half = self._network.dtype != "float32"
        with torch.autocast(self._device, getattr(torch, self._network.dtype), enabled=half):
            y = self._model(x)
        y = y.float()
        return functional.mse_loss(y, labels) if self._network.classes is None else functional.cross_entropy(y, labels)

    def _step(self) -> torch.Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._forward(self._x, self._labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()


class _Residual(nn.Module):
    """body(x) + shortcut(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


class _SelfAttention(nn.Module):
    """torch's attention with one input for queries, keys and values."""

    def __init__(self, c: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(c, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class _PositionEmbedding(nn.Module):
    """A learned vector added to each token."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.embedding


class _Apply(nn.Module):
    """A function of x as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def _chain(places: list[Place], slots: Slots) -> nn.Sequential:
    return nn.Sequential(*(_layer(place, slots) for place in places))


def _layer(place: Place, slots: Slots) -> nn.Module:
    """The module of a place; its parameters are noted in `slots`."""
    path, c = place.path, place.shape[-1]
    tokens = len(place.shape) == 3

    def filled(layer: nn.Module, kernel: Slot, bias: Slot | None) -> nn.Module:
        slots.extend([(kernel, layer.weight)] + ([(bias, layer.bias)] if bias else []))
        return layer

    match place.node:
        case nodes.Conv(features, window, stride, padding, groups, bias):
            layer = nn.Conv2d(c, features, window, stride, padding, groups=groups, bias=bias)
            return filled(layer, transposed(f"{path}/kernel", 3, 2, 0, 1), Slot(f"{path}/bias") if bias else None)
        case nodes.ConvTranspose(features, window, stride, padding):
            layer = nn.ConvTranspose2d(c, features, window, stride, padding)
            return filled(layer, transposed(f"{path}/kernel", 2, 3, 0, 1), Slot(f"{path}/bias"))
        case nodes.Dense(features):
            return filled(nn.Linear(c, features), channels_first_dense(place), Slot(f"{path}/bias"))
        case nodes.LayerNorm():
            return filled(nn.LayerNorm(c, nodes.EPSILON), Slot(f"{path}/scale"), Slot(f"{path}/offset"))
        case nodes.BatchNorm():
            layer = nn.BatchNorm2d(c, nodes.EPSILON, 1 - nodes.MOMENTUM)
            return filled(layer, Slot(f"{path}/scale"), Slot(f"{path}/offset"))
        case nodes.Attention(heads):
            layer = _SelfAttention(c, heads)
            inner = layer.attention
            slots.append((transposed(f"{path}/qkv/kernel", 1, 0), inner.in_proj_weight))
            slots.append((Slot(f"{path}/qkv/bias"), inner.in_proj_bias))
            filled(inner.out_proj, transposed(f"{path}/out/kernel", 1, 0), Slot(f"{path}/out/bias"))
            return layer
        case nodes.PositionEmbedding():
            layer = _PositionEmbedding(place.shape[1:])
            slots.append((Slot(f"{path}/embedding"), layer.embedding))
            return layer
        case nodes.Relu():
            return nn.ReLU(inplace=True)
        case nodes.Gelu():
            return nn.GELU(approximate="tanh")
        case nodes.MaxPool(window, stride, padding):
            return nn.MaxPool2d(window, stride, padding)
        case nodes.AvgPool(window, stride):
            return nn.AvgPool2d(window, stride)
        case nodes.GlobalAvgPool():
            return _Apply(lambda x: x.mean(1 if tokens else (2, 3)))
        case nodes.Flatten():
            return nn.Flatten()
        case nodes.Tokens():
            return _Apply(lambda x: x.flatten(2).transpose(1, 2))
        case nodes.Subsample(features):
            pads = (0, 0, 0, 0, (features - c) // 2, features - c - (features - c) // 2)
            return _Apply(lambda x: functional.pad(x[:, :, ::2, ::2], pads))
        case nodes.Residual():
            body, shortcut = place.branches()
            return _Residual(_chain(body, slots), _chain(shortcut, slots))
    raise NotImplementedError(place.node)
