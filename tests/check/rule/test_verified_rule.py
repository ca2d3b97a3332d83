"""docs/verified_rule.md runs, and prints what it shows."""

import contextlib
import doctest
import inspect
import io
import re
from pathlib import Path

import pytest

import fnn
from fnn.core import rule as registry

PAGE = Path(__file__).parents[3] / "docs" / "verified_rule.md"
BLOCKS = re.findall(r"```(python|text)\n(.*?)```", PAGE.read_text(), re.DOTALL)
LAX = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Measured numbers, errors and seconds, vary from machine to machine; shapes, counts of bytes and axes do not.
MEASURED = re.compile(r"-?\d+\.\d+(e[+-]\d+)?|-?\d+e[+-]\d+|\d+ s\b|-{9,}")


@pytest.fixture
def unregistered():
    """What the page registers is forgotten, so that no sweep over all rules meets it."""
    before = fnn.rules()
    yield
    for name in set(fnn.rules()) - set(before):
        registry._registry.pop(name)


@pytest.mark.long
@pytest.mark.usefixtures("unregistered")
def test_the_page():
    names, printed, compared = {"__name__": "verified_rule"}, "", 0
    for kind, text in BLOCKS:
        if kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, str(PAGE), "exec"), names)
            printed = out.getvalue()
        else:
            shown, came = (MEASURED.sub("#", some) for some in (text, printed))
            same = doctest.OutputChecker().check_output(shown, came, LAX)
            assert same, f"the page shows\n{text}\nand it prints\n{printed}"
            compared += 1
    assert compared == sum(kind == "text" for kind, _ in BLOCKS) > 0
    tests = [name for name in names if name.startswith("test_")]
    assert tests == ["test_my_rms_norm", "test_at_a_point"]
    names["test_at_a_point"]()  # test_rms_norm repeats what step 5 printed

    with pytest.raises(
        fnn.InputError, match=r"rms_norm expected x \(..., C\) and scale \(C,\); got \(2, 3\) and \(2,\)"
    ):
        names["my_rms_norm"](*map(names["jnp"].ones, ((2, 3), (2,))))


def test_the_page_teaches_what_is_not_there_yet():
    assert "my_rms_norm" in PAGE.read_text()
    assert "my_rms_norm" not in fnn.rules()


def test_every_argument_of_a_rule_is_explained():
    arguments = [p for p in inspect.signature(fnn.Rule).parameters if not p.startswith("_")]
    assert all(f"{name}=" in PAGE.read_text() for name in arguments)
