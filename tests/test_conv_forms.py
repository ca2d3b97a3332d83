"""Every formulation of a convolution against the textbook formula and the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.ops import conv_forms
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
    "two_pixels": (_spec((4, 6), 1, ((1, 0), (1, 1))), (2, 3, 6, 9)),
    "four_pixels": (_spec((3, 10), 1, ((0, 1), (2, 0))), (2, 5, 3, 2)),
    "long_steps": (_spec((9, 7), (2, 1), ((3, 1), (0, 2))), (5, 3, 2, 3)),
    "beyond_the_image": (_spec((2, 3), 1, 2), (3, 5, 2, 2)),
    "balanced": (_spec((3, 4), 1, ((1, 2), (0, 1))), (3, 2, 12, 13)),
    "volume": (_spec((3, 4, 5), (2, 1, 3), 1, (1, 2, 1)), (2, 2, 3, 2, 2)),
}


def formulations(spec, w, product):
    """The choice of the tables, and this product by every module that claims to be right for this convolution."""
    fitting = [form for form in conv_forms.FORMULATIONS.values() if form.fits(spec, w)]
    return [getattr(form, product) for form in (conv_forms, *fitting) if hasattr(form, product)]


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
            ys = [f(spec, x, w) for f in formulations(spec, w, "forward")]
            dxs = [f(spec, dy, w) for f in formulations(spec, w, "input_gradient")]
            return ys, dxs, [f(spec, x, dy, w) for f in formulations(spec, w, "kernel_gradient")]

        ys, dxs, dws = run(x, w, dy)
        for y in ys:
            np.testing.assert_array_equal(y, want)
        for dx in dxs:
            assert jnp.vdot(dx, x) == jnp.vdot(dy, want)
            np.testing.assert_array_equal(dx, dxs[0])
        for dw in dws:
            assert jnp.vdot(dw, w) == jnp.vdot(dy, want)
            np.testing.assert_array_equal(dw, dws[0])
