"""fnn on a GPU: are its rules right there, and what are they worth?

    python -m benchmarks.gpu                      at most 20 minutes; writes benchmarks/results/gpu-DEVICE.json and .md
    python -m benchmarks.gpu --only networks      parts (checks, networks, operations, processor); a file keeps the rest
    python -m benchmarks.gpu --platform cpu --small    its own logic, in minutes, on a machine without a GPU

Parts, each within its share of the time; the report names what had no time left:

    checks        `fnn-check --quick` over all rules: float32 with exact products, bfloat16
    networks      training steps by hand, automatically, of flax nnx, of PyTorch eager and compiled
    operations    output and gradients by hand, automatically, and of PyTorch
    processor     the same training steps on the machine's processor

Networks and operations run in float32, with the products that both libraries choose for it on that GPU (TF32 on
NVIDIA's), and in bfloat16 (parameters and loss in float32), on `LARGER` times the examples of the CPU's benchmark.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import compress
from pathlib import Path

from benchmarks.__main__ import OUT
from benchmarks.networks import NETWORKS
from benchmarks.networks.libraries import build as build_network
from benchmarks.operations.libraries import build as build_operation
from benchmarks.operations.zoo import OPERATIONS, QUICK
from benchmarks.report import gpu as gpu_report
from benchmarks.timing.machine import cores, describe
from benchmarks.timing.measure import Program, measure
from benchmarks.timing.results import RESULTS, read, write
from benchmarks.timing.worker import SHARING, Worker

PARTS = {"checks": 0.2, "networks": 0.4, "operations": 0.25, "processor": 0.15}  # shares of the time
LARGER = 8  # an accelerator wants more examples
# What the products round to (TF32 keeps 11 bits, bfloat16 8), and what gradients may differ by in any case. Batch norm
# makes much of it: nudged inputs tell how much.
DTYPES = {"float32": (2**-10, 0.01), "bfloat16": (2**-7, 0.05)}
MOST = 0.5
NUDGES = 3
CHOICES = [
    ("fnn", "hand"),
    ("fnn", "auto"),
    ("flax.nnx", "defaults"),
    ("torch", "channels last"),
    ("torch", "compiled"),
]
OPERATION_CHOICES = [("fnn", "hand"), ("fnn", "auto"), ("torch", "contiguous"), ("torch", "channels last")]
# Those that say most come first, should time run out.
ORDER = (
    "resnet20",
    "resnet18",
    "mobilenet",
    "vit",
    "vgg",
    "resnext",
    "autoencoder",
    "mnist_cnn",
    "lenet5",
    "convnetjs",
)
ROUNDS, CAP, TURN = 9, 4.0, 0.1
SAME = ("platform", "libraries", "fnn", "cores")  # of two runs that go into one file
SAMPLE = 1 << 20  # numbers of each gradient: all of them take seconds to bring and to compare
SMALL = {"networks": ("mlp", "lenet5"), "operations": QUICK[:2], "rules": "dense,relu"}


def build(name: str, library: str, variant: str):
    """The program of a subject, for `benchmarks.timing.worker`: `name` is that of `subject`."""
    kind, dtype, larger, name = name.split(" ", 3)
    if kind == "network":
        network = NETWORKS[name].with_batch(int(larger) * NETWORKS[name].input[0])
        network = replace(network, dtype=dtype, nudge=DTYPES[dtype][0])
        return build_network(network, library, variant)
    operation = replace(OPERATIONS[name].with_batch(int(larger)), dtype=dtype)
    return build_operation(operation, library, variant)


def subject(kind: str, name: str, dtype: str, larger: int) -> str:
    """What a worker is told.

    >>> subject("network", "vit", "bfloat16", 8)
    'network bfloat16 8 vit'
    """
    return f"{kind} {dtype} {larger} {name}"


def checks(platform: str, deadline: float, rules: str | None) -> Iterator[dict]:
    """What `fnn-check` says of every rule, by dtype."""
    for dtype in DTYPES:
        words = ["--quick", "--dtype", dtype, "--workers", str(max(1, min(8, cores() // 2)))]
        words += ["--rule", rules] if rules else []
        environment = {**os.environ, **SHARING, "JAX_PLATFORMS": platform, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
        with tempfile.TemporaryDirectory() as folder:
            path, start = Path(folder) / "report.json", time.perf_counter()
            words += ["--json", str(path)]
            text, status = _within(deadline - start, [sys.executable, "-m", "fnn.check", *words], environment)
            yield {
                "name": "rules",
                "dtype": dtype,
                "status": status,
                "seconds": round(time.perf_counter() - start, 1),
                "wrong": [line.strip() for line in text.splitlines() if re.search("WRONG|NOT CHECKED", line)][:40],
                "last": text.strip().splitlines()[-1:] or [""],
            }
            print(text[-3000:])


def _within(seconds: float, words: Sequence[str], environment: dict[str, str]) -> tuple[str, int | None]:
    """What a command says and its exit status; None where it was stopped, with all its processes, for lack of time."""
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(words, env=environment, start_new_session=True, **out)
    try:
        return process.communicate(timeout=max(1.0, seconds))[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], None


def timed(
    kind: str, names: Sequence[str], choices: Sequence[tuple[str, str]], platform: str, larger: int, deadline: float
) -> Iterator[dict]:
    """Records of `benchmarks.timing.measure`, all programs of JAX in one process and all of PyTorch in another."""
    with ExitStack() as stack:
        kinds = {"jax": ("jax",), "torch": ("torch", str(cores()))}
        workers = {key: stack.enter_context(Worker(*words, platform=platform)) for key, words in kinds.items()}
        for name in names:
            for dtype, (_, least) in DTYPES.items():
                if time.perf_counter() > deadline:
                    return
                print(f"{kind} {name}, {dtype}", flush=True)
                programs = [Program(*c, workers["torch" if c[0] == "torch" else "jax"]) for c in choices]
                record = measure(
                    "benchmarks.gpu",
                    subject(kind, name, dtype, larger),
                    programs,
                    most_rounds=ROUNDS,
                    cap=CAP if kind == "network" else CAP / 4,
                    turn_seconds=TURN if kind == "network" else TURN / 4,
                    nudges=NUDGES if kind == "network" else 0,
                    least=least,
                    most=MOST,
                    sample=SAMPLE,
                )
                yield record | {"name": name, "dtype": dtype, "examples": larger}
                for worker in workers.values():
                    worker.ask("forget")


def _records(
    part: str, networks: Sequence[str], operations: Sequence[str], deadline: float, options: argparse.Namespace
) -> Iterator[dict]:
    larger, choices = 1 if options.small else LARGER, CHOICES[:-1] if options.eager else CHOICES
    if part == "checks":
        return checks(options.platform, deadline, SMALL["rules"] if options.small else None)
    if part == "networks":
        return timed("network", networks, choices, options.platform, larger, deadline)
    if part == "operations":
        return timed("operation", operations, OPERATION_CHOICES, options.platform, larger, deadline)
    return timed("network", networks, choices, "cpu", 1, deadline)


def main(words: Sequence[str] | None = None) -> int:
    """The command; 1 if a rule is wrong or a program disagreed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--names", nargs="+", metavar="WORD", help="networks and operations with one of these words")
    parser.add_argument("--eager", action="store_true", help="without torch.compile, which takes long")
    parser.add_argument("--minutes", type=float, default=20.0, help="for all parts (20)")
    parser.add_argument("--platform", default="cuda", choices=("cuda", "cpu"), help="where (cuda)")
    parser.add_argument("--small", action="store_true", help="two rules, networks and operations")
    parser.add_argument("--out", type=Path, help="folder of the results (of a CPU's: out/benchmarks)")
    options = parser.parse_args(words)
    if options.out is None:
        options.out = RESULTS if options.platform == "cuda" else OUT
    os.environ.update(SHARING, JAX_PLATFORMS=options.platform)
    start, found = time.perf_counter(), {"machine": describe()}
    device = re.sub("[^a-z0-9]+", "-", found["machine"]["platform"].partition(": ")[2].lower().replace("nvidia ", ""))
    path = options.out / f"gpu-{device}.json"
    if (options.only or options.names) and path.exists():
        kept = read(path)
        found = kept if all(kept["machine"][key] == found["machine"][key] for key in SAME) else found
    parts = [part for part in PARTS if options.only is None or part in options.only]
    total = sum(PARTS[part] for part in parts)

    def wanted(names: Sequence[str], small: Sequence[str]) -> list[str]:
        names = small if options.small else names
        return [name for name in names if not options.names or any(word in name for word in options.names)]

    networks = wanted(ORDER, SMALL["networks"])
    operations = wanted([*QUICK, *(name for name in OPERATIONS if name not in QUICK)], SMALL["operations"])
    names = {"networks": networks, "operations": operations, "processor": networks}
    if not options.names:
        found["wanted"] = found.get("wanted", {}) | {part: names[part] for part in parts if part in names}
    spent = 0.0
    for part in parts:
        spent += PARTS[part] / total
        deadline = start + 60 * options.minutes * spent
        records = _records(part, networks, operations, deadline, options)
        found[part] = found.get(part, []) if options.names else []
        for record in records:
            same = [(each["name"], each["dtype"]) != (record["name"], record["dtype"]) for each in found[part]]
            found[part] = [*compress(found[part], same), record]
            found["minutes"] = round((time.perf_counter() - start) / 60, 1)
            write(path, found)
    text = gpu_report.page(found)
    path.with_suffix(".md").write_text(text)
    print(text)
    return gpu_report.status(found)


if __name__ == "__main__":
    raise SystemExit(main())
