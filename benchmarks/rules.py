"""Hand-written against automatic gradients, operation by operation.

    python -m benchmarks.rules            about ten minutes; writes results/rules.json and results/rules.md
    python -m benchmarks.rules conv pool  only the rows whose name has one of these words, without writing

Each row times one jitted function that returns the output and the gradients of all its arguments. The two programs
get the same arguments, must agree in every gradient before they are timed, and take turns; above 1 means that the
hand-written rule is faster.
"""

import json
import statistics
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from benchmarks.machine import RESULTS, describe
from fnn import ops

ROUNDS = 25
TOLERANCE = 1e-3  # of the largest entry: both sums run over up to a million terms in float32


def array(*shape, seed=0):
    """Normal numbers, the same each time."""
    return jax.random.normal(jax.random.fold_in(jax.random.key(seed), sum(shape)), shape)


def conv(x, w, op=ops.conv, **options):
    """A convolution row: x and kernel."""
    return partial(op, **options), (array(*x), array(*w))


def plain(f, *shapes):
    """A row whose arguments are all normal numbers."""
    return f, tuple(array(*shape) for shape in shapes)


def norm(f, *shape):
    """A normalisation row: x, scale and offset."""
    return f, (array(*shape), array(shape[-1]), array(shape[-1]))


def rows():
    """The operations, shapes mostly from ResNet, LeNet, MobileNet, ResNeXt and ViT."""
    image = (8, 56, 56, 64)
    labels = jnp.arange(1024) % 1000
    return {
        "dense 128x1024 to 1024": plain(ops.dense, (128, 1024), (1024, 1024), (1024,)),
        "conv 5x5, 64x32x32x1 to 6": conv((64, 32, 32, 1), (5, 5, 1, 6)),
        "conv 5x5, 64x14x14x6 to 16": conv((64, 14, 14, 6), (5, 5, 6, 16)),
        "conv 3x3, 128x32x32x16 to 16": conv((128, 32, 32, 16), (3, 3, 16, 16), padding=1),
        "conv 3x3, 8x56x56x64 to 64": conv(image, (3, 3, 64, 64), padding=1),
        "conv 3x3, 8x28x28x128 to 128": conv((8, 28, 28, 128), (3, 3, 128, 128), padding=1),
        "conv 3x3 stride 2, 128x32x32x16 to 32": conv((128, 32, 32, 16), (3, 3, 16, 32), padding=1, stride=2),
        "conv 7x7 stride 2, 4x224x224x3 to 64": conv((4, 224, 224, 3), (7, 7, 3, 64), padding=3, stride=2),
        "conv 1x1, 8x56x56x64 to 256": conv(image, (1, 1, 64, 256)),
        "conv patches 16x16, 8x224x224x3 to 192": conv((8, 224, 224, 3), (16, 16, 3, 192), stride=16),
        "conv 3x3 groups 4, 8x28x28x128": conv((8, 28, 28, 128), (3, 3, 32, 128), padding=1, groups=4),
        "conv 3x3 groups 32, 8x28x28x128": conv((8, 28, 28, 128), (3, 3, 4, 128), padding=1, groups=32),
        "conv depthwise 3x3, 8x56x56x96": conv((8, 56, 56, 96), (3, 3, 1, 96), padding=1, groups=96),
        "conv depthwise 3x3 stride 2, 8x56x56x96": conv((8, 56, 56, 96), (3, 3, 1, 96), padding=1, groups=96, stride=2),
        "conv transposed 4x4 stride 2, 8x28x28x64 to 32": conv(
            (8, 28, 28, 64), (4, 4, 64, 32), ops.conv_transpose, stride=2, padding=1
        ),
        "conv 1-D 5, 16x256x32 to 64": conv((16, 256, 32), (5, 32, 64), padding="SAME"),
        "conv 3-D 3x3x3, 2x16x32x32x8 to 16": conv((2, 16, 32, 32, 8), (3, 3, 3, 8, 16), padding=1),
        "conv 3x3 reflect, 8x56x56x64 to 64": conv(image, (3, 3, 64, 64), padding="REFLECT"),
        "max pool 2x2, 128x32x32x16": plain(partial(ops.max_pool, window=2), (128, 32, 32, 16)),
        "max pool 3x3 stride 2, 8x112x112x64": plain(
            partial(ops.max_pool, window=3, stride=2, padding=1), (8, 112, 112, 64)
        ),
        "avg pool 2x2, 128x32x32x16": plain(partial(ops.avg_pool, window=2), (128, 32, 32, 16)),
        "avg pool 3x3 stride 2, 8x112x112x64": plain(
            partial(ops.avg_pool, window=3, stride=2, padding=1), (8, 112, 112, 64)
        ),
        "global max pool, 64x14x14x256": plain(ops.global_max_pool, (64, 14, 14, 256)),
        "global avg pool, 64x14x14x256": plain(ops.global_avg_pool, (64, 14, 14, 256)),
        "adaptive avg pool to 7, 64x14x14x256": plain(partial(ops.adaptive_avg_pool, output_size=7), (64, 14, 14, 256)),
        "batch norm, 128x32x32x16": norm(lambda *a: ops.batch_norm(*a)[0], 128, 32, 32, 16),
        "batch norm evaluation, 128x32x32x16": (
            ops.batch_norm_inference,
            (array(128, 32, 32, 16), array(16), array(16), array(16), jnp.ones(16)),
        ),
        "layer norm, 32x196x384": norm(ops.layer_norm, 32, 196, 384),
        "group norm, 8x28x28x128 in 32": norm(partial(ops.group_norm, groups=32), 8, 28, 28, 128),
        **{
            f"{f.__name__}, 128x32x32x16": plain(f, (128, 32, 32, 16))
            for f in (
                ops.relu,
                ops.leaky_relu,
                ops.sigmoid,
                ops.tanh,
                ops.gelu,
                ops.silu,
                ops.elu,
                ops.softplus,
            )
        },
        "softmax, 512x1000": plain(ops.softmax, (512, 1000)),
        "log softmax, 512x1000": plain(ops.log_softmax, (512, 1000)),
        "dropout, 128x32x32x16": plain(lambda x: ops.dropout(x, jax.random.key(0), 0.5), (128, 32, 32, 16)),
        "softmax cross-entropy, 1024x1000": plain(lambda x: ops.softmax_cross_entropy(x, labels), (1024, 1000)),
        "sigmoid binary cross-entropy, 1024x1000": plain(
            lambda x: ops.sigmoid_binary_cross_entropy(x, jnp.ones_like(x)), (1024, 1000)
        ),
        "squared error, 1024x1000": plain(ops.squared_error, (1024, 1000), (1024, 1000)),
        "multiclass hinge, 1024x1000": plain(lambda x: ops.hinge(x, labels), (1024, 1000)),
    }


