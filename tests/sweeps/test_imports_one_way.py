"""Imports run one way: no circle between modules, none between folders, and no folder imports one above it."""

import ast
from pathlib import Path

import pytest

import fnn

ROOT = Path(fnn.__file__).parent
# From the ground up; each imports only what stands before it. `fnn/__init__` is the roof, and imports when asked.
ORDER = ("core", "kernels", "ops", "layers", "models", "data", "inspect", "train", "check")
# The first five are what a network is made of, and what works on any network knows no model by name.
BLIND = ("inspect", "train", "check")


def module_of(path, root):
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph_of(root):
    """{module: the modules that it imports}, in functions too, but not where a type checker alone looks."""
    paths = {module_of(path, root): path for path in root.rglob("*.py")}
    return {module: imports_of(path, module, paths) for module, path in paths.items() if module != root.name}


def imports_of(path, module, known):
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found, nodes = set(), [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            full = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in known else base for name in full}
        nodes += ast.iter_child_nodes(node)
    return {name for name in found if name in known} - {module}


def circles(graph):
    """The sets of nodes that reach each other, by Tarjan's algorithm."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            part = []
            while not part or part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return found


GRAPH = graph_of(ROOT)


def folder_of(module):
    return module.split(".")[1]


def test_no_module_imports_itself_through_others():
    assert circles(GRAPH) == []


def test_no_module_imports_the_roof():
    assert [module for module, others in GRAPH.items() if "fnn" in others] == []


def test_folders_import_what_stands_below_them():
    assert {folder_of(module) for module in GRAPH} == set(ORDER)
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in sorted(others - {"fnn"})
        if ORDER.index(folder_of(other)) > ORDER.index(folder_of(module))
        or (folder_of(module) in BLIND and folder_of(other) == "models")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("from fnn.core import rule", "core.rule"),
        ("from fnn.core.rule import Rule", "core.rule"),
        ("import fnn.core.rule", "core.rule"),
        ("def f():\n    from ..core import rule", "core.rule"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fnn.core import rule", ""),
    ],
)
def test_every_kind_of_import_is_seen(tmp_path, line, seen):
    path = tmp_path / "one.py"
    path.write_text(line)
    known = {"fnn": None, "fnn.core": None, "fnn.core.rule": None}
    assert imports_of(path, "fnn.ops.one", known) == ({f"fnn.{seen}"} if seen else set())


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
