"""What reaches every leaf of a model: its input on the way forward, and the cotangent of its output on the way back.

Each leaf hands out what it was given in the place of its state, as in `fnn.inspect.activations`, and adds a zero, its
probe, to its output. The derivative of the loss with respect to the probe is the cotangent. The probes sit beside the
parameters, so that they reach the copies inside a `repeat`, and every checkpoint, like these.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from fnn.check.arrays import split
from fnn.core.layer import Layer, Params, State
from fnn.core.rule import gradients
from fnn.inspect.observe import observe

PARAMS, PROBE = "params", "probe"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Seen:
    """What one leaf was given and returned; inside a `repeat` with a leading axis for the copies.

    Attributes:
      x, state, key: its arguments.
      y: the float arrays of its output.
      path: names from the outside in.
      ranks: of each array of y in one copy.
    """

    x: Any
    state: State
    key: Any
    y: list
    path: str = field(metadata={"static": True})
    ranks: tuple[int, ...] = field(metadata={"static": True})

    @property
    def axes(self) -> int:
        """How many leading axes count copies."""
        return self.y[0].ndim - self.ranks[0] if self.y else 0


class Probed:
    """A model with a probe at every leaf.

    Attributes:
      layer: takes the parameters `params`; returns a state of `Seen`.
      params: of each leaf {"params": its own, "probe": one zero for each float array it returns}.
      leaves: the leaf layers by path, in order of construction.
    """

    def __init__(self, layer: Layer, params: Params, state: State, x: Any, key: Any):
        self.leaves: dict[str, Layer] = {}
        looking = observe(layer, self._watch)
        self.layer = observe(layer, self._probe)
        with gradients("auto"):
            seen = jax.eval_shape(lambda p: looking.apply(p, state, x, train=True, key=key)[1], params)
        self.params = _slots(seen, params)

    def _watch(self, path: str, leaf: Layer, copies: int) -> Layer:
        del copies
        self.leaves[path] = leaf

        def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, Any]:
            y, _ = leaf.apply(params, state, x, train=train, key=key)
            values = list(map(jnp.asarray, split(y)[0]))
            return y, Seen(x, state, key, values, path, tuple(map(jnp.ndim, values)))

        return Layer(leaf.init, apply, leaf.name)

    def _probe(self, path: str, leaf: Layer, copies: int) -> Layer:
        watched = self._watch(path, leaf, copies)

        def apply(slot: Any, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, Any]:
            y, seen = watched.apply(slot[PARAMS], state, x, train=train, key=key)
            values, join = split(y)
            return join([v + p.astype(jnp.result_type(v)) for v, p in zip(values, slot[PROBE], strict=True)]), seen

        return Layer(leaf.init, apply, leaf.name)


def _slots(seen: Any, params: Params) -> Any:
    if isinstance(seen, Seen):
        return {PARAMS: params, PROBE: [jnp.zeros(y.shape, y.dtype) for y in seen.y]}
    return {name: _slots(part, params.get(name, {})) for name, part in seen.items()}


def walk(seen: Any, *trees: Any) -> Iterator[tuple[Seen, tuple]]:
    """Each `Seen` with what stands at its place in trees of the structure of `Probed.params`."""
    if isinstance(seen, Seen):
        yield seen, trees
    else:
        for name, part in seen.items():
            yield from walk(part, *(tree[name] for tree in trees))
