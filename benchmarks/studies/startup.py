"""What fnn costs before and beside the computation: import, init, summary, eager calls, and compiling a deep net.

python -m benchmarks.studies.startup          about two minutes; writes results/startup.json
python -m benchmarks.studies.startup --quick  three rounds of everything, without writing
"""

import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.timing.machine import describe
from benchmarks.timing.results import RESULTS, write

ROUNDS = 15
EAGER_CALLS = 200  # in a row, so that a round takes milliseconds, not the microseconds of one call
DEPTHS = (8, 64)
IMPORT = """
import time
start = time.perf_counter()
import jax
after_jax = time.perf_counter()
{fnn}
print(after_jax - start, time.perf_counter() - after_jax)
"""
DEEP = """
import time
import jax, fnn
from benchmarks.studies.startup import resnet152
model, image = resnet152(), (1, 224, 224, 3)
fnn.summary  # the first use imports it
before = time.perf_counter()
jax.block_until_ready(model.init(jax.random.key(0), image))
initialised = time.perf_counter()
fnn.summary(model, image)
print(initialised - before, time.perf_counter() - initialised)
"""


def run(program):
    """The numbers that a fresh Python process prints."""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return [float(number) for number in done.stdout.split()]


def imports(rounds):
    """Seconds of `import jax`, and what `import fnn` adds to it, in fresh processes by turns."""
    run(IMPORT.format(fnn="import fnn"))  # writes the byte code
    alone, both = [], []
    for _ in range(rounds):
        alone.append(run(IMPORT.format(fnn=""))[0])
        both.append(run(IMPORT.format(fnn="import fnn")))
    over = [sum(pair) - jax for jax, pair in zip(alone, both, strict=True)]
    return {
        "jax_seconds": statistics.median(alone),
        "fnn_after_jax_seconds": statistics.median(fnn for _, fnn in both),
        "fnn_over_jax_seconds": statistics.median(over),
    }


def deep(rounds):
    """Seconds of init and summary of a network like ResNet-152 (510 layers)."""
    rows = [run(DEEP) for _ in range(rounds)]
    init, summary = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"init_seconds": init, "summary_seconds": summary}


def small_mlps():
    """{library: a call without jit}: the same MLP 32-64-64-10 with ReLU, on a batch of 8, with the same weights."""
    import jax
    from jax.example_libraries import stax

    import fnn

    model = fnn.serial(fnn.dense(64), fnn.relu(), fnn.dense(64), fnn.relu(), fnn.dense(10))
    x = jax.random.normal(jax.random.key(1), (8, 32))
    params, state = model.init(jax.random.key(0), x)
    _, apply = stax.serial(stax.Dense(64), stax.Relu, stax.Dense(64), stax.Relu, stax.Dense(10))
    theirs = [(p["kernel"], p["bias"]) for p in params.values()]
    theirs = [theirs[0], (), theirs[1], (), theirs[2]]
    return {"fnn": lambda: model.apply(params, state, x)[0], "stax": lambda: apply(theirs, x)}


def eager(rounds, calls=EAGER_CALLS):
    """Microseconds of one call of a small MLP outside jit, and stax's time over fnn's."""
    programs = small_mlps()
    ours, theirs = (np.asarray(program()) for program in programs.values())
    if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5):
        raise SystemExit("the two MLPs differ; nothing was timed")
    times = {name: [] for name in programs}
    for i in range(rounds + 1):
        for name in sorted(programs, reverse=bool(i % 2)):
            start = time.perf_counter()
            for _ in range(calls):
                y = programs[name]()
            y.block_until_ready()
            times[name].append(1e6 * (time.perf_counter() - start) / calls)
    times = {name: values[1:] for name, values in times.items()}  # the first round warms up
    low, middle, high = np.percentile(np.divide(times["stax"], times["fnn"]), [25, 50, 75])
    return {
        **{f"{name}_microseconds": statistics.median(values) for name, values in times.items()},
        "ratio": float(middle),
        "ratio_quartiles": [float(low), float(high)],
    }


