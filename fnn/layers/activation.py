"""Activations as layers: the functions of `fnn.ops` without parameters."""

from fnn import ops
from fnn.core.layer import Layer, shown
from fnn.core.lift import lift
from fnn.ops.activation import not_negative, require_approximate
from fnn.ops.softmax import check_axis


@shown
def relu() -> Layer:
    """max(x, 0), see `fnn.ops.relu`."""
    return lift(lambda params, x: ops.relu(x), name="relu")


@shown
def leaky_relu(slope: float = 0.01) -> Layer:
    """x where x > 0, else slope x, see `fnn.ops.leaky_relu`."""
    slope = not_negative("leaky_relu", "slope", slope)
    return lift(lambda params, x: ops.leaky_relu(x, slope), name="leaky_relu")


@shown
def sigmoid() -> Layer:
    """1 / (1 + e^-x), see `fnn.ops.sigmoid`."""
    return lift(lambda params, x: ops.sigmoid(x), name="sigmoid")


@shown
def tanh() -> Layer:
    """The hyperbolic tangent, see `fnn.ops.tanh`."""
    return lift(lambda params, x: ops.tanh(x), name="tanh")


@shown
def elu(alpha: float = 1.0) -> Layer:
    """x where x > 0, else alpha (e^x - 1), see `fnn.ops.elu`."""
    alpha = not_negative("elu", "alpha", alpha)
    return lift(lambda params, x: ops.elu(x, alpha), name="elu")


@shown
def softplus() -> Layer:
    """log(1 + e^x), see `fnn.ops.softplus`."""
    return lift(lambda params, x: ops.softplus(x), name="softplus")


@shown
def silu() -> Layer:
    """x sigmoid(x), see `fnn.ops.silu`."""
    return lift(lambda params, x: ops.silu(x), name="silu")


@shown
def gelu(approximate: bool = True) -> Layer:
    """x Φ(x), by default in the tanh form, see `fnn.ops.gelu`."""
    require_approximate(approximate)
    return lift(lambda params, x: ops.gelu(x, approximate), name="gelu")


@shown
def softmax(axis: int = -1) -> Layer:
    """Positive numbers that sum to 1 along `axis`, see `fnn.ops.softmax`.

    The losses of fnn take logits: end a network to be trained without it.
    """
    axis = check_axis("softmax", axis)
    return lift(lambda params, x: ops.softmax(x, axis), name="softmax")


@shown
def log_softmax(axis: int = -1) -> Layer:
    """The logarithm of softmax along `axis`, see `fnn.ops.log_softmax`."""
    axis = check_axis("log_softmax", axis)
    return lift(lambda params, x: ops.log_softmax(x, axis), name="log_softmax")
