"""What a gradient sends between devices when the batch is sharded over eight of them, by hand and automatic.

    python -m benchmarks.studies.sharding         a minute; writes results/sharding.json

A network with every kind of convolution, batch norm and both poolings is compiled for eight host devices, under
explicit mesh axes, under automatic ones, and inside `jax.shard_map`. Counted are the collectives of the optimised
program and the bytes of their results on one device. A rule that looked across the batch (a chunk that straddles two
devices, a gathered kernel gradient) would show as further collectives, in a loop or not.
"""

import math
import re
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fnn
from benchmarks.timing.machine import describe
from benchmarks.timing.results import RESULTS, write
from fnn.ops.convolution.direct import exchange
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.convolution.tables import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT

DEVICES = 8
IMAGES = (64, 16, 16, 8)
KINDS = ("explicit", "auto", "shard_map")
MODES = ("hand", "auto")
# Shapes of x and kernel, and options. Batches are large enough for implementations that cut them into chunks.
CONVS = {
    "conv 3x3, 16 to 16": ((128, 32, 32, 16), (3, 3, 16, 16), {"padding": 1}),
    "conv 3x3, 64 to 64": ((64, 28, 28, 64), (3, 3, 64, 64), {"padding": 1}),
    "conv 5x5, 1 to 6": ((64, 32, 32, 1), (5, 5, 1, 6), {}),
    "conv 3x3 stride 2, 16 to 32": ((128, 32, 32, 16), (3, 3, 16, 32), {"padding": 1, "stride": 2}),
    "conv 1x1, 64 to 256": ((64, 28, 28, 64), (1, 1, 64, 256), {}),
    "conv patches 4x4, 3 to 64": ((64, 32, 32, 3), (4, 4, 3, 64), {"stride": 4}),
    "conv 3x3 groups 32, 128 to 128": ((64, 14, 14, 128), (3, 3, 4, 128), {"padding": 1, "groups": 32}),
    "conv depthwise 3x3, 96": ((64, 28, 28, 96), (3, 3, 1, 96), {"padding": 1, "groups": 96}),
    "conv transposed 4x4 stride 2, 64 to 32": ((64, 14, 14, 64), (4, 4, 64, 32), {"padding": 1, "stride": 2}),
}
Counts = dict[str, dict[str, int]]  # of each kind of collective: count, bytes, in_loops
_COLLECTIVE = re.compile(
    r"= (?P<result>\(.*?\)|\S+) (?P<name>all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)"
    r"(?:-start)?\("
)
_ARRAY = re.compile(r"(?P<kind>[a-z]+)(?P<bits>\d*)\w*\[(?P<sizes>[\d,]*)\]")


def collectives(hlo: str) -> Counts:
    """Collectives of an HLO program: count, bytes of their results, and how many are not in the entry computation.

    Outside the entry computation means in a loop, mostly: there they run once a turn, and count once all the same.

    >>> collectives("ENTRY %main {\\n %a = f32[3,5]{1,0} all-reduce(%b), channel_id=1\\n}")
    {'all-reduce': {'count': 1, 'bytes': 60, 'in_loops': 0}}
    """
    found: Counts = {}
    entry = False
    for line in hlo.splitlines():
        if line and not line[0].isspace():
            entry = line.startswith("ENTRY")
        match = _COLLECTIVE.search(line)
        if match:
            row = found.setdefault(match["name"], {"count": 0, "bytes": 0, "in_loops": 0})
            row["count"] += 1
            row["bytes"] += sum(map(_bytes, _ARRAY.finditer(match["result"])))
            row["in_loops"] += not entry
    return found


def _bytes(array: re.Match) -> int:
    bits = 8 if array["kind"] == "pred" else int(array["bits"])
    return math.prod(int(n) for n in array["sizes"].split(",") if n) * bits // 8


