"""`help(fnn)` lists what there is: a line for each public name in the docstring of its module, and `__all__`."""

import importlib
import pathlib
import pydoc
import re
import tomllib
import types

import pytest

MODULES = ("fnn", "fnn.ops", "fnn.train", "fnn.data", "fnn.check", "fnn.inspect", "fnn.models")
LATE = {"check", "data", "inspect", "models", "train", "summary"}  # of fnn, loaded at first use


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_its_line(name):
    module = importlib.import_module(name)
    # What was imported as itself; submodules come along without being asked for.
    names = {n for n, value in vars(module).items() if n[0] != "_" and not isinstance(value, types.ModuleType)}
    names -= {"TYPE_CHECKING"}
    names |= {"fnn": {"ops", *LATE}, "fnn.data": {"filters"}}.get(name, set())
    listed = re.findall(r"^ *(\w+)  +\S", module.__doc__, re.MULTILINE)
    assert sorted(listed) == sorted(names)
    assert sorted(module.__all__) == sorted(names)
    for n in names:
        assert getattr(module, n) is not None
    assert max(map(len, module.__doc__.splitlines())) <= 120


def test_help_shows_the_lists_and_the_functions():
    import fnn

    text = pydoc.plain(pydoc.render_doc(fnn))
    assert "conv_transpose                the way back" in text
    assert re.search(r"^    dense\(features", text, re.MULTILINE)
    assert "TYPE_CHECKING" not in text
    assert "conv_transpose" in pydoc.plain(pydoc.render_doc(fnn.ops))


def test_a_star_import_brings_the_public_names_alone():
    names = {}
    exec("from fnn import *", names)
    import fnn

    assert names.keys() - {"__builtins__"} == set(fnn.__all__)
    assert callable(names["summary"])


def test_the_version_is_that_of_the_package():
    import fnn

    assert re.fullmatch(r"\d+\.\d+\.\d+", fnn.__version__)
    project = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project.get("version", fnn.__version__) == fnn.__version__
