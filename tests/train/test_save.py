"""Saving and loading trees of arrays: bit for bit, whole or not at all, and nothing but InputError for a bad file."""

import io
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import train

NAMES = ["bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "bfloat16", "float32", "complex64"]
LAYER = fnn.serial(a=fnn.dense(4), norm=fnn.batch_norm(), out=fnn.dense(1))
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))


X = jnp.ones((2, 3))


def loss(y, t):
    return (y[:, 0] - t) ** 2


def state():
    return train.init_state(LAYER, OPTIMIZER, jax.random.key(1), (2, 3))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y) or isinstance(x, jax.Array)
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def test_every_dtype_shape_and_container_comes_back_bit_for_bit(tmp_path):
    bits = np.random.default_rng(0).integers(0, 256, 96, np.uint8).tobytes()
    arrays = {name: jnp.asarray(np.frombuffer(bits, np.uint8 if name == "bool" else name) & np.uint8(1)) == 1
              if name == "bool" else jnp.asarray(np.frombuffer(bits, jnp.dtype(name))) for name in NAMES}  # fmt: skip
    wide = {"f8": np.frombuffer(bits, np.float64), "i8": np.frombuffer(bits, np.int64)}
    keys = {impl: jax.random.key(3, impl=impl) for impl in ("threefry2x32", "rbg", "unsafe_rbg")}
    tree = {
        **arrays, **wide, **keys, "many": jax.random.split(jax.random.key(0), 3), "none": None, "empty": {}, "t": (),
        "numbers": [True, 3, 2.5, 1j], "": jnp.zeros((0, 3)), "ü/x": (jnp.zeros(()), [jnp.ones((2, 1))]),
        "t1": (jnp.arange(3),), "nan": jnp.array([jnp.nan, -0.0]), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }  # fmt: skip
    for path in (tmp_path / "a", str(tmp_path / "b.npz")):
        train.save(path, tree)
        assert_same(tree, train.load(path))
        assert_same(tree, train.load(path, like=tree))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b.npz"]
    with np.load(tmp_path / "b.npz") as stored:  # NumPy reads it, too
        assert len(stored.files) == 1 + len(jax.tree.leaves(tree))


@pytest.mark.parametrize("tree", [None, (), {}, 3.5, jnp.ones(3)], ids=str)
def test_trees_without_containers(tmp_path, tree):
    train.save(tmp_path / "x", tree)
    assert_same(tree, train.load(tmp_path / "x"))


def test_a_train_state_needs_its_structure_when_the_optimiser_has_one(tmp_path):
    now = state()
    train.save(tmp_path / "x", now)
    with pytest.raises(fnn.InputError, match=r"structure of the tree; got .*EmptyState at opt_state/0; pass like="):
        train.load(tmp_path / "x")
    for like in (now, jax.eval_shape(state)):
        assert_same(now, train.load(tmp_path / "x", like=like))
    plain = train.TrainState(now.params, now.model_state, (), now.step, now.key)
    train.save(tmp_path / "x", plain)
    assert_same(plain, train.load(tmp_path / "x"))


def test_a_part_is_addressed_by_its_path(tmp_path):
    now = state()
    train.save(tmp_path / "x", now)
    assert_same(train.load(tmp_path / "x", part="params"), now.params)
    assert_same(train.load(tmp_path / "x", part="model_state/norm"), now.model_state["norm"])
    assert_same(train.load(tmp_path / "x", part="params/out/kernel"), now.params["out"]["kernel"])
    assert_same(train.load(tmp_path / "x", part="step"), now.step)
    assert_same(train.load(tmp_path / "x", now.opt_state, part="opt_state"), now.opt_state)
    for part, message in {
        "params/b": r"the part 'params/b'; got .*x without 'b'; name one of \['a', 'norm', 'out'\]",
        "params/a/bias/0": "without '0'; it has no parts",
        "state": "without 'state'; name one of .*'model_state'",
        "opt_state": r"structure of the tree; got .* with a EmptyState at 0; pass like=",
    }.items():
        with pytest.raises(fnn.InputError, match=message):
            train.load(tmp_path / "x", part=part)
    with pytest.raises(fnn.InputError, match="kernel is float32"):
        train.load(tmp_path / "x", jax.eval_shape(fnn.dense(5).init, jax.random.key(0), X)[0], part="params/a")
    with pytest.raises(fnn.InputError, match=r"a path such as params/conv1 for part; got 3; pass a string"):
        train.load(tmp_path / "x", part=3)


