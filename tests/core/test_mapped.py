"""Which of two forms runs under vmap; here they differ by one, so that the value tells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.mapped import unless_mapped
from fnn.ops.convolution import tables
from fnn.ops.convolution.rule import _spec
from tests.helpers import assert_close, normal, without_kernels

A, B = normal(0, (3,)), normal(1, (3,))
FORM, PLAIN = 0.0, 1.0


def either(a, b):
    return unless_mapped(lambda a, b: a * b + FORM, lambda a, b: a * b + PLAIN, a, b)


def taken(y, a, b):
    return float(np.unique(np.round(np.asarray(y - a * b), 3)).item())


@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0)])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_plain_where_only_the_second_is_mapped(axes, wrap):
    a, b = (jnp.stack([x, 2 * x]) if axis == 0 else x for x, axis in zip((A, B), axes, strict=True))
    y = jax.vmap(wrap(either), axes)(a, b)
    assert taken(y, a, b) == (PLAIN if axes == (None, 0) else FORM)
    assert taken(wrap(either)(A, B), A, B) == FORM


def test_inside_a_scan_that_is_mapped():
    def scanned(a, b):
        return jax.lax.scan(lambda carry, x: (carry, either(x, carry)), b, a)[1]

    b = jnp.stack([B, 2 * B])
    assert taken(jax.vmap(scanned, (None, 0))(A[None], b), A, b[:, None]) == PLAIN


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, lambda f: lambda *args: jax.lax.map(lambda ab: f(*ab), args)])
def test_derivatives_of_every_order_and_mode(wrap):
    square = lambda a, b: (wrap(either)(a, b) ** 2).sum()  # noqa: E731
    want = lambda a, b: ((a * b) ** 2).sum()  # noqa: E731
    for derivative in (jax.grad, lambda f: jax.jacfwd(jax.grad(f)), lambda f: jax.jacrev(jax.grad(f))):
        for argument in (0, 1):
            pick = lambda f, i=argument: lambda x: f(x, B) if i == 0 else f(A, x)  # noqa: E731
            got, true = (derivative(pick(f))((A, B)[argument]) for f in (square, want))
            assert_close(got, true)


@without_kernels()
@pytest.mark.parametrize(("channels", "sizes"), [(16, (8, 8)), (64, (16, 16))], ids=["separable", "winograd"])
def test_an_ensemble_on_one_batch_takes_direct_convolutions(channels, sizes):
    spec = _spec(sizes, padding=1)
    x, w = normal(0, (16, *sizes, channels)), normal(1, (2, 3, 3, channels, channels))
    product = tables.KERNEL_GRADIENT if channels == 16 else tables.FORWARD
    assert product.chosen(spec, x, w[0]).alone

    def gradient(w):
        return jax.grad(lambda w: (fnn.ops.conv(x, w, padding=1) ** 2).sum())(w)

    alone = str(jax.make_jaxpr(gradient)(w[0]))
    together = str(jax.make_jaxpr(jax.vmap(gradient))(w))
    assert "unless_mapped" in alone
    assert "unless_mapped" not in together
    assert_close(jax.jit(jax.vmap(gradient))(w), jnp.stack([jax.jit(gradient)(one) for one in w]))
