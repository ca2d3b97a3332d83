"""Activations as layers: the functions of `fnn.ops`, of which only prelu has a parameter."""

import jax
from jax.nn import initializers

from fnn import ops
from fnn.core.errors import integer, require, require_flag, require_float_spec
from fnn.core.layer import Layer, Params, shown, weights
from fnn.core.lift import lift
from fnn.core.spec import Spec
from fnn.layers.initial import initial, require_initializers
from fnn.ops.activation import require_approximate
from fnn.ops.activation_gated import positive_alpha
from fnn.ops.activation_rule import not_negative
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
def selu() -> Layer:
    """x, and alpha (e^x - 1) below 0, scaled to keep mean and variance, see `fnn.ops.selu`."""
    return lift(lambda params, x: ops.selu(x), name="selu")


@shown
def celu(alpha: float = 1.0) -> Layer:
    """x where x > 0, else alpha (e^(x / alpha) - 1), see `fnn.ops.celu`."""
    alpha = positive_alpha("celu", alpha)
    return lift(lambda params, x: ops.celu(x, alpha), name="celu")


@shown
def mish() -> Layer:
    """x tanh(log(1 + e^x)), see `fnn.ops.mish`."""
    return lift(lambda params, x: ops.mish(x), name="mish")


@shown
def quick_gelu() -> Layer:
    """x sigmoid(1.702 x), see `fnn.ops.quick_gelu`."""
    return lift(lambda params, x: ops.quick_gelu(x), name="quick_gelu")


@shown
def softsign() -> Layer:
    """x / (1 + |x|), see `fnn.ops.softsign`."""
    return lift(lambda params, x: ops.softsign(x), name="softsign")


@shown
def relu6() -> Layer:
    """x between 0 and 6, see `fnn.ops.relu6`."""
    return lift(lambda params, x: ops.relu6(x), name="relu6")


@shown
def hard_tanh() -> Layer:
    """x between -1 and 1, see `fnn.ops.hard_tanh`."""
    return lift(lambda params, x: ops.hard_tanh(x), name="hard_tanh")


@shown
def hard_sigmoid() -> Layer:
    """(x + 3) / 6 between 0 and 1, see `fnn.ops.hard_sigmoid`."""
    return lift(lambda params, x: ops.hard_sigmoid(x), name="hard_sigmoid")


@shown
def hard_swish() -> Layer:
    """x hard_sigmoid(x), see `fnn.ops.hard_swish`."""
    return lift(lambda params, x: ops.hard_swish(x), name="hard_swish")


@shown
def prelu(
    *,
    shared: bool = False,
    slope_init: jax.nn.initializers.Initializer = initializers.constant(0.25),  # noqa: B008
) -> Layer:
    """x: (..., C) -> same: x where x > 0, else a learned slope times x, see `fnn.ops.prelu`. params: slope.

    Args:
      shared: whether all channels have one slope (), or each its own (C,).
      slope_init: an initialiser from `jax.nn.initializers`; 0.25 by default.

    Raises:
      InputError: what `ops.prelu` raises.
    """
    require_flag("prelu", "shared", shared)
    require_initializers("prelu", slope_init=slope_init)

    def init(key: jax.Array, x: Spec) -> Params:
        require_float_spec("prelu", x)
        require(x.ndim >= 1, "prelu", "x of shape (..., C)", x.shape, "give x a last axis")
        return {"slope": initial("prelu", "slope_init", slope_init, key, () if shared else x.shape[-1:], x.dtype)}

    return lift(lambda params, x: ops.prelu(x, *weights("prelu", params, "slope")), init, name="prelu")


@shown
def glu() -> Layer:
    """x: (..., 2 C) -> (..., C): half of the channels times the sigmoid of the others, see `fnn.ops.glu`."""
    return lift(lambda params, x: ops.glu(x), name="glu")


@shown
def maxout(pieces: int) -> Layer:
    """x: (..., k C) -> (..., C): the largest of each `pieces` neighbouring channels, see `fnn.ops.maxout`."""
    pieces = integer("maxout", "pieces", pieces)
    return lift(lambda params, x: ops.maxout(x, pieces), name="maxout")


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
