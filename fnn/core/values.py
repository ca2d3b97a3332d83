"""What is asked of the values of an argument, where they are known."""

from collections.abc import Callable

import jax
import numpy as np

from fnn.core.errors import InputError


def require_values(
    where: str, array: jax.Array, ok: Callable[[np.ndarray], np.ndarray], expected: str, fix: str
) -> None:
    """Refuse an array where `ok` is false, if its values are known here: not under jit, not on another machine."""
    if isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True):
        return
    values = np.asarray(array)
    good = ok(values)
    if not good.all():
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        raise InputError(where, expected, f"{values[at]} at index {at}", fix)
