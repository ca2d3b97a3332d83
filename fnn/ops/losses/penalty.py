"""Weight decay as a loss: half the sum of squares of the weights, biases and norm parameters spared.

    l = 1/2 sum w^2        dw = dl w

Biases and the scales and offsets of normalisation decide levels, not how strongly a layer reacts, and shrinking them
buys no generalisation. Source: Goodfellow, Bengio and Courville, Deep Learning (2016), section 7.1 and 7.1.1.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fnn.core.cases import case
from fnn.core.dtypes import widen
from fnn.core.errors import require_floats
from fnn.core.rule import Rule

SPARED = frozenset({"bias", "scale", "offset"})


def l2_penalty(params: Any) -> jax.Array:
    """params: any tree -> (): 1/2 sum of squares over its weights, those leaves that `decay_mask` marks.

    Summed and returned in float32 at least. Multiply by the strength and add to the loss. Under an adaptive optimiser
    the decoupled form differs: `optax.add_decayed_weights(strength, mask=fnn.decay_mask)`.

    Args:
      params: as `init` returned them.

    Raises:
      InputError: an integer leaf among the weights.

    >>> import jax.numpy as jnp
    >>> print(l2_penalty({"conv": {"kernel": jnp.array([3.0, 4.0]), "bias": jnp.array([100.0])}}))
    12.5
    """
    total = jnp.zeros((), jnp.float32)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if _counts(path):
            at = jax.tree_util.keystr(path, simple=True, separator="/")
            require_floats("l2_penalty", **{f"params/{at}".rstrip("/"): leaf})
            total = total + rule(None, leaf)
    return total


def decay_mask(params: Any) -> Any:
    """params: any tree -> the same tree of booleans: True for weights, False for leaves named bias, scale or offset.

    For `optax.add_decayed_weights(strength, mask=fnn.decay_mask)`: the same choice as `l2_penalty` makes.

    >>> decay_mask({"norm": {"scale": 1.0, "offset": 0.0}, "out": {"kernel": 2.0, "bias": 3.0}})
    {'norm': {'offset': False, 'scale': False}, 'out': {'bias': False, 'kernel': True}}
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: _counts(path), params)


def _counts(path: tuple) -> bool:
    return not path or jax.tree_util.keystr(path[-1:], simple=True) not in SPARED


def _forward(spec, w):
    return jnp.square(widen(w)).sum() / 2


def _fwd(spec, w):
    return _forward(spec, w), (w,)


def _bwd(spec, residuals, dl):
    (w,) = residuals
    return ((dl * widen(w)).astype(w.dtype),)


def _reference(spec, w):
    return sum((x * x for x in w.ravel()), jnp.zeros((), widen(w).dtype)) / 2


rule = Rule(
    name="l2",
    forward=_forward,
    fwd=_fwd,
    bwd=_bwd,
    reference=_reference,
    refuses=((lambda: l2_penalty({"kernel": jnp.arange(3)}), "a floating-point params/kernel"),),
    cases=(case(None, (3, 4), batched=False), case(None, (0,), batched=False)),
)
