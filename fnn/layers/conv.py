"""Convolution layers: `ops.conv` and `ops.conv_transpose` with their parameters."""

from collections.abc import Callable

import jax
from jax.nn import initializers

from fnn import ops
from fnn.core.combinators import serial
from fnn.core.errors import require, require_flag, require_floats
from fnn.core.layer import Layer, Params, Spec, lift, weights
from fnn.layers.initial import he_normal
from fnn.ops.window import Ints, Padding, sizes_of

Initializer = jax.nn.initializers.Initializer


def conv(
    features: int,
    window: Ints,
    *,
    stride: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = initializers.zeros,
) -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, features), in 1-D, 2-D or 3-D as the rank of x says.

    Args:
      features: output channels K.
      window: kernel size f, one integer or one an axis.
      stride, padding, dilation, groups: as for `fnn.ops.conv`.
      bias: whether to add a learned bias.
      kernel_init, bias_init: from `jax.nn.initializers`; kernel (*window, C/groups, K), bias (K,).

    Raises:
      InputError: what `fnn.ops.conv` raises; features < 1.

    >>> import jax, fnn
    >>> params, _ = conv(16, 5).init(jax.random.key(0), (1, 32, 32, 3))
    >>> sum(p.size for p in jax.tree.leaves(params))
    1216
    """

    def apply(x: jax.Array, kernel: jax.Array, b: jax.Array | None) -> jax.Array:
        return ops.conv(x, kernel, b, stride=stride, padding=padding, dilation=dilation, groups=groups)

    return _layer("conv", apply, lambda c: features, lambda c: groups, window, bias, kernel_init, bias_init)


def depthwise_conv(
    window: Ints,
    *,
    multiplier: int = 1,
    stride: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    bias: bool = True,
    kernel_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = initializers.zeros,
) -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, C * multiplier): each channel has its own `multiplier` filters.

    Args:
      window, stride, padding, dilation, bias, kernel_init, bias_init: as for `conv`; the kernel is
        (*window, 1, C * multiplier).
      multiplier: filters a channel, at least 1.

    Raises:
      InputError: as `conv`.
    """
    ok = isinstance(multiplier, int) and multiplier >= 1
    require(ok, "depthwise_conv", "multiplier >= 1", multiplier, "use at least one filter a channel")

    def apply(x: jax.Array, kernel: jax.Array, b: jax.Array | None) -> jax.Array:
        # Of the kernel and not of x: an x with other channels is then an error, not another multiplier.
        groups = kernel.shape[-1] // multiplier
        return ops.conv(x, kernel, b, stride=stride, padding=padding, dilation=dilation, groups=groups)

    return _layer("depthwise_conv", apply, lambda c: c * multiplier, lambda c: c, window, bias, kernel_init, bias_init)


def separable_conv(
    features: int,
    window: Ints,
    *,
    multiplier: int = 1,
    stride: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    bias: bool = True,
) -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, features): depthwise over space, then 1x1 over channels.

    A full convolution costs f^2 C K products an output; this one f^2 C + C K (Howard et al., 2017,
    https://arxiv.org/abs/1704.04861, section 3.1).

    Args:
      features: output channels K.
      window, multiplier, stride, padding, dilation: of the depthwise part, as for `depthwise_conv`.
      bias: whether the pointwise part adds a bias; the depthwise part has none, since the pointwise one absorbs it.
    """
    return serial(
        depthwise=depthwise_conv(
            window, multiplier=multiplier, stride=stride, padding=padding, dilation=dilation, bias=False
        ),
        pointwise=conv(features, 1, bias=bias),
    )


def conv_transpose(
    features: int,
    window: Ints,
    *,
    stride: Ints = 1,
    padding: Padding = "VALID",
    output_padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = initializers.zeros,
) -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, features), the sizes that a convolution with these options would undo.

    Args:
      features: output channels K.
      window, stride, padding, output_padding, dilation, groups: as for `fnn.ops.conv_transpose`.
      bias, kernel_init, bias_init: as for `conv`; kernel (*window, C/groups, K).

    Raises:
      InputError: what `fnn.ops.conv_transpose` raises; features < 1.
    """

    def apply(x: jax.Array, kernel: jax.Array, b: jax.Array | None) -> jax.Array:
        return ops.conv_transpose(
            x,
            kernel,
            b,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            dilation=dilation,
            groups=groups,
        )

    return _layer("conv_transpose", apply, lambda c: features, lambda c: groups, window, bias, kernel_init, bias_init)


def filter_pool(filter: jax.Array, *, stride: Ints | None = None, padding: Padding = "VALID") -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, C): pool each channel with fixed weights, as `fnn.ops.filter_pool` says."""
    return lift(lambda params, x: ops.filter_pool(x, filter, stride=stride, padding=padding), name="filter_pool")


def _layer(
    name: str,
    apply: Callable,
    features: Callable[[int], int],
    groups: Callable[[int], int],
    window: Ints,
    bias: bool,
    kernel_init: Initializer,
    bias_init: Initializer,
) -> Layer:
    require_flag(name, "bias", bias)

    def init(key: jax.Array, x: Spec) -> Params:
        require_floats(name, x=x)
        spatial = x.ndim - 2
        require(1 <= spatial <= 3, name, "x (N, *spatial, C) with 1 to 3 spatial axes", x.shape, "add or drop axes")
        sizes = sizes_of(name, "window", window, spatial)
        c = x.shape[-1]
        require(c >= 1, name, "at least one channel, last", f"x of shape {x.shape}", "put the channels last")
        k, g = features(c), groups(c)
        require(isinstance(k, int) and k >= 1, name, "features >= 1", k, "use at least one output channel")
        require(
            isinstance(g, int) and g >= 1 and c % g == 0 and k % g == 0,
            name,
            f"groups that divide {c} input and {k} output channels",
            g,
            "change groups or the number of channels",
        )
        kernel_key, bias_key = jax.random.split(key)
        params = {"kernel": kernel_init(kernel_key, (*sizes, c // g, k), x.dtype)}
        return params | ({"bias": bias_init(bias_key, (k,), x.dtype)} if bias else {})

    def run(params: Params, x: jax.Array) -> jax.Array:
        kernel, b = weights(name, params, "kernel", optional=("bias",))
        return apply(x, kernel, b)

    return lift(run, init, name=name)
