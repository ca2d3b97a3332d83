"""Digits, IDX files and batches."""

import gc
import gzip
import sys
import tracemalloc
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data import batches, digits, mnist, read_idx

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(array):
    """The array as an IDX file."""
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = (np.arange(3 * 28 * 28) % 256).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([7, 0, 9], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A folder in MNIST's form: 3 images for training, 2 for testing."""
    for prefix, n in (("train", 3), ("t10k", 2)):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES[:n]))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:n]))
    return tmp_path


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_idx_round_trip(tmp_path, dtype, pack):
    info = np.iinfo(dtype) if "int" in dtype else np.finfo(dtype)
    array = np.array([[info.min, 1, 2], [3, 4, info.max]], dtype)
    (tmp_path / "x").write_bytes(pack(idx_bytes(array)))
    got = read_idx(tmp_path / "x")
    assert got.dtype == array.dtype
    assert got.dtype.isnative
    assert got.flags.writeable
    np.testing.assert_array_equal(got, array)
    assert read_idx(str(tmp_path / "x")).shape == (2, 3)


GOOD = idx_bytes(LABELS)
ZIPPED = gzip.compress(GOOD, mtime=0)
DAMAGED = {
    "empty": (b"", r"an IDX header.*got bytes ;"),
    "three bytes": (b"\0\0\x08", r"an IDX header.*got bytes 00 00 08"),
    "no zeros": (b"PNG" + GOOD, r"an IDX header.*got bytes 50 4e 47"),
    "unknown type": (b"\0\0\x0a" + GOOD[3:], r"an IDX header.*got bytes 00 00 0a"),
    "half a header": (GOOD[:6], r"an IDX header.*got bytes 00 00 08 01 00 00"),
    "truncated": (GOOD[:-1], r"11 bytes for uint8 of shape \(3,\); got 10, truncated"),
    "trailing": (GOOD + b"!", r"11 bytes for uint8 of shape \(3,\); got 12, with trailing bytes"),
    "huge": (b"\0\0\x0e\x02" + b"\xff" * 8, r"147573952520956936212 bytes for float64.*got 12, truncated"),
    "gzip: truncated": (ZIPPED[:-9], r"a whole gzip file; got a damaged one"),
    "gzip: no gzip after all": (b"\x1f\x8b junk", r"a whole gzip file; got a damaged one"),
    "gzip: bad checksum": (ZIPPED[:-6] + b"abcdef", r"a whole gzip file; got a damaged one"),
    "gzip: bad block": (ZIPPED[:10] + b"\xff" * 20, r"a whole gzip file; got a damaged one"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_read_idx_names_what_is_wrong(tmp_path, content, message):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(fnn.InputError, match=rf"read_idx\(bad\) expected {message}"):
        read_idx(tmp_path / "bad")


def test_read_idx_without_a_file(tmp_path):
    with pytest.raises(fnn.InputError, match=r"an IDX file; got no file .*absent"):
        read_idx(tmp_path / "absent")


def test_reading_leaves_no_file_open(folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        mnist(folder)
        gc.collect()
    assert not [w for w in caught if str(folder) in str(w.message)]


def test_mnist_pads_and_scales(folder):
    train, test = mnist(folder)
    assert train.images.shape == (3, 32, 32, 1)
    assert test.images.shape == (2, 32, 32, 1)
    assert train.images.dtype == np.float32
    assert train.labels.dtype == np.int32
    np.testing.assert_array_equal(train.images[:, 2:30, 2:30, 0], IMAGES.astype(np.float32) / 255)
    assert train.images.sum() == pytest.approx(IMAGES.sum() / 255, rel=1e-5)
    np.testing.assert_array_equal(train.labels, LABELS)
    np.testing.assert_array_equal(test.labels, LABELS[:2])
    assert mnist(folder, size=28).train.images.shape == (3, 28, 28, 1)
    np.testing.assert_array_equal(mnist(folder, 29).train.images[:, :28, :28], mnist(folder, 28).train.images)


def test_mnist_under_its_other_names(folder):
    want = mnist(folder)
    for i, path in enumerate(sorted(folder.iterdir())):
        content = path.read_bytes()
        path.unlink()
        name = path.name.replace("-idx", ".idx") if i % 2 else path.name
        (folder / (name + ".gz" if i < 3 else name)).write_bytes(gzip.compress(content) if i < 3 else content)
    got = mnist(str(folder))
    for a, b in zip((*want.train, *want.test), (*got.train, *got.test), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mnist_errors(folder):
    def expect(message, *args, **kwargs):
        with pytest.raises(fnn.InputError, match=message):
            mnist(*args, **kwargs)

    expect("a folder with IDX files; got .*absent", folder / "absent")
    expect(r"mnist \(train\) expected size >= 28.*got 20", folder, size=20)
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(LABELS))
    expect(r"mnist \(t10k\) expected a label for each of 2 images; got 3 labels", folder)
    labels.write_bytes(idx_bytes(IMAGES))
    expect(r"uint8 images \(N, H, W\) and integer labels \(N,\).*exchanged", folder)
    labels.unlink()
    expect(r"one of t10k-labels-idx1-ubyte, t10k-labels-idx1-ubyte.gz, t10k-labels.idx1-ubyte.*none of them", folder)
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES[:0]))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:0]))
    expect(r"mnist \(train\) expected at least one image; got shape \(0, 28, 28\)", folder)


