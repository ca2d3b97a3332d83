"""Where a measurement was taken: everything a reader needs to judge a number."""

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import numpy as np

from benchmarks.timing.rounds import quartiles

LIBRARIES = ("jax", "jaxlib", "numpy", "optax", "flax", "equinox", "dm-haiku", "torch")
DISTURBED = 0.1  # of the cores, taken by other processes: above that a reader is warned
COPIED = 64 << 20  # bytes, beyond the caches


def cores() -> int:
    """The cores this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> list[float]:
    """Runnable processes over the last 1, 5 and 15 minutes; our own are among them."""
    return [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else []


def busy_seconds() -> float | None:
    """Processor time that all processes have used since the machine started; None where the system does not tell."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, path.read_text().splitlines()[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """Processor time of one process with its threads; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Others:
    """The share of the cores that other processes took since `start`.

    The load average cannot tell them from our own threads. PyTorch's threads wait for each other at the end of every
    loop, and one core taken away makes them many times slower, JAX's less than twice: a disturbed run flatters fnn.

    Args:
      ours: ids of our processes.
    """

    def __init__(self, ours: Iterable[int]):
        self._ours = {*ours, os.getpid()}
        self._start = self._now()

    def _now(self) -> tuple[float, float | None]:
        busy = busy_seconds()
        return time.perf_counter(), None if busy is None else busy - sum(map(process_seconds, self._ours))

    def share(self) -> float | None:
        """0 for a quiet machine, 1 if they had all cores; None where the system does not tell."""
        (begin, before), (end, after) = self._start, self._now()
        if before is None or after is None:
            return None
        return round(min(1.0, max(0.0, (after - before) / ((end - begin) * (os.cpu_count() or 1)))), 3)


class Copying:
    """How fast memory is copied, sampled between turns.

    Who shares the machine behind a virtual one may take its memory's bandwidth, which neither load nor processor time
    tells, and which slows those programs down most that move much memory.
    """

    def __init__(self):
        self._source, self._target = np.ones(COPIED, np.uint8), np.ones(COPIED, np.uint8)
        self.rates: list[float] = []

    def sample(self) -> None:
        """Copy once; GiB/s, of one thread, go into `rates`."""
        start = time.perf_counter()
        np.copyto(self._target, self._source)
        self.rates.append(COPIED / 2**30 / (time.perf_counter() - start))

    def found(self) -> dict[str, float] | None:
        """Quartiles of the rates; None without a sample."""
        return quartiles(self.rates) if self.rates else None


def copied(found: Mapping[str, float]) -> str:
    """What `Copying.found` gives, for a report.

    >>> copied({"low": 9.0, "median": 10.26, "high": 11.0})
    'copying ran at 10.3 (9.0 to 11.0) GiB/s'
    """
    return f"copying ran at {found['median']:.1f} ({found['low']:.1f} to {found['high']:.1f}) GiB/s"


def versions() -> dict[str, str]:
    """Versions of the libraries that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def revision() -> str | None:
    """The commit of this source, with a plus sign where files differ from it; None outside a git checkout.

    Results, and the README that shows them, do not count: measuring one kind rewrites them before the next.
    """
    try:
        git = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
        commit = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
        source = [":/", *(f":(top,exclude){path}" for path in ("README.md", "benchmarks/results"))]
        return commit + "+" * bool(git(["git", "status", "--porcelain", "-uno", "--", *source]).stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        return None


def describe():
    """A dict with versions, processor, cores and the load average at this moment."""
    device = jax.devices()[0]
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "jax": version("jax"),
        "python": platform.python_version(),
        "platform": f"{device.platform}: {device.device_kind}",
        "processor": model,
        "cores": cores(),
        "load_average": load_average(),
        "libraries": versions(),
        "fnn": revision(),
        "date": time.strftime("%Y-%m-%d"),
    }
