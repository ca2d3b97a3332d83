"""The same numbers for every library: weights and a batch drawn once, and how they get into a library and back out."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.networks.nodes import Place
from benchmarks.networks.zoo import Network

Weights = dict[str, np.ndarray]
_SCALE_OF_SMALL = 0.1  # spread of biases, offsets and scales: none stays at 0 or 1, where a mistake would not show


def draw_weights(network: Network) -> Weights:
    """Kernels from N(0, 2 / fan_in) (N(0, 1 / fan_in) in attention); the rest close to its usual beginning."""
    return {path: _draw(path, shape) for path, shape in network.parameters().items()}


def draw_batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """x ~ N(0, 1) and labels; an autoencoder's labels are x itself."""
    random = np.random.default_rng(0)
    x = random.standard_normal(network.input, np.float32)
    labels = x if network.classes is None else random.integers(network.classes, size=network.input[0], dtype=np.int32)
    return x, labels


def _draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
    # Seeded by the path: a layer keeps its numbers when another one is added to the network.
    normal = np.random.default_rng(zlib.crc32(path.encode())).standard_normal(shape, np.float32)
    if path.endswith("kernel"):
        gain = 1 if "attention" in path else 2
        return normal * np.float32(np.sqrt(gain / np.prod(shape[:-1])))
    return normal * np.float32(_SCALE_OF_SMALL) + np.float32(path.endswith("scale"))


@dataclass(frozen=True, eq=False)
class Slot:
    """Stands in a library's tree of parameters for one of the neutral weights.

    Attributes:
      path: of the neutral weight.
      to: from the neutral layout to the library's.
      back: the inverse.
      part: i if this is the i-th of three columns of the neutral weight, as queries, keys and values are.
    """

    path: str
    to: Callable[[np.ndarray], np.ndarray] = lambda a: a
    back: Callable[[np.ndarray], np.ndarray] = lambda a: a
    part: int | None = None

    def carry(self, weights: Weights) -> np.ndarray:
        """The library's array."""
        a = weights[self.path]
        return np.ascontiguousarray(self.to(a if self.part is None else np.split(a, 3, -1)[self.part]))


def transposed(path: str, *axes: int, flip: bool = False) -> Slot:
    """A slot whose axes the library orders in another way; `flip` turns the first two neutral axes round first."""
    turn = (lambda a: a[::-1, ::-1]) if flip else (lambda a: a)
    return Slot(path, lambda a: turn(a).transpose(axes), lambda a: turn(a.transpose(np.argsort(axes))))


def reshaped(path: str, neutral: tuple[int, ...], library: tuple[int, ...], part: int | None = None) -> Slot:
    """A slot whose library has the same order and another shape."""
    return Slot(path, lambda a: a.reshape(library), lambda a: a.reshape(neutral), part)


def channels_first_dense(place: Place) -> Slot:
    """The (K, C) kernel of a dense layer in a library that flattens (C, H, W)."""
    path = f"{place.path}/kernel"
    if place.flattened is None or len(place.flattened) != 4:
        return transposed(path, 1, 0)
    h, w, c = place.flattened[1:]
    return Slot(
        path,
        lambda a: a.reshape(h, w, c, -1).transpose(3, 2, 0, 1).reshape(a.shape[1], -1),
        lambda a: a.reshape(-1, c, h, w).transpose(2, 3, 1, 0).reshape(h * w * c, -1),
    )


def neutral(found: Mapping[Slot, Any]) -> Weights:
    """Arrays of a library by their slots, brought back to neutral paths and layouts."""
    parts: dict[str, list] = {}
    for slot, array in found.items():
        parts.setdefault(slot.path, []).append((slot.part or 0, slot.back(np.asarray(array))))
    return {
        path: np.concatenate([a for _, a in sorted(some, key=lambda pair: pair[0])], -1) for path, some in parts.items()
    }


def carry_tree(template: Any, weights: Weights) -> Any:
    """A pytree with slots for leaves, filled with JAX arrays; other leaves stay."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda leaf: jnp.array(leaf.carry(weights)) if isinstance(leaf, Slot) else leaf, template)


def neutral_tree(template: Any, tree: Any) -> Weights:
    """The leaves of `tree` at the key paths where `template` has slots, as the trees need not be alike elsewhere."""
    import jax

    def by_path(some: Any) -> dict:
        return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(some)}

    arrays = by_path(tree)
    return neutral({slot: arrays[path] for path, slot in by_path(template).items() if isinstance(slot, Slot)})
