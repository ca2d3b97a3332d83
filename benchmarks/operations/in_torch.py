"""The operations in PyTorch: eager or compiled, forward and backward, on the same numbers as in JAX.

Arrays are neutral: x (N, *spatial, C), kernels (*window, C/groups, K). Each argument has a form, which says how it gets
into PyTorch's layout and its gradient back; none of that is timed.
"""

import time

import numpy as np
import torch
from torch.nn import functional

from benchmarks.networks.in_torch import device, temporary
from benchmarks.networks.nodes import NotSupported
from benchmarks.operations.in_fnn import Costs
from benchmarks.operations.zoo import Operation


def _conv(x, kernel, *, padding=0, **options):
    if padding == "REFLECT":
        amounts = [kernel.shape[axis] // 2 for axis in range(kernel.ndim - 1, 1, -1) for _ in range(2)]
        x, padding = functional.pad(x, amounts, mode="reflect"), 0
    return getattr(functional, f"conv{x.ndim - 2}d")(x, kernel, padding=padding, **options)


def _conv_transpose(x, kernel, **options):
    return getattr(functional, f"conv_transpose{x.ndim - 2}d")(x, kernel, **options)


# Images carry channels second in PyTorch; the others are as in fnn.
IMAGES = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": lambda x, *, window, **options: functional.max_pool2d(x, window, **options),
    "avg_pool": lambda x, *, window, **options: functional.avg_pool2d(x, window, count_include_pad=False, **options),
    "global_max_pool": lambda x: x.amax((2, 3)),
    "global_avg_pool": lambda x: x.mean((2, 3)),
    "adaptive_avg_pool": functional.adaptive_avg_pool2d,
    "batch_norm": lambda x, scale, offset: functional.batch_norm(x, None, None, scale, offset, training=True),
    "batch_norm_inference": lambda x, scale, offset, mean, var: functional.batch_norm(x, mean, var, scale, offset),
    "group_norm": lambda x, scale, offset, *, groups: functional.group_norm(x, groups, scale, offset),
}


def _attention(*heads_last: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(*(a.transpose(1, 2) for a in heads_last)).transpose(1, 2)


OTHERS = {
    "attention": _attention,
    "dense": functional.linear,
    "layer_norm": lambda x, scale, offset: functional.layer_norm(x, scale.shape, scale, offset),
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "sigmoid": functional.sigmoid,
    "tanh": torch.tanh,
    "gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "elu": functional.elu,
    "softplus": functional.softplus,
    "softmax": lambda x: functional.softmax(x, -1),
    "log_softmax": lambda x: functional.log_softmax(x, -1),
    "softmax_cross_entropy": lambda x, labels: functional.cross_entropy(x, labels, reduction="none"),
    "sigmoid_binary_cross_entropy": lambda x, labels: functional.binary_cross_entropy_with_logits(
        x, labels, reduction="none"
    ).mean(1),
    "squared_error": lambda x, targets: functional.mse_loss(x, targets, reduction="none").mean(1),
    # PyTorch divides by the number of classes.
    "hinge": lambda x, labels: functional.multi_margin_loss(x, labels, reduction="none") * x.shape[1],
}


def to_torch(a: np.ndarray, form: str, groups: int = 1) -> torch.Tensor:
    """A neutral array in PyTorch's order of axes."""
    t = torch.from_numpy(np.asarray(a))
    if t.dtype == torch.int32:
        return t.long()
    if form == "image" and t.ndim > 2:
        t = t.movedim(-1, 1)
    elif form == "matrix":
        t = t.T
    elif form == "kernel":
        t = t.movedim((-1, -2), (0, 1))
    elif form == "transposed kernel":  # (*window, C/g, g K/g) -> (g C/g, K/g, *window)
        t = t.unflatten(-1, (groups, -1)).movedim((-2, -3, -1), (0, 1, 2)).flatten(0, 1)
    return t.contiguous()


def from_torch(t: torch.Tensor, form: str, groups: int = 1) -> np.ndarray:
    """The inverse of `to_torch`."""
    if form == "image" and t.ndim > 2:
        t = t.movedim(1, -1)
    elif form == "matrix":
        t = t.T
    elif form == "kernel":
        t = t.movedim((0, 1), (-1, -2))
    elif form == "transposed kernel":
        t = t.unflatten(0, (groups, -1)).movedim((0, 1, 2), (-2, -3, -1)).flatten(-2)
    return t.detach().contiguous().float().cpu().numpy()


class InTorch:
    """The operation in PyTorch: `variant` is "contiguous", "channels last", or "compiled", which is contiguous, too."""

    def __init__(self, operation: Operation, variant: str):
        function = IMAGES.get(operation.op) or OTHERS.get(operation.op)
        if function is None:
            raise NotSupported(f"{operation.op} draws or computes something else in PyTorch.")
        image = operation.op in IMAGES
        rank = len(operation.shapes["x"])
        last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(rank)
        if variant == "channels last" and not (image and last):
            raise NotSupported("PyTorch has channels last for images of two or three axes.")
        self._device, self._dtype = device(), getattr(torch, operation.dtype)
        self._memory = last if variant == "channels last" else torch.contiguous_format
        kernel = {"conv": "kernel", "conv_transpose": "transposed kernel", "dense": "matrix"}.get(operation.op)
        self._forms = {name: kernel if name == "kernel" else "image" for name in operation.shapes}
        self._forms = {name: form if image or form == "matrix" else "plain" for name, form in self._forms.items()}
        self._output, self._groups = "image" if image else "plain", operation.options.get("groups", 1)
        self._arguments = [
            self._laid_out(self._held(to_torch(a, self._forms[name], self._groups))).requires_grad_()
            for name, a in operation.data().items()
        ]
        fixed = [to_torch(a, "plain").to(self._device) for a in operation.fixed.values()]
        self._function = lambda *arguments: function(*arguments, *fixed, **operation.options)
        with torch.no_grad():
            y = from_torch(self._function(*self._arguments), self._output)
        self._dy = self._laid_out(self._held(to_torch(operation.cotangent(y.shape), self._output)))
        if variant == "compiled":
            torch.compiler.reset()  # all operations are one lambda, of which few versions may be compiled
            self._function = torch.compile(self._function, dynamic=False)

    def _held(self, t: torch.Tensor) -> torch.Tensor:
        return t.to(self._device, self._dtype)

    def _laid_out(self, t: torch.Tensor) -> torch.Tensor:
        ranked = {torch.channels_last: 4, torch.channels_last_3d: 5}.get(self._memory)
        return t.contiguous(memory_format=self._memory) if ranked == t.ndim else t.contiguous()

    def _step(self):
        y = self._function(*self._arguments)
        return y, torch.autograd.grad(y, self._arguments, self._dy)

    def prepare(self) -> Costs:
        """Eager programs have nothing to compile, and a compiled one has done it in its first step."""
        return Costs(temp_bytes=temporary(self._device, self._step))

    def first(self) -> tuple[float, dict[str, np.ndarray]]:
        """Mean size of the output; the output and the gradients by name, in neutral layout."""
        y, gradients = self._step()
        found = {"output": from_torch(y, self._output)}
        for (name, form), gradient in zip(self._forms.items(), gradients, strict=True):
            found[name] = from_torch(gradient, form, self._groups)
        return float(y.detach().abs().mean()), found

    def run(self, steps: int) -> float:
        """Seconds of that many evaluations."""
        start = time.perf_counter()
        for _ in range(steps):
            self._step()
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start
