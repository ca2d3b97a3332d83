"""What each operation keeps in memory between its forward and its backward pass, by hand and automatic.

    python -m benchmarks.studies.residuals        seconds, nothing is computed; writes results/residuals.json

Counted are the arrays that `jax.vjp` returns inside its pullback, each once. Arguments and the output are told apart
from the rest: in a network they mostly live anyway, as the output of the layer before and the input of the next, so
what an operation really adds is what it saves beyond them. XLA may still share or recompute some of it in one program;
the temporary memory of compiled programs stands in the tables of times.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from benchmarks.operations.zoo import OPERATIONS, STEM, Operation
from benchmarks.timing.machine import describe
from benchmarks.timing.results import RESULTS, write
from fnn import ops
from fnn.core.program import bytes_of, depends

POINTWISE = (
    "selu",
    "celu",
    "mish",
    "quick_gelu",
    "softsign",
    "relu6",
    "hard_tanh",
    "hard_sigmoid",
    "hard_swish",
    "glu",
)
# Registered rules that nobody times.
MORE = {
    "pad reflect, 8x56x56x64": Operation("pad", {"x": (8, 56, 56, 64)}, {"pairs": ((1, 1), (1, 1)), "mode": "REFLECT"}),
    "hinge, 1024x1000": Operation("hinge", {"x": (1024, 1000)}, fixed={"labels": np.ones((1024, 1000), np.float32)}),
    "l2 penalty, 1024x1024": Operation("l2_penalty", {"params": (1024, 1024)}),
    "rms norm, 32x196x384": Operation("rms_norm", {"x": (32, 196, 384), "scale": (384,)}),
    "local response norm, 8x28x28x96": Operation("local_response_norm", {"x": (8, 28, 28, 96)}),
    "rotary, 8x128x8x64": Operation("rotary", {"x": (8, 128, 8, 64)}),
    "embed, 64x128 of 1000x256": Operation(
        "embed", {"table": (1000, 256)}, fixed={"indices": np.zeros((64, 128), np.int32)}
    ),
    "prelu, 128x32x32x16": Operation("prelu", {"x": STEM, "slope": (16,)}),
    "maxout, 128x32x32x16 in 2": Operation("maxout", {"x": STEM}, {"pieces": 2}),
    **{f"{name}, 128x32x32x16": Operation(name, {"x": STEM}) for name in POINTWISE},
    **{
        f"{name.replace('_', ' ')}, 1024x1000": Operation(name, {"x": (1024, 1000), "targets": (1024, 1000)})
        for name in ("absolute_error", "huber", "log_cosh", "poisson")
    },
}


def saved(f: Callable, arguments: tuple, fixed: tuple = ()) -> dict[str, int]:
    """Bytes that `jax.vjp(f, *arguments)` saves, by what they are: "arguments", "output" and "more".

    Args:
      f: `(*arguments, *fixed) -> output`.
      arguments: arrays or `jax.ShapeDtypeStruct`s to differentiate by.
      fixed: further arguments that get no gradient; saved, they count as arguments too.
    """

    def program(arguments: tuple, fixed: tuple) -> tuple:
        return jax.vjp(lambda *given: f(*given, *fixed), *arguments)

    traced, (output, _) = jax.make_jaxpr(program, return_shape=True)(arguments, fixed)
    jaxpr, outputs = traced.jaxpr, len(jax.tree.leaves(output))
    y, kept = jaxpr.outvars[:outputs], jaxpr.outvars[outputs:]
    varies = depends(jaxpr, [True] * len(jaxpr.invars))[outputs:]
    counts = {"arguments": 0, "output": 0, "more": 0}
    # A value that depends on no argument, such as the zeros of relu, is part of the program and saved by no call.
    for v in {id(v): v for v, counted in zip(kept, varies, strict=True) if counted}.values():
        kind = "arguments" if v in jaxpr.invars else "output" if v in y else "more"
        counts[kind] += bytes_of(v)
    return counts


def row(name: str, operation: Operation) -> dict[str, Any]:
    """What an operation saves in both modes."""
    function = partial(getattr(ops, operation.op), **operation.options)
    function = (lambda table, indices: ops.embed(indices, table)) if operation.op == "embed" else function
    arguments = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in operation.shapes.values())
    fixed = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in operation.fixed.values())
    found = {}
    for mode in ("hand", "auto"):
        with fnn.gradients(mode):
            found[mode] = saved(function, arguments, fixed)
    return {"operation": name, **found}


def rows() -> list[dict[str, Any]]:
    """All operations that are timed, and the rules that are not."""
    return [row(name, operation) for name, operation in {**OPERATIONS, **MORE}.items()]


def markdown(report: dict[str, Any]) -> str:
    """The report as a table, in MiB; where a rule keeps more than automatic, the number is marked."""

    def sizes(row: dict[str, Any], *kinds: str) -> tuple[str, str]:
        hand, auto = (sum(row[mode][kind] for kind in kinds) for mode in ("hand", "auto"))
        texts = f"{hand / 2**20:.2f}", f"{auto / 2**20:.2f}"
        return (f"**{texts[0]}**", texts[1]) if hand > auto else texts

    def kept(counts: dict[str, int]) -> str:
        return ", ".join(kind for kind, size in counts.items() if size) or "nothing"

    def line(row: dict[str, Any]) -> str:
        cells = *sizes(row, "more"), *sizes(row, *row["hand"]), kept(row["hand"]), kept(row["auto"])
        return f"| {row['operation']} | {' | '.join(cells)} |"

    return "\n".join(
        [
            "MiB kept between the forward and the backward pass of one operation, float32: beyond its arguments and "
            "its output, which mostly live anyway, and in all. Bold: more by hand than automatic.",
            "",
            "| operation | beyond, by hand | automatic | in all, by hand | automatic | kept by hand | automatic |",
            "|---|---|---|---|---|---|---|",
            *map(line, report["rows"]),
            "",
        ]
    )


def main(words: list[str]) -> None:
    """Count, print and write; with words, print the operations that contain one of them."""
    chosen = [row for row in rows() if not words or any(word in row["operation"] for word in words)]
    report = {"machine": describe(), "rows": chosen}
    print(markdown(report))
    if not words:
        write(RESULTS / "residuals.json", report)


if __name__ == "__main__":
    main(sys.argv[1:])
