"""What hand-written rules are worth inside loops and under vmap: `repeat`, an ensemble, per-example gradients.

    python -m benchmarks.studies.loops            a few minutes; writes results/loops.json, which the report then shows
    python -m benchmarks.studies.loops --quick    one round, printed only

A training step of eight residual blocks of two 3x3 convolutions as `repeat` (a `lax.scan`) and as `serial`; then kernel
gradients of single convolutions, of several kernels on one shared batch and of each example of a batch, by vmap. All
are compiled with the options of `fnn.train` and take turns.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

import fnn
from benchmarks.report import tables
from benchmarks.timing import rounds
from benchmarks.timing.machine import describe
from benchmarks.timing.results import RESULTS, write

BLOCKS, MEMBERS, ROUNDS = 8, 4, 7
BATCH = (32, 16, 16)
MODES = ("hand", "auto")
KERNELS = {
    "3x3, 16 to 16": (3, 16, 16),
    "3x3, 64 to 64": (3, 64, 64),
    "1x1, 64 to 64": (1, 64, 64),
    "5x5, 1 to 6": (5, 1, 6),
}
Program = tuple[Callable, tuple]


def blocks(kind: str, image: tuple[int, ...] = (*BATCH, 64)) -> Program:
    """Loss and gradients of residual blocks as "repeat" or "serial"."""
    features = image[-1]
    body = fnn.serial(fnn.conv(features, 3, padding=1), fnn.relu(), fnn.conv(features, 3, padding=1))
    block = fnn.residual(body, after=fnn.relu())
    model = fnn.repeat(block, BLOCKS) if kind == "repeat" else fnn.serial(*[block] * BLOCKS)
    x = jax.random.normal(jax.random.key(0), image)
    params, state = model.init(jax.random.key(1), x)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return (model.apply(params, state, x, train=True)[0] ** 2).mean()

    return jax.value_and_grad(loss), (params, x)


def kernels(kind: str, kernel: tuple[int, int, int], batch: tuple[int, ...] = BATCH) -> Program:
    """Kernel gradients of an "ensemble" (several kernels, one batch), or "per example" (one kernel, each example)."""
    window, c, k = kernel
    x = jax.random.normal(jax.random.key(0), (*batch, c))
    w = jax.random.normal(jax.random.key(1), (MEMBERS, window, window, c, k))

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return (fnn.ops.conv(x, w, padding=window // 2) ** 2).sum()

    if kind == "ensemble":
        return jax.vmap(jax.grad(loss), (0, None)), (w, x)
    return jax.vmap(jax.grad(loss), (None, 0)), (w[0], x[:, None])


SUBJECTS: dict[str, dict[str, Callable[[], Program]]] = {
    f"{BLOCKS} residual blocks": {kind: partial(blocks, kind) for kind in ("repeat", "serial")},
    **{
        f"{kind}, {name}": {"": partial(kernels, kind, kernel)}
        for kind in ("ensemble", "per example")
        for name, kernel in KERNELS.items()
    },
}


def compiled(program: Program, mode: str) -> Callable[[], Any]:
    """The program in this mode, ready to run."""
    function, arguments = program
    with fnn.gradients(mode):
        lowered = jax.jit(function, compiler_options=fnn.train.compiler_options() or None).lower(*arguments)
    run = lowered.compile()
    return lambda: jax.block_until_ready(run(*arguments))


def seconds(run: Callable[[], Any]) -> float:
    """Of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(programs: dict[str, Callable[[], Any]], most_rounds: int = ROUNDS) -> dict[str, dict]:
    """Statistics by name; the first is the reference. Each runs once before."""
    first = {name: seconds(run) for name, run in programs.items()}
    first = {name: took if took > rounds.SLOW_SECONDS else seconds(programs[name]) for name, took in first.items()}
    steps = {name: rounds.steps_of_turn(took) for name, took in first.items()}
    turns = rounds.turns_of({name: first[name] * steps[name] for name in steps}, rounds=most_rounds)

    def turn(name: str) -> float:
        return sum(seconds(programs[name]) for _ in range(steps[name])) / steps[name]

    reference = next(iter(programs))
    return rounds.statistics(rounds.take_turns(rounds.plan(turns, reference), turn), reference)


def row(name: str, most_rounds: int = ROUNDS) -> dict[str, Any]:
    """One subject: milliseconds by kind and mode, and ratios to the first kind by hand."""
    programs = {
        f"{kind}, {mode}".removeprefix(", "): compiled(make(), mode)
        for kind, make in SUBJECTS[name].items()
        for mode in MODES
    }
    found = measure(programs, most_rounds)
    return {"name": name, "programs": {k: {n: v[n] for n in ("seconds", "ratio")} for k, v in found.items()}}


def markdown(report: dict[str, Any]) -> str:
    """One line a program: milliseconds, and its time over the first of its subject, which is by hand."""
    lines = [
        [row["name"], name, tables.number(1e3 * found["seconds"]["median"]), tables.number(found["ratio"]["median"])]
        for row in report["rows"]
        for name, found in row["programs"].items()
    ]
    about = (
        f"Batches of {'x'.join(map(str, BATCH))}, float32. An ensemble has {MEMBERS} kernels and one shared batch. "
        "Ratios are to the first line of each subject, whose gradients are by hand: above 1 that one is faster."
    )
    return about + "\n\n" + tables.table(["subject", "program", "ms", "times the first"], lines) + "\n"


def main(words: list[str]) -> None:
    """Measure, print, and write unless --quick is among the words."""
    quick = "--quick" in words
    report = {"machine": describe(), "rows": [row(name, 1 if quick else ROUNDS) for name in SUBJECTS]}
    print(markdown(report))
    if not quick:
        write(RESULTS / "loops.json", report)


if __name__ == "__main__":
    main(sys.argv[1:])