@pytest.fixture(scope="module")
def small_digits():
    return digits(size=8)


def test_digits_are_all_there_once_and_stratified(small_digits):
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    train, test = small_digits
    for data, n in ((train, 1438), (test, 359)):
        assert data.images.shape == (n, 8, 8, 1)
        assert (data.images.dtype, data.labels.dtype) == (np.float32, np.int32)
        assert (data.images.min(), data.images.max()) == (0, 1)
    rows = np.concatenate([data.images.reshape(-1, 64) * 16 for data in small_digits]).astype(int)
    targets = np.concatenate([train.labels, test.labels])
    key = np.column_stack([rows, targets])
    want = np.column_stack([pixels.astype(int), labels])
    np.testing.assert_array_equal(key[np.lexsort(key.T)], want[np.lexsort(want.T)])
    share = np.bincount(test.labels) / np.bincount(labels)
    np.testing.assert_allclose(share, 0.2, atol=0.003)


def test_the_split_of_digits_is_fixed(small_digits):
    """These numbers must never change: results of different versions would no longer be comparable."""
    assert small_digits.test.labels[:12].tolist() == [0, 4, 4, 9, 1, 7, 9, 8, 3, 7, 7, 2]
    assert small_digits.train.labels[:12].tolist() == [5, 5, 5, 5, 2, 7, 7, 5, 5, 0, 1, 5]
    assert (digits(size=8, seed=1).test.labels != small_digits.test.labels).any()


def test_digits_resize(small_digits):
    big = digits(size=16)
    assert big.train.images.shape == (1438, 16, 16, 1)
    assert big.train.images.min() >= 0
    assert big.train.images.max() <= 1
    np.testing.assert_array_equal(big.test.labels, small_digits.test.labels)
    means = [data.test.images.mean((1, 2, 3)) for data in (big, small_digits)]
    np.testing.assert_allclose(*means, atol=0.02)


def test_digits_errors(monkeypatch):
    with pytest.raises(fnn.InputError, match="digits expected size >= 1; got 0"):
        digits(size=0)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "fnn\[examples\]"'):
        digits()


DATA = fnn.data.Data(np.arange(10.0)[:, None], np.arange(10))


def labels_of(batches):
    return [y.tolist() for _, y in batches]


