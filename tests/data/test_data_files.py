"""Whatever lies in a file or under its name: an array, or InputError, and never more memory than there are bytes."""

import gzip
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import fnn
from fnn.data import mnist, read_idx
from tests.data.test_data import CODES, IMAGES, LABELS, idx_bytes


def header(*sizes, code=8, order=">u4"):
    return bytes([0, 0, code, len(sizes)]) + np.array(sizes, order).tobytes()


SMALL = np.arange(12, dtype=np.int16).reshape(3, 4)
VALID = {
    "labels": idx_bytes(LABELS),
    "shorts": idx_bytes(SMALL),
    "floats": idx_bytes(np.linspace(0, 1, 6).reshape(1, 2, 3)),
    "gzip": gzip.compress(idx_bytes(IMAGES[:, :5, :5]), mtime=0),
    "gzip in two members": gzip.compress(VALUES := idx_bytes(SMALL)[:9], mtime=0)
    + gzip.compress(idx_bytes(SMALL)[len(VALUES) :], mtime=0),
}


def broken(content, random):
    """The same bytes with some flipped, cut off, put in or exchanged; half of the time near the start."""
    content = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, 1 + (min(20, len(content)) if random.randint(2) else len(content)))
        match random.randint(5):
            case 0:
                content[at : at + 1] = bytes([random.randint(256)])
            case 1:
                del content[at:]
            case 2:
                content[at:at] = random.bytes(random.randint(1, 9))
            case 3:
                del content[at : at + random.randint(1, 9)]
            case 4:
                content[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1", b"\x7f\0\0\0"])
    return bytes(content)


def fuzz(path, rounds, seed):
    """How many of the broken files could be read."""
    random, read = np.random.RandomState(seed), 0
    for i in range(rounds):
        content = broken(list(VALID.values())[i % len(VALID)], random)
        if random.randint(8) == 0:
            content = gzip.compress(content)
        path.write_bytes(content)
        try:
            array = read_idx(path)
        except fnn.InputError:
            continue
        assert array.nbytes <= 1032 * len(content)
        read += 1
    return read


def test_bytes_at_random(tmp_path):
    assert 0 < fuzz(tmp_path / "x", 600, seed=0) < 300  # both happen


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 3))
def test_more_bytes_at_random(tmp_path, seed):
    fuzz(tmp_path / "x", 3000, seed)


def test_every_cut_and_every_byte_of_a_header(tmp_path):
    path = tmp_path / "x"
    for content in VALID.values():
        for n in {*range(min(40, len(content))), len(content) - 1}:
            path.write_bytes(content[:n])
            with pytest.raises(fnn.InputError):
                read_idx(path)
    for place in range(4):
        for value in range(0, 256, 1 + 4 * (place < 2)):
            path.write_bytes(VALID["shorts"][:place] + bytes([value]) + VALID["shorts"][place + 1 :])
            if value != VALID["shorts"][place]:
                with pytest.raises(fnn.InputError):
                    read_idx(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(*[1] * 70) + b"\0", "at most 64 axes; got 70"),
        (header(*[1] * 255) + b"\0", "at most 64 axes; got 255"),
        (header(2**32 - 1, 0), r"the header of a possible array; got shape \(4294967295, 0\)|"),
        (header(2**32 - 1, 2**32 - 1, 0), r"the header of a possible array; got shape \(4294967295, 4294967295, 0\)"),
        (header(2**32 - 1, 2**31, 0, code=0x0E), "the header of a possible array"),
        (header(*[2**32 - 1] * 64), "truncated"),
        (
            header(60000, 28, 28, order="<u4") + bytes(99),
            "truncated; its sizes are byte-swapped, probably; write sizes",
        ),
        (header(5, 3, order="<u4") + bytes(15), r"truncated; its sizes are byte-swapped, probably; write"),
        (header(300, order="<u4") + bytes(300), r"its sizes are byte-swapped, probably; write sizes and elements most"),
        (header(65536) + bytes(65535), "truncated; download it again"),
        (header(5, 0) + bytes(3), "with trailing bytes; download it again"),
        (idx_bytes(LABELS)[:4][::-1] + idx_bytes(LABELS)[4:], r"got bytes 01 08 00 00, byte-swapped, probably"),
        (idx_bytes(SMALL) + bytes(10**6), r"36 bytes for int16 of shape \(3, 4\); got .*, with trailing bytes"),
    ],
)
def test_headers_of_no_possible_array(tmp_path, content, message, pack):
    (tmp_path / "x").write_bytes(pack(content))
    if message.endswith("|"):  # NumPy knows an empty array of this shape
        assert read_idx(tmp_path / "x").shape == (2**32 - 1, 0)
        return
    with pytest.raises(fnn.InputError, match=message):
        read_idx(tmp_path / "x")


def test_arrays_without_axes_or_elements_and_numbers_as_they_are(tmp_path):
    for array in (np.float32(2.5), np.zeros((0, 3), np.uint8), np.array([np.nan, -np.inf, -0.0])):
        (tmp_path / "x").write_bytes(idx_bytes(np.asarray(array)))
        np.testing.assert_array_equal(read_idx(tmp_path / "x"), array)


