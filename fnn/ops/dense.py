"""Dense: y = x W + b over the last axis.

Shapes: x (..., C), kernel W (C, K), bias b (K,), y and its cotangent dy (..., K).

    dx = dy W^T        dW = sum over leading axes of x^T dy        db = sum over leading axes of dy

Source: Goodfellow, Bengio and Courville, Deep Learning (2016), section 6.5.6.
"""

import math

import jax
import jax.numpy as jnp

from fnn.core.broadcast import beside
from fnn.core.cases import case
from fnn.core.dtypes import wide_dtype
from fnn.core.errors import InputError, given, require, require_floats
from fnn.core.implementation import Implementation, Product
from fnn.core.rule import Rule
from fnn.core.sharding import contract
from fnn.core.storage import Storage
from fnn.kernels import matrices
from fnn.kernels.library import lacking


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """x: (..., C) -> (..., K): an affine map of the last axis.

    Args:
      x: (..., C), any number of leading axes, also none.
      kernel: (C, K).
      bias: (K,), or None.

    Raises:
      InputError: shapes that do not fit, integer or mixed dtypes.

    >>> import jax.numpy as jnp
    >>> dense(jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.ones(4)).shape
    (2, 4)
    """
    require_floats("dense", x=x, kernel=kernel, **given(bias=bias))
    require(kernel.ndim == 2, "dense", "a kernel of shape (C, K)", kernel.shape, "reshape the kernel")
    if x.ndim == 0 or x.shape[-1] != kernel.shape[0]:
        expected = f"x of shape (..., {kernel.shape[0]}) for a kernel {kernel.shape}"
        raise InputError("dense", expected, f"{x.shape}", _missing(x.shape, kernel.shape[0]))
    if bias is not None:
        require(bias.shape == kernel.shape[1:], "dense", f"a bias {kernel.shape[1:]}", bias.shape, "reshape the bias")
    return rule(None, x, kernel, bias)


def _missing(shape, c):
    if c == 1:
        return "give x a channel axis: x[..., None]"
    if math.prod(shape) == c:
        return "give x a batch axis, x[None], and flatten it"
    if len(shape) < 3:
        return "init the layer with an input of this shape"
    return "flatten x first, or init the layer with an input of this shape"


def _forward(spec, x, kernel, bias):
    return _with_bias(x @ kernel, bias)


def _with_bias(y, bias):
    return y if bias is None else y + beside(bias, y)


def _fwd(spec, x, kernel, bias):
    return _with_bias(FORWARD(spec, x, kernel), bias), (x, kernel, bias)


def _bwd(spec, residuals, dy):
    x, kernel, bias = residuals
    dbias = None if bias is None else dy.sum(tuple(range(dy.ndim - 1)), dtype=wide_dtype(dy)).astype(dy.dtype)
    dx = INPUT_GRADIENT(spec, dy, kernel, x=x)
    return dx, KERNEL_GRADIENT(spec, x, dy, asks=(x, kernel), kernel=kernel), dbias


def _input_gradient(spec, dy, kernel, x):
    return contract(dy, kernel, ((dy.ndim - 1,), (1,)), like=x)


def _kernel_gradient(spec, x, dy, kernel):
    leading = tuple(range(dy.ndim - 1))
    return contract(x, dy, (leading, leading), like=kernel)


def _matrix(a):
    return a.reshape(-1, a.shape[-1])


def _rows_times(a, kernel, across):
    return matrices.times(_matrix(a), kernel, across=across).reshape(*a.shape[:-1], -1)


def _fits(spec, x, kernel):
    return x.ndim > 1 and matrices.fits(x, kernel)


def _narrow(spec, x, kernel):
    """Bfloat16, and work enough that XLA would take longer: it widens both first."""
    if x.dtype != jnp.bfloat16 or not _fits(spec, x, kernel):
        return False
    examples = math.prod(x.shape[:-1])
    return examples >= FEW and examples * math.prod(kernel.shape) >= SMALL


def _long(spec, x, kernel):
    """The same, or a sum over many examples."""
    return _narrow(spec, x, kernel) or (_fits(spec, x, kernel) and math.prod(x.shape[:-1]) >= MANY)


def _onednn(run, when):
    return Implementation(name="onednn", run=run, when=when, fits=_fits, platform="cpu", missing=lacking)


# Examples; multiply-adds; examples: of thirteen shapes tried, with fewer XLA was about as fast.
FEW, SMALL, MANY = 64, 1 << 20, 256
FORWARD = Product(
    "forward",
    _onednn(lambda spec, x, kernel: _rows_times(x, kernel, (1, 0)), _narrow),
    Implementation(name="plain", run=lambda spec, x, kernel: x @ kernel),
)
INPUT_GRADIENT = Product(
    "input gradient",
    _onednn(lambda spec, dy, kernel, x: _rows_times(dy, kernel, (1, 1)), _narrow),
    Implementation(name="plain", run=_input_gradient),
)
KERNEL_GRADIENT = Product(
    "kernel gradient",
    _onednn(lambda spec, x, dy, kernel: matrices.times(_matrix(x), _matrix(dy), across=(0, 0)), _long),
    Implementation(name="plain", run=_kernel_gradient),
)


def _reference(spec, x, kernel, bias):
    y = jnp.stack([(x * kernel[:, k]).sum(-1) for k in range(kernel.shape[1])], -1)
    return y if bias is None else y + bias


rule = Rule(
    name="dense",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    storage=Storage(residuals=(0,)),  # x, which the product read
    products=(FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT),
    refuses=(
        (lambda: dense(jnp.ones((2, 3)), jnp.ones((4, 2))), r"x of shape \(\.\.\., 4\)"),
        (lambda: dense(jnp.ones((2, 3)), jnp.ones((3, 2)), jnp.ones(3)), r"a bias \(2,\)"),
    ),
    cases=(
        case(None, (8, 3), (3, 4), (4,)),
        case(None, (8, 3), (3, 4), None),
        case(None, (8, 5, 2, 3), (3, 4), (4,)),
        case(None, (8, 5, 3), (3, 4), (4,), implementation="onednn"),
        case(None, (3,), (3, 2), (2,), batched=False),
        case(None, (0, 3), (3, 2), (2,), batched=False),
    ),
)
