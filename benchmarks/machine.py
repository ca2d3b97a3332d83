"""Where a measurement was taken: everything a reader needs to judge a number."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax

RESULTS = Path(__file__).parent / "results"


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
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
