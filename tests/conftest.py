"""Eight host devices for the sharding tests, and a compiler that does not try hard, set before JAX starts.

Tests compile thousands of small programs and run each once: code that is generated without optimisation is there a
third sooner. XLA's own passes, fusion among them, are those that users get. What trains runs in a process of its own.

Tests marked `long` (the wide sweeps) run with `--full` alone.
"""

import os

import pytest

flags = (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long sweeps, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in set(long)]
