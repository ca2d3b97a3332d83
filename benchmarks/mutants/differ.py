"""Does a mutant differ from its rule at all? Asked of those that nothing caught, and of those declared equivalent.

Outputs, cotangents for two incoming ones and their derivatives are compared with the unbroken rule's, on all cases, in
three dtypes, at drawn and at integer arguments, alone and under vmap, jitted and not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.mutants.mutant import Mutant, map_floats
from fnn.check.arrays import is_float
from fnn.core.by_hand import by_hand
from fnn.core.cases import Case
from fnn.core.rule import rules

DTYPES = ("float32", "float64", "bfloat16", "float16")
# Another order of sums moves a gradient by some units of its largest entry; no mutant is meant to be that small.
_ULPS = {"float64": 64, "float32": 64, "bfloat16": 8, "float16": 16}


def differs(mutant: Mutant, dtypes: tuple[str, ...] = DTYPES) -> str:
    """Where the mutant first differs from its rule, in words; "" if it never does.

    >>> from benchmarks.mutants.catalogue import mutants
    >>> differs(mutants()["l2/no half"], ("float32",))
    'first derivatives of case 0 in float32, drawn arguments'
    """
    rule = rules()[mutant.rule]
    right, broken = by_hand(rule.fwd, rule.bwd), mutant.operation()
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            for i, case in mutant.cases():
                for how, args in _points(case, dtype):
                    for what, call in _LOOKS:
                        where = f"{what} of case {i} in {dtype}, {how} arguments"
                        try:
                            got = call(partial(broken, case.spec), args)
                        except Exception as error:  # whatever a broken rule raises, its rule does not
                            return f"{where}: raises {type(error).__name__}"
                        if not _equal(got, call(partial(right, case.spec), args)):
                            return where
    return ""


def _points(case: Case, dtype: str) -> list[tuple[str, list]]:
    args = case.sample(0, jnp.dtype(dtype))
    return [("drawn", args), ("integer", map_floats(jnp.round, args))]


def _pull(f: Callable, args: list, scale: float) -> Any:
    """y and the cotangents of the floating arguments, for one seeded cotangent."""
    where = [k for k, a in enumerate(args) if is_float(a)]

    def of(*floats):
        full = list(args)
        for k, a in zip(where, floats, strict=True):
            full[k] = a
        return f(*full)

    y, pull = jax.vjp(of, *[args[k] for k in where])
    rng = np.random.default_rng(0)
    dy = jax.tree.map(lambda a: jnp.asarray(scale * rng.normal(size=a.shape), a.dtype), y)
    return y, pull(dy)


def _twice(f: Callable, args: list) -> Any:
    """Derivatives of the sum of squares of all first derivatives, by forward mode over them."""
    rng = np.random.default_rng(1)
    tangent = [jnp.asarray(rng.normal(size=a.shape), a.dtype) if is_float(a) else a for a in args]

    def along(t):
        moved = [a + t.astype(a.dtype) * v if is_float(a) else a for a, v in zip(args, tangent, strict=True)]
        y, pull = jax.vjp(lambda *floats: f(*_put(moved, floats)), *[a for a in moved if is_float(a)])
        return pull(jax.tree.map(lambda a: a * a, y))

    return jax.jit(jax.jacfwd(along))(jnp.zeros((), jnp.float32))


def _put(args: list, floats: tuple) -> list:
    rest = iter(floats)
    return [next(rest) if is_float(a) else a for a in args]


def _vmapped(f: Callable, args: list) -> Any:
    """Two copies of the floating arguments."""
    axes = [0 if is_float(a) else None for a in args]
    pairs = [jnp.stack([a, -a]) if is_float(a) else a for a in args]
    return jax.jit(jax.vmap(lambda *a: _pull(f, list(a), 1.0), axes))(*pairs)


_LOOKS = [
    ("first derivatives", lambda f, args: jax.jit(lambda a: [_pull(f, a, s) for s in (1.0, 1e3, 0.0)])(args)),
    ("a second run", lambda f, args: jax.jit(lambda a: _pull(f, a, 1.0))(args)),
    ("derivatives without jit", lambda f, args: [_pull(f, args, 1.0) for _ in range(2)]),
    ("derivatives under vmap", _vmapped),
    ("second derivatives", _twice),
]


def _equal(got: Any, want: Any) -> bool:
    (a, tree), (b, wanted) = jax.tree.flatten(got), jax.tree.flatten(want)
    return tree == wanted and all(map(_close, a, b))


def _close(a: jax.Array, b: jax.Array) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not is_float(a) or a.size == 0:
        return True
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    fine = np.isfinite(y)
    if not (np.isfinite(x) == fine).all():
        return False
    peak = np.max(np.abs(y[fine]), initial=0.0)
    return bool(np.max(np.abs(x - y)[fine], initial=0.0) <= _ULPS[a.dtype.name] * float(jnp.finfo(a.dtype).eps) * peak)
