"""Numbers in other places: channels mixed between groups, and between channels and the pixels of an image.

These are reshapes and transposes, of which JAX's own gradients are the same in other words: no rule is needed.

Sources: Zhang et al., 2017, https://arxiv.org/abs/1707.01083, for channels; Shi et al., 2016,
https://arxiv.org/abs/1609.05158, for pixels.
"""

import jax

from fnn.core.errors import integer, require, require_floats


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """x: (..., C) -> same: channel c of group g becomes number c groups + g, so that each group gets some of all.

    Args:
      x: any floating-point array with at least one axis.
      groups: a divisor of C.

    Raises:
      InputError: groups that do not divide C, integers.

    >>> import jax.numpy as jnp
    >>> channel_shuffle(jnp.arange(6.0), 2).tolist()
    [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    """
    require_floats("channel_shuffle", x=x)
    groups = integer("channel_shuffle", "groups", groups)
    ok = x.ndim > 0 and x.shape[-1] % groups == 0
    require(ok, "channel_shuffle", f"groups that divide the channels of x {x.shape}", groups, "choose a divisor of C")
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups).swapaxes(-1, -2).reshape(x.shape)


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    """x: (N, H, W, r² C) -> (N, r H, r W, C): each pixel's channels become a square of pixels, row by row.

    Args:
      x: images, r² C channels, of which r² neighbours are one channel of the result, as in torch.
      factor: r, at least 1.

    Raises:
      InputError: another rank, channels that r² does not divide, integers.

    >>> import jax.numpy as jnp
    >>> pixel_shuffle(jnp.arange(4.0).reshape(1, 1, 1, 4), 2)[0, :, :, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    r = _checked("pixel_shuffle", x, factor)
    n, h, w, many = x.shape
    expected = f"channels that {r}² divides"
    require(many % (r * r) == 0, "pixel_shuffle", expected, many, "make factor² times the channels")
    c = many // (r * r)
    return x.reshape(n, h, w, c, r, r).transpose(0, 1, 4, 2, 5, 3).reshape(n, h * r, w * r, c)


def pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
    """x: (N, r H, r W, C) -> (N, H, W, r² C): the inverse of `pixel_shuffle`.

    Args:
      x: images whose sides r divides.
      factor: r, at least 1.

    Raises:
      InputError: another rank, sides that r does not divide, integers.

    >>> import jax.numpy as jnp
    >>> pixel_unshuffle(jnp.arange(4.0).reshape(1, 2, 2, 1), 2).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    r = _checked("pixel_unshuffle", x, factor)
    n, h, w, c = x.shape
    ok = h % r == 0 and w % r == 0
    require(ok, "pixel_unshuffle", f"sides that {r} divides", (h, w), "crop or pad the images")
    return x.reshape(n, h // r, r, w // r, r, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // r, w // r, c * r * r)


def _checked(where: str, x: jax.Array, factor: int) -> int:
    require_floats(where, x=x)
    require(x.ndim == 4, where, "x of shape (N, H, W, C)", x.shape, "add the missing axes, for example x[None]")
    return integer(where, "factor", factor)
