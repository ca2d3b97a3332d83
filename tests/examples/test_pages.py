"""The Python of README and of the documentation runs as printed."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.helpers import as_users_run

ROOT = Path(__file__).parents[2]
README, QUICKSTART, CHECKING = (ROOT / page for page in ("README.md", "docs/quickstart.md", "docs/checking.md"))


def blocks(page, kinds="python"):
    """Kind and text of the fenced blocks of some kinds ("python|text")."""
    return re.findall(rf"```({kinds})\n(.*?)```", page.read_text(), re.DOTALL)


(_, MODEL), (_, AGAIN) = blocks(QUICKSTART)
COMPARED = """
x, labels = next(iter(batches))
compared = fnn.check.compare(model, state, (x[:8], labels[:8]), fnn.softmax_cross_entropy, key=jax.random.key(1))
print(compared, history[0]["loss"] > history[-1]["loss"], bool(compared), sep="\\n")
"""


def test_the_model_in_fifteen_lines():
    assert blocks(README) == [("python", MODEL)]
    assert len(MODEL.strip().splitlines()) <= 15
    printed = as_users_run("-c", MODEL.replace("epochs=20", "epochs=10"))
    assert float(re.search(r"'accuracy': ([\d.]+)", printed).group(1)) > 0.9


@pytest.mark.long
def test_the_gradients_of_that_model_agree():
    printed = as_users_run("-c", MODEL.replace("epochs=20", "epochs=2") + COMPARED)
    assert printed.splitlines()[-2:] == ["True", "True"], printed


def test_a_run_that_is_started_again_goes_on(tmp_path):
    first, second = (AGAIN.replace("20", str(epochs)) for epochs in (1, 3))
    tell = 'print([row["epoch"] for row in history], int(state.step) == 3 * len(batches))\n'
    program = f"import os\nos.chdir({str(tmp_path)!r})\n" + MODEL.replace("epochs=20", "epochs=1") + first + second
    assert as_users_run("-c", program + tell).splitlines()[-1] == "[1, 2] True"


def test_a_wrong_rule_is_diagnosed_as_printed(capsys):
    ((_, program),) = blocks(CHECKING)
    exec(compile(program, "checking", "exec"), {})
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"```\n(diagnosis:.*?)```", CHECKING.read_text(), re.DOTALL)
    assert "logdet: WRONG" in printed
    assert shown in printed


@pytest.mark.parametrize("page", ["layer", "rule"])
def test_a_page_prints_what_it_shows(page):
    names, printed = {}, ""
    found = blocks(ROOT / "docs" / f"{page}.md", "python|text")
    for kind, text in found:
        if kind == "text":
            assert text == printed
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, page, "exec"), names)
        printed = out.getvalue()
    assert "text" in [kind for kind, _ in found]


def test_every_page_with_python_is_run_by_a_test():
    run_here = {"quickstart", "checking", "layer", "rule"}
    elsewhere = {"verified_rule", "from_pytorch"}  # each has a test file of its name
    assert {path.stem for path in (ROOT / "docs").glob("*.md") if blocks(path)} == run_here | elsewhere


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_links_lead_to_files_of_the_repository(page):
    links = re.findall(r"\]\((?!https?:|#)([^)\s#]+)", (ROOT / page).read_text())
    built = {"docs/gallery", "docs/reference", "docs/results"}  # git does not have these
    for link in links:
        path = ((ROOT / page).parent / link).resolve()
        assert path.exists(), link
        assert not any(path.is_relative_to(ROOT / folder) for folder in built), link


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 130
