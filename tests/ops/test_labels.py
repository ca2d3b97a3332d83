"""Class labels in every integer type, against int32: a narrow type must not wrap where K is beyond its limit."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from tests.catalogue import MEASURES
from tests.helpers import normal

NARROW = ("int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16")
WIDE = ("int32", "uint32")


def takes_classes():
    """Every public function of logits and labels that takes integers for labels, by name."""
    for name, f in vars(fnn).items():
        if not inspect.isfunction(f) or list(inspect.signature(f).parameters)[:2] != ["logits", "labels"]:
            continue
        rest = {"k": 2} if "k" in inspect.signature(f).parameters else {}

        def call(logits, labels, f=f, rest=rest):
            return f(logits, labels, **rest)

        try:
            call(jnp.zeros((1, 3)), jnp.zeros(1, int))
        except fnn.InputError:
            continue
        yield name, call


FUNCTIONS = dict(takes_classes())


def test_the_functions_that_are_swept():
    assert {"softmax_cross_entropy", "hinge", "accuracy", "zero_one", "top_k_accuracy"} <= set(FUNCTIONS)


def value_and_slope(f, logits, labels, jitted):
    def run(logits, labels):
        y, pull = jax.vjp(lambda x: f(x, labels), logits)
        return y, *pull(jnp.ones_like(y))

    return (jax.jit(run) if jitted else run)(logits, labels)


def labels_of(dtype, classes):
    last = min(int(jnp.iinfo(dtype).max), classes - 1)
    return np.array([0, 1, last // 2, last])


def agree(f, dtype, classes, jitted, wrap=jnp.asarray):
    labels = labels_of(dtype, classes)
    logits = normal(0, (len(labels), classes))
    got = value_and_slope(f, logits, wrap(labels, dtype), jitted)
    want = value_and_slope(f, logits, jnp.asarray(labels, jnp.int32), jitted)
    for a, b in zip(got, want, strict=True):
        assert not np.isnan(b).any()
        np.testing.assert_array_equal(a, b)


def limit(dtype):
    return int(jnp.iinfo(dtype).max) + 1


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["uint4", "int8", "uint8"])
@pytest.mark.long
def test_labels_of_a_narrow_type(name, dtype):
    agree(FUNCTIONS[name], dtype, limit(dtype), jitted=True)


@pytest.mark.long
@pytest.mark.parametrize(
    # 65,536 classes twice would take as long as all others together.
    ("dtype", "mode"),
    [(d, m) for d in NARROW + WIDE for m in ("hand", "auto") if m == "hand" or "16" not in d],
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_labels_of_every_type(name, dtype, mode):
    most = limit(dtype) if dtype in NARROW else 300
    with fnn.gradients(mode):
        for classes in (most - 1, most, most + 1) if 2 < most < 1000 else (max(most, 2),):
            agree(FUNCTIONS[name], dtype, classes, True)
        agree(FUNCTIONS[name], dtype, most, False, np.asarray if "8" in dtype else jnp.asarray)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint8"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_labels_in_64_bits(name, dtype):
    with jax.enable_x64(True):
        agree(FUNCTIONS[name], dtype, 300, True)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.long
def test_no_label_comes_round_to_a_class(name, x64):
    """Beyond every class, under jit: 2^31 + 1 in 32 bits, 2^32 + 1 in 64, -1 that is 255 in uint8."""
    with jax.enable_x64(x64):
        far = [jnp.uint32(2**31 + 1), jnp.uint32(2**32 - 1), jnp.int8(-1), jnp.uint8(255), jnp.int32(-1)]
        far += [jnp.int64(2**32 + 1), jnp.uint64(2**63 + 1), jnp.int64(-1)] if x64 else []
        for label in far:
            y = jax.jit(FUNCTIONS[name])(jnp.zeros((1, 3), jnp.float32), label[None])
            wrong = {"accuracy": 0, "top_k_accuracy": 0, "zero_one": 1}.get(name, np.nan)
            np.testing.assert_array_equal(y, [wrong], err_msg=str(label))


def test_a_label_that_is_no_class_is_never_right_even_among_equals():
    """All scores -inf: no class is ahead of another, and none of them is the label."""
    for label in (-1, 3):
        assert jax.jit(fnn.zero_one)(jnp.full(3, -jnp.inf), jnp.array(label)) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_labels_out_of_range_in_a_narrow_type_are_refused(name):
    for dtype in ("int8", "uint8"):
        with pytest.raises(fnn.InputError, match=r"labels from 0 to 2; got 3 at index \(0,\)"):
            FUNCTIONS[name](jnp.zeros((1, 3)), jnp.array([3], dtype))


@pytest.mark.parametrize("dtype", [bool, "int8", "uint8", "int32", "float32"])
def test_two_class_labels_of_every_type(dtype):
    logits, labels = jnp.array([0.5, -0.5, 0.0, 2.0]), np.array([1, 0, 0, 0])
    for wrap in (jnp.asarray, np.asarray):
        np.testing.assert_array_equal(fnn.accuracy(logits, wrap(labels, dtype)), [1, 1, 1, 0])


def test_two_class_labels_that_are_booleans_are_either_right_or_refused_in_strict_mode():
    logits = jnp.array([[0.5, -0.5, 0.0], [2.0, 1.0, -1.0]])
    right = []
    for name in MEASURES:
        f = partial(getattr(fnn, name), **({"k": 2} if name == "top_k_accuracy" else {}))
        for labels in (jnp.ones((2, 3), bool), jnp.ones(2, bool), np.ones((2, 3), bool)):
            for run in (f, jax.jit(f)):
                with jax.numpy_dtype_promotion("strict"):
                    try:
                        right.append((name, run(logits, labels).tolist()))
                    except fnn.InputError as error:
                        assert f"{labels.dtype} of shape {labels.shape}" in str(error)  # noqa: PT017
    share = {"accuracy": [1 / 3, 2 / 3], "zero_one": [2 / 3, 1 / 3]}
    assert right == [(name, pytest.approx(share[name])) for name in share for _ in range(4)]


def test_windows_beyond_the_limit_of_int8_pool_to_the_right_place():
    taps = 129
    x = normal(0, (1, taps, 1)).at[0, -1].set(9.0)
    slope = jax.grad(lambda x: ops.max_pool(x, taps).sum())(x)
    np.testing.assert_array_equal(slope.ravel(), np.arange(taps) == taps - 1)
