"""Each convolution of a network in all implementations, beside the speed of a matrix product: where a step's floor is.

    python -m benchmarks.studies.layers            some minutes; writes results/layers.json, which the report then shows
    python -m benchmarks.studies.layers resnet20   prints one network

Every product (output, input gradient, kernel gradient) is compiled alone, with the options of the training step, and
timed in rounds in which all implementations take turns. Sums over a network leave out the gradient of its input, which
no training step computes. The floor is the number of multiply-adds of the textbook formula at the speed of a large
matrix product; only an implementation with fewer multiply-adds (Winograd's) can pass below it. Alone is not within a
step: there XLA fuses what surrounds a product, and other memory is at hand, so that the fastest alone need not be the
fastest there. The tables follow whole steps where the two differ: `benchmarks.studies.ablation` has them.
"""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import fnn.ops.convolution.tables as convolution_tables
from benchmarks.networks import nodes
from benchmarks.networks.zoo import NETWORKS, asked
from benchmarks.report import tables
from benchmarks.timing.machine import Copying, copied, describe
from benchmarks.timing.results import RESULTS, write
from fnn.ops.convolution.spec import ConvSpec
from fnn.train import compiler_options

NAMES = ("lenet5", "mnist_cnn", "convnetjs", "resnet20", "resnet18", "vgg", "mobilenet", "resnext")
ROUNDS = 9
HOPELESS_SECONDS = 0.5  # an implementation that takes this long once is not timed again
SQUARE = 1024  # of the matrix product that stands for the processor's speed
TABLES = {
    "forward": convolution_tables.FORWARD,
    "input_gradient": convolution_tables.INPUT_GRADIENT,
    "kernel_gradient": convolution_tables.KERNEL_GRADIENT,
}
Shape = tuple[int, ...]
Convolution = tuple[Shape, Shape, int, int, int]  # of x and of the kernel; stride, padding, groups


