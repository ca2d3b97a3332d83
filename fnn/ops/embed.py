"""Embedding: each index takes a row of a table.

    y = W[i]        dW[v] = sum of dy over all positions with i = v

Source: Bengio et al., 2003, https://www.jmlr.org/papers/v3/bengio03a.html, section 2.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from fnn.core.cases import case, integers
from fnn.core.dtypes import widen
from fnn.core.errors import require, require_array, require_floats
from fnn.core.rule import Rule
from fnn.core.sharding import result_sharding
from fnn.core.values import require_values


def embed(indices: jax.Array, table: jax.Array) -> jax.Array:
    """indices (...), table (V, C) -> (..., C): rows of the table.

    Args:
      indices: integers from 0 to V - 1, any shape. Inside jit, where nothing can be raised, others give NaN, and no
        gradient: they are never clamped, nor counted from the end.
      table: (V, C), floating.

    Raises:
      InputError: a table of another rank, indices that are no integers, or outside the table.

    >>> import jax.numpy as jnp
    >>> embed(jnp.array([2, 0]), jnp.array([[1.0], [2.0], [3.0]])).ravel().tolist()
    [3.0, 1.0]
    """
    require_array("embed", "indices", indices)
    require_floats("embed", table=table)
    ok = table.ndim == 2 and table.shape[0] > 0
    require(ok, "embed", "a table (V, C) with rows", table.shape, "reshape the table")
    got, fix = f"{indices.dtype} of shape {indices.shape}", "cast them: indices.astype(int)"
    require(jnp.issubdtype(indices.dtype, jnp.integer), "embed", "integer indices", got, fix)
    rows = table.shape[0]
    require_values(
        "embed",
        indices,
        lambda i: (i >= 0) & (i < rows),
        f"indices from 0 to {rows - 1}",
        "or a larger table",
    )
    return rule(None, indices, table)


def _place(indices, rows):
    """Indices in int32 at least, those outside behind the last row."""
    wide = indices.astype(jnp.int32) if indices.dtype.itemsize < 4 else indices
    return jnp.where((wide >= 0) & (wide < rows), wide, rows)


def _forward(spec, indices, table):
    sharding = result_sharding(indices)
    if sharding is not None:
        sharding = sharding.update(spec=PartitionSpec(*sharding.spec, None))
    rows = table.at[_place(indices, table.shape[0])]
    return rows.get(mode="fill", fill_value=jnp.nan, out_sharding=sharding)


def _fwd(spec, indices, table):
    return _forward(spec, indices, table), (indices, table)


def _bwd(spec, residuals, dy):
    indices, table = residuals
    if result_sharding(indices) is not None:  # JAX knows where the sum over the devices belongs
        return None, jax.vjp(lambda table: _forward(spec, indices, table), table)[1](dy)[0]
    dy = widen(dy).reshape(-1, dy.shape[-1])
    dtable = jnp.zeros(table.shape, dy.dtype).at[_place(indices, table.shape[0]).ravel()].add(dy, mode="drop")
    return None, dtable.astype(table.dtype)


def _reference(spec, indices, table):
    wide = indices.astype(jnp.int32)[..., None]
    return sum(jnp.where(wide == v, table[v], 0) for v in range(table.shape[0]))


rule = Rule(
    name="embed",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=(
        (lambda: embed(jnp.ones(2), jnp.ones((3, 2))), "integer indices"),
        (lambda: embed(jnp.array([0, 3]), jnp.ones((3, 2))), "indices from 0 to 2"),
        (lambda: embed(jnp.array([-1]), jnp.ones((3, 2))), "indices from 0 to 2"),
        (lambda: embed(jnp.array([0]), jnp.ones(3)), r"a table \(V, C\)"),
    ),
    cases=(
        case(None, integers((8, 3), 0, 5), (5, 2)),
        case(None, integers((), 0, 3), (3, 4), batched=False),
        case(None, integers((0, 2), 0, 3), (3, 1), batched=False),
    ),
)
