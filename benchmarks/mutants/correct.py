"""Right gradients where checkers raise false alarms: kinks, ties, constants, huge and tiny values, nothing at all."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.mutants.mutant import computes, shapes_of
from benchmarks.mutants.rivals import Call, call_of
from fnn.check.arrays import is_float
from fnn.core.cases import Case
from fnn.core.rule import rules

_CHANGES = {
    "times 1e3": lambda a: a * 1000,
    "times 1e-6": lambda a: (a * 1e-6).astype(a.dtype),
    "constant": lambda a: jnp.full_like(a, 0.5),
    "zeros": jnp.zeros_like,
    "integers": lambda a: jnp.round(a),
}


def correct_calls() -> Iterator[Call]:
    """All cases of all rules, each rule's first one at five special points, and functions that are no rules."""
    for rule in rules().values():
        for i, case in enumerate(rule.cases):
            yield call_of(rule, i, case, rule)
        for what, change in _CHANGES.items():
            i = next(i for i, c in enumerate(rule.cases) if computes(c.spec, shapes_of(rule.name, i)))
            call = call_of(rule, i, rule.cases[i], rule, _changing(rule.cases[i], change))
            yield Call(f"{call.name}, {what}", call.f, call.sample, call.auto)
    for name, (forward, backward, *args) in USERS.items():
        yield Call(f"user: {name}", by_user(forward, backward), partial(_cast, args))


def _changing(case: Case, change: Callable) -> Callable:
    """The change of every argument that may be any number."""
    pairs = lambda args: zip(args, case.draws, strict=True)  # noqa: E731
    return lambda args: [change(a) if draw.domain == "real" and is_float(a) else a for a, draw in pairs(args)]


def _cast(args: list, dtype: Any) -> list:
    """Floats become arrays of the dtype, all else stays; NumPy draws, so that nothing compiles for it."""
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if isinstance(a, float) or _is_float64(a) else a, args)


