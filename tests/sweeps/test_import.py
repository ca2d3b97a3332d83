"""`import fnn` loads what every program needs, and the rest at first use, without anyone noticing."""

import subprocess
import sys

import pytest

import fnn

LATE = ("check", "data", "inspect", "models", "train")
PROGRAM = """
import sys
import fnn

heavy = ("optax", "matplotlib", "sklearn", "rich", "jax.extend", "torch", *map("fnn.{}".format, %r))
loaded = [name for name in heavy if name in sys.modules]
assert not loaded, loaded
assert {*%r, "summary", "ops", "dense", "Rule"} <= set(dir(fnn))
fnn.serial(fnn.dense(3), fnn.relu())
assert not [name for name in heavy if name in sys.modules]
assert fnn.summary.__module__ == "fnn.inspect.summary"
assert "optax" not in sys.modules and "matplotlib" not in sys.modules
from fnn import data
import fnn.models
assert data is sys.modules["fnn.data"] and fnn.models.lenet5 and fnn.train.fit and fnn.check.CHECKS
assert "optax" in sys.modules and "matplotlib" not in sys.modules
"""


def test_a_fresh_import_is_light_and_complete():
    run = subprocess.run([sys.executable, "-c", PROGRAM % (LATE, LATE)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_late_names_are_the_modules():
    for name in LATE:
        assert getattr(fnn, name) is sys.modules[f"fnn.{name}"]
    with pytest.raises(AttributeError, match="module 'fnn' has no attribute 'dens'"):
        _ = fnn.dens
