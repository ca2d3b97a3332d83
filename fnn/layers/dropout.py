"""Dropout layer: `ops.dropout` in training, nothing in evaluation."""

from typing import Any

import jax

from fnn import ops
from fnn.core.errors import require, require_floats
from fnn.core.layer import Layer, Params, State, shown
from fnn.ops.dropout import check_rate


@shown
def dropout(rate: float) -> Layer:
    """x: any shape -> same: in training a random fraction `rate` is set to zero, the rest divided by 1 - rate.

    Args:
      rate: the fraction dropped, in [0, 1). Evaluation returns x and needs no key, and so does rate 0.

    Raises:
      InputError: rate outside [0, 1); training without a key.

    >>> import jax, fnn
    >>> layer, x = fnn.dropout(0.5), jax.numpy.ones(6)
    >>> layer.apply({}, {}, x)[0].tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    >>> y, _ = layer.apply({}, {}, x, train=True, key=jax.random.key(0))
    >>> set(y.tolist()) <= {0.0, 2.0}
    True
    """
    rate = check_rate(rate)

    def apply(
        params: Params, state: State, x: jax.Array, *, train: bool = False, key: Any = None
    ) -> tuple[jax.Array, State]:
        require_floats("dropout", x=x)
        if not train or rate == 0:
            return x, state
        require(key is not None, "dropout", "a key in training", "key=None", "pass key=jax.random.key(seed) to apply")
        return ops.dropout(x, key, rate), state

    return Layer(lambda key, x: ({}, {}), apply, "dropout")
