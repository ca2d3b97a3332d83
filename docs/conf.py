"""How Sphinx builds this documentation: python -m sphinx -W docs out/docs

Three folders are written before: `reference/` has every public name, from the `__all__` of each module; `results/` is
a copy of the pages in `benchmarks/results/`; `gallery/` runs the examples, with fewer epochs.
"""

import importlib
import os
import re
import shutil
import sys
from pathlib import Path

from sphinx_gallery.scrapers import figure_rst

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "fnn"
copyright = "the fnn maintainers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
suppress_warnings = ["config.cache"]  # functions in the gallery's configuration
html_theme = "furo"
html_title = "fnn"
exclude_patterns = ["make_check_pictures.py"]
default_role = "literal"  # docstrings write `code`, as Markdown does
myst_heading_anchors = 3
napoleon_google_docstring = True
autodoc_typehints = "none"  # the docstrings say shapes and units, which types do not
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"

MODULES = ("fnn", "fnn.ops", "fnn.train", "fnn.data", "fnn.models", "fnn.inspect", "fnn.check")
EPOCHS = "4"
LINKS = {"../benchmarks/results/": "results/", "../examples/lenet_digits.py": "gallery/lenet_digits.rst"}
PICTURES = ROOT / "out" / "docs-pictures"


def reference(name: str) -> str:
    """The page of a module: its docstring, and every name of `__all__` under the heading it has there."""
    module = importlib.import_module(name)
    lines, told = [f"# {name}", ""], set()
    for line in module.__doc__.splitlines():
        listed = re.match(r" *(\w+)  +\S", line)
        if not listed:
            heading = re.fullmatch(r"(\S.*):", line)
            lines.append(f"## {heading[1]}" if heading else line)
        elif isinstance(getattr(module, listed[1]), type(importlib)):
            lines.append(f"- `{name}.{listed[1]}`:{line[listed.end(1) :].replace('  ', '')}")
            told.add(listed[1])
        else:
            lines += ["```{eval-rst}", f".. {_directive(getattr(module, listed[1]))}:: {name}.{listed[1]}", "```", ""]
            told.add(listed[1])
    missing = set(module.__all__) - told
    if missing:
        raise ValueError(
            f"the docstring of {name} expected a line for every name of __all__; it has none for {missing}"
        )
    return "\n".join(lines) + "\n"


def _directive(value: object) -> str:
    if isinstance(value, type):
        return "autoclass"
    return "autofunction" if callable(value) else "autodata"


def write_pages() -> None:
    """The pages of `reference/` and `results/`."""
    for folder in (HERE / "reference", HERE / "results"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for name in MODULES:
        (HERE / "reference" / f"{name}.md").write_text(reference(name))
    contents = "\n".join(MODULES)
    (HERE / "reference" / "index.md").write_text(f"# Reference\n\n```{{toctree}}\n{contents}\n```\n")
    for path in (ROOT / "benchmarks" / "results").iterdir():
        if path.suffix in (".md", ".svg"):
            shutil.copy(path, HERE / "results")


def links(app, page: str, source: list[str]) -> None:
    """Links to files of the repository, which a forge follows, to the pages made of them."""
    for file, built in LINKS.items():
        source[0] = source[0].replace(f"]({file}", f"]({built}")


def as_restructured_text(app, what, name, obj, options, lines: list[str]) -> None:
    """Escape in a docstring what means something to Sphinx and nothing to us: stars, bars and trailing underscores."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"(\*|\||_\b)", r"\\\1", part) for part in parts[::2]]
            lines[i] = "".join(parts)


def pictures(block, block_vars, gallery_conf):
    """What an example saved into its folder, for the gallery."""
    found = []
    for path in sorted(PICTURES.glob("*.png")):
        found.append(next(block_vars["image_path_iterator"]))
        shutil.move(path, found[-1])
    return figure_rst(found, gallery_conf["src_dir"])


def arguments(gallery_conf, script_vars):
    """What an example is called with."""
    name = Path(script_vars["src_file"]).stem
    return ["--epochs", EPOCHS, *(["--out", str(PICTURES)] if name == "lenet_digits" else [])]


sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "image_scrapers": (pictures,),
    "reset_modules": (),
    "reset_argv": arguments,
    "download_all_examples": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
}


def setup(app):
    """Sphinx calls this."""
    write_pages()
    app.connect("source-read", links)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
