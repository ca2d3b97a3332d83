"""oneDNN's convolutions and matrix products against the plain ones, alone and inside every transformation."""

import contextlib
import functools
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import PartitionSpec as P

import fnn
from fnn.kernels import matrices
from fnn.kernels.call import _compiled, call
from fnn.kernels.library import TARGET, Kernels, computes, lacking
from fnn.ops.convolution import direct, onednn, tables
from fnn.ops.convolution.spec import ConvSpec
from fnn.ops.dense import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT
from tests.helpers import assert_same, integers

needs_kernels = pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")
SPEC = ConvSpec((6, 5), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
X, W = integers(0, (5, 6, 5, 4)), integers(1, (3, 3, 4, 6))


@pytest.fixture(autouse=True)
def single():
    with fnn.placement("single"):
        yield


def drawn(seed):
    """A configuration at random with small integers, whose sums are exact: None where oneDNN does not take it."""
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
    sizes, window, stride, dilation = (
        tuple(rng.integers(low, high, rank).tolist()) for low, high in ((4, 9), (1, 4), (1, 4), (1, 3))
    )
    padding = tuple(map(tuple, rng.integers(0, 3, (rank, 2)).tolist()))
    c, k = (int(n) for n in rng.integers(1, 5, 2))
    spec = ConvSpec(sizes, stride, padding, dilation, groups)
    x = integers(seed, (int(rng.integers(1, 6)), *sizes, groups * c))
    w = integers(seed + 1, (*window, c, groups * k))
    return (spec, x, w) if onednn.fits(spec, x, w) else None


def marks_of(seed):
    """All 2,000 take a quarter of an hour."""
    return [pytest.mark.long] * (seed >= 12) + [pytest.mark.widest] * (seed >= 300)


def assert_products(spec, x, w):
    y = direct.forward(spec, x, w)
    dy = integers(9, y.shape).astype(y.dtype)
    assert_same(onednn.forward(spec, x, w), y)
    assert_same(onednn.input_gradient(spec, dy, w), direct.input_gradient(spec, dy, w))
    assert_same(onednn.kernel_gradient(spec, x, dy, w=w), direct.kernel_gradient(spec, x, dy, w=w))


def narrow(*args):
    if not computes(jnp.zeros(0, jnp.bfloat16)):
        pytest.skip("this processor multiplies no bfloat16")
    return tuple(a.astype(jnp.bfloat16) for a in args)


@needs_kernels
@pytest.mark.parametrize("seed", [pytest.param(seed, marks=marks_of(seed)) for seed in range(2000)])
def test_products_at_random(seed):
    configuration = drawn(seed)
    if configuration is not None:
        assert_products(*configuration)


@needs_kernels
@pytest.mark.parametrize("seed", [pytest.param(seed, marks=marks_of(10 * seed)) for seed in range(20)])
def test_products_at_random_in_bfloat16(seed):
    """A sum of integers is exact in float32, and then rounded once."""
    configuration = drawn(seed)
    if configuration is not None:
        spec, *arrays = configuration
        assert_products(spec, *narrow(*arrays))


@needs_kernels
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "along", "columns"), [(1, 3, 2), (7, 5, 1), (33, 17, 40), (256, 64, 48)])
def test_products_of_matrices(dtype, rows, along, columns):
    x, w, dy = integers(0, (rows, along)), integers(1, (along, columns)), integers(2, (rows, columns))
    x, w, dy = narrow(x, w, dy) if dtype == "bfloat16" else (x, w, dy)
    for a, b, across in ((x, w, (1, 0)), (dy, w, (1, 1)), (x, dy, (0, 0))):
        times = functools.partial(matrices.times, across=across)
        plain = functools.partial(matrices._plain, across)
        assert_same(jax.jit(times)(a, b), plain(a, b))
        for axes in ((0, None), (None, 0), (0, 0)):
            members = [jnp.stack([m, m + 1]) if axis == 0 else m for m, axis in zip((a, b), axes, strict=True)]
            assert_same(jax.vmap(times, axes)(*members), jax.vmap(plain, axes)(*members))


@needs_kernels
def test_dense_takes_it_where_it_won():
    def chosen(table, dtype, *shape):
        return table.chosen(None, jnp.zeros(shape, dtype), jnp.zeros((shape[-1], 64), dtype)).name == "onednn"

    has = computes(jnp.zeros(0, jnp.bfloat16))
    for table in (FORWARD, INPUT_GRADIENT):
        assert not chosen(table, "float32", 512, 64)
        assert chosen(table, "bfloat16", 8, 64, 64) == has
        assert not chosen(table, "bfloat16", 8, 64)
    assert chosen(KERNEL_GRADIENT, "float32", 16, 16, 64)
    assert not chosen(KERNEL_GRADIENT, "float32", 16, 64)
    assert not chosen(KERNEL_GRADIENT, "float32", 64)


@needs_kernels
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
@pytest.mark.parametrize(("c", "k"), [(4, 6), (16, 40), (64, 32)])
def test_batches_that_slices_do_not_divide(batch, c, k):
    """The last slice has a primitive, layouts and copies of its own."""
    assert_products(SPEC, integers(0, (batch, 6, 5, c)), integers(1, (3, 3, c, k)))