def test_batches_in_order():
    pairs = batches(DATA, 4)
    assert labels_of(pairs) == labels_of(pairs) == labels_of(pairs.epoch(3)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(pairs) == 3
    assert [x.shape for x, _ in pairs] == [(4, 1), (4, 1), (2, 1)]
    assert len(batches(DATA, 5)) == len(labels_of(batches(DATA, 5))) == 2
    assert len(batches(DATA, 50)) == 1


def test_drop_last():
    pairs = batches(DATA, 4, seed=0, drop_last=True)
    assert len(pairs) == len(labels_of(pairs)) == 2
    assert all(len(y) == 4 for y in labels_of(pairs))
    assert len(batches(DATA, 10, drop_last=True)) == 1


def test_shuffled_epochs_hold_every_example_once_with_its_label():
    pairs = batches(DATA, 4, seed=3)
    for epoch in range(3):
        xs, ys = zip(*pairs.epoch(epoch), strict=True)
        np.testing.assert_array_equal(np.concatenate(xs)[:, 0], np.concatenate(ys))
        np.testing.assert_array_equal(np.sort(np.concatenate(ys)), np.arange(10))


def test_the_order_depends_on_seed_and_epoch_alone():
    first, second = batches(DATA, 4, seed=3), batches(DATA, 4, seed=3)
    passes = [labels_of(first) for _ in range(3)]
    assert len({str(p) for p in passes}) == 3
    assert labels_of(second.epoch(2)) == passes[2]
    assert labels_of(second.epoch(2)) == passes[2]
    assert labels_of(second) == passes[0]
    assert labels_of(batches(DATA, 4, seed=4)) != passes[0]


def test_a_pass_that_is_not_finished_still_counts():
    pairs = batches(DATA, 4, seed=3)
    next(iter(pairs))
    assert labels_of(pairs) == labels_of(pairs.epoch(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batches(DATA, 0), r"batch_size >= 1; got 0"),
        (lambda: batches(DATA, 2.5), r"batch_size >= 1; got 2.5"),
        (lambda: batches(DATA, 2, seed=-1), r"seed from 0 to .*got -1"),
        (lambda: batches(DATA, True), r"batch_size >= 1; got True"),
        (
            lambda: batches(DATA, 2, seed=jax.random.key(0)),
            r"an integer seed from 0 to .*; got .*key.*; pass such an integer, not a key",
        ),
        (
            lambda: batches(DATA, 2, seed=jax.random.PRNGKey(0)),
            r"an integer seed from 0 to .*; got .*; pass such an integer, not a key",
        ),
        (lambda: batches(DATA, 2, seed=np.random.default_rng(0)), r"seed from 0 to .*got Generator"),
        (lambda: batches(DATA, 2, seed=2**32), r"seed from 0 to .*got 4294967296"),
        (lambda: batches(None, 2), r"a tree of arrays \(N, ...\); got None"),
        (lambda: batches({}, 2), r"a tree of arrays \(N, ...\); got dict without any"),
        (lambda: batches((None, None), 2), r"a tree of arrays \(N, ...\); got tuple without any"),
        (lambda: batches({1: np.ones(3), "a": np.ones(3)}, 2), r"a tree of arrays .*; got what is no tree"),
        (
            lambda: batches([1, 2, 3], 2),
            r"an array \(N, ...\) at \[0\]; got int 1; convert lists of numbers",
        ),
        (lambda: batches({"x": np.ones(3), "y": [1, 2, 3]}, 2), r"at \['y'\]\[0\]; got int 1; convert"),
        (lambda: batches((np.ones(3), "abc"), 2), r"an array \(N, ...\) at \[1\]; got str 'abc'"),
        (lambda: batches((np.ones(3), lambda i: i), 2), r"an array \(N, ...\) at \[1\]; got function"),
        (lambda: batches((np.ones(3), object()), 2), r"an array \(N, ...\) at \[1\]; got object"),
        (lambda: batches((np.ones(3), np.float32(2)), 2), r"at \[1\]; got one number of dtype float32"),
        (lambda: batches((np.ones(3), jnp.ones(())), 2), r"at \[1\]; got one number of dtype float32"),
        (lambda: batches((np.ones(3), np.array(["a", "b", "c"])), 2), r"an array of numbers at \[1\]; got dtype <U1"),
        (lambda: batches((np.ones(3), np.array([1, None, 2])), 2), r"an array of numbers at \[1\]; got dtype object"),
        (lambda: batches((np.ones(3), np.ndarray), 2), r"at \[1\]; got "),
        (lambda: batches((np.ones(3), np.zeros(3, "M8[s]")), 2), r"an array of numbers at \[1\]; got dtype date"),
        (lambda: batches((np.ones(3), np.ma.masked_equal([1, 2, 3], 2)), 2), r"a masked one"),
        (
            lambda: batches(jax.random.split(jax.random.key(0), 3), 2),
            r"an array \(N, ...\); got keys of dtype key",
        ),
        (lambda: jax.jit(lambda x: batches(x, 2))(np.ones(3)), r"Tracer that NumPy cannot read .*outside of jit"),
        (lambda: batches({"x": np.ones(3), "y": np.ones(2)}, 2), r"one length; got 3 at \['x'\], 2 at \['y'\]"),
        (lambda: batches(DATA, 2, seed=0, augment=2), r"augment\(x, random\) or None; got 2"),
        (lambda: batches(DATA, 2, seed=0).epoch(0.5), r"epoch >= 0; got 0.5"),
        (lambda: batches(DATA, 2, seed=0).epoch(2**32), r"epoch from 0 to .*; got 4294967296"),
        (lambda: batches((np.ones(3), np.ones(2)), 2), r"arrays of one length; got \[3, 2\]"),
        (lambda: batches((np.ones(0), np.ones(0)), 2), r"at least one example; got none"),
        (lambda: batches(DATA, 11, drop_last=True), r"a full batch of 11 with drop_last; got 10 examples"),
        (lambda: batches(DATA, 2).epoch(-1), r"epoch >= 0; got -1"),
    ],
)
def test_batches_errors(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()


class Point(NamedTuple):
    """A tree of the user's."""

    x: dict
    weight: np.ndarray


TREES = {
    "array": np.arange(10),
    "dict": {"image": np.arange(10.0)[:, None], "label": np.arange(10)},
    "x of several arrays": ({"a": np.arange(10), "b": np.arange(10.0)[:, None]}, np.arange(10)),
    "list": [np.arange(10), (np.arange(10) * 10,)],
    "named": Point({"a": np.arange(10)}, np.arange(10.0)),
    "data": DATA,
    "without labels": (np.arange(10), None),
    "on a device": (jnp.arange(10), jnp.arange(10, dtype=jnp.bfloat16)),
    "of every type": [np.arange(10).astype(t) for t in ("bool", "uint8", "float16", "complex64")],
}


@pytest.mark.parametrize("data", TREES.values(), ids=TREES)
def test_batches_of_any_tree(data):
    for options in ({}, {"seed": np.uint32(1)}, {"seed": 1, "drop_last": True}):
        loader = batches(data, np.int64(4), **options)
        cut = list(loader)
        order = np.concatenate([jax.tree.leaves(batch)[0] for batch in cut]).ravel().astype(int)
        for i, batch in enumerate(cut):
            rows = order[4 * i : 4 * i + 4] if data is not TREES["of every type"] else None
            assert jax.tree.structure(batch) == jax.tree.structure(data)
            assert type(batch) is type(data) or not isinstance(data, tuple)
            for got, all_of_it in zip(jax.tree.leaves(batch), jax.tree.leaves(data), strict=True):
                assert isinstance(got, np.ndarray)
                assert got.dtype == all_of_it.dtype
                if rows is not None:
                    np.testing.assert_array_equal(got, np.asarray(all_of_it)[rows])
        assert len(cut) == len(loader) == (2 if "drop_last" in options else 3)


def test_arrays_in_mapped_files_stay_there(tmp_path):
    mapped = np.memmap(tmp_path / "x", np.uint8, "w+", shape=(2**26,))
    tracemalloc.start()
    next(iter(batches({"x": mapped}, 8)))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_trees_go_through_training_and_evaluation():
    rows = {"a": np.ones((6, 2), np.float32), "b": np.ones((6, 3), np.float32)}
    net = fnn.serial(join=fnn.lift(lambda p, x: jnp.concatenate([x["a"], x["b"]], -1)), out=fnn.dense(2))
    optimizer = optax.sgd(0.1)
    now = fnn.train.init_state(net, optimizer, jax.random.key(0), jax.tree.map(lambda a: a[:1], rows))
    step = fnn.train.make_step(net, fnn.softmax_cross_entropy, optimizer)
    loader = batches((rows, np.zeros(6, np.int32)), 3, seed=0)
    now, history = fnn.train.fit(step, now, loader, epochs=3, progress=False)
    assert history[-1]["loss"] < history[0]["loss"]
    assert fnn.train.evaluate(net, now, loader, {"accuracy": fnn.accuracy}) == {"accuracy": 1}


@pytest.mark.parametrize("name", TREES)
def test_augment_gets_the_first_part_of_a_tuple_or_else_the_whole(name):
    data, seen = TREES[name], []

    def keep(x, random):
        seen.append(jax.tree.structure(x))
        return jax.tree.map(lambda a: a + a, x)

    batch = next(iter(batches(data, 4, seed=0, augment=keep)))
    plain = next(iter(batches(data, 4, seed=0)))
    first = data[0] if isinstance(data, tuple | list) else data
    assert seen == [jax.tree.structure(first)]
    assert jax.tree.structure(batch) == jax.tree.structure(data)
    changed = len(jax.tree.leaves(first))
    for i, (a, b) in enumerate(zip(jax.tree.leaves(batch), jax.tree.leaves(plain), strict=True)):
        np.testing.assert_array_equal(a, b + b if i < changed else b)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda x, random: None, r"augment expected x to stay .* with \[\(4,\)\]; got .* with \[\]"),
        (lambda x, random: x[:3], r"x to stay .* with \[\(4,\)\]; got .* with \[\(3,\)\]"),
        (lambda x, random: (x, x), r"x to stay .*; got .*return x in the form in which it came"),
        (lambda x, random: x.tolist(), r"x to stay .*; got "),
        (lambda x, random: 3, r"x to stay .*; got .* with \[\(\)\]"),
    ],
)
def test_augment_may_change_numbers_alone(augment, message):
    with pytest.raises(fnn.InputError, match=message):
        next(iter(batches(DATA, 4, seed=0, augment=augment)))