def compile_both(f, args):
    """The two compiled programs (args, dy) -> (y, gradients)."""
    dy = array(*jax.eval_shape(f, *args).shape, seed=1)

    def run(args, dy):
        y, pull = jax.vjp(f, *args)
        return y, pull(dy)

    programs = {}
    for mode in ("hand", "auto"):
        with fnn.gradients(mode):
            programs[mode] = jax.jit(lambda args, dy: run(args, dy)).lower(args, dy).compile()
    return programs, (args, dy)


def require_equal(name, hand, auto):
    """Stop unless both programs computed the same."""
    for a, b in zip(jax.tree.leaves(hand), jax.tree.leaves(auto), strict=True):
        error = float(jnp.abs(a - b).max()) / max(float(jnp.abs(b).max()), 1e-30)
        if not error < TOLERANCE:
            raise SystemExit(f"{name}: hand and auto differ by {error:.1e} of the largest entry; nothing was timed")


def measure(name, f, args):
    """One row: medians in ms, the median ratio with its quartiles, and temporary memory in MiB."""
    programs, inputs = compile_both(f, args)
    require_equal(name, *(programs[mode](*inputs) for mode in ("hand", "auto")))
    seconds = {"hand": [], "auto": []}
    for i in range(ROUNDS):
        for mode in ("hand", "auto") if i % 2 else ("auto", "hand"):
            start = time.perf_counter()
            jax.block_until_ready(programs[mode](*inputs))
            seconds[mode].append(time.perf_counter() - start)
    ratios = np.divide(seconds["auto"], seconds["hand"])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return {
        "operation": name,
        **{f"{mode}_ms": 1e3 * statistics.median(seconds[mode]) for mode in seconds},
        "ratio": float(middle),
        "ratio_quartiles": [float(low), float(high)],
        **{f"{mode}_MiB": programs[mode].memory_analysis().temp_size_in_bytes / 2**20 for mode in programs},
    }


def markdown(report):
    """The report as a table."""
    machine = report["machine"]
    head = [
        f"Output and all gradients of one operation, float32, {machine['cores']} cores ({machine['processor']}), "
        f"JAX {machine['jax']}; medians of {ROUNDS} interleaved rounds. Ratio: automatic time over hand-written time "
        "(quartiles), above 1 means that the hand-written rule is faster. Temporary memory in MiB.",
        "",
        "| operation | hand ms | auto ms | ratio | memory hand | auto |",
        "|---|---|---|---|---|---|",
    ]
    lines = [
        f"| {r['operation']} | {r['hand_ms']:.2f} | {r['auto_ms']:.2f} | **{r['ratio']:.2f}** "
        f"({r['ratio_quartiles'][0]:.2f} to {r['ratio_quartiles'][1]:.2f}) "
        f"| {r['hand_MiB']:.1f} | {r['auto_MiB']:.1f} |"
        for r in report["rows"]
    ]
    return "\n".join([*head, *lines, ""])


def main(words):
    """Measure the rows whose name contains one of the words, or all rows."""
    chosen = {name: row for name, row in rows().items() if not words or any(word in name for word in words)}
    report = {"machine": describe(), "rows": []}
    for name, (f, args) in chosen.items():
        row = measure(name, f, args)
        report["rows"].append(row)
        print(f"{name:50s} hand {row['hand_ms']:8.2f} ms  auto {row['auto_ms']:8.2f} ms  ratio {row['ratio']:6.2f}")
    if not words:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "rules.json").write_text(json.dumps(report, indent=1) + "\n")
        (RESULTS / "rules.md").write_text(markdown(report))


if __name__ == "__main__":
    main(sys.argv[1:])
