"""Arguments that exercise a rule, described by shape: nothing is allocated until a checker asks."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

Draw = Callable[[jax.Array, Any], Any]


@dataclass(frozen=True)
class Case:
    """One call of a rule: static options and how to draw each argument.

    Attributes:
      spec: the rule's first argument.
      draws: one function `(key, dtype) -> argument` for each further argument.
      batched: whether axis 0 of every array argument whose leading size is that of the first is the batch; rules are
        tested with this axis sharded.
    """

    spec: Hashable
    draws: tuple[Draw, ...]
    batched: bool = True

    def sample(self, seed: int, dtype: Any = jnp.float32) -> list:
        """Draw the arguments; the same seed gives the same values, rounded to `dtype`."""
        keys = jax.random.split(jax.random.key(seed), len(self.draws))
        return [draw(key, dtype) for draw, key in zip(self.draws, keys, strict=True)]


def case(spec: Hashable, *args: Any, batched: bool = True) -> Case:
    """Describe a call: each argument is a shape (normal numbers), None, or a function `(key, dtype) -> argument`.

    >>> case(None, (2, 3), None).sample(0)[0].shape
    (2, 3)
    """
    return Case(spec, tuple(_draw(arg) for arg in args), batched)


def _draw(arg: Any) -> Draw:
    if arg is None:
        return lambda key, dtype: None
    return arg if callable(arg) else normal(arg)


def normal(shape: tuple[int, ...], scale: float = 1.0, shift: float = 0.0) -> Draw:
    """Normal numbers with the given standard deviation and mean."""
    return lambda key, dtype: (shift + scale * jax.random.normal(key, shape)).astype(dtype)


def positive(shape: tuple[int, ...]) -> Draw:
    """Numbers in (0.5, 1.5): variances and scales."""
    return lambda key, dtype: jax.random.uniform(key, shape, minval=0.5, maxval=1.5).astype(dtype)


def probabilities(shape: tuple[int, ...]) -> Draw:
    """Points of the simplex over the last axis: soft labels."""
    return lambda key, dtype: jax.nn.softmax(jax.random.normal(key, shape)).astype(dtype)


def integers(shape: tuple[int, ...], low: int, high: int) -> Draw:
    """Integers in [low, high), whatever the rule's dtype: class labels."""
    return lambda key, dtype: jax.random.randint(key, shape, low, high)


def signs(shape: tuple[int, ...]) -> Draw:
    """-1 or +1 in the rule's dtype: labels of the hinge loss."""
    return lambda key, dtype: jax.random.rademacher(key, shape, dtype)


def random_key() -> Draw:
    """A random key, whatever the dtype."""
    return lambda key, dtype: key
