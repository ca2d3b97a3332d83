"""Dropout layers: `ops.dropout` and its kin in training, nothing in evaluation."""

from collections.abc import Callable
from typing import Any, Literal

import jax

from fnn import ops
from fnn.core.errors import require, require_floats
from fnn.core.layer import Layer, Params, State, shown
from fnn.ops.dropout import check_mode, check_rate


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
    return _in_training("dropout", check_rate(rate), ops.dropout)


@shown
def channel_dropout(rate: float) -> Layer:
    """x: (N, *spatial, C) -> same: in training whole channels of each example are set to zero, the rest scaled.

    Args:
      rate: the fraction dropped, in [0, 1). Evaluation returns x and needs no key, and so does rate 0.

    Raises:
      InputError: what `dropout` raises.
    """
    return _in_training("channel_dropout", check_rate(rate, "channel_dropout"), ops.channel_dropout)


@shown
def stochastic_depth(rate: float, mode: Literal["row", "batch"] = "row") -> Layer:
    """x: (N, ...) -> same: in training whole examples are set to zero, the rest scaled; last in a residual body.

    Args:
      rate: the fraction dropped, in [0, 1). Evaluation returns x and needs no key, and so does rate 0.
      mode: whether each example is dropped by itself ("row"), or all at once ("batch").

    Raises:
      InputError: what `dropout` raises; another mode.
    """
    check_mode(mode)
    rate = check_rate(rate, "stochastic_depth")
    return _in_training("stochastic_depth", rate, lambda x, key, rate: ops.stochastic_depth(x, key, rate, mode))


def _in_training(name: str, rate: float, drop: Callable[..., jax.Array]) -> Layer:
    def apply(
        params: Params, state: State, x: jax.Array, *, train: bool = False, key: Any = None
    ) -> tuple[jax.Array, State]:
        require_floats(name, x=x)
        if not train or rate == 0:
            return x, state
        require(key is not None, name, "a key in training", "key=None", "pass key=jax.random.key(seed) to apply")
        return drop(x, key, rate), state

    return Layer(lambda key, x: ({}, {}), apply, name)
