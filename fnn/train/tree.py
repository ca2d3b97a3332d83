"""What a tree of arrays is, in words that JSON can hold: its containers, and the dtype and shape of each leaf."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.errors import InputError, require
from fnn.core.paths import shown
from fnn.train.step import TrainState

DTYPES = frozenset(["bool", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"]).union(
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
)


def _children(tree: Any) -> list[tuple[str, Any]] | None:
    """Names and children of a container of any kind that JAX knows; None for a leaf."""
    pairs = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: node is not tree)
    if len(pairs) == 1 and pairs[0][0] == ():
        return None
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), child) for path, child in pairs]


def describe(tree: Any, path: str, arrays: list[np.ndarray]) -> Any:
    """What `build` needs to put the tree together again; its arrays are appended in JAX's order."""
    if tree is None:
        return {"kind": "none"}
    pairs = _children(tree)
    if pairs is None:
        return _describe_leaf(tree, path or "the tree", arrays)
    if type(tree) is dict:
        names = sorted(tree)  # JAX's order
        ok = all(isinstance(name, str) for name in names)
        require(ok, "save", f"strings as keys of {path or 'the tree'}", list(tree), "name the entries")
        items = [tree[name] for name in names]
    elif type(tree) in (list, tuple, TrainState):
        names, items = [str(i) for i in range(len(tree))], list(tree)
        names = list(tree._fields) if isinstance(tree, TrainState) else names
    else:
        names, items = [name for name, _ in pairs], [child for _, child in pairs]
    kinds = {dict: "dict", list: "list", tuple: "tuple", TrainState: "TrainState"}
    nodes = [describe(item, f"{path}/{n}" if path else n, arrays) for n, item in zip(names, items, strict=True)]
    return {"kind": kinds.get(type(tree), type(tree).__name__), "names": names, "nodes": nodes}


def _describe_leaf(leaf: Any, path: str, arrays: list[np.ndarray]) -> dict[str, Any]:
    ok = isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex)
    ok = ok and not isinstance(leaf, np.ma.MaskedArray)  # its mask would be lost
    require(ok, "save", f"an array for {path}", type(leaf).__name__, "save arrays, numbers and None alone")
    traced = isinstance(leaf, jax.core.Tracer)
    require(
        not traced, "save", f"an array with values for {path}", "one that JAX traces", "call it outside jit and grad"
    )
    near = getattr(leaf, "is_fully_addressable", True)
    require(near, "save", f"{path} on this machine", "an array of which other machines hold parts", "gather it first")
    number = type(leaf).__name__ if type(leaf) in (bool, int, float, complex) else None
    key = None
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        key, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
    try:
        array = np.asarray(leaf)
    except OverflowError as error:
        raise InputError("save", f"a number of 64 bits for {path}", repr(leaf), "save it as text elsewhere") from error
    name = array.dtype.name
    require(
        name in DTYPES, "save", f"numbers for {path}", f"an array of {name}", f"convert it to one of {sorted(DTYPES)}"
    )
    # NumPy's format knows no bfloat16: its bits are stored.
    bits = np.ascontiguousarray(array).reshape(array.shape)
    bits = bits.view(np.uint16) if name == "bfloat16" else bits
    arrays.append(bits.astype(bits.dtype.newbyteorder("<"), copy=False))
    return {"kind": "leaf", "dtype": name, "shape": list(array.shape), "key": key, "number": number}


def check(node: Any, path: str, leaves: list[Any]) -> list[str]:
    """Refuse what `describe` cannot have written; gather leaves, and the containers that need `like`."""
    kind = node["kind"]
    if kind == "none":
        return []
    if kind == "leaf":
        shape, key, number = node["shape"], node["key"], node["number"]
        ok = node["dtype"] in DTYPES and all(type(n) is int and 0 <= n < 1 << 62 for n in shape)
        ok = ok and (key is None or type(key) is str) and number in (None, "bool", "int", "float", "complex")
        if not ok:
            raise ValueError(f"leaf {path}")
        leaves.append((path, node))
        return []
    names, nodes = node["names"], node["nodes"]
    ok = type(kind) is str and all(type(name) is str for name in names) and len(names) == len(nodes)
    ok = ok and (kind != "dict" or list(names) == sorted(set(names)))
    if not ok or (kind == "TrainState" and names != list(TrainState._fields)):
        raise ValueError(f"node {path}")
    other = [] if kind in ("dict", "list", "tuple", "TrainState") else [f"{kind} at {path or 'the top'}"]
    for name, child in zip(names, nodes, strict=True):
        other += check(child, f"{path}/{name}" if path else name, leaves)
    return other


def part_of(path: Path, node: Any, part: str) -> tuple[Any, int]:
    """The description of a part of a tree that was checked, and how many leaves stand before it."""
    first = 0
    for name in filter(None, part.split("/")):
        names = node.get("names", [])
        fix = f"name one of {sorted(names)}" if names else "it has no parts"
        require(name in names, "load", f"the part {part!r}", f"{shown(path)} without {name!r}", fix)
        i = names.index(name)
        for before in node["nodes"][:i]:
            leaves: list[Any] = []
            check(before, "", leaves)
            first += len(leaves)
        node = node["nodes"][i]
    return node, first


def compare(path: Path, described: list[Any], like: Any) -> None:
    """Name all leaves in which the file and `like` differ, at once."""
    want = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(like):
        dtype = getattr(leaf, "dtype", None)
        dtype = np.asarray(leaf).dtype if dtype is None else dtype
        want[jax.tree_util.keystr(keys, simple=True, separator="/")] = (np.shape(leaf), str(dtype))
    came = {}
    for name, leaf in described:
        shape, dtype, key = tuple(leaf["shape"]), leaf["dtype"], leaf["key"]
        came[name] = (shape[:-1], key_dtype(key)) if key else (shape, dtype)
    clash = len(came) < len(described)  # names with slashes that read alike
    fix = "rename keys that hold a slash"
    require(not clash, "load", "leaves with different paths", f"{shown(path)} with equal ones", fix)
    wrong = [f"{name} is missing" for name in want if name not in came]
    wrong += [f"{name} is not expected" for name in came if name not in want]
    for name in (name for name in want if name in came):
        (shape, dtype), (its_shape, its_dtype) = want[name], came[name]
        if (shape, dtype) != (its_shape, its_dtype):
            wrong.append(f"{name} is {its_dtype} {its_shape}, not {dtype} {shape}")
    if not wrong and (list(want) != list(came) or len(described) != len(jax.tree.leaves(like))):
        wrong = ["its containers are others"]
    fix = "load it with the model and optimiser it was saved with"
    require(not wrong, "load", "the leaves of `like`", f"{shown(path)}: {'; '.join(wrong)}", fix)


def build(node: Any, leaves: Iterator[Any]) -> Any:
    """The tree that `describe` described, of these leaves."""
    if node["kind"] == "none":
        return None
    if node["kind"] == "leaf":
        return next(leaves)
    items = [build(child, leaves) for child in node["nodes"]]
    if node["kind"] == "dict":
        return dict(zip(node["names"], items, strict=True))
    make: dict[str, Callable[[list[Any]], Any]] = {"list": list, "tuple": tuple, "TrainState": TrainState._make}
    return make[node["kind"]](items)


def key_dtype(impl: str) -> str:
    """The name of the dtype of typed keys of this kind, "no key" where JAX knows none."""
    try:
        return str(jax.eval_shape(lambda: jax.random.key(0, impl=impl)).dtype)
    except (ValueError, TypeError):
        return "no key"