def network(axis_name: str | None) -> fnn.Layer:
    """(N, 16, 16, 8) -> (N, 10): a convolution of each kind, batch norm, both poolings and a dense layer."""
    return fnn.serial(
        plain=fnn.conv(16, 3, padding=1, bias=False),
        norm=fnn.batch_norm(axis_name=axis_name),
        act=fnn.relu(),
        few=fnn.conv(6, 5, padding=2),
        pool=fnn.max_pool(2),
        wide=fnn.conv(64, 3, padding=1),
        strided=fnn.conv(32, 3, stride=2, padding=1),
        pointwise=fnn.conv(32, 1),
        grouped=fnn.conv(32, 3, padding=1, groups=8),
        depthwise=fnn.depthwise_conv(3, padding=1),
        up=fnn.conv_transpose(16, 4, stride=2, padding=1),
        patches=fnn.conv(16, 2, stride=2),
        average=fnn.avg_pool(2),
        flat=fnn.flatten(),
        out=fnn.dense(10),
    )


def compile_network(kind: str, mode: str) -> Any:
    """The compiled loss and gradient of the network, its batch sharded in one of KINDS."""

    def gradient(axis_name: str | None) -> Callable:
        model = network(axis_name)

        def loss(params: dict, state: dict, x: jax.Array, labels: jax.Array) -> jax.Array:
            logits, _ = model.apply(params, state, x, train=True)
            return fnn.softmax_cross_entropy(logits, labels).mean()

        return jax.value_and_grad(averaged(loss, axis_name))

    params, state = jax.eval_shape(lambda key: network(None).init(key, IMAGES), jax.random.key(0))
    batch = jax.ShapeDtypeStruct(IMAGES, jnp.float32), jax.ShapeDtypeStruct(IMAGES[:1], jnp.int32)
    return compile_sharded(gradient, (params, state), batch, kind, mode)


def implementations(name: str) -> list[str]:
    """Those that compute one of the products of a convolution of CONVS; "direct" is among them."""
    images, kernel, options = CONVS[name]
    w = jax.ShapeDtypeStruct(kernel, jnp.float32)
    groups = options.get("groups", 1)
    stride, padding = (options.get(option, default) for option, default in (("stride", 1), ("padding", 0)))
    spec = ConvSpec(images[1:-1], (stride,) * 2, ((padding,) * 2,) * 2, (1, 1), groups)
    if "transposed" in name:
        w = jax.eval_shape(partial(exchange, groups), w)
    x = jax.ShapeDtypeStruct(images, jnp.float32)
    rows = [row for table in (FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT) for row in table.rows]
    return list(dict.fromkeys(row.name for row in rows if row.fits(spec, x, w)))


@cache
def compile_conv(name: str, implementation: str | None, kind: str) -> Any:
    """The compiled gradient of a convolution of CONVS by kernel and x.

    Args:
      name: a key of CONVS.
      implementation: one of `implementations(name)`, None for what the tables choose, "auto" for automatic gradients.
      kind: one of KINDS.
    """
    images, kernel, options = CONVS[name]
    op = fnn.ops.conv_transpose if "transposed" in name else fnn.ops.conv
    mode: Any = "auto" if implementation == "auto" else "hand"
    if implementation not in (None, "auto"):
        mode = {"conv_transpose" if "transposed" in name else "conv": implementation}

    def gradient(axis_name: str | None) -> Callable:
        # By x too, which is added to the loss's gradient by an inner product that costs one number to send.
        def loss(w: jax.Array, x: jax.Array) -> jax.Array:
            dx = jax.grad(lambda x: (op(x, w, **options) ** 2).sum())(x)
            return (jax.lax.stop_gradient(dx) * x).mean() + (op(x, w, **options) ** 2).mean()

        return jax.value_and_grad(averaged(loss, axis_name))

    whole, split = ((jax.ShapeDtypeStruct(shape, jnp.float32),) for shape in (kernel, images))
    return compile_sharded(gradient, whole, split, kind, mode)


def averaged(loss: Callable, axis_name: str | None) -> Callable:
    """The loss of the whole batch, from that of a device's part inside `jax.shard_map`."""
    return (lambda *args: jax.lax.pmean(loss(*args), axis_name)) if axis_name else loss


