"""What fnn wants to reach on two cores, beside what it reaches: ratios, memory and seconds of compiling."""

import math
from collections.abc import Iterable, Mapping

from benchmarks.report import tables

# By network: how many times faster than the best JAX peer at its defaults, and than the best of PyTorch.
AIMS = {
    "mlp": (1.0, 0.8),
    "lenet5": (2.5, 0.8),
    "mnist_cnn": (2.0, 0.8),
    "convnetjs": (2.5, 0.8),
    "resnet20": (2.5, 0.6),
    "resnet18": (2.0, 0.8),
    "vgg": (2.0, 0.8),
    "mobilenet": (10.0, 0.8),
    "resnext": (10.0, 0.8),
    "autoencoder": (3.0, 0.8),
    "vit": (1.0, 0.8),
}
NOTHING_TO_SAVE = ("mlp", "autoencoder")  # no pooling, norm or dropout: they may take as much memory as automatic


def markdown(records: Iterable[Mapping]) -> str:
    """A table of the networks; what is missed is bold."""
    head = ["network", "own auto", "JAX peer (aim)", "PyTorch (aim)", "temporary MiB, hand / auto"]
    head += ["compile, s, hand / fastest peer", "repaid after"]
    return tables.table(head, [_row(record) for record in records])


def _row(record: Mapping) -> list[str]:
    name = record["name"]
    hand, auto = tables.find(record, "fnn", "hand"), tables.find(record, "fnn", "auto")
    peers = [tables.find(record, library, "defaults") for library in tables.JAX_PEERS]
    fastest = min((s for s in map(tables.compiling, peers) if s is not None), default=None)
    own = tables.best(record, tables.AUTO)
    peer = tables.best_of_peers(record)
    jax_aim, torch_aim = AIMS[name]
    return [
        record["title"],
        tables.ABSENT
        if own is None
        else _bold(f"{own['ratio']['median']:.2f}", tables.verdict(own["ratio"]) == "faster"),
        _reached(peer, jax_aim),
        _reached(tables.best_of_torch(record), torch_aim),
        _less(*((program or {}).get("temp_bytes") for program in (hand, auto)), 2**20, equal=name in NOTHING_TO_SAVE),
        _less(tables.compiling(hand), fastest, 1, equal=True),
        _repaid(hand, peer),
    ]


def _bold(text: str, met: bool) -> str:
    return text if met else f"**{text}**"


def _reached(program: Mapping | None, aim: float) -> str:
    if program is None or program.get("ratio") is None:
        return tables.ABSENT
    text = f"{program['ratio']['median']:.2f}"
    return _bold(text, float(text) >= aim) + f" ({aim:g})"


def _repaid(hand: Mapping | None, peer: Mapping | None) -> str:
    """Steps after which longer compiling is repaid by faster steps; "never" where they are not faster."""
    if hand is None or peer is None or None in (tables.compiling(hand), tables.compiling(peer)):
        return tables.ABSENT
    longer = tables.compiling(hand) - tables.compiling(peer)
    gain = peer["seconds"]["median"] - hand["seconds"]["median"]
    if gain <= 0:
        return "never"
    steps = max(0, math.ceil(longer / gain))
    return f"{steps} step{'s' * (steps != 1)}"


def _less(mine: float | None, other: float | None, unit: float, *, equal: bool) -> str:
    """Two numbers, the first bold where it is larger, or no smaller though it should be."""
    if mine is None or other is None:
        return tables.ABSENT
    first, second = f"{mine / unit:.2f}", f"{other / unit:.2f}"
    met = float(first) <= float(second) if equal else mine < other
    return f"{_bold(first, met)} / {second}"