def without_jit(f):
    with jax.disable_jit():
        return f(X, W)


def transformed(forward):
    """The same results by way of each transformation."""
    f = functools.partial(forward, SPEC)
    many = jnp.stack([X, X + 1])
    kernels = jnp.stack([W, W - 1])

    def scanned(x, w):
        return jax.lax.scan(lambda c, v: (c + f(v, w).sum(), f(v, w)), jnp.float32(0), x)

    return {
        "jit": lambda: jax.jit(f)(X, W),
        "no jit": lambda: without_jit(f),
        "donated": lambda: jax.jit(f, donate_argnums=0)(X + 0, W),
        "vmap, folded": lambda: jax.vmap(f, (0, None))(many, W),
        "vmap over kernels": lambda: jax.vmap(f, (None, 0))(X, kernels),
        "vmap over both": lambda: jax.jit(jax.vmap(f, (1, 0)))(jnp.stack([X, X + 1], 1), kernels),
        "vmap twice": lambda: jax.vmap(jax.vmap(f, (0, None)), (None, 0))(many, kernels),
        "scan": lambda: jax.jit(scanned)(many, W),
        "remat": lambda: jax.jit(jax.grad(jax.checkpoint(lambda x: (f(x, W) ** 2).sum())))(X),
        "jvp": lambda: jax.jvp(f, (X, W), (X + 1, W - 1)),
        "hessian": lambda: jax.hessian(lambda w: (f(X[:1], w) ** 2).sum())(W[:1, :1, :1, :2] + jnp.zeros((3, 3, 4, 2))),
    }


@needs_kernels
@pytest.mark.parametrize("name", transformed(direct.forward))
def test_transformations(name):
    assert_same(transformed(onednn.forward)[name](), transformed(direct.forward)[name]())


@needs_kernels
def test_members_that_share_the_kernel_are_one_call():
    many = jnp.stack([X, X + 1])
    text = jax.jit(jax.vmap(functools.partial(onednn.forward, SPEC), (0, None))).lower(many, W).as_text()
    assert text.count(TARGET) == 1
    assert "while" not in text


@needs_kernels
@pytest.mark.parametrize("members", [0, 2])
def test_gradients_of_members(members):
    """Kernel gradients one after another, input gradients as one batch."""
    many, dy = integers(4, (members, *X.shape)), integers(5, (members, *onednn.forward(SPEC, X, W).shape))

    def products(form):
        slopes = jax.grad(lambda x, w: (form.forward(SPEC, x, w) ** 2).sum(), (0, 1))
        return (
            jax.vmap(slopes, (0, None))(many, W),
            jax.vmap(lambda dy: form.input_gradient(SPEC, dy, W))(dy),
            jax.vmap(lambda x, dy: form.kernel_gradient(SPEC, x, dy, w=W))(many, dy),
        )

    assert_same(products(onednn), products(direct))


@needs_kernels
def test_outside_jit_a_kernel_is_compiled_once():
    run = functools.partial(onednn.forward, SPEC)
    jax.block_until_ready(run(X, W))
    known = _compiled._cache_size()
    jax.block_until_ready([run(X + i, W) for i in range(3)])
    assert _compiled._cache_size() == known


