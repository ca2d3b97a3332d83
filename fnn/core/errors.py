"""One kind of error for everything a caller can get wrong: where, what was expected, what came, how to mend it."""

import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.words import described, kind_name

FLOATS = (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)
ARRAYS = (jax.Array, np.ndarray, np.generic)  # a tracer is a jax.Array
LARGEST = 2**31 - 1  # of sizes, counts and amounts: what one axis can hold


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

    def __init__(self, where: str, expected: str, got: Any, fix: str):
        super().__init__(where, expected, str(got), fix)
        self.where, self.expected, self.got, self.fix = self.args
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


def require(ok: bool, where: str, expected: str, got: Any, fix: str) -> None:
    """Raise `InputError` unless `ok`."""
    if not ok:
        raise InputError(where, expected, got, fix)


def given(**arrays: Any) -> dict[str, Any]:
    """The optional arguments that are present: all that are not None."""
    return {name: array for name, array in arrays.items() if array is not None}


def require_floats(where: str, /, **arrays: Any) -> None:
    """Refuse what is no floating-point array, and arrays of different dtypes: silent promotion would hide a slow or
    wrong program. Optional arguments pass through `given` first.
    """
    # Messages are made only for errors: this runs at every call, where its strings would cost more than a product.
    for name, array in arrays.items():
        if not isinstance(array, ARRAYS):
            raise _no_array(where, name, array)
        if not is_floating(array.dtype):
            raise _no_floats(where, name, array)
    if len({array.dtype for array in arrays.values()}) > 1:
        got = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise InputError(where, "one dtype for all arguments", got, "cast them to one dtype with .astype")


def require_array(where: str, name: str, value: Any) -> None:
    """Refuse all but a JAX or NumPy array of numbers, booleans or keys."""
    if isinstance(value, jax.Array):
        return
    if not isinstance(value, ARRAYS):
        raise _no_array(where, name, value)
    ok = value.dtype.kind in "biufc" or jnp.issubdtype(value.dtype, jnp.number)
    require(ok, where, f"an array of numbers for {name}", described(value), "convert it, for example with jnp.asarray")


def require_real_array(where: str, name: str, value: Any) -> None:
    """Refuse all but an array of integers, or of floating-point numbers in which fnn computes."""
    require_array(where, name, value)
    ok = is_floating(value.dtype) or jnp.issubdtype(value.dtype, jnp.integer)
    require(ok, where, f"real numbers for {name}", described(value), f"convert it: {name}.astype(jnp.float32)")


def require_leaves(where: str, **trees: Any) -> None:
    """Refuse trees with a leaf that is neither an array nor a Python number: what jit, scan and checkpoint take."""
    for name, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not isinstance(leaf, float | complex) and not (isinstance(leaf, int) and -LARGEST <= leaf <= LARGEST):
                at = jax.tree_util.keystr(path, simple=True, separator="/")
                require_array(where, f"{name} {at}".rstrip(), leaf)


def require_float_spec(where: str, x: Any) -> None:
    """Refuse an example input that is not the spec of one floating-point array."""
    if not isinstance(x, jax.ShapeDtypeStruct):
        n = len(jax.tree.leaves(x))
        got = f"a {type(x).__name__} of {n}" if n else str(described(x))
        place = next(iter(x if isinstance(x, Mapping) else getattr(x, "_fields", ())), 0)
        fix = f"apply it to one part, fnn.at({place!r}, layer), or join the parts with fnn.lift"
        raise InputError(where, "one array for x", got, fix)
    if not is_floating(x.dtype):
        raise _no_floats(where, "x", x)


@functools.cache
def is_floating(dtype: np.dtype) -> bool:
    """Whether fnn computes in this dtype: not in those of 8 bits and fewer, which store numbers, nor in longdouble."""
    return dtype in map(np.dtype, FLOATS)


def require_key(where: str, key: Any) -> None:
    """Refuse all but one key, of either kind that JAX knows: a typed scalar, or the older vector of uint32."""
    ok = isinstance(key, ARRAYS)
    if ok:
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        ok = key.ndim == 0 if typed else key.dtype == jnp.uint32 and key.shape == _old_key_shape()
    require(ok, where, "one random key", described(key), "pass jax.random.key(seed)")


def _old_key_shape() -> tuple[int, ...]:
    shape: tuple[int, ...] = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
    return shape


def require_flag(where: str, name: str, value: Any, fix: str = "pass True or False") -> None:
    """Refuse all but a bool, Python's or NumPy's: "none" and "SAME" would count as true, an empty array as false."""
    require(isinstance(value, bool | np.bool_), where, f"True or False for {name}", described(value), fix)