def test_all_differences_are_named_at_once(tmp_path):
    train.save(tmp_path / "x", {"a": jnp.ones(3), "b": jnp.ones(2), "c": jnp.ones(1), "k": jax.random.key(0)})
    like = {"a": jnp.ones(4), "b": jnp.ones(2, jnp.bfloat16), "d": jnp.ones(1), "k": jax.random.key(0, impl="rbg")}
    with pytest.raises(fnn.InputError) as caught:
        train.load(tmp_path / "x", like=like)
    for part in (
        "d is missing",
        "c is not expected",
        "a is float32 (3,), not float32 (4,)",
        "b is float32 (2,), not bfloat16 (2,)",
        "k is key<fry> (), not key<rbg> ()",
    ):
        assert part in str(caught.value)


def test_refuses_what_cannot_be_saved(tmp_path):
    now = jnp.ones(3)
    now.delete()
    for tree, message in (
        ({"w": now}, "a tree with live arrays; got one that was donated"),
        ({"w": {"v": "text"}}, "an array for w/v; got str"),
        ({1: jnp.ones(3)}, "strings as keys of the tree"),
        ({"w": np.array([None])}, "numbers for w; got an array of object"),
        ({"w": 1 << 70}, "w"),
        ({"w": jnp.ones(3, jnp.float8_e4m3fn)}, "an array of float8_e4m3fn"),
    ):
        with pytest.raises(fnn.InputError, match=message):
            train.save(tmp_path / "x", tree)
    with pytest.raises(fnn.InputError, match="an array with values for the tree; got one that JAX traces"):
        jax.jit(lambda x: train.save(tmp_path / "x", x))(jnp.ones(3))
    with pytest.raises(fnn.InputError, match="save expected a file; got the folder"):
        train.save(tmp_path, {})
    with pytest.raises(fnn.InputError, match=r"a file that can be written; got .*No such file"):
        train.save(tmp_path / "none" / "x", {})
    for bad in (3, "a\0b"):
        with pytest.raises(fnn.InputError, match="save expected a path"):
            train.save(bad, {})
    with pytest.raises(fnn.InputError, match=r"a file that can be read; got .*No such file"):
        train.load(tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_a_save_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    train.save(tmp_path / "x", {"a": jnp.ones(3)})
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(error))
    with pytest.raises(fnn.InputError if isinstance(error, OSError) else KeyboardInterrupt):
        train.save(tmp_path / "x", {"a": jnp.zeros(3)})
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert_same(train.load(tmp_path / "x"), {"a": jnp.ones(3)})


