"""Initial kernels: He's normal distribution, drawn in blocks of one size.

    kernel ~ N(0, 2 / fan_in), cut off at two standard deviations        fan_in = product of all axes but the last

Source: He et al., 2015, https://arxiv.org/abs/1502.01852, eq. 10.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.dtypes import wide_dtype
from fnn.core.errors import ARRAYS, InputError, require, require_function
from fnn.core.sizes import require_room
from fnn.core.words import described

# XLA takes a few tenths of a second to compile random numbers, for every shape anew. Blocks of two sizes are compiled
# once, so a deep model starts in a fraction of the time: small ones waste little, large ones spare calls.
_SMALL, _LARGE = 1 << 15, 1 << 17
_STDDEV_OF_CUT_NORMAL = 0.87962566103423978  # of the standard normal distribution, cut off at -2 and 2


def he_normal() -> Callable[..., jax.Array]:
    """`(key, shape, dtype) -> kernel`, distributed as `jax.nn.initializers.he_normal()`; compiled once for all shapes.

    >>> import jax
    >>> he_normal()(jax.random.key(0), (3, 3, 16, 8)).shape
    (3, 3, 16, 8)
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        size = math.prod(shape)
        stddev = math.sqrt(2 / max(1, math.prod(shape[:-1]))) / _STDDEV_OF_CUT_NORMAL
        block = _LARGE if size >= _LARGE else _SMALL
        blocks = [_draw(key, i, stddev, dtype, block) for i in range(-(-size // block))] or [jnp.zeros(0, dtype)]
        # Joining on the host spares one compilation a shape; inside a transformation there is no host value.
        if isinstance(blocks[0], jax.core.Tracer):
            return jnp.concatenate(blocks)[:size].reshape(shape)
        return jnp.asarray(np.concatenate(blocks)[:size].reshape(shape))

    return init


def require_initializers(where: str, **functions: Callable[..., Any]) -> None:
    """Refuse initialisers that cannot be called as `f(key, shape, dtype)`."""
    for name, f in functions.items():
        require_function(where, name, f, "key", "shape", "dtype")


def initial(
    where: str, name: str, f: Callable[..., Any], key: jax.Array, shape: tuple[int, ...], dtype: Any
) -> jax.Array:
    """`f(key, shape, dtype)`, which must be an array of that shape and dtype.

    Raises:
      InputError: it is not, or f cannot make it.
    """
    require_room(where, shape, dtype)
    expected = f"{name} to return {jnp.dtype(dtype)} of shape {shape}"
    fix = "use one of jax.nn.initializers, called where it takes options: he_normal()"
    try:
        came = f(key, shape, dtype)
    except (TypeError, ValueError) as error:  # of the caller's function, or of one that wants other axes
        raise InputError(where, expected, f"{type(error).__name__}: {error}", fix) from error
    ok = isinstance(came, ARRAYS) and came.shape == shape and came.dtype == jnp.result_type(dtype)
    require(ok, where, expected, described(came), fix)
    return jnp.asarray(came)


def full(shape: tuple[int, ...], value: float, dtype: Any) -> jax.Array:
    """An array of one value, made on the host: `jnp.full` would compile a program for every shape."""
    return jnp.array(np.full(shape, value, dtype))


@partial(jax.jit, static_argnums=(3, 4))
def _draw(key: jax.Array, i: int, stddev: float, dtype: Any, block: int) -> jax.Array:
    wide = wide_dtype(jax.ShapeDtypeStruct((), dtype))
    draw = jax.random.truncated_normal(jax.random.fold_in(key, i), -2, 2, (block,), wide)
    return (stddev * draw).astype(dtype)
