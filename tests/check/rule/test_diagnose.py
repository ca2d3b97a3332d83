"""Each classic mistake, made on purpose, is named in the report."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fnn import check
from fnn.check.rule.examine import examine


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def ruled(f, bwd):
    """f with a rule: bwd(args, dy) returns the cotangents."""
    g = jax.custom_vjp(f)
    g.defvjp(lambda *args: (f(*args), args), bwd)
    return g


def spoiled(spoil):
    """The sine with a gradient that went wrong in one way."""
    return ruled(lambda x: jnp.sin(x), lambda args, dy: (spoil(dy * jnp.cos(args[0])),))


def along(spoil):
    """The sine with a rule that sees a changed argument and cotangent."""

    def bwd(args, dy):
        x, dy = spoil(args[0], dy)
        return (dy * jnp.cos(x),)

    return ruled(lambda x: jnp.sin(x), bwd)


def mean_rule(divide):
    return ruled(lambda x: jnp.mean(x, 0), lambda args, dy: (jnp.broadcast_to(dy / divide, args[0].shape),))


def sum_rule(divide):
    return ruled(lambda x: jnp.sum(x, 0), lambda args, dy: (jnp.broadcast_to(dy / divide, args[0].shape),))


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)


def filtered(x, kernel):
    return jnp.convolve(x, kernel, "same")


def unflipped(args, dy):
    _, pull = jax.vjp(filtered, *args)
    return jnp.convolve(dy, args[1], "same"), pull(dy)[1]


def shifted(g):
    return jnp.concatenate([jnp.zeros_like(g[:1]), g[:-1]])


SQUARE, TABLE, LINE, IMAGE, LONG = normal(0, 3, 3), normal(1, 5, 4), normal(2, 7), normal(3, 2, 5, 3), normal(4, 100)
every = jnp.arange(9)

# A function, its arguments, and the sentence for it.
MISTAKES = {
    "zeros": (spoiled(lambda g: 0 * g), (LINE,), "x: the gradient is all zeros."),
    "sign": (spoiled(lambda g: -g), (LINE,), "x: the gradient has the wrong sign."),
    "NaN": (spoiled(lambda g: g.at[2:4].set(jnp.nan)), (LINE,), "x: 2 of 7 entries of the gradient are NaN."),
    "factor": (spoiled(lambda g: 0.75 * g), (LINE,), "x: the gradient is 0.75 times the true one."),
    "no mean": (
        mean_rule(1),
        (TABLE,),
        "x: the gradient is 5 times the true one: a sum where a mean belongs, over axis 0 of x.",
    ),
    "mean": (
        sum_rule(5),
        (TABLE,),
        "x: the gradient is 0.2 times the true one: a mean where a sum belongs, over axis 0 of x.",
    ),
    "transposed": (spoiled(lambda g: g.T), (SQUARE,), "x: the gradient is transposed: axes (1, 0) of the true one."),
    "flipped": (spoiled(lambda g: g[:, ::-1]), (TABLE,), "x: the gradient is flipped along axis 1."),
    "flipped twice": (spoiled(lambda g: g[::-1, ::-1]), (TABLE,), "x: the gradient is flipped along axes 0, 1."),
    "rolled": (spoiled(lambda g: jnp.roll(g, -1, 1)), (TABLE,), "x: the gradient is shifted by -1 along axis 1."),
    "shifted": (spoiled(shifted), (TABLE,), "x: the gradient is shifted by +1 along axis 0."),
    "borders": (
        spoiled(lambda g: g.at[:, 0].multiply(2.0).at[:, -1].set(0.0)),
        (IMAGE,),
        "x: only the borders are wrong, 12 of 30 entries: look at the padding.",
    ),
    "one row": (spoiled(lambda g: g.at[3].multiply(1.5)), (TABLE,), "x: only index 3 of axis 0 is wrong."),
    "stride 2": (
        spoiled(lambda g: g * (1 + every % 2)),
        (normal(5, 9),),
        "x: only every second index of axis 0 is wrong: look at the stride.",
    ),
    "stride 3": (
        spoiled(lambda g: g * (1 + (every % 3 == 1))),
        (normal(5, 9),),
        "x: only every third index of axis 0 is wrong: look at the stride.",
    ),
    "few entries": (
        spoiled(lambda g: g.at[7].multiply(1.1)),
        (LONG,),
        "x: only 1 of 100 entries are wrong, the first at (7,), 1.1 times the true value.",
    ),
    "mean term": (
        ruled(lambda x: x - x.mean(-1, keepdims=True), lambda args, dy: (dy,)),
        (TABLE,),
        "x: it is off by a constant along axis 1: a mean term is missing.",
    ),
    "detached": (
        ruled(normalised, lambda args, dy: (dy * lax.rsqrt(args[0].var(-1, keepdims=True) + 1e-5),)),
        (normal(6, 3, 6),),
        "x: it is off by a + b x along axis 1: statistics were detached, their mean or variance term is missing.",
    ),
    "wrong axis": (
        spoiled(lambda g: jnp.broadcast_to(g.sum(0), g.shape)),
        (TABLE,),
        "x: it does not vary along axis 0, and should: a sum over the wrong axis.",
    ),
    "not flipped": (
        ruled(filtered, unflipped),
        (LINE, normal(7, 3)),
        "x: it looks like kernel was not flipped along axis 0.",
    ),
    "not transposed": (
        ruled(lambda x, w: x @ w, lambda args, dy: (dy @ args[1], args[0].T @ dy)),
        (normal(8, 2, 3), SQUARE),
        "x: it looks like w was not transposed in its last two axes.",
    ),
    "elsewhere": (
        along(lambda x, dy: (x[::-1], dy)),
        (LINE,),
        "x: it is the gradient for x flipped along axis 0.",
    ),
    "no cotangent": (along(lambda x, dy: (x, jnp.ones_like(dy))), (LINE,), "x: it ignores the cotangent."),
    "another cotangent": (
        along(lambda x, dy: (x, jnp.roll(dy, 1))),
        (LINE,),
        "x: it is the gradient for a cotangent shifted by +1 along axis 0.",
    ),
}


@functools.cache
def diagnosis(name):
    f, args, _ = MISTAKES[name]
    report = check.check_vjp(f, *args, checks=("automatic",))
    assert not report
    return report.diagnosis


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named(name):
    assert diagnosis(name) == (MISTAKES[name][2],)


def relu(at_zero):
    def bwd(args, dy):
        return (dy * jnp.where(args[0] > 0, 1, jnp.where(args[0] == 0, at_zero, 0)).astype(dy.dtype),)

    return ruled(lambda x: jnp.maximum(x, 0), bwd)


TIES = jnp.array([0.0, 0.0, -1.0, 0.0, 0.0, 2.0, 0.0])


def test_only_ties():
    report = check.check_vjp(relu(1.5), TIES, checks=("automatic", "kinks"))
    assert report.diagnosis == ("x: only ties and kinks are wrong, 5 of 7 entries.",)


def test_only_ties_of_a_registered_rule():
    """JAX takes slope 0 at 0."""
    plain = jax.nn.relu
    report = examine("relu", relu(1.0), (TIES,), auto=plain, strict=True, checks=("automatic", "kinks"))
    assert not report
    assert report.diagnosis == ("x: only ties and kinks are wrong, 5 of 7 entries.",)


def test_each_leaf_is_diagnosed_alone():
    f = ruled(lambda x, y, z: x * y * z, lambda r, dy: (-dy * r[1] * r[2], 0 * dy, dy * r[0] * r[1]))
    report = check.check_vjp(f, LINE, LINE + 1, LINE + 2, checks=("automatic",))
    assert report.diagnosis == ("x: the gradient has the wrong sign.", "y: the gradient is all zeros.")


def test_no_guess_for_what_looks_like_nothing():
    noise = normal(9, 7)
    report = check.check_vjp(spoiled(lambda g: g + noise), LINE, checks=("automatic",))
    assert not report
    assert report.diagnosis == ()


def test_a_wrong_precision_is_diagnosed_there():
    """Only float64 is wrong: the gradient in float32 explains nothing."""
    f = spoiled(lambda g: -g if g.dtype == jnp.float64 else g)
    report = check.check_vjp(f, LINE, checks=("automatic",))
    assert report.diagnosis == ("x: the gradient has the wrong sign.",)
    assert report.leaves[0].dtype == "float64"


def test_differences_serve_without_an_automatic_form():
    def branching(x):
        return jnp.sin(x) if x.sum() < 1e9 else x  # JAX cannot trace it

    f = ruled(branching, lambda args, dy: (-dy * jnp.cos(args[0]),))
    small = check.check_vjp(f, LINE, checks=("coordinates",))
    assert small.diagnosis == ("x: the gradient has the wrong sign.",)
    (line,) = check.check_vjp(f, jnp.linspace(-1, 1, 3000), checks=("coordinates",)).diagnosis  # too many to measure
    assert line.startswith("x: differences disagree, entry (")


def test_a_right_rule_has_no_diagnosis():
    assert check.check_vjp(spoiled(lambda g: g), LINE, checks=("automatic",)).diagnosis == ()