def test_random_shift_moves_each_image_and_lets_zeros_in():
    images = np.zeros((200, 5, 7, 1), np.float32)
    images[:, 2, 3] = 1
    moved = fnn.data.random_shift(2)(images, np.random.RandomState(0))
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    places = {tuple(place) for place in np.argwhere(moved[..., 0])[:, 1:]}
    assert places == {(row, column) for row in range(5) for column in range(1, 6)}
    np.testing.assert_array_equal(moved.sum((1, 2, 3)), np.ones(200))
    corner = np.ones((50, 3, 3, 1), np.float32)
    assert fnn.data.random_shift(1)(corner, np.random.RandomState(0)).sum() < corner.sum()


def test_augmentation_depends_on_seed_and_epoch_alone():
    pairs = (np.random.RandomState(1).rand(6, 4, 4, 1), np.arange(6))

    def epoch(i, seed=3):
        loader = fnn.data.batches(pairs, 3, seed=seed, augment=fnn.data.random_shift(1))
        return np.concatenate([images for images, _ in loader.epoch(i)])

    np.testing.assert_array_equal(epoch(1), epoch(1))
    assert not np.array_equal(np.sort(epoch(1), axis=0), np.sort(epoch(2), axis=0))
    assert not np.array_equal(np.sort(epoch(1), axis=0), np.sort(epoch(1, seed=4), axis=0))


