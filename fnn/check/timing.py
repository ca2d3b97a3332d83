"""The time of one jitted function with hand-written and with automatic gradients."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from fnn.core.alive import of_live_arrays
from fnn.core.errors import integer, require, require_function
from fnn.core.rule import kept_by_hand

MODES = ("hand", "auto")


@of_live_arrays
def time_modes(f: Callable, *args: Any, rounds: int = 20) -> dict[str, float]:
    """Median seconds of `f(*args)` in each mode, its results waited for, compilation left out.

    The modes take turns, and each goes first in every other round, so that a machine that slows down or speeds up on
    the way favours neither.

    Args:
      f: a jitted function that takes gradients; it must not donate its arguments, which are used again and again.
      *args: what to call it with.
      rounds: calls a mode.

    Returns:
      {"hand": seconds, "auto": seconds}.

    Raises:
      InputError: rounds < 1, or f donated an argument.

    >>> import jax, jax.numpy as jnp, fnn
    >>> f = jax.jit(jax.grad(lambda w: fnn.ops.dense(jnp.ones((4, 3)), w).sum()))
    >>> sorted(time_modes(f, jnp.ones((3, 2)), rounds=3))
    ['auto', 'hand']
    """
    require_function("time_modes", "f", f, "...")
    rounds = integer("time_modes", "rounds", rounds, fix="time at least one round")

    def require_kept() -> None:
        gone = [leaf for leaf in jax.tree.leaves(args) if isinstance(leaf, jax.Array) and leaf.is_deleted()]
        fix = "time a function jitted without donate_argnums"
        require(not gone, "time_modes", "a function that keeps its arguments", "one that donates them", fix)

    return medians(lambda mode: f(*args), rounds, require_kept)


def medians(
    call: Callable[[str], Any], rounds: int, after_first: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Median seconds of `call(mode)` in each mode of gradients, after one call each that compiles."""
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}

    def clocked(mode: str) -> float:
        with kept_by_hand(mode):
            start = time.perf_counter()
            jax.block_until_ready(call(mode))
            return time.perf_counter() - start

    for mode in MODES:
        clocked(mode)
        after_first()
    for i in range(rounds):
        for mode in MODES if i % 2 else MODES[::-1]:
            seconds[mode].append(clocked(mode))
    return {mode: statistics.median(times) for mode, times in seconds.items()}