def convolutions(name: str) -> dict[Convolution, int]:
    """The different convolutions of a network in order, and how often each occurs.

    >>> list(convolutions("lenet5"))[1]
    ((128, 14, 14, 6), (5, 5, 6, 16), 1, 0, 1)
    """
    found: Counter = Counter()
    for place in nodes.leaves(NETWORKS[name].places()):
        if isinstance(place.node, nodes.Conv):
            node, c = place.node, place.shape[-1]
            kernel = (node.window, node.window, c // node.groups, node.features)
            found[place.shape, kernel, node.stride, node.padding, node.groups] += 1
    return dict(found)


def spec_of(convolution: Convolution) -> ConvSpec:
    """How fnn describes it."""
    shape, _, stride, padding, groups = convolution
    return ConvSpec(shape[1:-1], (stride,) * 2, ((padding,) * 2,) * 2, (1, 1), groups)


def choices(convolution: Convolution) -> dict[str, str]:
    """The implementation that the tables choose for each product.

    >>> choices(((8, 14, 14, 32), (3, 3, 1, 32), 1, 1, 32))["forward"]
    'shifted'
    """
    spec, found = spec_of(convolution), {}

    def choose(x: jax.Array, w: jax.Array) -> None:
        dy = convolution_tables.forward(spec, x, w)
        for product, table in TABLES.items():
            found[product] = table.chosen(spec, dy if product == "input_gradient" else x, w).name

    jax.eval_shape(choose, *(jax.ShapeDtypeStruct(shape, "float32") for shape in convolution[:2]))
    return found


def program(f: Callable[..., jax.Array], *given: jax.Array) -> Callable[[], jax.Array]:
    """f compiled for `given`; each call returns its result in the memory of the result before.

    A product inside a training step writes to memory that the step has had in hand before. One that runs alone would
    write to fresh memory each time, and wait for the operating system longer than it computes.
    """
    into = jax.jit(
        lambda old, *given: f(*given), donate_argnums=0, keep_unused=True, compiler_options=compiler_options()
    )
    like = jax.eval_shape(f, *given)
    compiled, result = into.lower(like, *given).compile(), jnp.zeros(like.shape, like.dtype)

    def run() -> jax.Array:
        nonlocal result
        result = compiled(result, *given)
        return result

    return run


def seconds(programs: dict[str, Callable[[], jax.Array]]) -> dict[str, float]:
    """Medians of all programs, which take turns; of a hopeless one, its only time."""
    times: dict[str, list[float]] = {}
    for i in range(ROUNDS + 1):  # in the first, memory is touched for the first time
        for name, program in programs.items():
            if i and len(times[name]) == 1 and times[name][0] > HOPELESS_SECONDS:
                continue
            start = time.perf_counter()
            jax.block_until_ready(program())
            times.setdefault(name, []).append(time.perf_counter() - start)
    return {name: float(np.median(ran[1:] or ran)) for name, ran in times.items()}


def products(convolution: Convolution) -> Iterator[tuple[str, str, dict[str, float]]]:
    """For each of the three products its name, the implementation that the tables choose, and the seconds of all."""
    (shape, kernel, *_), spec, chosen = convolution, spec_of(convolution), choices(convolution)
    random = np.random.default_rng(0)
    x, w = (jnp.asarray(random.standard_normal(s, np.float32)) for s in (shape, kernel))
    dy = jnp.ones(jax.eval_shape(lambda x, w: convolution_tables.forward(spec, x, w), x, w).shape)
    arguments = {"forward": (x, w), "input_gradient": (dy, w), "kernel_gradient": (x, dy)}
    for product, given in arguments.items():
        like = {"w": w} if product == "kernel_gradient" else {}
        rows = [row for row in TABLES[product].rows if row.fits(spec, given[0], w)]
        programs = {row.name: program(partial(row.run, spec, **like), *given) for row in rows}
        yield product, chosen[product], seconds(programs)


def speed() -> float:
    """Multiply-adds a second of a large matrix product."""
    product = program(jnp.matmul, *[jnp.ones((SQUARE, SQUARE))] * 2)
    return SQUARE**3 / seconds({"matmul": product})["matmul"]


def rows(name: str, say: Callable[[str], None] = print) -> Iterator[dict]:
    """One row a product of a convolution of a network."""
    for i, (convolution, count) in enumerate(convolutions(name).items()):
        shape, kernel, stride, padding, _ = convolution
        places = math.prod((n + 2 * padding - kernel[0]) // stride + 1 for n in shape[1:-1])
        work = shape[0] * places * math.prod(kernel)
        text = f"{'x'.join(map(str, shape))}, {'x'.join(map(str, kernel))}" + (
            f" stride {stride}" if stride > 1 else ""
        )
        for product, chosen, times in products(convolution):
            say(f"  {text} {product}: {chosen} of { ({k: round(1e3 * v, 2) for k, v in times.items()}) }")
            needed = count - (i == 0 and product == "input_gradient")
            yield {
                "network": name,
                "convolution": text,
                "product": product,
                "count": needed,
                "multiply_adds": work,
                "chosen": chosen,
                "seconds": times,
            }


def sums(report: dict, name: str) -> dict[str, float]:
    """Seconds of a step's convolutions: as chosen, each at its fastest, and at the matrix product's speed."""
    mine = [row for row in report["rows"] if row["network"] == name]
    return {
        "chosen": sum(row["count"] * row["seconds"][row["chosen"]] for row in mine),
        "fastest": sum(row["count"] * min(row["seconds"].values()) for row in mine),
        "floor": sum(row["count"] * row["multiply_adds"] for row in mine) / report["multiply_adds_a_second"],
    }


def _cell(row: dict) -> str:
    """Milliseconds of the chosen implementation, of the fastest and of "direct"."""
    times = row["seconds"]
    names = dict.fromkeys([row["chosen"], min(times, key=times.get), "direct"])
    bold = {row["chosen"]: "**"}
    return ", ".join(
        f"{bold.get(n, '')}{n}{bold.get(n, '')} {tables.number(1e3 * times[n])}" for n in names if n in times
    )


def markdown(report: dict) -> str:
    """The sums, and a table of all convolutions."""
    names = list(dict.fromkeys(row["network"] for row in report["rows"]))
    head = ["network", "convolutions as chosen, ms", "each at its fastest, ms", "at the speed of a matrix product, ms"]
    totals = [
        [NETWORKS[name].title, *(f"{1e3 * sums(report, name)[kind]:.1f}" for kind in ("chosen", "fastest", "floor"))]
        for name in names
    ]
    detail: dict[tuple[str, str], dict[str, str]] = {}
    for row in report["rows"]:
        detail.setdefault((row["network"], row["convolution"]), {})[row["product"]] = _cell(row)
    about = (
        f"Every convolution alone, float32, results into memory in use, medians of {ROUNDS} rounds; a matrix product "
        f"of {SQUARE}x{SQUARE} does {2e-9 * report['multiply_adds_a_second']:.0f} GFLOP/s on this machine. Winograd's "
        "multiplies less and may pass below that speed. Within a step XLA fuses what surrounds a product, and "
        "the fastest alone need not be the fastest there: where the two differ, the tables follow the step (above, "
        '"What each part is worth").'
    )
    if report.get("copy_gib_per_second"):
        about += f" Between products, {copied(report['copy_gib_per_second'])}."
    about += " Sums over one training step:"
    details = tables.table(
        ["network", "x, kernel", *(product.replace("_", " ") for product in TABLES)],
        [[*names, *(cells.get(product, tables.ABSENT) for product in TABLES)] for names, cells in detail.items()],
    )
    about_rows = "Milliseconds as chosen (bold), at the fastest where that is another, and of XLA's own:"
    return "\n\n".join([about, tables.table(head, totals), about_rows, details])


def main(words: list[str]) -> None:
    """Measure, print and, without words, write."""
    copying = Copying()
    report = {"machine": describe(), "multiply_adds_a_second": speed(), "rows": []}
    for name in asked(words, NAMES):
        print(NETWORKS[name].title)
        for row in rows(name):
            copying.sample()
            report["rows"].append(row)
    report["copy_gib_per_second"] = copying.found()
    print(markdown(report))
    if not words:
        write(RESULTS / "layers.json", report)


if __name__ == "__main__":
    main(sys.argv[1:])
