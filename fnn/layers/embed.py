"""Embedding layers: of indices, and of positions in a sequence or an image.

Sinusoidal positions, for channels in pairs i of C / 2 and a base b:

    p_i = sin(t b^(-2 i / C)), i-th of the first half        p_(C/2 + i) = cos(t b^(-2 i / C)), i-th of the second

Of two axes, the first half of the channels holds those of the row, the second those of the column.

Sources: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.5; Dosovitskiy et al., 2020,
https://arxiv.org/abs/2010.11929, for the class token and learned positions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

from fnn import ops
from fnn.core.errors import integer, require, require_float_spec, require_floats
from fnn.core.layer import Layer, Params, require_shape, shown, weights
from fnn.core.lift import lift
from fnn.core.sizes import fixed
from fnn.core.spec import Spec
from fnn.layers.initial import initial, require_initializers
from fnn.ops.rotary import check_base


@shown
def embed(
    rows: int,
    features: int,
    *,
    table_init: jax.nn.initializers.Initializer = initializers.normal(1.0),  # noqa: B008
) -> Layer:
    """x: integers (...) -> (..., features): the row of a table for each index. params: table (rows, features).

    Args:
      rows: how many different indices there are, from 0 on.
      features: of each row.
      table_init: an initialiser from `jax.nn.initializers`; N(0, 1) by default.

    Raises:
      InputError: rows or features < 1; and what `ops.embed` raises.

    >>> import jax, fnn
    >>> layer, x = fnn.embed(10, 4), jax.numpy.array([[3, 1, 3]])
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> layer.apply(params, state, x)[0].shape
    (1, 3, 4)
    """
    rows, features = integer("embed", "rows", rows), integer("embed", "features", features)
    require_initializers("embed", table_init=table_init)

    def init(key: jax.Array, x: Spec) -> Params:
        ok = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.integer)
        got = getattr(x, "dtype", type(x).__name__)
        require(ok, "embed", "integers", got, "pass init an example: jnp.zeros((1, 8), int)")
        return {"table": initial("embed", "table_init", table_init, key, (rows, features), jnp.float32)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        (table,) = weights("embed", params, "table")
        require_shape("embed", "table", table, (rows, features))
        return ops.embed(x, table)

    return lift(apply, init, name="embed")


@shown
def position_embedding(
    *,
    embedding_init: jax.nn.initializers.Initializer = initializers.normal(0.02),  # noqa: B008
) -> Layer:
    """x: (N, *places, C) -> same: a learned vector is added for each place. params: embedding (*places, C).

    The places are those of the example that init was given: T of a sequence, H and W of an image.

    Args:
      embedding_init: an initialiser from `jax.nn.initializers`; N(0, 0.02^2) by default.

    Raises:
      InputError: x without places, or with others than init was given.
    """
    require_initializers("position_embedding", embedding_init=embedding_init)

    def init(key: jax.Array, x: Spec) -> Params:
        require_float_spec("position_embedding", x)
        _check_rank("position_embedding", x, x.ndim > 2)
        return {"embedding": initial("position_embedding", "embedding_init", embedding_init, key, x.shape[1:], x.dtype)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        (embedding,) = weights("position_embedding", params, "embedding")
        require_floats("position_embedding", x=x, embedding=embedding)
        fix = "cut or resize the embedding, or x"
        expected = f"x (N, {', '.join(map(str, embedding.shape))})"
        require(x.shape[1:] == embedding.shape, "position_embedding", expected, x.shape, fix)
        return x + jnp.asarray(embedding)[None]

    return lift(apply, init, name="position_embedding")


@shown
def sinusoidal_positions(*, base: float = 10_000.0) -> Layer:
    """x: (N, T, C) or (N, H, W, C) -> same: waves of the place are added, sines in the first half, then cosines.

    Args:
      base: > 0; the longest wave is almost 2 pi base.

    Raises:
      InputError: another rank, channels that 2 does not divide, or 4 for two axes; base <= 0.

    >>> import jax, fnn
    >>> fnn.sinusoidal_positions().apply({}, {}, jax.numpy.zeros((1, 2, 2)))[0].round(3).tolist()
    [[[0.0, 1.0], [0.8410000205039978, 0.5400000214576721]]]
    """
    base = check_base(base, "sinusoidal_positions")

    def apply(params: Params, x: jax.Array) -> jax.Array:
        require_floats("sinusoidal_positions", x=x)
        ok = x.ndim in (3, 4) and x.shape[-1] % (2 * (x.ndim - 2)) == 0
        expected = "x (N, T, C) with C even, or (N, H, W, C) with C divided by 4"
        require(ok, "sinusoidal_positions", expected, x.shape, "choose other channels")
        *places, c = x.shape[1:]
        waves = [_waves(n, c // len(places), base).astype(x.dtype) for n in places]
        if len(waves) == 2:
            rows, columns = (jnp.broadcast_to(w, (*places, c // 2)) for w in (waves[0][:, None], waves[1][None]))
            waves = [jnp.concatenate([rows, columns], -1)]
        return x + jnp.asarray(waves[0])[None]

    return lift(apply, name="sinusoidal_positions")


def _waves(n: Any, c: int, base: float) -> Any:
    """(n, c), in float64 where n is known: far places lose digits otherwise."""
    numbers = np if fixed(n) else jnp
    angles = numbers.arange(n)[:, None] * base ** (-np.arange(c // 2) / (c // 2))[None]
    return numbers.concatenate([numbers.sin(angles), numbers.cos(angles)], -1)


@shown
def class_token(
    *,
    token_init: jax.nn.initializers.Initializer = initializers.zeros,
) -> Layer:
    """x: (N, T, C) -> (N, 1 + T, C): a learned vector is put in front. params: token (C,).

    Args:
      token_init: an initialiser from `jax.nn.initializers`; zeros by default.

    Raises:
      InputError: another rank.
    """
    require_initializers("class_token", token_init=token_init)

    def init(key: jax.Array, x: Spec) -> Params:
        require_float_spec("class_token", x)
        _check_rank("class_token", x, x.ndim == 3)
        return {"token": initial("class_token", "token_init", token_init, key, x.shape[-1:], x.dtype)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        (token,) = weights("class_token", params, "token")
        require_floats("class_token", x=x, token=token)
        _check_rank("class_token", x, x.ndim == 3)
        require_shape("class_token", "token", token, x.shape[-1:])
        first = jnp.broadcast_to(token[None, None], (x.shape[0], 1, x.shape[-1]))
        return jnp.concatenate([first, x], 1)

    return lift(apply, init, name="class_token")


def _check_rank(where: str, x: Spec, ok: bool) -> None:
    shape = "(N, T, C)" if where == "class_token" else "(N, *places, C)"
    require(ok, where, f"x of shape {shape}", x.shape, "flatten or add axes: fnn.reshape(-1, C)")
