"""Convolution layers: `ops.conv` and `ops.conv_transpose` with their parameters."""

from collections.abc import Callable

import jax
from jax.nn import initializers

from fnn import ops
from fnn.core.combinators import serial
from fnn.core.errors import (
    InputError,
    integer,
    require,
    require_array,
    require_flag,
    require_float_spec,
    require_real_array,
)
from fnn.core.layer import Layer, Params, require_shape, shown, weights
from fnn.core.lift import lift
from fnn.core.spec import Spec
from fnn.layers.initial import he_normal, initial, require_initializers
from fnn.layers.rank import with_rank
from fnn.ops.pad import MODES
from fnn.ops.window import (
    Ints,
    Padding,
    missing_axis,
    padding_given,
    sizes_given,
    sizes_of,
)

Initializer = jax.nn.initializers.Initializer


@shown
def conv(
    features: int,
    kernel_size: Ints,
    *,
    rank: int | None = None,
    stride: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = initializers.zeros,
) -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, features), in 1-D, 2-D or 3-D.

    Args:
      features: output channels K.
      kernel_size: size f of the window, one integer or one a spatial axis.
      rank: number of spatial axes, 1 to 3. It need not be said where kernel_size or another option has one entry an
        axis. Where nothing says it the shape of x does, and an image without its batch axis passes for a 1-D signal:
        `conv(8, (3, 3))` and `conv(8, 3, rank=2)` refuse it.
      stride, padding, dilation, groups: as for `fnn.ops.conv`.
      bias: whether to add a learned bias.
      kernel_init, bias_init: from `jax.nn.initializers`; kernel (*kernel_size, C/groups, K), bias (K,).

    Raises:
      InputError: what `fnn.ops.conv` raises; features < 1; options for different numbers of axes.

    >>> import jax, fnn
    >>> params, _ = conv(16, (5, 5)).init(jax.random.key(0), (1, 32, 32, 3))
    >>> sum(p.size for p in jax.tree.leaves(params))
    1216
    """
    kernel_size, stride, padding, dilation = _options("conv", kernel_size, rank, stride, padding, dilation)
    features, groups = _channels("conv", features, groups)

    def apply(x: jax.Array, kernel: jax.Array, b: jax.Array | None) -> jax.Array:
        return ops.conv(x, kernel, b, stride=stride, padding=padding, dilation=dilation, groups=groups)

    return _layer("conv", apply, features, groups, kernel_size, bias, kernel_init, bias_init)


@shown
def depthwise_conv(
    kernel_size: Ints,
    *,
    rank: int | None = None,
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
      kernel_size, rank, stride, padding, dilation, bias, kernel_init, bias_init: as for `conv`; the kernel is
        (*kernel_size, 1, C * multiplier).
      multiplier: filters a channel, at least 1.

    Raises:
      InputError: as `conv`.
    """
    multiplier = integer("depthwise_conv", "multiplier", multiplier, fix="use at least one filter a channel")
    kernel_size, stride, padding, dilation = _options("depthwise_conv", kernel_size, rank, stride, padding, dilation)

    def apply(x: jax.Array, kernel: jax.Array, b: jax.Array | None) -> jax.Array:
        # Of the kernel and not of x: an x with other channels is then an error, not another multiplier.
        groups = kernel.shape[-1] // multiplier
        return ops.conv(x, kernel, b, stride=stride, padding=padding, dilation=dilation, groups=groups)

    return _layer("depthwise_conv", apply, None, None, kernel_size, bias, kernel_init, bias_init, multiplier)