@needs_kernels
def test_inside_shard_map_on_all_devices():
    n = jax.device_count()
    mesh = jax.make_mesh((n,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    x = integers(3, (2 * n, 6, 5, 4))

    def loss(x, w):
        return jax.lax.psum((fnn.ops.conv(x, w, padding=1) ** 2).sum(), "batch")

    step = jax.jit(
        jax.shard_map(jax.grad(loss, (0, 1)), mesh=mesh, in_specs=(P("batch"), P()), out_specs=(P("batch"), P()))
    )
    with jax.default_device("cpu"), fnn.gradients("hand"):
        text = step.lower(x, W).as_text()
        got = step(x, W)
    assert text.count(TARGET) == 2  # so few inputs leave their gradient to another row
    with fnn.gradients("auto"):
        assert_same(got, jax.jit(jax.grad(lambda x, w: (fnn.ops.conv(x, w, padding=1) ** 2).sum(), (0, 1)))(x, W))


@needs_kernels
def test_an_exported_program_is_the_plain_one():
    f = jax.jit(functools.partial(onednn.forward, SPEC))
    assert TARGET in f.lower(X, W).as_text()
    program = export.export(f, platforms=("cpu", "cuda"))(X, W)
    assert TARGET not in program.mlir_module()
    assert_same(export.deserialize(program.serialize()).call(X, W), direct.forward(SPEC, X, W))


@needs_kernels
def test_what_oneDNN_cannot_make_is_an_error_of_xla():  # noqa: N802
    def impossible(x, w):
        plan = onednn._plan(1, SPEC, ("x", "w"), "y", None, x, w)
        return plan.__class__(**{**vars(plan), "stride": (5, 5)})

    program = jax.jit(lambda x, w: call(impossible, functools.partial(direct.forward, SPEC), None, x, w))
    for _ in range(2):  # the second finds the failure kept
        with pytest.raises(jax.errors.JaxRuntimeError, match="oneDNN, status 2: invalid arguments"):
            jax.block_until_ready(program(X, W))


@needs_kernels
def test_more_steps_in_flight_than_threads():
    def inner(c, w):
        dw = onednn.kernel_gradient(SPEC, c, onednn.forward(SPEC, c, w), w=w) % 5
        return onednn.forward(SPEC, c, dw)[..., :4] % 7

    step = jax.jit(lambda x, w: jax.lax.scan(lambda c, _: (inner(c, w), None), x, length=20)[0])
    want, wrong = step(X, W), []

    def run():
        for _ in range(10):
            results = [step(X, W) for _ in range(8)]
            wrong.extend(r for r in results if not bool((r == want).all()))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def environment_of(more):
    return {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"} | more


def in_a_process(code, **environment):
    """What a fresh Python prints."""
    env = environment_of(environment)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


TRAINING = """
import os, sys
{before}
import jax, jax.numpy as jnp, fnn
x, w = jnp.ones((8, 6, 6, 8)), jnp.ones((3, 3, 8, 8))
step = jax.jit(jax.grad(lambda x, w: (fnn.ops.conv(x, w, padding=1) ** 2).sum(), (0, 1)))
print(step.lower(x, w).as_text().count("fnn_kernel"))
print([float(g.sum()) for g in step(x, w)])
print(hash(step.lower(x, w).as_text()))
"""


@needs_kernels
@pytest.mark.parametrize("before", ["", "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"], ids=["all", "one"])
def test_a_fresh_process_has_the_same_program_from_the_cache(before, tmp_path):
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONHASHSEED": "0",
    }
    code = TRAINING.format(before=before)
    first, kept = in_a_process(code, **cache), len(list(tmp_path.iterdir()))
    assert first.startswith("3\n")
    assert in_a_process(code, **cache) == first  # no pointer of the process is in it
    assert len(list(tmp_path.iterdir())) == kept
    plain = in_a_process(code, FNN_ONEDNN="none")
    assert plain.splitlines()[:2] == ["0", first.splitlines()[1]]


@needs_kernels
@pytest.mark.long
def test_killed_at_any_time_it_starts_again(tmp_path):
    """The handler's code and the programs are kept on disk; a process may die while it writes them."""
    cache = {
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    code = TRAINING.format(before="")
    for seconds in (3, 6, 9, 12, 15, 18):
        process = subprocess.Popen([sys.executable, "-c", code], env=environment_of(cache), stdout=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.wait()
    assert in_a_process(code, **cache).splitlines()[1] == in_a_process(code, FNN_ONEDNN="none").splitlines()[1]


def test_nothing_is_loaded_before_a_trace_that_may_use_it():
    print_loaded = 'import sys; print([m for m in ("numba", "llvmlite") if m in sys.modules])'
    code = f"import fnn; fnn.serial(fnn.conv(4, 3), fnn.relu()); {print_loaded}"
    assert in_a_process(code) == "[]\n"


@pytest.mark.parametrize(
    ("path", "message"),
    [("none", "FNN_ONEDNN says none"), ("/nowhere/libdnnl.so", "cannot be loaded"), ("libm.so.6", "cannot be loaded")],
)
def test_the_users_path_is_the_only_one(path, message):
    pytest.importorskip("numba")
    printed = in_a_process("import fnn; print(fnn.ops.kernels())", FNN_ONEDNN=path)
    assert printed.startswith("no compiled CPU kernels: ")
    assert message in printed
    code = 'import fnn\ntry: fnn.gradients({"conv": "onednn"})\nexcept fnn.core.errors.InputError as e: print(e)'
    assert message in in_a_process(code, FNN_ONEDNN=path)


def test_what_was_found_in_words():
    found = Kernels("libdnnl.so", "3.2.0", "avx2", 4)
    assert str(found) == "oneDNN 3.2.0, avx2, 4 threads of XLA, libdnnl.so"


@needs_kernels
def test_the_table_takes_it_where_it_won():
    small, deep = jnp.zeros((8, 8, 8, 16)), jnp.zeros((8, 4, 4, 512))
    spec = lambda x: ConvSpec(x.shape[1:3], (1, 1), ((1, 1),) * 2, (1, 1), 1)  # noqa: E731
    for table in (tables.FORWARD, tables.INPUT_GRADIENT, tables.KERNEL_GRADIENT):
        assert table.chosen(spec(small), small, jnp.zeros((3, 3, 16, 16))).name == "onednn"
        assert table.chosen(spec(deep), deep, jnp.zeros((3, 3, 512, 512))).name != "onednn"
        for dtype in (jnp.bfloat16, jnp.float16):
            taken = table.chosen(spec(small), small.astype(dtype), jnp.zeros((3, 3, 16, 16), dtype)).name == "onednn"
            assert taken == computes(jnp.zeros(0, dtype))
        with fnn.placement("sharded"):
            assert table.chosen(spec(small), small, jnp.zeros((3, 3, 16, 16))).name != "onednn"
