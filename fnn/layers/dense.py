"""Dense layer: `ops.dense` with its parameters."""

import jax
from jax.nn import initializers

from fnn import ops
from fnn.core.errors import integer, require, require_flag, require_float_spec
from fnn.core.layer import Layer, Params, require_shape, shown, weights
from fnn.core.lift import lift
from fnn.core.spec import Spec
from fnn.layers.initial import he_normal, initial, require_initializers


@shown
def dense(
    features: int,
    *,
    bias: bool = True,
    kernel_init: jax.nn.initializers.Initializer = he_normal(),  # noqa: B008
    bias_init: jax.nn.initializers.Initializer = initializers.zeros,
) -> Layer:
    """x: (..., C) -> (..., features).

    Args:
      features: output features K, at least 1.
      bias: whether to add a learned bias.
      kernel_init, bias_init: initialisers from `jax.nn.initializers`; kernel (C, K), bias (K,).

    Raises:
      InputError: features < 1; and what `ops.dense` raises.
    """
    features = integer("dense", "features", features, fix="use at least one output feature")
    require_initializers("dense", kernel_init=kernel_init, bias_init=bias_init)
    require_flag("dense", "bias", bias)

    def init(key: jax.Array, x: Spec) -> Params:
        require_float_spec("dense", x)
        require(x.ndim >= 1, "dense", "x of shape (..., C)", x.shape, "give x a last axis")
        kernel_key, bias_key = jax.random.split(key)
        params = {"kernel": initial("dense", "kernel_init", kernel_init, kernel_key, (x.shape[-1], features), x.dtype)}
        return params | (
            {"bias": initial("dense", "bias_init", bias_init, bias_key, (features,), x.dtype)} if bias else {}
        )

    def apply(params: Params, x: jax.Array) -> jax.Array:
        kernel, b = weights("dense", params, "kernel", optional=("bias",))
        if getattr(kernel, "shape", ())[1:] != (features,):
            require_shape("dense", "kernel", kernel, (None, features))
        return ops.dense(x, kernel, b)

    return lift(apply, init, name="dense")
