"""A compiled kernel inside a JAX program: a call that knows its plain form, for all that a kernel cannot do.

program for this process, on CPU           the kernel
for another platform, or for jax.export    the plain form
derivatives                                those of the plain form
vmap                                       one batch where the kernel's maker can fold it, else one after another
"""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad, batching, mlir

from fnn.core.mapped import slope_of
from fnn.kernels.library import TARGET, kernels
from fnn.kernels.plan import Plan

Form = Callable[..., Any]  # hashable: a function, or a Bound


@dataclasses.dataclass(frozen=True)
class Bound:
    """A function with its first arguments; unlike a partial, equal to another of the same."""

    function: Callable[..., Any]
    first: tuple[Any, ...]

    def __call__(self, *args: Any) -> Any:
        """What the function returns for all arguments."""
        return self.function(*self.first, *args)


def bound(function: Callable[..., Any], *first: Any) -> Bound:
    """The function with its first arguments, which must be hashable: then what was compiled for it is found again."""
    return Bound(function, first)


def call(plan: Callable[..., Plan], plain: Form, fold: Form | None, *args: jax.Array) -> Any:
    """What `plain(*args)` is, an array or a tuple of several, by a kernel where there can be one.

    Args:
      plan: `(*args) -> Plan`, asked when the program is lowered; of the arguments it sees shapes and dtypes.
      plain: the same in operations of JAX.
      fold: `(args, mapped) -> result`, for arguments of which those marked in `mapped` have one more axis in front: the
        result with that axis in front, or None where it cannot; without it every member is a call of its own.
      args: arrays.
    """
    results = _kernel().bind(*args, plan=plan, plain=plain, fold=fold)
    return tuple(results) if len(results) > 1 else results[0]


def _listed(plain: Form, *args: Any) -> list[Any]:
    came = plain(*args)
    return list(came) if isinstance(came, tuple) else [came]


def _run(*args: Any, plan: Any, plain: Form, fold: Any) -> Any:
    with jax.disable_jit(False):  # nothing but a program can call a kernel
        return _compiled(plan, plain, fold, *args)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _compiled(plan: Any, plain: Form, fold: Any, *args: Any) -> Any:
    return _kernel().bind(*args, plan=plan, plain=plain, fold=fold)


def _abstract(*args: Any, plan: Any, plain: Form, fold: Any) -> Any:
    shapes = jax.eval_shape(partial(_listed, plain), *args)
    return [args[0].update(shape=out.shape, dtype=out.dtype, weak_type=False) for out in shapes]


def _jvp(
    primals: tuple[Any, ...], tangents: tuple[Any, ...], *, plan: Any, plain: Form, fold: Any
) -> tuple[list[jax.Array], list[jax.Array]]:
    results = _kernel().bind(*primals, plan=plan, plain=plain, fold=fold)
    return results, slope_of(partial(_listed, plain), primals, tangents)


def _batch(
    args: tuple[Any, ...], axes: tuple[Any, ...], *, plan: Any, plain: Form, fold: Any
) -> tuple[list[jax.Array], list[int]]:
    mapped = tuple(axis is not None for axis in axes)
    args = tuple(jnp.moveaxis(a, axis, 0) if axis is not None else a for a, axis in zip(args, axes, strict=True))
    folded = fold(args, mapped) if fold is not None else None
    if folded is not None:
        results = list(folded) if isinstance(folded, tuple) else [folded]
        return results, [0] * len(results)

    def one(some: tuple[jax.Array, ...]) -> Any:
        rest = iter(some)
        member = (next(rest) if m else a for m, a in zip(mapped, args, strict=True))
        return _kernel().bind(*member, plan=plan, plain=plain, fold=fold)

    results = lax.map(one, tuple(a for m, a in zip(mapped, args, strict=True) if m))
    return results, [0] * len(results)


def _lower(ctx: Any, *args: Any, plan: Any, plain: Form, fold: Any) -> Any:
    """The kernel in the programs of this process alone."""
    if getattr(ctx.module_context.lowering_parameters, "for_export", True):
        return _lower_plain(ctx, *args, plan=plan, plain=plain, fold=fold)
    wanted = plan(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in ctx.avals_in))
    words = dataclasses.replace(wanted, slices=max(1, kernels().threads)).words()  # XLA's pool may have more
    return jax.ffi.ffi_lowering(TARGET)(ctx, *args, plan=np.asarray(words))


_lower_plain = mlir.lower_fun(lambda *args, plan, plain, fold: _listed(plain, *args), multiple_results=True)


@functools.cache
def _kernel() -> Any:
    from jax.extend.core import Primitive  # at first use: it loads more than `import jax` does

    kernel = Primitive("compiled_kernel")
    kernel.multiple_results = True
    kernel.def_impl(_run)
    kernel.def_abstract_eval(_abstract)
    ad.primitive_jvps[kernel] = _jvp
    batching.primitive_batchers[kernel] = _batch
    mlir.register_lowering(kernel, _lower_plain)
    mlir.register_lowering(kernel, _lower, platform="cpu")
    return kernel
