"""Where arrays live: on one device, or split among several. A statement, since a trace cannot see it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, get_args

import jax
from jax.sharding import AxisType

from fnn.core.errors import require
from fnn.core.words import described

Placement = Literal["single", "sharded"]

# Part of the key of every jit and trace cache, as the gradient mode is. None: nobody has said anything.
_placement = jax.make_user_context(None)


def placement(where: Placement) -> AbstractContextManager[None]:
    """Say where the arrays live for everything traced or run inside the block: it decides speed, not values.

    On a single device hand-written rules may cut the batch into parts that fit the caches. Where devices hold parts of
    the batch, such a loop would make them talk, so rules use what the compiler can split. `fnn.train.make_step` and
    `evaluate` look at the arrays they are given. Inside `jax.jit` the arrays cannot be seen: there it is "single" where
    the process has one device, else "sharded", unless this block says otherwise. With mesh axes explicit, or inside
    `shard_map`, the arrays themselves tell, whatever is said here.

    Already jitted functions obey: they are traced once a placement. It belongs to the thread that enters the block.

    Args:
      where: `"single"` or `"sharded"`.

    Raises:
      InputError: another value.

    >>> import jax, fnn
    >>> with fnn.placement("single"):  # one of several devices
    ...     y = jax.jit(fnn.ops.relu)(jax.numpy.array([-1.0, 2.0]))
    """
    names = get_args(Placement)
    ok = isinstance(where, str) and where in names
    require(ok, "placement", 'where "single" or "sharded"', described(where), "choose one of the two")
    return _entered(where)


@contextmanager
def _entered(where: Placement) -> Iterator[None]:
    with _placement(where):
        yield


def current_placement() -> Placement:
    """What the innermost block says; without one, "single" where the process has one device."""
    return _placement.value or ("single" if jax.device_count() == 1 else "sharded")


@contextmanager
def where_eager(trees: Any) -> Iterator[None]:
    """The block for arrays with values: where nobody has said anything, they tell."""
    if _placement.value is not None or placement_of(trees) == current_placement():
        yield
        return
    with _placement(placement_of(trees)):
        yield


def placement_of(*trees: Any) -> Placement:
    """Where the arrays of the trees live, or those that they describe: "sharded" if one is on several devices.

    Of arrays that are traced nothing is known: then it is what `current_placement` says.
    """
    if jax.device_count() == 1:
        return "single"
    leaves = jax.tree.leaves(trees, is_leaf=lambda node: isinstance(node, Iterator))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return current_placement()
    places = (getattr(leaf, "sharding", None) for leaf in leaves)
    return "sharded" if any(place is not None and len(place.device_set) > 1 for place in places) else "single"


def whole_batch(*args: jax.Array) -> bool:
    """Whether a loop over parts of the batch is free of communication: nothing can have split it among devices.

    That is so on a single device and inside `shard_map`. Elsewhere the compiler may split the batch behind the trace.
    """
    meshes = [jax.typeof(x).sharding.mesh for x in args]
    manual = all(not m.empty and set(m.axis_types) == {AxisType.Manual} for m in meshes)
    return manual or (current_placement() == "single" and all(m.empty for m in meshes))
