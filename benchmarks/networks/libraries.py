"""`build`: a network, a library and a variant make a program. A library is imported when its first program is built."""

from importlib import import_module

from benchmarks.networks.program import Program
from benchmarks.networks.zoo import NETWORKS, Network

_FNN = ("hand", "auto", "hand, defaults", "auto, defaults", "hand, memory kept", "hand, XLA alone")
_PEER = ("defaults", "options")
_MODULES = {
    "fnn": "in_fnn",
    "stax": "in_stax",
    "flax.nnx": "in_nnx",
    "equinox": "in_equinox",
    "haiku": "in_haiku",
    "torch": "in_torch",
}
VARIANTS: dict[str, tuple[str, ...]] = {
    "fnn": _FNN,
    "stax": _PEER,
    "flax.nnx": _PEER,
    "equinox": _PEER,
    "haiku": _PEER,
    "torch": ("contiguous", "channels last", "compiled"),
}


def build(network: str | Network, library: str, variant: str, batch: int | None = None) -> Program:
    """The training step of a network in a library.

    Args:
      network: a name in `NETWORKS`, or a Network.
      library: a key of `VARIANTS`.
      variant: one of its values. "options" means fnn's compiler options, "defaults" XLA's own.
      batch: another batch size than the network's.

    Raises:
      KeyError: an unknown network or library.
      ValueError: an unknown variant.
      NotSupported: the library lacks a layer.
      ImportError: the library is not installed.

    >>> loss, gradients = build("lenet5", "fnn", "auto", batch=2).first()
    >>> gradients["00_conv/kernel"].shape
    (5, 5, 1, 6)
    """
    if variant not in VARIANTS[library]:
        raise ValueError(f"{library} has the variants {', '.join(VARIANTS[library])}; got {variant!r}")
    if isinstance(network, str):
        network = NETWORKS[network]
    network = network.with_batch(batch)
    module = import_module(f"benchmarks.networks.{_MODULES[library]}")
    if VARIANTS[library] is not _PEER:
        return module.build(network, variant)
    return module.build(network, tuned=variant == "options")
