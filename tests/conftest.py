"""Eight host devices for the sharding tests, and a compiler that does not try hard, set before JAX starts.

Tests compile thousands of small programs and run each once: code that is generated without optimisation is there a
third sooner. XLA's own passes, fusion among them, are those that users get. What trains runs in a process of its own.
A program that one test has compiled is not compiled again by another, in this process or the next: JAX keeps them in a
folder that lives as long as the session.

Tests marked `long` (the wide sweeps) run with `--full` alone.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator

import pytest

flags = ("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])
os.environ.setdefault("JAX_PLATFORMS", "cpu")

CACHE = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp(prefix="fnn-tests-")
if CACHE:  # in the process that starts the others, which find its folder in their environment
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import chex  # noqa: E402 - it imports JAX, which reads the variables above
import jax  # noqa: E402

chex.set_n_cpu_devices(8)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long sweeps, too")


def pytest_unconfigure(config: pytest.Config) -> None:
    if CACHE:
        shutil.rmtree(CACHE, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in set(long)]


@pytest.fixture(autouse=True, scope="session")
def _devices_are_made() -> None:
    """Before a test of the command asks for two of them."""
    jax.devices()


@pytest.fixture(autouse=True)
def _where_arrays_live(request: pytest.FixtureRequest) -> Iterator[None]:
    """Programs are those of a user's single device; tests marked `sharded` split their batches."""
    from fnn import placement

    with placement("sharded" if request.node.get_closest_marker("sharded") else "single"):
        yield


@pytest.fixture(autouse=True)
def messages_that_contradict_themselves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No error of any test says "expected a tuple of arrays; got tuple": what came is never just what was wanted."""
    from fnn.core.errors import InputError

    found, make = [], InputError.__init__

    def record(self: InputError, where: str, expected: str, got: str, fix: str) -> None:
        make(self, where, expected, got, fix)
        if contradicts(expected, got):
            found.append(str(self))

    monkeypatch.setattr(InputError, "__init__", record)
    yield
    assert not found, found


def contradicts(expected: str, got: str) -> bool:
    """Whether `got`, a word or two, is what `expected` begins with.

    >>> contradicts("a tuple of arrays (N, ...)", "tuple"), contradicts("a tuple of arrays", "tuple of 3")
    (True, False)
    """
    expected, got = (re.sub(r"^(an?|the|one) ", "", text) for text in (str(expected), str(got)))
    return bool(re.fullmatch(r"[\w.]*[a-zA-Z][\w.]*", got)) and re.match(rf"{re.escape(got)}\b", expected) is not None