def _is_float64(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype == np.float64


def by_user(forward: Callable, backward: Callable) -> Callable:
    """A function with its own derivative, as a user would write it: `backward(dy, *args) -> cotangents`.

    >>> square = by_user(lambda x: x**2, lambda dy, x: 2 * dy * x)
    >>> float(jax.grad(square)(3.0))
    6.0
    """
    f = jax.custom_vjp(lambda *args: forward(*args))  # of jnp.max, custom_vjp would see all seven arguments

    def bwd(args: tuple, dy: Any) -> tuple:
        grads = backward(dy, *args)
        return grads if isinstance(grads, tuple) else (grads,)

    f.defvjp(lambda *args: (forward(*args), args), bwd)
    return f


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def _first_max(dy, x):
    return dy * jax.nn.one_hot(jnp.argmax(x), x.size, dtype=x.dtype)


def _split_max(dy, x):
    tied = (x == x.max()).astype(x.dtype)
    return dy * tied / tied.sum()


def _positive_definite(n: int) -> np.ndarray:
    a = _normal(n, n)
    return a @ a.T + n * np.eye(n)


_TIED = np.array([1.0, 3.0, 3.0, -2.0])
_KINKS = np.array([-1.0, 0.0, 2.0, 0.0])
_SOFTMAX = lambda dy, x: jax.nn.softmax(x) * (dy - (dy * jax.nn.softmax(x)).sum())  # noqa: E731

# name: f(*args), backward(dy, *args), args. Floats and float64 arrays are cast to the checker's dtype.
USERS: dict[str, tuple] = {
    "times one at 1000": (lambda x: x * 1.0, lambda dy, x: dy * 1.0, np.full(5, 1000.0)),
    "identity at 1e6": (lambda x: x, lambda dy, x: dy, _normal(4) * 1e6),
    "relu at 0, by 0": (lambda x: jnp.maximum(x, 0), lambda dy, x: jnp.where(x > 0, dy, 0), _KINKS),
    "relu at 0, by 1": (lambda x: jnp.maximum(x, 0), lambda dy, x: jnp.where(x >= 0, dy, 0), _KINKS),
    "relu at 0, by 1/2": (lambda x: jnp.maximum(x, 0), lambda dy, x: dy * (jnp.sign(x) + 1) / 2, _KINKS),
    "abs at 0": (jnp.abs, lambda dy, x: dy * jnp.sign(x), _KINKS),
    "clip at its bounds": (
        lambda x: jnp.clip(x, -1, 1),
        lambda dy, x: jnp.where(jnp.abs(x) < 1, dy, 0),
        np.array([-2.0, -1.0, 0.3, 1.0, 1.5]),
    ),
    "tied maximum, first": (jnp.max, _first_max, _TIED),
    "tied maximum, split": (jnp.max, _split_max, _TIED),
    "maximum of equals": (jnp.maximum, lambda dy, x, y: (dy / 2, dy / 2), np.ones(3), np.ones(3)),
    "sort": (jnp.sort, lambda dy, x: dy[jnp.argsort(jnp.argsort(x))], _normal(6)),
    "log det": (
        lambda a: jnp.linalg.slogdet(a)[1],
        lambda dy, a: dy * jnp.linalg.inv(a).T,
        _positive_definite(4),
    ),
    "inverse": (
        jnp.linalg.inv,
        lambda dy, a: -(jnp.linalg.inv(a).T @ dy @ jnp.linalg.inv(a).T),
        _positive_definite(3),
    ),
    "log at 1e-6": (jnp.log, lambda dy, x: dy / x, np.array([1e-6, 3e-6, 1.0])),
    "sqrt at 1e-6": (jnp.sqrt, lambda dy, x: dy / (2 * jnp.sqrt(x)), np.array([1e-6, 1.0, 1e6])),
    "sine at 1000": (jnp.sin, lambda dy, x: dy * jnp.cos(x), np.array([1000.0, 999.0, -1003.0])),
    "square at 1e3": (lambda x: x**2, lambda dy, x: 2 * dy * x, _normal(5) * 1e3),
    "cube at 1e-6": (lambda x: x**3, lambda dy, x: 3 * dy * x**2, _normal(5) * 1e-6),
    "exp": (jnp.exp, lambda dy, x: dy * jnp.exp(x), _normal(5)),
    "reciprocal at 1e3": (lambda x: 1 / x, lambda dy, x: -dy / x**2, np.array([1e3, -2e3, 5.0])),
    "sigmoid saturated": (
        jax.nn.sigmoid,
        lambda dy, x: dy * jax.nn.sigmoid(x) * jax.nn.sigmoid(-x),
        np.array([-30.0, -8.0, 0.0, 8.0, 30.0]),
    ),
    "softmax of equals": (jax.nn.softmax, _SOFTMAX, np.full(5, 2.0)),
    "softmax of 0 and 100": (jax.nn.softmax, _SOFTMAX, np.array([0.0, 100.0, 50.0])),
    "logsumexp at 1000": (
        jax.nn.logsumexp,
        lambda dy, x: dy * jax.nn.softmax(x),
        np.array([1000.0, 1001.0, 999.0]),
    ),
    "norm": (lambda x: jnp.sqrt((x * x).sum()), lambda dy, x: dy * x / jnp.sqrt((x * x).sum()), _normal(6)),
    "difference of squares": (
        lambda x, y: (x - y) * (x + y),
        lambda dy, x, y: (2 * dy * x, -2 * dy * y),
        np.full(3, 1000.0),
        np.full(3, 1000.0),
    ),
    "matrix product": (jnp.matmul, lambda dy, a, b: (dy @ b.T, a.T @ dy), _normal(4, 5), _normal(5, 3)),
    "pixels of 0 to 255": (
        lambda x, w, b: x @ w + b,
        lambda dy, x, w, b: (dy @ w.T, x.T @ dy, dy.sum(0)),
        np.floor(255 * np.abs(np.sin(np.arange(40.0)))).reshape(4, 10),
        _normal(10, 3) / 100,
        np.zeros(3),
    ),
    "empty": (lambda x: 2 * x, lambda dy, x: 2 * dy, np.zeros((0, 3))),
    "empty sum": (lambda x: (x**2).sum(), lambda dy, x: 2 * dy * x, np.zeros(0)),
    "scalar": (lambda x: x**3, lambda dy, x: 3 * dy * x**2, 0.7),
    "unused argument": (lambda x, y: x * 2, lambda dy, x, y: (2 * dy, jnp.zeros_like(y)), _normal(3), _normal(2)),
    "constant": (lambda x: jnp.ones_like(x), lambda dy, x: jnp.zeros_like(x), _normal(3)),
    "integer leaf": (
        lambda x, i: x[i],
        lambda dy, x, i: (jnp.zeros_like(x).at[i].add(dy), None),
        _normal(5),
        np.array([0, 2, 2]),
    ),
    "key leaf": (
        lambda x, key: x * jax.random.bernoulli(key, 0.5, x.shape),
        lambda dy, x, key: (dy * jax.random.bernoulli(key, 0.5, x.shape), None),
        _normal(6),
        jax.random.key(0),
    ),
    "dictionary": (
        lambda p, x: jnp.tanh(x * p["a"]) + p["b"],
        lambda dy, p, x: (
            {"a": (dy * x / jnp.cosh(x * p["a"]) ** 2).sum(), "b": dy.sum()},
            dy * p["a"] / jnp.cosh(x * p["a"]) ** 2,
        ),
        {"a": 0.5, "b": 2.0},
        _normal(5),
    ),
    "two outputs": (
        lambda x: (jnp.sin(x), x.sum()),
        lambda dy, x: dy[0] * jnp.cos(x) + dy[1],
        _normal(4),
    ),
    "mean": (jnp.mean, lambda dy, x: jnp.full_like(x, dy / x.size), _normal(3, 4)),
    "cumulative sum": (jnp.cumsum, lambda dy, x: jnp.cumsum(dy[::-1])[::-1], _normal(6)),
    "euler step": (
        lambda y, h: y + h * jnp.sin(y),
        lambda dy, y, h: (dy * (1 + h * jnp.cos(y)), (dy * jnp.sin(y)).sum()),
        _normal(4),
        0.01,
    ),
}