def require_function(
    where: str, name: str, f: Any, *args: str, keywords: tuple[str, ...] = (), optional: bool = False
) -> None:
    """Refuse what cannot be called, classes, and functions of other arguments; "..." stands for any further ones."""
    if f is None and optional:
        return
    call = ", ".join([*args, *(f"{keyword}=" for keyword in keywords)])
    wanted = f"a function {name}({call})" + (" or None" if optional else "")
    if not callable(f):
        raise InputError(where, wanted, described(f), f"pass a function for {name}")
    if isinstance(f, type):
        raise InputError(where, wanted, described(f), "pass a function; a class may have to be called first")
    if hasattr(f, "init") and hasattr(f, "apply"):
        raise InputError(where, wanted, f"the layer {f!r}", "pass a function; layers are joined by serial and its kin")
    if not _takes(f, args, keywords):
        fix = f"wrap it: lambda {call}: ..., or call it if it makes such a function"
        raise InputError(where, wanted, f"{described(f)} of other arguments", fix)


def integer(where: str, name: str, value: Any, least: int = 1, most: int = LARGEST, *, fix: str = "") -> int:
    """An option as a Python int: from Python's, NumPy's and JAX's integers; equal ones thus share a compiled program.

    Raises:
      InputError: a boolean, a float, an array with axes, a traced value, or a number outside `least` to `most`.
    """
    n = value if type(value) is int else index_of(value)
    if n is None or not least <= n <= most:
        bounds = (
            f"{name} >= {least}" if most == LARGEST and (n is None or n < least) else f"{name} from {least} to {most}"
        )
        raise _wrong_number(
            where, bounds if n is not None else f"an integer {bounds}", value, fix or f"pass {name}={least} or more"
        )
    return n


def real(where: str, expected: str, value: Any, ok: Callable[[float], bool], fix: str) -> float:
    """An option as a Python float: from Python's, NumPy's and JAX's numbers.

    Raises:
      InputError: no finite real number (a boolean, an array with axes, a traced value), or one that is not `ok`.
    """
    number = number_of(value)
    if number is None or not ok(number):
        raise _wrong_number(where, expected, value, fix)
    return number


def index_of(value: Any) -> int | None:
    """value as a Python int; None unless it is an integer that is known here."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:  # floats, arrays with axes, traced values
        return None


def number_of(value: Any) -> float | None:
    """value as a Python float; None unless it is a finite real number that is known here."""
    if type(value) is not float:
        if isinstance(value, ARRAYS):
            known = not isinstance(value, jax.core.Tracer) and value.ndim == 0
            if not (known and (is_floating(value.dtype) or jnp.issubdtype(value.dtype, jnp.integer))):
                return None
        elif not isinstance(value, Real) or isinstance(value, bool):
            return None
        try:
            value = float(value)
        except OverflowError:  # an integer of hundreds of digits
            return None
    return value if math.isfinite(value) else None


def _takes(f: Callable[..., Any], args: tuple[str, ...], keywords: tuple[str, ...]) -> bool:
    """Whether f can be called so, as far as its signature is known."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # some functions written in C have none
        return True
    try:
        if args[-1:] == ("...",):
            signature.bind_partial(*[None] * (len(args) - 1), **dict.fromkeys(keywords))
        else:
            signature.bind(*[None] * len(args), **dict.fromkeys(keywords))
    except TypeError:
        return False
    return True


def _no_array(where: str, name: str, value: Any) -> InputError:
    return InputError(where, f"an array for {name}", _kind(value), "pass a jax or numpy array")


def _no_floats(where: str, name: str, array: Any) -> InputError:
    fix = f"convert it, for example {name}.astype(jnp.float32)"
    if name == "x" and array.dtype == jnp.uint8:
        fix += "; fnn.precision(net, dtype, integers=True) casts images of bytes"
    other = jnp.issubdtype(array.dtype, jnp.floating)  # float8, say
    kinds = f" ({', '.join(np.dtype(t).name for t in FLOATS)})" if other else ""
    return InputError(where, f"a floating-point {name}{kinds}", f"{array.dtype} of shape {array.shape}", fix)


def _wrong_number(where: str, expected: str, value: Any, fix: str) -> InputError:
    if isinstance(value, jax.core.Tracer):
        fix = "pass a number known before tracing: a Python number, or a static argument of jit (static_argnums)"
    return InputError(where, expected, described(value), fix)


def _kind(value: Any) -> str:
    return str(described(value)) if isinstance(value, type) or value is None else kind_name(value)
