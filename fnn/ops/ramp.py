"""The ramps max(x, 0) and log(1 + e^x), of which activations and losses are made.

jax.nn.relu and softplus have a custom_jvp, which is lost where `scan` is split into what is known and what is linear:
their second derivatives at 0 are half of the right ones there. These need none.
"""

import jax
import jax.numpy as jnp


def plain_relu(x: jax.Array) -> jax.Array:
    """max(x, 0), NaN for NaN; JAX takes the slope 0 at 0, where jnp.maximum has 1/2."""
    return jnp.where(x <= 0, 0, x)


def plain_softplus(x: jax.Array) -> jax.Array:
    """log(1 + e^x), in two pieces whose slopes at 0, 0 and 1/2, add up to the right one."""
    return plain_relu(x) + jnp.log1p(jnp.exp(jnp.where(x > 0, -x, x)))
