"""What the backward pass keeps in memory and what it computes again: declared at the rule, applied here.

XLA's CPU backend decides by itself what it stores and what it computes again, and decides badly at two places:

- It copies cheap operations into every fusion that reads their result. In a residual network, a block's output is then
  computed again from all earlier blocks, for each gradient, with strided reads. Such a value is **kept**: stored once.
- An array that a matrix product read in the forward pass lies in memory, and is kept until the backward pass. Where it
  takes a few steps from arrays that are kept anyway (the output of a norm from its input, that of a relu behind it,
  too) it is **recomputable**: the backward pass takes it from there again, and the memory is free in between.

Both are identities for values and derivatives. They are primitives, so that what they do is decided where a program is
lowered: only there is it known what an array was made of. On other platforms they are nothing.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching, mlir

from fnn.core.errors import require, require_flag
from fnn.core.placement import whole_batch
from fnn.core.sizes import fixed

TARGET = "fnn_kernel"  # what programs call compiled CPU kernels, see `fnn.kernels`


class Storage(NamedTuple):
    """What a rule declares about its output (the first, where there are several) and its residuals.

    Attributes:
      output: "recomputable": in a few steps from the residuals; "as its input": recomputable where the rule's first
        argument was; "" for neither. Where it is neither, but `kept`, XLA stores it instead of computing it again.
      kept: whether the output is kept where it is not recomputable.
      saves_output: the number of the residual that is the output, stored as that is; None for none.
      residuals: numbers of the residuals that are inputs of a product: computed again where they are recomputable.
      kept_residuals: numbers of the residuals that are kept.
    """

    output: Literal["", "recomputable", "as its input"] = ""
    kept: bool = False
    saves_output: int | None = None
    residuals: tuple[int, ...] = ()
    kept_residuals: tuple[int, ...] = ()

    def sound(self) -> bool:
        """Whether these are possible declarations."""
        numbers = (*self.residuals, *self.kept_residuals, *(() if self.saves_output is None else (self.saves_output,)))
        words = self.output in ("", "recomputable", "as its input")
        return words and all(isinstance(n, int) and n >= 0 for n in numbers)


NOTHING = Storage()


class Switch(NamedTuple):
    """What `storage` says."""

    keep: bool = True
    recompute: bool = True


_switch = jax.make_user_context(Switch())


def storage(*, keep: bool = True, recompute: bool = True) -> AbstractContextManager[None]:
    """Leave to XLA what it stores and what it computes again, in all that is traced inside the block: for measurements.

    Args:
      keep: whether values are stored once where rules say so.
      recompute: whether values are computed again in the backward pass where rules say so.

    Raises:
      InputError: what is neither True nor False.

    >>> import jax, fnn
    >>> with fnn.storage(recompute=False):
    ...     slope = jax.jit(jax.grad(fnn.ops.relu))(3.0)
    """
    require_flag("storage", "keep", keep)
    require_flag("storage", "recompute", recompute)
    return switched(Switch(keep, recompute))


@contextmanager
def switched(switch: Switch) -> Iterator[None]:
    """The block in which `storage` says this."""
    with _switch(switch):
        yield


def current_switch() -> Switch:
    """What the innermost block says."""
    switch: Switch = _switch.value
    return switch


def declared(storage: Storage, args: tuple[Any, ...], output: Any, residuals: Any) -> tuple[Any, Any]:
    """What a rule's `fwd` returned, as declared.

    Raises:
      InputError: a declaration for residuals that are no tuple, or for an output that is a tree.
    """
    if storage == NOTHING:
        return output, residuals
    ok = isinstance(residuals, tuple) and isinstance(output, jax.Array | tuple)
    got = f"{type(output).__name__} and {type(residuals).__name__}"
    fix = "return (output, (residual, ...)), or leave storage out"
    require(ok, "storage", "an output array, or a tuple of them, and a tuple of residuals", got, fix)
    keep, recompute = _switch.value
    one = isinstance(output, jax.Array)
    first = output if one else output[0]
    stored = first
    if storage.output and recompute:
        inputs = args[:1] if storage.output == "as its input" else ()
        stored = _bind(first, *inputs, how="recomputable", keep=keep and storage.kept)
    elif storage.kept and keep:
        stored = kept(first)
    residuals = tuple(stored if i == storage.saves_output else r for i, r in enumerate(residuals))
    if keep:
        chosen = storage.kept_residuals
        residuals = tuple(kept(r) if i in chosen and r is not None else r for i, r in enumerate(residuals))
    return stored if one else (stored, *output[1:]), residuals


def restored(storage: Storage, residuals: Any) -> Any:
    """The residuals as `bwd` takes them: on CPU, those that were recomputable are computed again."""
    if not (storage.residuals and _switch.value.recompute):
        return residuals
    return tuple(_bind(r, how="again", keep=False) if i in storage.residuals else r for i, r in enumerate(residuals))


def kept(x: jax.Array) -> jax.Array:
    """x: (...) -> the same. On CPU, XLA stores it instead of computing it again inside each operation that reads it."""
    return _bind(x, how="kept", keep=True)


def _bind(x: jax.Array, *inputs: jax.Array, how: str, keep: bool) -> jax.Array:
    y: jax.Array = _stored().bind(x, *inputs, how=how, keep=keep, whole=whole_batch(x))
    return y


def _same(x: jax.Array) -> jax.Array:
    return x


def _loop(whole: bool, x: jax.Array) -> jax.Array:
    """x behind a loop without iterations: a loop ends a fusion and works in place.

    The compiler does not know that there are none: the condition hides behind `lax.optimization_barrier`, itself gone
    before fusion begins. As a lowering no transformation ever sees the loop, which JAX cannot differentiate backwards.
    """
    never = lax.optimization_barrier(False)

    def change(x: jax.Array) -> jax.Array:
        # Without entries, without known sizes, or among devices that would have to talk about one entry: all of x.
        if 0 in x.shape or not fixed(*x.shape) or not whole:
            return -x
        first = (0,) * x.ndim
        return lax.dynamic_update_slice(x, -lax.slice(x, first, (1,) * x.ndim), first)  # compiled sooner than -x

    return lax.while_loop(lambda carry: carry[0], lambda carry: (carry[0], change(carry[1])), (never, x))[1]


def _marked(x: jax.Array) -> jax.Array:
    """x, rounded to the precision that it has: an operation that XLA drops at once, and that `_is_marked` knows."""
    kind = jnp.finfo(x.dtype)
    return lax.reduce_precision(x, exponent_bits=kind.nexp, mantissa_bits=kind.nmant)


def _is_marked(value: Any) -> bool:
    """Whether an array of the program being lowered comes out of `_marked`; not if it is a function's argument."""
    owner = value.owner
    return bool(getattr(getattr(owner, "operation", owner), "name", "") == "stablehlo.reduce_precision")


