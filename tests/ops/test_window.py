"""The geometry of windows: output sizes, what each padding means, errors."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fnn
from fnn import ops
from fnn.ops.window import output_sizes, pad_pairs, sizes_of
from tests.helpers import assert_same, gradients_of, integers


def ceil(n, s):
    return -(-n // s)


def one_axis(n, f, s, d, padding):
    """The output size of `ops.conv` on one axis of size n; nothing is computed."""
    call = lambda x, w: ops.conv(x, w, stride=s, dilation=d, padding=padding)  # noqa: E731
    return jax.eval_shape(call, jnp.ones((1, n, 1)), jnp.ones((f, 1, 1))).shape[1]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 12), f=st.integers(1, 5), s=st.integers(1, 4), p=st.integers(0, 4), d=st.integers(1, 3))
def test_output_size_is_the_formula_of_every_textbook(n, f, s, p, d):
    extent = (f - 1) * d + 1
    if extent > n + 2 * p:
        with pytest.raises(fnn.InputError, match="at least as large as its window"):
            one_axis(n, f, s, d, p)
        return
    want = int(np.floor((n + 2 * p - extent) / s + 1))
    assert one_axis(n, f, s, d, p) == want == lax.conv_shape_tuple((1, 1, n), (1, 1, extent), (s,), [(p, p)])[2]
    assert output_sizes("conv", (n,), (f,), (s,), (d,), ((p, p),)) == (want,)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 12), f=st.integers(1, 5), s=st.integers(1, 4), d=st.integers(1, 3))
def test_same_gives_n_over_s_rounded_up_with_the_least_padding(n, f, s, d):
    assert one_axis(n, f, s, d, "SAME") == ceil(n, s)
    ((before, after),) = pad_pairs("conv", "SAME", (n,), (f,), (s,), (d,))
    assert before <= after <= before + 1  # the odd one after
    least = next(p for p in range(99) if n + p >= (f - 1) * d + 1 and (n + p - (f - 1) * d - 1) // s + 1 >= ceil(n, s))
    assert before + after == least
    assert ((before, after),) == tuple(lax.padtype_to_pads((n,), ((f - 1) * d + 1,), (s,), "SAME"))


WIDE = integers(0, (1, 30, 29, 8))
FAR = {
    "conv": (ops.conv, WIDE, integers(1, (3, 2, 8, 4))),
    "conv in groups": (partial(ops.conv, groups=8), WIDE, integers(1, (3, 2, 1, 8))),
    "filter_pool": (partial(ops.filter_pool, filter=integers(1, (3, 2))), WIDE),
    "max_pool": (partial(ops.max_pool, window=(3, 2)), WIDE),
    "avg_pool": (partial(ops.avg_pool, window=(3, 2)), WIDE),
}


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("name", FAR)
def test_a_stride_beyond_the_input_takes_one_window(name, mode):
    f, *args = FAR[name]
    for padding in ("VALID", "SAME", 1):
        near, far = (gradients_of(partial(f, stride=s, padding=padding), mode, *args) for s in (40, 10**9))
        assert_same(far, near)


def test_each_axis_has_its_own_geometry():
    x, w = jnp.ones((2, 7, 8, 9, 1)), jnp.ones((1, 2, 3, 1, 1))
    y = jax.eval_shape(lambda: ops.conv(x, w, stride=(1, 2, 3), dilation=(1, 3, 2), padding=((0, 1), (2, 0), (1, 1))))
    assert y.shape == (2, 8, 4, 3, 1)


@pytest.mark.parametrize(
    ("padding", "want"),
    [
        ("VALID", ((0, 0), (0, 0))),
        (3, ((3, 3), (3, 3))),
        ([[1, 2], (0, 4)], ((1, 2), (0, 4))),
        ("SAME", ((1, 1), (0, 1))),
    ],
)
def test_padding_means(padding, want):
    pairs = pad_pairs("conv", padding, (5, 6), (3, 2), (1, 1), (1, 1))
    assert pairs == want
    hash(pairs)


def test_causal_padding_is_all_in_front():
    assert pad_pairs("conv", "CAUSAL", (9,), (3,), (1,), (2,)) == ((4, 0),)


def test_one_integer_counts_for_all_axes():
    assert sizes_of("conv", "stride", 2, 3) == (2, 2, 2)
    assert sizes_of("conv", "stride", [2, 1], 2) == (2, 1)
    assert sizes_of("conv", "output_padding", 0, 1, least=0) == (0,)


@pytest.mark.parametrize("value", [0, -1, (1, 0), (2,), (1, 1, 1), 1.0, None, "ab", np.array([1.0, 1.0])])
def test_bad_sizes(value):
    with pytest.raises(fnn.InputError, match=r"^conv expected stride >= 1, one integer or 2; got .*; pass stride=1 or"):
        sizes_of("conv", "stride", value, 2)


BAD_PADDINGS = [
    "same", "CAUSAL", "", -1, True, 1.5, None, np.float64(1), (1, 2), ((1, 1),), ((1, 1),) * 3,
    ((1, 1), (1, -1)), ((1, 1), (1, 1, 1)), ((1, 1), ()), ((1.0, 1), (1, 1)), ("ab", "cd"), {1: 2},
]  # fmt: skip


@pytest.mark.parametrize("padding", BAD_PADDINGS, ids=repr)
def test_bad_paddings(padding):
    message = "conv expected padding VALID, SAME, CAUSAL (1-D), an integer >= 0, or 2 pairs (before, after) >= 0; got "
    with pytest.raises(fnn.InputError, match=re.escape(message + repr(padding))):
        pad_pairs("conv", padding, (5, 6), (3, 2), (1, 1), (1, 1))


def test_a_window_larger_than_the_padded_input():
    message = (
        "conv expected an input at least as large as its window (5 in this axis); "
        "got 2 padded to 4 (spatial sizes (6, 2), window (3, 3)); use a smaller window"
    )
    with pytest.raises(fnn.InputError, match=re.escape(message)):
        output_sizes("conv", (6, 2), (3, 3), (1, 1), (1, 2), ((0, 0), (1, 1)))
    assert output_sizes("conv", (6, 3), (3, 3), (1, 1), (1, 2), ((0, 0), (1, 1))) == (4, 1)