def compile_sharded(gradient: Callable, whole: tuple, split: tuple, kind: str, mode: str) -> Any:
    """Compile `gradient(axis_name)(*whole, *split)` for shapes, the batch of `split` over all devices."""
    axes = AxisType.Explicit if kind == "explicit" else AxisType.Auto
    data, everywhere = PartitionSpec("data"), PartitionSpec()
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(axes,))

    def place(tree: Any, spec: PartitionSpec) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)

    run = gradient("data" if kind == "shard_map" else None)
    if kind == "shard_map":
        specs = (*[everywhere] * len(whole), *[data] * len(split))
        run = jax.shard_map(run, in_specs=specs, out_specs=everywhere)
    with jax.set_mesh(mesh), fnn.gradients(mode):
        return jax.jit(run).lower(*place(whole, everywhere), *place(split, data)).compile()


def total(row: Counts | None, what: str) -> float:
    """A sum over the kinds of collectives; infinite for a program that does not compile."""
    return math.inf if row is None else sum(counts[what] for counts in row.values())


def rows(programs: dict[str, Callable]) -> list[dict[str, Any]]:
    """One for each of `(kind, mode) -> compiled` and each kind; None for what does not compile."""

    def count(build: Callable, kind: str, mode: str) -> Counts | None:
        try:
            return collectives(build(kind, mode).as_text())
        except Exception as error:  # a row of the report, not its end
            print(f"{kind}, {mode}: {type(error).__name__}: {error}", file=sys.stderr)
            return None

    return [
        {"program": name, "axes": kind, **{mode: count(build, kind, mode) for mode in MODES}}
        for name, build in programs.items()
        for kind in KINDS
    ]


def programs() -> dict[str, Callable]:
    """The network, each convolution, and each of its implementations against the same automatic gradient."""
    found = {"network": compile_network}
    for name in CONVS:
        for form in (None, *implementations(name)):
            label = name if form is None else f"{name}, {form}"
            found[label] = partial(_conv_program, name, form)
    return found


def _conv_program(name: str, implementation: str | None, kind: str, mode: str) -> Any:
    return compile_conv(name, "auto" if mode == "auto" else implementation, kind)


def excess(report: dict[str, Any]) -> list[str]:
    """Where hand-written gradients have a collective, or a byte, more than automatic ones."""
    return [
        f"{row['program']}, {row['axes']}: {what} {total(row.get('hand'), what)} against {total(row['auto'], what)}"
        for row in report["rows"]
        for what in ("count", "bytes", "in_loops")
        if total(row.get("hand"), what) > total(row.get("auto"), what)
    ]


def markdown(report: dict[str, Any]) -> str:
    """The report as a table."""

    def text(row: Counts | None) -> str:
        if row is None:
            return "**does not compile**"
        return ", ".join(f"{counts['count']} {name}" for name, counts in sorted(row.items())) or "none"

    def line(row: dict[str, Any]) -> str:
        hand, auto = (row.get(mode) for mode in MODES)
        sizes = [f"{total(side, 'bytes'):,}" for side in (hand, auto)]
        sizes[0] = f"**{sizes[0]}**" if total(hand, "bytes") > total(auto, "bytes") else sizes[0]
        return f"| {row['program']} | {row['axes']} | {text(hand)} | {text(auto)} | {' | '.join(sizes)} |"

    worse = excess(report)
    apart = [row for row in report["rows"] if row.get("hand") is None or row.get("hand") != row.get("auto")]
    return "\n".join(
        [
            f"Collectives in a compiled gradient whose batch is split over {DEVICES} devices, and the bytes they leave "
            f"on each. {'Worse by hand: ' + '; '.join(worse) if worse else 'None more by hand'}. The same by hand and "
            f"automatically: {len(report['rows']) - len(apart)} of {len(report['rows'])} programs. The others:",
            "",
            "| program | mesh axes | by hand | automatic | bytes by hand | automatic |",
            "|---|---|---|---|---|---|",
            *map(line, apart),
            "",
        ]
    )


def main(words: list[str]) -> None:
    """Compile, count, print and write."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    report = {"machine": describe(), "devices": DEVICES, "rows": rows(programs())}
    print(markdown(report))
    if "--no-write" not in words:
        write(RESULTS / "sharding.json", report)


if __name__ == "__main__":
    main(sys.argv[1:])