def test_a_symbolic_link_stays_and_permissions_are_the_usual(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "x")
    train.save(tmp_path / "link", {"a": jnp.ones(3)})
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "other").touch()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_older_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "x"
    path.touch(0o640)
    train.save(path, {"a": jnp.ones(3)})
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("f", [lambda path: train.save(path, {}), train.load], ids=["save", "load"])
def test_a_pipe_is_refused_at_once(tmp_path, f):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR)):  # so that the test fails instead of waiting
        for name in ("pipe", "link"):
            with pytest.raises(fnn.InputError, match="expected a regular file; got a pipe or a device"):
                f(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want names of text")
def test_names_that_are_no_text(tmp_path):
    folder, tree = os.fsencode(tmp_path), {"a": jnp.ones(3)}
    path = folder + b"/caf\xe9"
    train.save(path, tree)
    assert_same(train.load(path), tree)
    (tmp_path / "other").write_bytes(b"junk")
    os.replace(tmp_path / "other", path + b"-bad")
    os.mkdir(path + b"-dir")
    for call in (
        lambda: train.load(path + b"-none"),
        lambda: train.load(path + b"-bad"),
        lambda: train.load(path, like={"b": jnp.ones(3)}),
        lambda: train.save(path + b"-dir", tree),
        lambda: train.save(path + b"-none/x", tree),
    ):
        with pytest.raises(fnn.InputError) as caught:
            call()
        assert r"caf\xe9" in str(caught.value)
        str(caught.value).encode()


def test_sharded_arrays_are_saved_whole(tmp_path):
    mesh = jax.make_mesh((jax.device_count(),), ("d",))
    a = jax.device_put(np.arange(16.0, dtype="f"), jax.NamedSharding(mesh, jax.P("d")))
    train.save(tmp_path / "x", a)
    np.testing.assert_array_equal(train.load(tmp_path / "x"), np.arange(16))


def only_input_error(path, data):
    path.write_bytes(data)
    try:
        train.load(path)
    except fnn.InputError:
        return True
    return False


def test_damaged_files_raise_nothing_but_input_errors(tmp_path):
    path = tmp_path / "x"
    train.save(path, {"a": jnp.arange(3.0), "k": jax.random.key(0), "n": (1, None)})
    whole, draw = path.read_bytes(), random.Random(0)
    for end in range(0, len(whole), 3):
        assert only_input_error(path, whole[:end])
    for _ in range(700):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        only_input_error(path, bytes(data))
    for _ in range(100):
        only_input_error(path, draw.randbytes(draw.randrange(200)))


def archive(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name, data in members:
            out.writestr(name, data)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def test_hostile_files(tmp_path):
    leaf = {"kind": "leaf", "dtype": "float32", "shape": [2], "key": None, "number": None}
    text = lambda tree, leaves=1: json.dumps({"format": "fnn tree 1", "tree": tree, "leaves": leaves})  # noqa: E731
    good = [("tree.json", text(leaf)), ("0.npy", npy(np.ones(2, "f")))]
    assert not only_input_error(tmp_path / "x", archive(good))
    huge = npy(np.ones(2, "f")).replace(b"(2,), }", b"(2000000000000,), }")
    deep = '{"kind":"list","names":["0"],"nodes":[' * 5000 + "{}" + "]}" * 5000
    for members in (
        [*good, ("0.npy", npy(np.zeros(2, "f")))],
        [*good, ("1.npy", npy(np.zeros(2, "f")))],
        good[:1],
        good[1:],
        [good[0], ("0.npy", npy(np.array([None, {}])))],
        [good[0], ("0.npy", huge)],
        [good[0], ("0.npy", npy(np.ones(2, "i4")))],
        [good[0], ("0.npy", npy(np.ones(3, "f")))],
        [good[0], ("0.npy", b"")],
        *([("tree.json", text({**leaf, **wrong})), good[1]] for wrong in (
            {"shape": [1 << 61]}, {"shape": [-2]}, {"shape": 2}, {"shape": [2.0]}, {"dtype": "object"}, {"dtype": []},
            {"key": "none"}, {"key": 3}, {"number": "str"}, {"kind": 3}, {"kind": "dict"}, {"kind": []},
        )),
        [("tree.json", f'{{"format": "fnn tree 1", "tree": {deep}}}'), good[1]],
        [("tree.json", text({"kind": "dict", "names": ["a", "a"], "nodes": [leaf, leaf]}))],
        [("tree.json", "[]")], [("tree.json", b"\xff\xfe")], [("tree.json", '{"format": 1}')],
    ):  # fmt: skip
        assert only_input_error(tmp_path / "x", archive(members)), members
    bomb = archive([("tree.json", text(leaf)), ("0.npy", bytes(1 << 26))], zipfile.ZIP_DEFLATED)
    assert only_input_error(tmp_path / "x", bomb)


PROGRAM = """
import os, signal, sys, jax, numpy as np, optax, fnn
from fnn import train
layer, optimizer = fnn.serial(a=fnn.dense(4), d=fnn.dropout(0.5), out=fnn.dense(1)), optax.adam(0.01)
x = np.random.default_rng(0).normal(size=(8, 3)).astype("f")

def save(event):
    if event.kind == "epoch":
        train.save(path, event.train_state)
    if path == sys.argv[2] and event.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

step = train.make_step(layer, lambda y, t: (y[:, 0] - t) ** 2, optimizer)
for path in list(sys.argv[1:]):
    now, steps = train.init_state(layer, optimizer, jax.random.key(0), x), 3
    if os.path.exists(path):
        now = train.load(path, like=now)
        sys.argv[2] = ""  # once
    train.fit(step, now, [(x, x.sum(1))] * steps, epochs=4, first_epoch=int(now.step) // steps, callbacks=[save])
"""


@pytest.mark.long
def test_a_run_that_is_killed_and_continued_equals_one_that_was_not(tmp_path):
    for status in (-9, 0):  # the second goes on where the first was killed
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "whole"), str(tmp_path / "killed")]
        done = subprocess.run(words, cwd=Path(fnn.__file__).parents[1], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert (tmp_path / "killed").exists()
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["killed", "whole"]
