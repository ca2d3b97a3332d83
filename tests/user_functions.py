"""Functions as users bring them to `check_vjp`: correct derivatives of many kinds, and wrong ones."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import fnn
from tests.broken import ruled, sine, unary

X = jnp.array([0.3, -1.2, 2.0])
Y = jnp.array([1.5, 0.4, -0.7])
A = jnp.array([[4.0, 1.0, 0.5], [1.0, 3.0, -0.3], [0.5, -0.3, 5.0]])


class Pair(NamedTuple):
    a: jax.Array
    b: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Net:
    kernel: jax.Array
    bias: jax.Array
    rate: float = dataclasses.field(metadata={"static": True}, default=2.0)


def product():
    return ruled(lambda x, y: x * y, lambda r, dy: (dy * r[1], dy * r[0]))


def by_half(x):
    """In float16 inside, where a cotangent of 1e6 overflows."""
    return (2 * jnp.tanh(x.astype(jnp.float16))).astype(jnp.float32)


def fixed_point(slope=1.0):
    """x = cos(a x) to 1e-7, by the implicit function theorem."""

    def solve(a):
        start = (jnp.ones_like(a), jnp.zeros_like(a))
        far, step = (lambda c: jnp.abs(c[0] - c[1]) > 1e-7), (lambda c: (jnp.cos(a * c[0]), c[0]))
        return lax.while_loop(far, step, start)[0]

    f = jax.custom_vjp(solve)

    def bwd(kept, dy):
        a, x = kept
        return (-slope * dy * x * jnp.sin(a * x) / (1 + a * jnp.sin(a * x)),)

    f.defvjp(lambda a: (solve(a), (a, solve(a))), bwd)
    return f


def with_static(n):
    f = jax.custom_vjp(lambda n, x: x**n, nondiff_argnums=(0,))
    f.defvjp(lambda n, x: (x**n, x), lambda n, x, dy: (n * dy * x ** (n - 1),))
    return partial(f, n)


def with_integers(factor=1):
    """Labels beside floats, whose cotangent is None; an integer output beside a float."""
    f = jax.custom_vjp(lambda x, i: (x[i], jnp.argmax(x)))
    f.defvjp(
        lambda x, i: ((x[i], jnp.argmax(x)), (x, i)),
        lambda r, dy: (jnp.zeros_like(r[0]).at[r[1]].add(factor * dy[0]), None),
    )
    return f


def float0():
    f = jax.custom_vjp(lambda x, i: x[i])
    f.defvjp(
        lambda x, i: (x[i], (x, i)),
        lambda r, dy: (jnp.zeros_like(r[0]).at[r[1]].add(dy), np.zeros(r[1].shape, jax.dtypes.float0)),
    )
    return f


def gated(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), sine()(x), 0.0)


def spectrum(x):
    return jnp.abs(jnp.fft.fft(x)) ** 2


def cumulative(x):
    return lax.scan(lambda c, a: (jnp.logaddexp(c, a),) * 2, x[0] * 0 - 1e3, x)[1]


def tree(p, x):
    return {"y": sine()(x * p["a"][0]) + p["a"][1], "z": (x, None)}


def cumulative_rule(x, dy):
    return jnp.exp(x) * lax.cumsum(dy * jnp.exp(-cumulative(x)), reverse=True)


def safe_norm(at_zero):
    def slope(x, dy):
        some = jnp.any(x != 0)
        return dy * jnp.where(some, x / jnp.linalg.norm(jnp.where(some, x, 1.0)), at_zero)

    return unary(lambda x: jnp.linalg.norm(x), slope)


def shifted_softmax(x):
    return jnp.exp(x - lax.stop_gradient(x.max())) / jnp.exp(x - lax.stop_gradient(x.max())).sum()


def offset_sine():
    offset = 2 * X  # closed over by the rule
    f = jax.custom_vjp(lambda x: jnp.sin(x + offset))
    f.defvjp(lambda x: (jnp.sin(x + offset), x), lambda x, dy: (dy * jnp.cos(x + offset),))
    return f


def root_of(a):
    def solve(f, x):
        return lax.fori_loop(0, 50, lambda i, x: x - f(x) / (3 * x * x), x)

    return lax.custom_root(lambda x: x**3 - a, jnp.ones_like(a), solve, lambda g, y: y / g(jnp.ones_like(y)))


RIGHT = {
    "a product": (product(), (X, Y)),
    "float16 inside": (by_half, (X,)),
    "bfloat16 inside": (lambda x: jnp.tanh(x.astype(jnp.bfloat16)).astype(jnp.float32), (X,)),
    "an implicit rule to 1e-7": (fixed_point(), (jnp.array(0.7),)),
    "conjugate gradients": (lambda a, b: jax.scipy.sparse.linalg.cg(a, b, tol=1e-7)[0], (A, X)),
    "gmres": (lambda b: jax.scipy.sparse.linalg.gmres(lambda v: A @ v, b)[0], (X,)),
    "a root": (root_of, (jnp.array(2.0),)),
    "a linear solve": (jnp.linalg.solve, (A, X)),
    "a static argument": (with_static(3), (X,)),
    "integers, None for them": (with_integers(), (X, jnp.array([0, 2]))),
    "float0": (float0(), (X, jnp.array([0, 2]))),
    "a key": (gated, (X, jax.random.key(0))),
    "complex inside": (spectrum, (X,)),
    "a scan": (cumulative, (X,)),
    "a rule of a scan": (unary(cumulative, cumulative_rule), (X,)),
    "a rule in a scan": (lambda x: lax.scan(lambda c, a: (sine()(c + a),) * 2, 0.0, x)[1], (X,)),
    "a rule in cond": (lambda x: lax.cond(x[0] > 0, sine(), jnp.cos, x), (X,)),
    "a rule in checkpoint": (jax.checkpoint(lambda x: sine()(x * x)), (X,)),
    "a rule in vmap": (jax.vmap(sine()), (X,)),
    "a rule in jit": (jax.jit(lambda x: sine()(x) * x), (X,)),
    "a dict, a list, None": (tree, ({"a": [X, Y], "n": None}, X)),
    "a named tuple": (lambda p: Pair(p.b, p.a * p.b), (Pair(X, Y),)),
    "a dataclass": (lambda n, x: n.rate * sine()(n.kernel @ x + n.bias), (Net(A, X), Y)),
    "no axes": (sine(), (jnp.array(0.5),)),
    "a Python number": (lambda x: 3 * x, (0.5,)),
    "no entries": (lambda x, y: jnp.sum(x) + jnp.sin(y), (jnp.zeros((0, 2)), X)),
    "no outputs' entries": (lambda x: (x[:0], jnp.sin(x)), (X,)),
    "stop_gradient that cancels": (shifted_softmax, (X,)),
    "a closure over an array": (offset_sine(), (X,)),
    "a norm that is 0 at 0": (safe_norm(0.0), (0 * X,)),
    "relu at 0": (jax.nn.relu, (jnp.array([0.0, 1.0, -1.0]),)),
    "a maximum of ties": (jnp.max, (jnp.array([1.0, 2.0, 2.0]),)),
    "sorting": (lambda x: jnp.sort(x)[::-1], (X,)),
    "a gradient of a rule": (jax.grad(lambda x: jnp.sum(jnp.sin(x) ** 3)), (X,)),
    "a custom_jvp": (jax.nn.silu, (X,)),
    "large numbers": (lambda x: 1e6 * sine()(1e-6 * x), (1e6 * X,)),
    "small numbers": (lambda x: sine()(1e6 * x), (1e-6 * X,)),
    "float64 constants": (lambda x: x * np.float64(1.1), (X,)),
    "a constant": (lambda x: (jnp.ones(2), 2 * x), (X,)),
    "an identity": (lambda x: x, (X,)),
    "unused arguments": (lambda x, y: jnp.sin(x), (X, Y)),
    "fnn's own": (fnn.ops.gelu, (X,)),
    "special functions": (jax.scipy.special.gammaln, (abs(X) + 1,)),
    "a Cholesky factor": (lambda a: jnp.linalg.cholesky((a + a.T) / 2), (A,)),
    "eigenvalues": (lambda a: jnp.linalg.eigvalsh((a + a.T) / 2), (A,)),
}


def loses_a_term():
    def softmax(x):
        return jnp.exp(x - x.max()) / jnp.exp(x - x.max()).sum()

    return unary(softmax, lambda x, dy: softmax(x) * dy)


WRONG = {
    "straight-through": (unary(lambda x: jnp.round(4 * jnp.sin(x)), lambda x, dy: dy), (X,)),
    "reversed": (unary(lambda x: 1.0 * x, lambda x, dy: -dy), (X,)),
    "clipped": (unary(lambda x: 3.0 * x, lambda x, dy: jnp.clip(3 * dy, -1, 1)), (X,)),
    "a stop_gradient": (lambda x: x * lax.stop_gradient(jnp.sin(x)), (X,)),
    "an implicit rule off by 1 %": (fixed_point(1.01), (jnp.array(0.7),)),
    "half of the gradient in float16 inside": (unary(by_half, lambda x, dy: 0.5 * dy / jnp.cosh(x) ** 2), (X,)),
    "twice an integer's row": (with_integers(2), (X, jnp.array([0, 2]))),
    "swapped": (ruled(lambda x, y: x * y**2, lambda r, dy: (2 * dy * r[0] * r[1], dy * r[1] ** 2)), (X, Y)),
    "a term is lost": (loses_a_term(), (X,)),
    "in one branch": (lambda x: lax.cond(x[0] > 0, sine(lambda x, dy: dy * jnp.sin(x)), jnp.cos, x), (X,)),
    "in a scan": (
        lambda x: lax.scan(lambda c, a: (sine(lambda x, dy: 0.99 * dy * jnp.cos(x))(c + a),) * 2, 0.0, x)[1],
        (X,),
    ),
    "in a checkpoint": (jax.checkpoint(sine(lambda x, dy: dy)), (X,)),
    "in a linear solve": (lambda a, b: sine(lambda x, dy: dy)(jnp.linalg.solve(a, b)), (A, X)),
    "a scan summed from the wrong end": (
        unary(cumulative, lambda x, dy: jnp.exp(x) * jnp.cumsum(dy * jnp.exp(-cumulative(x)))),
        (X,),
    ),
    "a slope of 2 at the kink of a norm": (safe_norm(2.0), (0 * X,)),
    "the conjugate": (
        unary(lambda x: jnp.fft.fft(x).imag, lambda x, dy: jnp.fft.fft(dy).imag * -1),
        (X,),
    ),
    "one entry of many": (sine(lambda x, dy: (dy * jnp.cos(x)).at[5].multiply(0.9)), (jnp.linspace(-2, 2, 40),)),
    "a leaf of a tree": (
        ruled(lambda p: p.a * p.b, lambda r, dy: (Pair(dy * r[0].b, 2 * dy * r[0].a),)),
        (Pair(X, Y),),
    ),
    "a mean for a sum": (unary(lambda x: jnp.sum(x**2), lambda x, dy: 2 * dy * x / x.size), (X,)),
    "transposed": (
        ruled(lambda a, x: a @ x, lambda r, dy: (jnp.outer(r[1], dy), r[0].T @ dy)),
        (A, X),
    ),
    "not broadcast back": (
        ruled(lambda x, b: x + b, lambda r, dy: (dy, jnp.full_like(r[1], dy[0].sum()))),
        (A, X),
    ),
    "NaN": (sine(lambda x, dy: dy * jnp.cos(x) * jnp.where(x > 1, jnp.nan, 1.0)), (X,)),
}
