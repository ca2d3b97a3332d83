"""Every formulation of a convolution against the textbook formula and the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.ops import conv_blocks, conv_direct, conv_disjoint, conv_forms, conv_shifted
from fnn.ops.conv import rule
from fnn.ops.conv_direct import ConvSpec
from tests.helpers import integers


def _spec(sizes, stride=1, padding=0, dilation=1, groups=1):
    each = lambda v: v if isinstance(v, tuple) else (v,) * len(sizes)  # noqa: E731
    pairs = padding if isinstance(padding, tuple) else ((padding, padding),) * len(sizes)
    return ConvSpec(sizes, each(stride), pairs, each(dilation), groups)


GRID = {
    "plain": (_spec((5, 6)), (2, 3, 2, 3)),
    "beyond_the_window": (_spec((4, 3), 1, ((3, 0), (1, 4))), (2, 2, 2, 3)),
    "one_channel": (_spec((4, 5), 1, 2), (3, 3, 1, 2)),
    "1x1": (_spec((3, 4)), (1, 1, 3, 2)),
    "patches": (_spec((7, 6), (2, 3), ((1, 2), (0, 3))), (2, 3, 2, 3)),
    "stride_over_window": (_spec((8, 7), (3, 2), ((5, 0), (0, 1))), (2, 1, 2, 3)),
    "strided_dilated": (_spec((9, 8), (3, 2), ((2, 5), (1, 0)), (2, 3)), (3, 2, 2, 2)),
    "grouped": (_spec((5, 4), (2, 1), ((1, 3), (0, 1)), groups=2), (3, 2, 2, 4)),
    "many_groups": (_spec((5,), 1, 1, 2, groups=6), (2, 8, 48)),
    "depthwise": (_spec((5, 6), 1, ((2, 1), (0, 3)), groups=3), (3, 2, 1, 3)),
    "depthwise_long": (_spec((19,), 2, groups=2), (3, 1, 2)),
    "multiplier": (_spec((7, 8), (2, 3), ((4, 0), (1, 2)), (1, 2), groups=2), (2, 3, 1, 6)),
    "volume": (_spec((3, 4, 5), (2, 1, 3), 1, (1, 2, 1)), (2, 2, 3, 2, 2)),
}


def formulations(spec, w):
    """The modules that claim to be right for this convolution."""
    *window, c, _ = w.shape
    yield conv_direct
    yield conv_forms
    if spec.groups == 1 and all(
        f == 1 or (f <= s and d == 1) for f, s, d in zip(window, spec.stride, spec.dilation, strict=True)
    ):
        yield conv_disjoint
    if c == 1:
        yield conv_shifted
    if spec.groups > 1:
        yield conv_blocks


def separable(spec):
    return len(spec.sizes) == 2 and spec.groups == 1 and set(spec.stride + spec.dilation) == {1}


@pytest.mark.parametrize(("spec", "kernel"), GRID.values(), ids=GRID)
def test_every_formulation_is_exact_and_adjoint(spec, kernel):
    """<dy, y(x, w)> = <dx(dy, w), x> = <dw(x, dy), w>, without any rounding since all numbers are small integers."""
    with jax.enable_x64(True):
        x = integers(0, (2, *spec.sizes, kernel[-2] * spec.groups), "float64")
        w = integers(1, kernel, "float64")
        want = rule.reference(spec, x, w, None)
        dy = integers(2, want.shape, "float64")

        @jax.jit
        def run(x, w, dy):
            forms = list(formulations(spec, w))
            dws = [form.kernel_gradient(spec, x, dy, w) for form in forms]
            if separable(spec):
                dws.append(conv_forms.kernel_gradient_separable(spec, x, dy, w))
            return [f.forward(spec, x, w) for f in forms], [f.input_gradient(spec, dy, w) for f in forms], dws

        ys, dxs, dws = run(x, w, dy)
        for y in ys:
            np.testing.assert_array_equal(y, want)
        for dx in dxs:
            assert jnp.vdot(dx, x) == jnp.vdot(dy, want)
            np.testing.assert_array_equal(dx, dxs[0])
        for dw in dws:
            assert jnp.vdot(dw, w) == jnp.vdot(dy, want)
            np.testing.assert_array_equal(dw, dws[0])
