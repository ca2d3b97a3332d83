"""What a hand-written rule needs so that it is right, and lean, when the batch is sharded."""

import math
from operator import ge
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn.core.dtypes import product
from fnn.core.placement import whole_batch
from fnn.core.sizes import known


def varying(x: Any) -> frozenset[str]:
    """Names of the `shard_map` axes over which x differs from device to device."""
    kind = jax.typeof(x)
    manual = getattr(kind, "manual_axis_type", None)  # JAX 0.10 and newer; `vma` before
    return frozenset(manual.varying if manual is not None else getattr(kind, "vma", ()))


def align(*args: Any) -> tuple[Any, ...]:
    """Give all arguments of a rule the same varying axes inside `shard_map`.

    A `custom_vjp` must return a cotangent of the kind of its argument: for a replicated kernel and a sharded batch, the
    sum over the devices. Marking the kernel as varying in front of the rule lets JAX add exactly that sum, as it does
    for its own operations. Outside `shard_map` this does nothing.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return args
    kinds = [varying(leaf) for leaf in jax.tree.leaves(args)]
    union = frozenset().union(*kinds)
    if all(kind == union for kind in kinds):
        return args

    def mark(x: Any) -> Any:
        missing = tuple(sorted(union - varying(x)))
        return lax.pcast(x, missing, to="varying") if missing else x

    return tuple(jax.tree.map(mark, list(args)))


def contract(a: jax.Array, b: jax.Array, axes: tuple[Any, ...], like: jax.Array) -> jax.Array:
    """`product` over `axes` with the sharding of `like`.

    A product over a sharded batch axis must say where its result lives when mesh axes are explicit; a gradient lives
    where the argument it belongs to does (replicated, if the product comes in another rank and is reshaped after).

    A sum over all leading axes becomes a product of matrices: where there are several, XLA's CPU backend would first
    copy an operand, transposed. Not where devices may hold parts.
    """
    n = len(axes[0])
    rows = math.prod(a.shape[:n])  # may be negative, for all that JAX knows, where sizes are symbolic
    if axes == (tuple(range(n)),) * 2 and whole_batch(a, b) and known(ge, rows, 0):
        left, right = (x.reshape(math.prod(x.shape[:n]), math.prod(x.shape[n:])) for x in (a, b))
        return product(left, right, ((0,), (0,))).reshape(a.shape[n:] + b.shape[n:])
    sharding = result_sharding(like)
    if sharding is not None and a.ndim + b.ndim - 2 * n != like.ndim:
        sharding = sharding.update(spec=PartitionSpec())
    return product(a, b, axes, out_sharding=sharding)


def result_sharding(like: jax.Array) -> NamedSharding | None:
    """What to pass as `out_sharding` so that a result lives where `like` does; None unless mesh axes are explicit."""
    sharding = jax.typeof(like).sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None
