"""Matrix products as oneDNN computes them: slices of the first matrix's rows, each times the whole second."""

from typing import Any

import jax

from fnn.core.placement import whole_batch
from fnn.core.sizes import fixed
from fnn.kernels import plan as p
from fnn.kernels.call import bound, call
from fnn.kernels.library import computes
from fnn.kernels.plan import Memory, Plan


def fits(a: jax.Array, b: jax.Array) -> bool:
    """Two arrays of a dtype that it knows, which nothing splits, of known sizes, none of them 0."""
    sizes = (*a.shape, *b.shape)
    return computes(a, b) and fixed(*sizes) and min(sizes) > 0 and whole_batch(a, b)


def times(a: jax.Array, b: jax.Array, *, across: tuple[int, int] = (1, 0)) -> jax.Array:
    """The product of two matrices, summed over one axis of each; the others are rows and columns of the result."""
    return call(bound(_plan, across), bound(_plain, across), bound(_fold, across), a, b)


def _plain(across: tuple[int, int], a: jax.Array, b: jax.Array) -> jax.Array:
    return jax.lax.dot_general(a, b, (((across[0],), (across[1],)), ((), ())))


def _fold(across: tuple[int, int], args: tuple[Any, Any], mapped: tuple[bool, bool]) -> jax.Array:
    """Members that share the second matrix are more rows of the first; otherwise XLA's products in batches."""
    a, b = args
    if mapped == (True, False) and across[0] == 1 and a.shape[0]:
        return times(a.reshape(-1, a.shape[-1]), b, across=across).reshape(*a.shape[:2], -1)
    return jax.vmap(bound(_plain, across), tuple(0 if m else None for m in mapped))(a, b)


def _plan(across: tuple[int, int], a: Any, b: Any) -> Plan:
    """Rows of a lie one after another, or where a is summed over its first axis, beside each other."""
    rows, columns = a.shape[1 - across[0]], b.shape[1 - across[1]]
    along = a.shape[across[0]]
    first = (along, 1) if across[0] == 1 else (1, rows)
    second = (columns, 1) if across[1] == 0 else (1, along)
    dtype = a.dtype.name
    memories = (
        Memory(argument=p.SOURCE, buffer=0, sizes=(rows, along), steps=first, role=p.SLICED, dtype=dtype),
        Memory(argument=p.KERNEL, buffer=1, sizes=(along, columns), steps=second, role=p.WHOLE, dtype=dtype),
        Memory(argument=p.RESULT, buffer=2, sizes=(rows, columns), steps=(columns, 1), role=p.SLICED, dtype=dtype),
    )
    return Plan(kind=p.MATRICES, memories=memories, batch=rows)
