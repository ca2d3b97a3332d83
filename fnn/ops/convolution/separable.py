"""The kernel gradient of a 2-D convolution at stride 1 as one balanced matrix product.

Copies of x shifted along rows against copies of dy shifted along columns, all taps at once:

    dw[i, j, c, k] = sum_n,p,q x[n, p, q + j, c] dy[n, p - i, q, k]           as a product (fw C) by (fh K)

The copies are made for a few examples at a time: temporaries beyond the processor's caches cost more in page faults
than the product itself. Each part is summed in two halves, one a core: XLA does not split a sum among cores.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core.dtypes import wide_dtype, wide_product
from fnn.core.placement import whole_batch
from fnn.core.sharding import align, contract
from fnn.core.sizes import fixed
from fnn.ops.convolution.direct import pad_axis
from fnn.ops.convolution.spec import ConvSpec

COPIES = 3 << 19  # entries at a time: 6 MiB in float32; 3 to 12 measured alike
HALVES = 2


def fits(spec: ConvSpec, x: jax.Array, w: jax.Array) -> bool:
    """2-D, dense, stride and dilation 1."""
    return spec.slides_in_plane(w)


def kernel_gradient(spec: ConvSpec, x: jax.Array, dy: jax.Array, w: jax.Array) -> jax.Array:
    """The sum over parts of the batch; over the whole at once where there are none."""
    fh, fw, c, k = w.shape
    height, width = (a.outputs for a in spec.axes(w))
    (top, _), (left, _) = spec.padding

    def copies(x: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = pad_axis(x, 1, top, height + fh - 1 - x.shape[1] - top)
        x = pad_axis(x, 2, left, width + fw - 1 - x.shape[2] - left)
        rows = jnp.concatenate([x[..., j : j + width, :] for j in range(fw)], axis=-1)
        return rows, jnp.concatenate([pad_axis(dy, 1, i, fh - 1 - i) for i in range(fh)], axis=-1)

    batch, parts = x.shape[0], parts_of(spec, x, w)
    if not parts:
        dw = contract(*copies(x, dy), ((0, 1, 2), (0, 1, 2)), like=w)
    else:

        def add(total: jax.Array, part: tuple) -> tuple[jax.Array, None]:
            rows, columns = (a.reshape(HALVES, -1, a.shape[-1]) for a in copies(*part))
            return total + wide_product(rows, columns, ((1,), (1,)), ((0,), (0,))).sum(0), None

        split = [a.reshape(parts, batch // parts, *a.shape[1:]) for a in (x, dy)]
        zero, *_ = align(jnp.zeros((fw * c, fh * k), wide_dtype(x)), x, dy)
        dw = lax.scan(add, zero, tuple(split))[0].astype(w.dtype)
    return dw.reshape(fw, c, fh, k).transpose(2, 0, 1, 3)


def parts_of(spec: ConvSpec, x: jax.Array, w: jax.Array) -> int:
    """The fewest equal parts of the batch, of two halves each, with copies below `COPIES`.

    0 if there are none, if its size is symbolic, or where it may be split among devices: the tables do not choose this
    form then.
    """
    if not (whole_batch(x) and fixed(x.shape[0])):
        return 0
    (height, width), (fh, fw, c, k), batch = (a.outputs for a in spec.axes(w)), w.shape, x.shape[0]
    entries = (height + fh - 1) * width * (fw * c + fh * k)
    even = (p for p in range(1, batch // HALVES + 1) if batch % (p * HALVES) == 0)
    return next((p for p in even if batch // p * entries <= COPIES), 0)