def _is_compiled(value: Any) -> bool:
    """Whether an array of the program being lowered comes out of a compiled kernel, or an operation with one inside.

    XLA cannot compute it again inside what reads it, so it is stored. A kernel in a function that is called is not
    seen: then what it made is copied once more.
    """
    owner = value.owner
    found = [getattr(owner, "operation", owner)]
    while found:
        operation = found.pop()
        called = getattr(operation, "name", "") == "stablehlo.custom_call"
        if called and TARGET in str(operation.attributes["call_target_name"]):
            return True
        for region in getattr(operation, "regions", ()):
            found += [inner.operation for block in region for inner in block]
    return False


def _again(x: jax.Array) -> jax.Array:
    """x, computed again: it would otherwise be the very value of the forward pass, which a matrix product had to store.

    A negative zero is added, which changes no number, and which the compiler does not know.
    """
    y: jax.Array = x + lax.optimization_barrier(jnp.array(-0.0, x.dtype))
    return y


def _lowered(context: Any, value: Any, *inputs: Any, how: str, keep: bool, whole: bool) -> Any:
    if how == "again":
        form = _again if _is_marked(value) else _same
    elif how == "recomputable" and all(map(_is_marked, inputs)) and not _is_compiled(value):
        form = _marked
    else:
        form = partial(_loop, whole) if keep else _same
    platforms = context.module_context.platforms
    if "cpu" not in platforms:
        form = _same
    elif len(platforms) > 1:  # `jax.export` for several; what comes out of a branch is not marked
        form = partial(lax.platform_dependent, cpu=form, default=_same)
    return mlir.lower_fun(form, multiple_results=False)(context.replace(avals_in=context.avals_in[:1]), value)


@functools.cache
def _stored() -> Any:
    """The primitive: the identity of its first argument everywhere but in the programs for CPU."""
    from jax.extend.core import Primitive  # at first use: it loads more than `import jax` does

    stored = Primitive("stored")
    stored.def_impl(lambda x, *inputs, **params: x)
    stored.def_abstract_eval(lambda x, *inputs, **params: x)

    def tangent(primals: tuple[Any, ...], tangents: tuple[Any, ...], **params: Any) -> tuple[Any, ...]:
        return stored.bind(*primals, **params), tangents[0]

    ad.primitive_jvps[stored] = tangent
    ad.primitive_transposes[stored] = lambda cotangent, x, *inputs, **params: [cotangent, *[None] * len(inputs)]
    batching.primitive_batchers[stored] = lambda args, axes, **params: (stored.bind(*args, **params), axes[0])
    mlir.register_lowering(stored, _lowered, cacheable=False)  # it depends on more than shapes and parameters
    return stored
