"""Trees of arrays in one file: a zip archive of .npy arrays, as `numpy.savez` writes, and a description in JSON.

No pickle: a file holds numbers and names, and nothing that runs. What is read is checked before it is believed.
"""

import io
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.alive import require_alive
from fnn.core.errors import InputError, require
from fnn.core.files import whole_file
from fnn.core.paths import as_path, shown
from fnn.core.words import described
from fnn.train.tree import build, check, compare, describe, part_of

_TREE = "tree.json"
_FORMAT = "fnn tree 1"
_LARGEST_TREE = 1 << 26  # bytes of JSON: a million paths
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError),
    *(EOFError, ValueError, OverflowError, IndexError, KeyError),
)
_NPY_ERRORS = (ValueError, TypeError, SyntaxError, OverflowError, EOFError, tokenize.TokenError, RecursionError)
_AGAIN = "the file is damaged, or not one that save wrote: take another copy"


def save(path: str | bytes | os.PathLike[str], tree: Any) -> None:
    """Write a tree of arrays to one file: parameters, a model state, a whole TrainState.

    It is written beside `path`, flushed to the disk and renamed: a save that fails, or that is killed, leaves the old
    file as it was. Sharded arrays are saved whole.

    Args:
      path: the file, written exactly there; an older one is replaced.
      tree: arrays, typed keys and numbers in dicts with strings as keys, lists, tuples and None; other containers, such
        as the states of optax, are kept as their leaves, and `load` wants their structure as `like`.

    Raises:
      InputError: a leaf that is no array, one that was donated, or is not all on this machine; a folder that cannot be
        written to.

    >>> import tempfile, pathlib, jax.numpy as jnp
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "params.fnn"
    >>> save(path, {"kernel": jnp.ones((2, 3))})
    >>> load(path)["kernel"].shape
    (2, 3)
    """
    require_alive("save", tree, "a tree")
    path = _path("save", path)
    arrays: list[np.ndarray] = []
    text = json.dumps({"format": _FORMAT, "tree": describe(tree, "", arrays), "leaves": len(arrays)})
    try:
        with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(_TREE), text)
            for i, array in enumerate(arrays):
                with archive.open(zipfile.ZipInfo(f"{i}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
    except OSError as error:
        fix = "choose a file in a folder that exists, may be written to, and has room"
        got = f"{shown(path)}: {error.strerror or error}"
        raise InputError("save", "a file that can be written", got, fix) from error


def load(path: str | bytes | os.PathLike[str], like: Any = None, *, part: str = "") -> Any:
    """Read what `save` wrote, bit for bit, or one part of it.

    Args:
      path: the file.
      like: a tree of the structure, shapes and dtypes that are expected: `init_state(...)`, or `jax.eval_shape` of it.
        Needed for trees with other containers than dicts, lists, tuples, None and TrainState.
      part: the path to a part of the tree, names joined by "/": "params/conv1" of a TrainState; nothing else is read.

    Raises:
      InputError: no such file, a damaged one, no such part, or one that does not hold what `like` does: everything that
        is missing, unexpected, or of another shape or dtype is named.

    >>> import tempfile, pathlib, fnn, jax, optax
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.fnn"
    >>> save(path, fnn.train.init_state(fnn.dense(2), optax.adam(0.1), jax.random.key(0), (1, 3)))
    >>> sorted(load(path, part="params"))
    ['bias', 'kernel']
    """
    require(isinstance(part, str), "load", "a path such as params/conv1 for part", described(part), "pass a string")
    path = _path("load", path)
    try:
        with zipfile.ZipFile(path) as archive:
            tree, leaves, arrays = _read(path, archive, like, part)
    except OSError as error:
        got = f"{shown(path)}: {error.strerror or error}"
        raise InputError("load", "a file that can be read", got, "pass the path that save was given") from error
    except InputError:
        raise
    except _ZIP_ERRORS as error:  # what zipfile and its helpers raise for bytes that are no archive
        raise _damaged(path, str(error)) from error
    leaves = [_leaf(path, array, leaf) for array, (_, leaf) in zip(arrays, leaves, strict=True)]
    if like is not None:
        return jax.tree.unflatten(jax.tree.structure(like), leaves)
    return build(tree, iter(leaves))


def _read(path: Path, archive: zipfile.ZipFile, like: Any, part: str) -> tuple[Any, list[Any], list[np.ndarray]]:
    """The description of the tree, that of each leaf, and their bits, after all checks."""
    infos = {info.filename: info for info in archive.infolist()}
    size = path.stat().st_size
    whole = len(infos) == len(archive.infolist()) and _TREE in infos
    stored = all(i.compress_type == zipfile.ZIP_STORED and i.file_size == i.compress_size for i in infos.values())
    stored = stored and sum(i.file_size for i in infos.values()) <= size  # no bomb
    if not (whole and stored and infos[_TREE].file_size <= _LARGEST_TREE):
        raise _damaged(path, "other members than save writes")
    try:
        head = json.loads(archive.read(_TREE))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"a description that is no JSON ({error})") from error
    if not isinstance(head, dict) or head.get("format") != _FORMAT:
        raise _damaged(path, "a description of another format")
    leaves: list[tuple[str, dict[str, Any]]] = []
    try:
        nodes = check(head.get("tree"), "", leaves)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, f"a description that is no tree ({error})") from error
    if set(infos) != {_TREE, *(f"{i}.npy" for i in range(len(leaves)))}:
        raise _damaged(path, f"{len(leaves)} arrays described, and others stored")
    tree, first = part_of(path, head["tree"], part)
    leaves = []
    nodes = check(tree, "", leaves)
    if like is not None:
        compare(path, leaves, like)
    elif nodes:
        fix = "pass like=, a tree of the same structure, for example train.init_state(...)"
        raise InputError("load", "the structure of the tree", f"{shown(path)} with a {nodes[0]}", fix)
    arrays = [_array(path, archive, infos[f"{first + i}.npy"], leaf) for i, (_, leaf) in enumerate(leaves)]
    return tree, leaves, arrays


