"""One kind of error for everything a caller can get wrong: where, what was expected, what came, how to mend it."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np


class InputError(ValueError):
    """A call that cannot be right.

    Args:
      where: the function or layer that noticed (`"conv"`).
      expected: what it needs, in words and shapes.
      got: what came.
      fix: what the caller can do about it.

    Attributes:
      path: names of the enclosing layers, outermost first; combinators fill it while the error travels up.
    """

    def __init__(self, where: str, expected: str, got: str, fix: str):
        super().__init__(where, expected, got, fix)
        self.where, self.expected, self.got, self.fix = where, expected, got, fix
        self.path: tuple[str, ...] = ()

    def __str__(self) -> str:
        at = f"in {'/'.join(self.path)}: " if self.path else ""
        return f"{at}{self.where} expected {self.expected}; got {self.got}; {self.fix}"


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Put `name` in front of the layer path of any error that leaves the block."""
    try:
        yield
    except InputError as error:
        error.path = (name, *error.path)
        raise
    except Exception as error:
        error.add_note(f"in layer {name!r}")
        raise


def require(ok: bool, where: str, expected: str, got: object, fix: str) -> None:
    """Raise `InputError` unless `ok`."""
    if not ok:
        raise InputError(where, expected, str(got), fix)


def require_floats(where: str, **arrays: object) -> None:
    """Refuse integer arrays, and arrays of different dtypes: silent promotion would hide a slow or wrong program.

    Entries that are None (an absent bias) are passed over.
    """
    came = {name: array for name, array in arrays.items() if array is not None}
    for name, array in came.items():
        # Messages are made only for errors: this runs at every call, where its strings would cost more than a product.
        if not hasattr(array, "dtype"):
            got = type(array).__name__
            raise InputError(where, f"an array for {name}", got, "pass a jax or numpy array")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            got, fix = f"{array.dtype} of shape {array.shape}", f"convert it, for example {name}.astype(jnp.float32)"
            raise InputError(where, f"a floating-point {name}", got, fix)
    if len({array.dtype for array in came.values()}) > 1:
        got = ", ".join(f"{name} {array.dtype}" for name, array in came.items())
        raise InputError(where, "one dtype for all arguments", got, "cast them to one dtype with .astype")


def require_key(where: str, key: object) -> None:
    """Refuse all but one key, of either kind that JAX knows: a typed scalar, or the older vector of uint32."""
    ok = hasattr(key, "dtype")
    if ok:
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        ok = key.ndim == 0 if typed else key.dtype == jnp.uint32 and key.ndim == 1
    require(ok, where, "one random key", repr(key), "pass jax.random.key(seed)")


def require_flag(where: str, name: str, value: object, fix: str = "pass True or False") -> None:
    """Refuse all but a bool, Python's or NumPy's: "none" and "SAME" would count as true, an empty array as false."""
    require(isinstance(value, bool | np.bool_), where, f"True or False for {name}", repr(value), fix)