def test_digits_with_a_margin():
    framed, plain = fnn.data.digits(size=12, margin=2).test.images, fnn.data.digits(size=8).test.images
    np.testing.assert_array_equal(framed[:, 2:-2, 2:-2], plain)
    assert framed.sum() == plain.sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnn.data.random_shift(-1), "most >= 0"),
        (lambda: fnn.data.random_shift(1.0), "most >= 0; got 1.0"),
        (
            lambda: fnn.data.random_shift(1)({"x": 1}, np.random.RandomState(0)),
            r"images \(N, H, W, C\); got a dict",
        ),
        (lambda: fnn.data.digits(size=8, seed=-1), r"seed from 0 to 4294967295; got -1"),
        (lambda: fnn.data.digits(size=8, seed=jax.random.key(0)), r"an integer seed from 0 to .*; got .*key"),
        (lambda: fnn.data.digits(size="8"), "size >= 1; got '8'"),
        (lambda: fnn.data.digits(size=8, margin=-1), "margin >= 0"),
        (lambda: fnn.data.random_shift(1)(np.ones((3, 4)), np.random.RandomState(0)), r"images \(N, H, W, C\)"),
        (lambda: fnn.data.batches((np.ones(3),), 1, augment=lambda x, r: x), "a seed with augment"),
        (lambda: fnn.data.digits(size=8, margin=4), "a margin >= 0 that leaves some of 8 pixels"),
    ],
)
def test_augmentation_errors(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()