def blocks_program(depth):
    """A jitted loss and gradient of `repeat` of residual blocks (convolution, batch norm, ReLU), and its arguments."""
    import jax

    import fnn

    def half():
        return fnn.conv(16, 3, padding=1, bias=False), fnn.batch_norm()

    block = fnn.residual(fnn.serial(*half(), fnn.relu(), *half()), after=fnn.relu())
    model = fnn.repeat(block, depth)
    x = jax.ShapeDtypeStruct((8, 16, 16, 16), "float32")
    params, state = jax.eval_shape(lambda key: model.init(key, x), jax.random.key(0))

    def loss(params, state, x):
        y, state = model.apply(params, state, x, train=True)
        return (y * y).mean(), state

    return jax.jit(jax.value_and_grad(loss, has_aux=True)), (params, state, x)


def compiling(rounds, depths=DEPTHS):
    """Seconds to trace and compile a training gradient at each depth, and the deepest over the shallowest."""
    times = {depth: [] for depth in depths}
    for i in range(rounds + 1):
        for depth in sorted(depths, reverse=bool(i % 2)):
            program, arguments = blocks_program(depth)
            start = time.perf_counter()
            program.lower(*arguments).compile()
            times[depth].append(time.perf_counter() - start)
    times = {depth: values[1:] for depth, values in times.items()}  # the first compilation starts the compiler
    low, middle, high = np.percentile(np.divide(times[max(depths)], times[min(depths)]), [25, 50, 75])
    return {
        **{f"{depth}_blocks_seconds": statistics.median(values) for depth, values in times.items()},
        "ratio": float(middle),
        "ratio_quartiles": [float(low), float(high)],
    }


def resnet152():
    """Bottleneck residual blocks, 3 + 8 + 36 + 3 of them (He et al., 2016, table 1)."""
    import fnn

    def conv_norm(features, window, stride=1):
        return fnn.conv(features, window, stride=stride, padding=window // 2, bias=False), fnn.batch_norm()

    def block(features, stride, project):
        body = fnn.serial(
            *conv_norm(features, 1),
            fnn.relu(),
            *conv_norm(features, 3, stride),
            fnn.relu(),
            *conv_norm(4 * features, 1),
        )
        shortcut = fnn.serial(*conv_norm(4 * features, 1, stride)) if project else None
        return fnn.residual(body, shortcut, after=fnn.relu())

    blocks = [
        block(features, 2 if stage > 0 and i == 0 else 1, i == 0)
        for stage, (features, count) in enumerate([(64, 3), (128, 8), (256, 36), (512, 3)])
        for i in range(count)
    ]
    stem = (*conv_norm(64, 7, 2), fnn.relu(), fnn.max_pool(3, stride=2, padding=1))
    return fnn.serial(*stem, *blocks, fnn.global_avg_pool(), fnn.dense(1000))


def markdown(report):
    """The report as a table: what, measured, beside it what it is compared with, and the ratio."""
    imported, eager, compiled, deep = (report[name] for name in ("import", "eager", "repeat", "deep"))
    depths = sorted(int(name.split("_")[0]) for name in compiled if name.endswith("_blocks_seconds"))
    shallow, deepest = (compiled[f"{depth}_blocks_seconds"] for depth in (depths[0], depths[-1]))
    return "\n".join(
        [
            "| | measured | beside | ratio |",
            "|---|---|---|---|",
            f"| `import fnn` on top of `import jax` | {1e3 * imported['fnn_over_jax_seconds']:.0f} ms "
            f"| `import jax` {1e3 * imported['jax_seconds']:.0f} ms | |",
            f"| one call of a small MLP outside jit | {eager['fnn_microseconds']:.0f} µs "
            f"| stax {eager['stax_microseconds']:.0f} µs | {eager['ratio']:.2f} |",
            f"| compiling the gradient of `repeat` of {depths[-1]} residual blocks | {deepest:.2f} s "
            f"| of {depths[0]} blocks {shallow:.2f} s | {compiled['ratio']:.2f} |",
            f"| init of ResNet-152 | {deep['init_seconds']:.2f} s | its summary {deep['summary_seconds']:.2f} s | |",
            "",
        ]
    )


def main(words):
    """Measure everything and write it, unless --quick is among the words."""
    quick = "--quick" in words
    rounds = 3 if quick else ROUNDS
    report = {"machine": describe(), "import": imports(rounds), "eager": eager(rounds)}
    report |= {"repeat": compiling(min(rounds, 5)), "deep": deep(min(rounds, 5))}
    print(markdown(report))
    if not quick:
        write(RESULTS / "startup.json", report)


if __name__ == "__main__":
    main(sys.argv[1:])