def separable_conv(
    features: int,
    kernel_size: Ints,
    *,
    rank: int | None = None,
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
      kernel_size, rank, multiplier, stride, padding, dilation: of the depthwise part, as for `depthwise_conv`.
      bias: whether the pointwise part adds a bias; the depthwise part has none, since the pointwise one absorbs it.
    """
    return serial(
        depthwise=depthwise_conv(
            kernel_size,
            rank=rank,
            multiplier=multiplier,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=False,
        ),
        pointwise=conv(features, 1, bias=bias),
    )


@shown
def conv_transpose(
    features: int,
    kernel_size: Ints,
    *,
    rank: int | None = None,
    stride: Ints = 1,
    padding: Padding = "VALID",
    output_padding: Ints = 0,
    output_shape: Ints | None = None,
    dilation: Ints = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = he_normal(),  # noqa: B008
    bias_init: Initializer = initializers.zeros,
) -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, features), the sizes that a convolution with these options would undo.

    Args:
      features: output channels K.
      kernel_size, rank, bias, kernel_init, bias_init: as for `conv`; kernel (*kernel_size, C/groups, K).
      stride, padding, output_padding, output_shape, dilation, groups: as for `fnn.ops.conv_transpose`.

    Raises:
      InputError: what `fnn.ops.conv_transpose` raises; features < 1.
    """
    name, names = "conv_transpose", ("VALID", "SAME")
    output_padding = sizes_given(name, "output_padding", output_padding, least=0)
    output_shape = None if output_shape is None else sizes_given(name, "output_shape", output_shape)
    amounts = {"output_padding": output_padding, "output_shape": output_shape}
    kernel_size, stride, padding, dilation = _options(
        name, kernel_size, rank, stride, padding, dilation, names, **amounts
    )
    axes = len(kernel_size) if isinstance(kernel_size, tuple) else 1
    extra = sizes_of(name, "output_padding", output_padding, axes, least=0)
    steps = zip(sizes_of(name, "stride", stride, axes), sizes_of(name, "dilation", dilation, axes), strict=True)
    room = tuple(max(pair) for pair in steps)
    ok = all(e < r for e, r in zip(extra, room, strict=True))
    require(ok, name, f"output_padding below {room}", extra, "use less")
    alone = output_shape is None or not any(extra)
    require(alone, "conv_transpose", "output_shape or output_padding", "both", "leave output_padding out")
    features, groups = _channels("conv_transpose", features, groups)

    def apply(x: jax.Array, kernel: jax.Array, b: jax.Array | None) -> jax.Array:
        return ops.conv_transpose(
            x,
            kernel,
            b,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            output_shape=output_shape,
            dilation=dilation,
            groups=groups,
        )

    return _layer("conv_transpose", apply, features, groups, kernel_size, bias, kernel_init, bias_init)


@shown
def filter_pool(filter: jax.Array, *, stride: Ints | None = None, padding: Padding = "VALID") -> Layer:
    """x: (N, *spatial, C) -> (N, *outputs, C): pool each channel with fixed weights, as `fnn.ops.filter_pool` says."""
    require_real_array("filter_pool", "filter", filter)
    require(1 <= filter.ndim <= 3, "filter_pool", "a filter of 1 to 3 axes", filter.shape, "drop axes of size 1")
    stride = filter.shape if stride is None else stride
    _, stride, padding, _ = _options("filter_pool", filter.shape, None, stride, padding, 1)
    return lift(lambda params, x: ops.filter_pool(x, filter, stride=stride, padding=padding), name="filter_pool")


def _options(
    name: str,
    kernel_size: Ints,
    rank: int | None,
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    names: tuple[str, ...] = ("VALID", "SAME", "CAUSAL", *MODES),
    **more: Ints | None,
) -> tuple[Ints, Ints, Padding, Ints]:
    """The options in plain Python integers; the kernel size with one entry an axis where any option tells the rank."""
    kernel_size = sizes_given(name, "kernel_size", kernel_size)
    stride, dilation = sizes_given(name, "stride", stride), sizes_given(name, "dilation", dilation)
    padding = padding_given(name, padding, *names)
    if rank is not None:
        more["rank"] = (0,) * integer(name, "rank", rank, 1, 3, fix="use 1, 2 or 3, the number of spatial axes")
    kernel_size = with_rank(name, "kernel_size", kernel_size, padding=padding, stride=stride, dilation=dilation, **more)
    return kernel_size, stride, padding, dilation


def _channels(name: str, features: int, groups: int) -> tuple[int, int]:
    features = integer(name, "features", features, fix="use at least one output channel")
    groups = integer(name, "groups", groups, fix="change groups or the number of channels")
    expected = f"groups that divide {features} output channels"
    require(features % groups == 0, name, expected, groups, "change groups or the number of channels")
    return features, groups


def _layer(
    name: str,
    apply: Callable[..., jax.Array],
    features: int | None,
    groups: int | None,
    kernel_size: Ints,
    bias: bool,
    kernel_init: Initializer,
    bias_init: Initializer,
    multiplier: int = 1,
) -> Layer:
    """Without features and groups every channel is a group, with `multiplier` filters."""
    require_initializers(name, kernel_init=kernel_init, bias_init=bias_init)
    require_flag(name, "bias", bias)
    rank = len(kernel_size) if isinstance(kernel_size, tuple) else None

    def init(key: jax.Array, x: Spec) -> Params:
        require_float_spec(name, x)
        spatial = x.ndim - 2
        if rank is not None and spatial != rank:
            said = "as its kernel_size, rank, stride or padding say"
            expected = f"x of shape (N, *spatial, C) with {rank} spatial axes, {said}"
            raise InputError(name, expected, f"x of shape {x.shape}", missing_axis(x.shape, rank))
        fix = missing_axis(x.shape, 1) if spatial < 1 else "drop axes"
        require(1 <= spatial <= 3, name, "x (N, *spatial, C) with 1 to 3 spatial axes", f"x of shape {x.shape}", fix)
        sizes = sizes_of(name, "kernel_size", kernel_size, spatial)
        c = x.shape[-1]
        require(c >= 1, name, "at least one channel, last", f"x of shape {x.shape}", "put the channels last")
        k, g = features or c * multiplier, groups or c
        require(
            c % g == 0 and k % g == 0,
            name,
            f"groups that divide {c} input and {k} output channels",
            g,
            "change groups or the number of channels",
        )
        kernel_key, bias_key = jax.random.split(key)
        params = {"kernel": initial(name, "kernel_init", kernel_init, kernel_key, (*sizes, c // g, k), x.dtype)}
        return params | ({"bias": initial(name, "bias_init", bias_init, bias_key, (k,), x.dtype)} if bias else {})

    def run(params: Params, x: jax.Array) -> jax.Array:
        kernel, b = weights(name, params, "kernel", optional=("bias",))
        require_array(name, "kernel", kernel)
        sizes = (kernel_size,) * (kernel.ndim - 2) if isinstance(kernel_size, int) else kernel_size
        require_shape(name, "kernel", kernel, (*sizes, None, features))
        return apply(x, kernel, b)

    return lift(run, init, name=name)
