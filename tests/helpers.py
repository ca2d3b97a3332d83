"""How tests compare gradients: leaf by leaf, each scaled by its own norm, dtype included."""

import os
import subprocess
import sys
from contextlib import contextmanager

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.kernels.library import lacking


def as_users_run(*words):
    """What Python prints for these arguments, in a process with XLA's own settings: training wants optimised code."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def first_of_each(cases):
    """(rule, number) as parameters; of each rule all but the first are long."""
    first = dict(reversed(cases))
    return [
        pytest.param(name, i, id=f"{name}-{i}", marks=() if first[name] == i else pytest.mark.long) for name, i in cases
    ]


def mostly_long(items, every=2):
    """Parameters of which one in so many is in the default run."""

    def late(item):
        if hasattr(item, "marks"):  # a pytest.param
            return pytest.param(*item.values, marks=(*item.marks, pytest.mark.long), id=item.id)
        return pytest.param(*(item if isinstance(item, tuple) else (item,)), marks=pytest.mark.long)

    return [item if i % every == 0 else late(item) for i, item in enumerate(items)]


DTYPES = ("float64", "float32", "bfloat16", "float16")


@contextmanager
def without_kernels():
    """The tables as they are where no compiled kernels are installed."""
    before = {table: table.rows for rule in fnn.rules().values() for table in rule.products}
    for table, rows in before.items():
        table.rows = tuple(row for row in rows if row.missing is not lacking)
    try:
        yield
    finally:
        for table, rows in before.items():
            table.rows = rows


def is_float(a):
    return a is not None and jnp.issubdtype(a.dtype, jnp.floating)


def assert_close(got, want, *, ulps=64, names=""):
    """Same tree, dtypes and shapes; each leaf within `ulps` of its dtype's epsilon, relative to its largest entry."""

    def scale(b):
        return np.max(np.abs(np.asarray(b, np.float64)), initial=0.0)

    def error(a, b):
        return np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)), initial=0.0)

    def close(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return True
        eps = float(jnp.finfo(a.dtype).eps) if jnp.issubdtype(a.dtype, jnp.floating) else 0.0
        return error(a, b) <= ulps * eps * scale(b)

    def apart(a, b):
        return f"off by {error(a, b):.3g} where the leaf has scale {scale(b):.3g}"

    chex.assert_trees_all_equal_shapes_and_dtypes(got, want, custom_message=names or None)
    chex.assert_trees_all_equal_comparator(close, apart, got, want, custom_message=names or None)


def assert_same(got, want):
    """Same tree, dtypes and shapes, and every entry the same."""
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    chex.assert_trees_all_equal(got, want)


def cotangent_like(y, seed=7):
    """A random cotangent for every floating leaf of y."""
    leaves, tree = jax.tree.flatten(y)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        tree, [jax.random.normal(k, a.shape).astype(a.dtype) for k, a in zip(keys, leaves, strict=True)]
    )


def float_vjp(f, args):
    """f(*args) and the pullback onto the floating arguments; the others are held fixed."""
    where = [i for i, a in enumerate(args) if is_float(a)]

    def on_floats(*floats):
        full = list(args)
        for i, a in zip(where, floats, strict=True):
            full[i] = a
        return f(*full)

    return jax.vjp(on_floats, *[args[i] for i in where])


def integers(seed, shape, dtype=jnp.float32):
    """Integers from -3 to 3: their products and short sums are exact in float32."""
    return jnp.asarray(np.random.default_rng(seed).integers(-3, 4, shape), dtype)


def normal(seed, shape, dtype=jnp.float32):
    """Normal numbers; NumPy draws them, so that no test waits for a compilation."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def gradients_of(f, mode, *args):
    """y and the gradients of all arguments for an integer cotangent, as one compiled program."""

    @jax.jit
    def run(*args):
        y, pull = jax.vjp(f, *args)
        return y, pull(integers(9, y.shape, y.dtype))

    with fnn.gradients(mode):
        return run(*args)


def assert_exact(f, *args):
    """With small integers every sum is exact, so that hand-written and automatic gradients agree bit for bit."""
    assert_same(gradients_of(f, "hand", *args), gradients_of(f, "auto", *args))
