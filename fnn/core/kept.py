"""`kept`: a value that is computed once and stored, however many operations read it; `cheap`: one that need not be."""

import functools
import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching, mlir

from fnn.core.sharding import whole_batch
from fnn.core.sizes import fixed

_cheap: weakref.WeakValueDictionary[int, jax.Array] = weakref.WeakValueDictionary()  # by id, as arrays have no hash


def cheap(x: jax.Array) -> jax.Array:
    """Mark x, as it is traced, as computed in a few steps from arrays that the backward pass needs anyway.

    What follows it at once may be left to XLA to compute again: the output of a norm is that of its stored input, and
    that of a relu behind it, too. Only an operation that is differentiated in the same trace sees the mark: not one
    inside a `jit`, `remat` or `repeat` that is differentiated as a whole, where a value is stored as without it.
    """
    _cheap[id(x)] = x
    return x


def is_cheap(x: jax.Array) -> bool:
    """Whether x itself, not one computed from it, was marked."""
    return _cheap.get(id(x)) is x


class Cheap(NamedTuple):
    """A residual that was marked as cheap: `restored` computes it again."""

    value: jax.Array


def residual(x: jax.Array) -> jax.Array | Cheap:
    """x as a rule's `fwd` saves it: marked, if forward and backward pass become one program in which that helps."""
    return Cheap(x) if is_cheap(x) and isinstance(x, jax.core.Tracer) else x


def restored(residuals: tuple) -> tuple:
    """What `residual` was given. On CPU a cheap one is computed again in the backward pass, and not kept until then.

    It would otherwise be the very value of the forward pass, which a matrix product had to store. A negative zero is
    added, which changes no number, and which the compiler does not know: it hides as the condition of `kept` does.
    """
    return tuple(_again(saved.value) if isinstance(saved, Cheap) else saved for saved in residuals)


@jax.jit
def _again(x: jax.Array) -> jax.Array:
    def add_zero(x: jax.Array) -> jax.Array:
        return x + lax.optimization_barrier(jnp.array(-0.0, x.dtype))

    return lax.platform_dependent(x, cpu=add_zero, default=_same)


def _same(x: jax.Array) -> jax.Array:
    return x


def kept(x: jax.Array) -> jax.Array:
    """x: (...) -> the same. On CPU, XLA stores it instead of computing it again inside each operation that reads it.

    XLA's CPU backend copies cheap operations into every fusion that reads their result. In a residual network, a
    block's output is then computed again from all earlier blocks, for each gradient, with strided reads: a ResNet-20
    step takes a tenth to a sixth longer. A loop ends a fusion and works in place. This one has no iterations, which the
    compiler does not know: the condition hides behind `lax.optimization_barrier`, itself gone before fusion begins.

    The loop is how a primitive of its own is lowered, and no transformation ever sees it: JAX cannot differentiate a
    loop backwards, and a `custom_jvp` around one is lost where `scan` is split into what is known and what is linear.
    """
    return _kept().bind(x)


def _loop(x: jax.Array) -> jax.Array:
    never = lax.optimization_barrier(False)

    def change(x: jax.Array) -> jax.Array:
        # Without entries, without known sizes, or among devices that would have to talk about one entry: all of x.
        if 0 in x.shape or not fixed(*x.shape) or not whole_batch(x):
            return -x
        first = (0,) * x.ndim
        return lax.dynamic_update_slice(x, -lax.slice(x, first, (1,) * x.ndim), first)  # compiled sooner than -x

    return lax.while_loop(lambda carry: carry[0], lambda carry: (carry[0], change(carry[1])), (never, x))[1]


@functools.cache
def _kept() -> Any:
    """The primitive: the identity everywhere but in the programs for CPU."""
    from jax.extend.core import Primitive  # at first use: it loads more than `import jax` does

    kept = Primitive("kept")
    kept.def_impl(_same)
    kept.def_abstract_eval(_same)
    ad.primitive_jvps[kept] = lambda primals, tangents: (kept.bind(*primals), tangents[0])
    ad.primitive_transposes[kept] = lambda cotangent, x: [cotangent]
    batching.primitive_batchers[kept] = lambda args, axes: (kept.bind(*args), axes[0])
    mlir.register_lowering(kept, mlir.lower_fun(_same, multiple_results=False))
    mlir.register_lowering(kept, mlir.lower_fun(_loop, multiple_results=False), platform="cpu")
    return kept
