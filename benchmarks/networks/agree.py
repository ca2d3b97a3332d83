"""Nothing is timed before all programs computed the same loss and the same gradients.

Two right programs add in different orders. That alone moves most leaves by 1e-6 of their norm; but an activation within
rounding of 0 may take the other side of ReLU, or another entry may win a max pool, and one such flip moves the
gradients before it by 1e-3, or by 1e-2 in a small batch. How much rounding may do to a leaf is therefore measured: the
reference takes its step again with x changed by a hundred times its rounding, which flips more than rounding does.
"""

from collections.abc import Iterable

import numpy as np

from benchmarks.networks.libraries import VARIANTS, build
from benchmarks.networks.nodes import NotSupported
from benchmarks.networks.program import JaxProgram
from benchmarks.networks.weights import Weights
from benchmarks.networks.zoo import Network

LOSS_TOLERANCE = 1e-4  # relative; float32 sums in another order stay a hundred times below
GRADIENT_TOLERANCE = 1e-3  # of a leaf's norm, where no kink is near; a wrong layout, padding or scale moves it by 1e-1
NUDGES = 3  # flips are rare events: one nudge may see none
_ROOM = 3  # what rounding does, at most, in units of the largest of three larger disturbances
MOST = 0.05  # where a nudge moves a leaf further than this, nothing could be told from it


class Disagreement(Exception):  # noqa: N818
    """A program computes something else than fnn with automatic gradients."""


def differences(got: tuple[float, Weights], want: tuple[float, Weights]) -> dict[str, float]:
    """By how much loss and gradients differ: relative for "loss", by leaf and relative to its norm for gradients.

    A leaf that only one of the two has differs by infinity.
    """
    (loss, gradient), (true_loss, truth) = got, want
    found = {"loss": abs(loss - true_loss) / abs(true_loss)}
    for path in sorted(gradient.keys() | truth.keys()):
        a, b = gradient.get(path), truth.get(path)
        fits = a is not None and b is not None and a.shape == b.shape
        found[path] = _apart(a, b) if fits else np.inf
    return found


def tolerances(
    want: tuple[float, Weights],
    nudged: Iterable[tuple[float, Weights]],
    least: float = GRADIENT_TOLERANCE,
    most: float = MOST,
) -> dict[str, float]:
    """How much loss and gradient leaves may differ from `want`, given what nudged inputs make of them.

    A leaf may differ by `least` in any case, the loss by a tenth of that, and none by more than `most`.
    """
    moved = [differences(each, want) for each in nudged]
    by_leaf = {path: max([least, *(_ROOM * found[path] for found in moved)]) for path in want[1]}
    allowed = {path: min(most, tolerance) for path, tolerance in by_leaf.items()}
    return {"loss": least * LOSS_TOLERANCE / GRADIENT_TOLERANCE} | allowed


def tolerances_of(reference: JaxProgram) -> dict[str, float]:
    """The tolerances around the first step of a program, which is taken again with nudged inputs."""
    return tolerances(reference.first(), (reference.first(nudge=seed) for seed in range(NUDGES)))


def require_agreement(
    name: str, got: tuple[float, Weights], want: tuple[float, Weights], allowed: dict[str, float]
) -> float:
    """The largest difference of a gradient leaf.

    Raises:
      Disagreement: loss or a leaf differs by more than `allowed`, or is NaN; it names them.
    """
    found = differences(got, want)
    wrong = {path: error for path, error in found.items() if not error <= allowed.get(path, 0.0)}
    if wrong:
        listed = ", ".join(f"{path} by {error:.1e}" for path, error in list(wrong.items())[:5])
        raise Disagreement(f"{name} differs from fnn's automatic gradients in {len(wrong)} of {len(found)}: {listed}")
    return max(error for path, error in found.items() if path != "loss")


def check(
    network: str | Network, libraries: Iterable[str] = tuple(VARIANTS), batch: int | None = None
) -> dict[str, float]:
    """Whether all variants of these libraries take the same first step as fnn with automatic gradients.

    Args:
      network: as for `build`.
      libraries: keys of `VARIANTS`; one that does not support the network is left out.
      batch: another batch size than the network's.

    Returns:
      The largest relative difference of a gradient leaf by program, "library, variant".

    Raises:
      Disagreement: naming the program, the leaves and by how much they differ.
    """
    reference = build(network, "fnn", "auto, defaults", batch)
    want, allowed, found = reference.first(), tolerances_of(reference), {}
    for library in libraries:
        for variant in VARIANTS[library]:
            name = f"{library}, {variant}"
            try:
                program = build(network, library, variant, batch)
            except NotSupported:
                break
            found[name] = require_agreement(name, program.first(), want, allowed)
    return found


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), np.finfo(np.float32).tiny))
