"""`unless_mapped`: of two equal forms of an operation, the one for itself, and the one that suits `vmap`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import ad, batching, mlir


def unless_mapped(form: Callable[..., Any], plain: Callable[..., Any], a: jax.Array, b: jax.Array) -> Any:
    """`form(a, b)`, but `plain(a, b)` where `vmap` maps b alone: one a shared by many b, as in an ensemble.

    Which form is fast is decided by shapes, and inside `vmap` those of one member are all that can be seen. Both must
    compute the same; derivatives of this call are those of `plain`. Inside `shard_map`, or where mesh axes are named,
    it is `form(a, b)`.
    """
    if not jax.sharding.get_abstract_mesh().empty:
        return form(a, b)
    return _either().bind(a, b, form=form, plain=plain)


def _abstract(
    a: jax.core.ShapedArray, b: jax.core.ShapedArray, form: Callable[..., Any], plain: Callable[..., Any]
) -> Any:
    out = jax.eval_shape(form, a, b)
    return a.update(shape=out.shape, dtype=out.dtype, weak_type=False)


def _jvp(
    primals: tuple[Any, ...], tangents: tuple[Any, ...], form: Callable[..., Any], plain: Callable[..., Any]
) -> tuple[jax.Array, jax.Array]:
    return _either().bind(*primals, form=form, plain=plain), slope_of(plain, primals, tangents)


def slope_of(plain: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    """The tangent of `plain(*primals)`, where some of JAX's tangents are symbolic zeros."""
    moving = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def along(*some: jax.Array) -> Any:
        return plain(*(some[moving.index(i)] if i in moving else primal for i, primal in enumerate(primals)))

    _, slope = jax.jvp(along, [primals[i] for i in moving], [tangents[i] for i in moving])
    return slope


def _batch(
    args: tuple[Any, ...], axes: tuple[Any, ...], form: Callable[..., Any], plain: Callable[..., Any]
) -> tuple[jax.Array, int]:
    shared = axes[0] is None
    return jax.vmap(plain if shared else form, axes)(*args), 0


def _transpose(
    cotangent: Any, a: Any, b: Any, *, form: Callable[..., Any], plain: Callable[..., Any]
) -> tuple[Any, Any]:
    """Of what is linear in one of the two: the adjoint of `plain`."""
    if ad.is_undefined_primal(a):
        return *jax.linear_transpose(lambda a: plain(a, b), a.aval)(cotangent), None
    return None, *jax.linear_transpose(lambda b: plain(a, b), b.aval)(cotangent)


@functools.cache
def _either() -> Any:
    """The primitive: `form(a, b)` unless it is mapped or differentiated."""
    from jax.extend.core import Primitive  # at first use: it loads more than `import jax` does

    either = Primitive("unless_mapped")
    either.def_impl(lambda a, b, form, plain: jax.jit(form)(a, b))
    either.def_abstract_eval(_abstract)
    ad.primitive_jvps[either] = _jvp
    ad.primitive_transposes[either] = _transpose
    batching.primitive_batchers[either] = _batch
    mlir.register_lowering(either, mlir.lower_fun(lambda a, b, form, plain: form(a, b), multiple_results=False))
    return either