def _path(where: str, path: str | bytes | os.PathLike[str]) -> Path:
    path = as_path(where, path)
    try:
        path = path.resolve()  # behind a symbolic link the file is replaced, not the link
        folder = path.is_dir()
    except (ValueError, OSError, RuntimeError) as error:
        raise InputError(where, "a path", repr(path), f"it is none: {error}") from error
    require(not folder, where, "a file", f"the folder {shown(path)}", "add the name of a file")
    regular = path.is_file() or not path.exists()
    require(regular, where, "a regular file", f"a pipe or a device: {shown(path)}", "choose a file")
    return path


def _damaged(path: Path, reason: str) -> InputError:
    return InputError("load", "a file that save wrote", f"{shown(path)}: {reason}", _AGAIN)


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, leaf: dict[str, Any]) -> np.ndarray:
    bits = np.dtype(np.uint16 if leaf["dtype"] == "bfloat16" else leaf["dtype"])
    shape = tuple(leaf["shape"])
    if math.prod(shape) * bits.itemsize > info.file_size:  # before anything of this size is asked for
        raise _damaged(path, f"{info.filename} is shorter than its shape {shape}")
    file = io.BytesIO(archive.read(info))
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of NumPy's format")
        header = np.lib.format.read_array_header_1_0(file)
    except _NPY_ERRORS as error:
        raise _damaged(path, f"{info.filename}: {error}") from error
    rest = len(file.getbuffer()) - file.tell()
    if header != (shape, False, bits.newbyteorder("<")) or rest != math.prod(shape) * bits.itemsize:
        raise _damaged(path, f"{info.filename} holds {header} and {rest} bytes, not {leaf['dtype']} {shape}")
    array = np.frombuffer(file.read(), bits.newbyteorder("<")).reshape(shape).astype(bits)
    return array.view(jnp.bfloat16) if leaf["dtype"] == "bfloat16" else array


def _leaf(path: Path, array: np.ndarray, leaf: dict[str, Any]) -> Any:
    if leaf["number"]:
        return array.item() if array.shape == () else array
    if leaf["key"] is None:
        return jax.device_put(array) if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype else array
    try:
        return jax.random.wrap_key_data(jax.device_put(array), impl=leaf["key"])
    except (ValueError, TypeError) as error:
        raise _damaged(path, f"a key of kind {leaf['key']!r}: {error}") from error
