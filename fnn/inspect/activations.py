"""What every layer of a model returns for an input."""

from dataclasses import dataclass, field
from typing import Any

import jax

from fnn.core.alive import of_live_arrays
from fnn.core.layer import Layer, Params, State, params_and_state, require_layer
from fnn.core.shared import unshared
from fnn.inspect.observe import observe


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Output:
    """What a leaf hands out in the place of its state, and so through every jit, scan and checkpoint on the way."""

    value: Any
    path: str = field(metadata={"static": True})


@of_live_arrays
def activations(layer: Layer, train_state: Any, x: Any) -> dict[str, Any]:
    """The output of every leaf layer by path, in order of construction, in evaluation mode.

    What lies inside a `repeat` has one more leading axis, one entry a copy. Pure: jit or differentiate it as you like.

    Args:
      layer: the model.
      train_state: its TrainState, or a pair (params, state).
      x: its input.

    Raises:
      InputError: no Layer, no such pair; and what the layer raises for this input.

    >>> import jax, fnn
    >>> net = fnn.serial(hidden=fnn.dense(4), out=fnn.dense(2))
    >>> seen = activations(net, net.init(jax.random.key(0), (1, 3)), jax.numpy.ones((5, 3)))
    >>> {path: a.shape for path, a in seen.items()}
    {'hidden': (5, 4), 'out': (5, 2)}
    """
    require_layer("activations", "layer", layer)
    params, state = params_and_state("activations", train_state)
    layer, params, state = unshared(layer, params, state)
    paths = []

    def wrap(path: str, leaf: Layer, copies: int) -> Layer:
        paths.append(path)

        def apply(params: Params, state: State, x: Any, *, train: bool = False, key: Any = None) -> tuple[Any, State]:
            y, _ = leaf.apply(params, state, x, train=train, key=key)
            return y, {"output": _Output(y, path)}

        return Layer(leaf.init, apply, leaf.name)

    _, seen = observe(layer, wrap).apply(params, state, x)
    found = {out.path: out.value for out in jax.tree.leaves(seen, is_leaf=lambda node: isinstance(node, _Output))}
    return {path: found[path] for path in paths}