@pytest.mark.parametrize(
    ("content", "most"),
    [
        (header(2**31) + bytes(100), 2**20),
        (gzip.compress(header(3) + bytes(2**26)), 2**22),
        (gzip.compress(header(2**31) + bytes(2**20)), 2**22),
        (gzip.compress(header(2**30, 2**30) + bytes(2**26)), 2**22),
        (gzip.compress(header(2**24, order="<u4") + bytes(2**26)), 2**22),
    ],
    ids=["promises", "bomb", "promises, packed", "promises more, packed", "swapped"],
)
def test_memory_is_bounded(tmp_path, content, most):
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(fnn.InputError):
            read_idx(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_trailing_garbage_and_damaged_members(tmp_path):
    packed = VALID["gzip"]
    for content in (packed + b"garbage", packed[:-4] + b"\0\0\0\0"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(fnn.InputError, match="a whole gzip file; got a damaged one"):
            read_idx(tmp_path / "x")
    (tmp_path / "x").write_bytes(packed + bytes(512))  # a tape's padding
    assert read_idx(tmp_path / "x").shape == (3, 5, 5)
    (tmp_path / "x").write_bytes(packed + packed)
    with pytest.raises(fnn.InputError, match="at least 92, with trailing bytes"):
        read_idx(tmp_path / "x")


def test_names_of_every_kind(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(idx_bytes(LABELS))
    for name in (str(path), os.fsencode(path), path):
        np.testing.assert_array_equal(read_idx(name), LABELS)
    for name, message in [
        (None, "a path; got None"),
        (0, "a path; got 0"),  # a file number, on which `open` would wait
        ("", "an IDX file; got a folder"),
        (tmp_path, "an IDX file; got a folder"),
        ("a\0b", "an IDX file; got"),
        ("x" * 5000, "cannot be read"),
        (path / "below", "cannot be read|no file"),
        (b"\xff\xfe", r"no file \\xff\\xfe"),
        ("/dev/zero", "a pipe or a device: /dev/zero"),
    ]:
        with pytest.raises(fnn.InputError, match=message) as caught:
            read_idx(name)
        print(caught.value)  # which half an encoded character could not be
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(fnn.InputError, match="a pipe or a device"):
        read_idx(tmp_path / "pipe")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(fnn.InputError, match="cannot be read"):
        read_idx(loop)


def test_what_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(idx_bytes(LABELS))

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    for name in ("open", "stat", "iterdir"):  # root may read everything, so permissions alone would show nothing
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, denied)
            with pytest.raises(fnn.InputError, match=r"cannot be read \(Permission denied\); check the path and"):
                (mnist if name == "iterdir" else read_idx)(tmp_path if name == "iterdir" else tmp_path / "x")


def write(folder, name, array, pack=bytes):
    (folder / name).write_bytes(pack(idx_bytes(array)))


@pytest.fixture
def folder(tmp_path):
    for prefix, n in (("train", 3), ("t10k", 2)):
        write(tmp_path, f"{prefix}-images-idx3-ubyte", IMAGES[:n])
        write(tmp_path, f"{prefix}-labels-idx1-ubyte", LABELS[:n])
    return tmp_path


def test_mnist_whatever_the_capitals(folder):
    want = mnist(folder)
    for i, path in enumerate(sorted(folder.iterdir())):
        name = (path.name.upper() if i % 2 else path.name) + (".GZ" if i < 3 else "")
        content = path.read_bytes()
        path.unlink()
        (folder / name).write_bytes(gzip.compress(content) if i < 3 else content)
    got = mnist(os.fsencode(folder))
    np.testing.assert_array_equal(got.train.images, want.train.images)
    np.testing.assert_array_equal(got.test.labels, want.test.labels)


@pytest.mark.parametrize("prefix", ["train", "t10k"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_mnist_labels_outside_the_classes(folder, prefix, dtype):
    n = {"train": 3, "t10k": 2}[prefix]
    info = np.iinfo(dtype)
    for label in {10, int(info.min) or 10, int(info.max)}:
        labels = LABELS[:n].astype(dtype)
        labels[1] = label
        write(folder, f"{prefix}-labels-idx1-ubyte", labels)
        with pytest.raises(fnn.InputError, match=rf"mnist \({prefix}\) expected labels in \[0, 10\); got {label}, the"):
            mnist(folder)
        if 0 <= label < 2**31 - 1:
            assert mnist(folder, classes=label + 1)[prefix == "t10k"].labels[1] == label


def test_mnist_images_of_two_sizes(folder):
    write(folder, "t10k-images-idx3-ubyte", IMAGES[:2, :27])
    with pytest.raises(fnn.InputError, match=r"mnist \(t10k\) expected images of 28x28, as in train; got 27x28"):
        mnist(folder)


def test_mnist_arguments(folder):
    assert mnist(folder, size=np.int64(28)).train.images.shape == (3, 28, 28, 1)
    for call, message in [
        (lambda: mnist(folder, size=28.0), "size >= 1; got 28.0"),
        (lambda: mnist(folder, size="28"), "size >= 1; got '28'"),
        (lambda: mnist(folder, classes=0), "classes from 1 to .*; got 0"),
        (lambda: mnist(None), "a path; got None"),
        (lambda: mnist("a\0b"), "a folder with IDX files; got a"),
        (lambda: mnist(folder / "train-images-idx3-ubyte"), "a folder with IDX files; got .*pass the folder"),
    ]:
        with pytest.raises(fnn.InputError, match=message):
            call()


def test_mnist_of_bytes_at_random(folder):
    random, names = np.random.RandomState(5), sorted(path.name for path in folder.iterdir())
    good = {name: (folder / name).read_bytes() for name in names}
    for i in range(80):
        name = names[i % 4]
        (folder / name).write_bytes(broken(good[name], random))
        try:
            split = mnist(folder)
        except fnn.InputError:
            pass
        else:
            assert split.train.images.shape[1:] == split.test.images.shape[1:] == (32, 32, 1)
            assert all(0 <= data.labels.min() <= data.labels.max() < 10 for data in split)
        (folder / name).write_bytes(good[name])


def test_codes_are_those_of_the_reader():
    assert set(CODES.values()) == set(fnn.data.idx.TYPES)
