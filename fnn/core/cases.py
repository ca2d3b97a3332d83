"""Arguments that exercise a rule, described by shape: nothing is allocated until a checker asks."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import require_flag


@dataclass(frozen=True)
class Draw:
    """How an argument is drawn: `draw(key, dtype) -> argument`.

    Attributes:
      draw: the function.
      domain: which values are arguments at all: "real", "positive", "probabilities", "integers", "booleans", "signs"
        (-1 and 1), "key", "absent", or "own", of a function that was passed as it is. Whoever moves arguments (a
        sweep, a mutant) moves those of the domain "real" alone.
    """

    draw: Callable[[jax.Array, Any], Any]
    domain: str = "own"

    def __call__(self, key: jax.Array, dtype: Any) -> Any:
        """Draw it."""
        return self.draw(key, dtype)


@dataclass(frozen=True)
class Case:
    """One call of a rule: static options and how to draw each argument.

    Attributes:
      spec: the rule's first argument.
      draws: one function `(key, dtype) -> argument` for each further argument.
      batched: whether axis 0 of every array argument whose leading size is that of the first is the batch; rules are
        tested with this axis sharded.
      implementation: the name of the rule's implementation that computes it, where the tables would choose it for
        larger shapes alone; "" leaves the choice to them.
    """

    spec: Hashable
    draws: tuple[Draw, ...]
    batched: bool = True
    implementation: str = ""

    def sample(self, seed: int, dtype: Any = jnp.float32) -> list[Any]:
        """Draw the arguments; the same seed gives the same values, rounded to `dtype`."""
        return [draw(jax.random.key(seed * len(self.draws) + i), dtype) for i, draw in enumerate(self.draws)]


class Refusal(NamedTuple):
    """A call of an operation that must raise an InputError, in every mode.

    Attributes:
      call: makes it, without arguments.
      message: a regular expression that the message matches.
    """

    call: Callable[[], Any]
    message: str


def case(spec: Hashable, *args: Any, batched: bool = True, implementation: str = "") -> Case:
    """Describe a call: each argument is a shape (normal numbers), None, or a function `(key, dtype) -> argument`.

    `batched` and `implementation` as `Case` says.

    >>> case(None, (2, 3), None).sample(0)[0].shape
    (2, 3)
    """
    require_flag("case", "batched", batched)
    return Case(spec, tuple(_draw(arg) for arg in args), batched, implementation)


def _draw(arg: Any) -> Draw:
    if arg is None:
        return Draw(lambda key, dtype: None, "absent")
    if isinstance(arg, Draw):
        return arg
    return Draw(arg) if callable(arg) else normal(arg)


# NumPy draws the numbers: JAX would compile a program for every shape and distribution.
def normal(shape: tuple[int, ...], scale: float = 1.0, shift: float = 0.0) -> Draw:
    """Normal numbers with the given standard deviation and mean."""
    return Draw(lambda key, dtype: jnp.asarray(shift + scale * _rng(key).normal(size=shape), dtype), "real")


def positive(shape: tuple[int, ...]) -> Draw:
    """Numbers in (0.5, 1.5): variances and scales."""
    return Draw(lambda key, dtype: jnp.asarray(_rng(key).uniform(0.5, 1.5, shape), dtype), "positive")


def probabilities(shape: tuple[int, ...]) -> Draw:
    """Points of the simplex over the last axis: soft labels."""

    def draw(key: jax.Array, dtype: Any) -> jax.Array:
        weights = np.exp(_rng(key).normal(size=shape))
        return jnp.asarray(weights / weights.sum(-1, keepdims=True), dtype)

    return Draw(draw, "probabilities")


def integers(shape: tuple[int, ...], low: int, high: int) -> Draw:
    """Integers in [low, high), whatever the rule's dtype: class labels."""
    return Draw(lambda key, dtype: jnp.asarray(_rng(key).integers(low, high, shape), jnp.int32), "integers")


def booleans(shape: tuple[int, ...]) -> Draw:
    """True or False, whatever the dtype: masks."""
    return Draw(lambda key, dtype: jnp.asarray(_rng(key).random(shape) < 0.5), "booleans")


def signs(shape: tuple[int, ...]) -> Draw:
    """-1 or +1 in the rule's dtype: labels of the hinge loss."""
    return Draw(lambda key, dtype: jnp.asarray(_rng(key).choice([-1.0, 1.0], shape), dtype), "signs")


def random_key() -> Draw:
    """A random key, whatever the dtype."""
    return Draw(lambda key, dtype: key, "key")


def _rng(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
