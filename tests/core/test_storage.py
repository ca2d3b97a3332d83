"""What is stored once for all that read it, and what is computed again instead."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fnn
from fnn.core.storage import Storage, declared, kept, restored
from fnn.kernels.library import lacking
from fnn.ops import (
    batch_norm,
    batch_norm_inference,
    conv,
    conv_transpose,
    dense,
    group_norm,
    layer_norm,
    leaky_relu,
    relu,
    tanh,
)
from tests.helpers import as_users_run, assert_close, without_kernels

X = jnp.linspace(-1.0, 1.0, 24).reshape(2, 3, 4)
NORMS = {
    "batch": lambda x: batch_norm(x, None, None)[0],
    "inference": lambda x: batch_norm_inference(x, None, None, jnp.zeros(4), jnp.ones(4)),
    "layer": lambda x: layer_norm(x, None, None),
    "group": lambda x: group_norm(x, None, None, groups=2),
}


ONE_DEVICE = """
import jax, jax.numpy as jnp
from fnn.core.storage import kept
assert jax.device_count() == 1
for x in (jnp.float32(2), jnp.zeros((0, 3)), jnp.arange(6, dtype="int8").reshape(2, 3), jnp.arange(4.0)):
    assert (jax.jit(kept)(x) == x).all() and kept(x).dtype == x.dtype
x = jnp.arange(12.0).reshape(3, 4)
assert (jax.jit(jax.vmap(kept))(x) == x).all()
assert jax.grad(lambda x: (kept(x) ** 2).sum())(x).tolist() == (2 * x).tolist()
body = jax.jit(lambda x: kept(x)).lower(jnp.ones((4, 4))).as_text()
assert "dynamic_update_slice" in body
print("right")
"""


def test_kept_on_one_device_stores_what_it_was_given():
    assert as_users_run("-c", ONE_DEVICE) == "right\n"


def stored(f):
    """Whether the gradient of f's sum stores something."""
    return "stablehlo.while" in jax.jit(jax.grad(lambda x: f(x).sum())).lower(X).as_text()


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@without_kernels()
def test_an_activation_is_stored_unless_it_follows_a_norm(norm):
    assert stored(lambda x: relu(2 * x))
    assert not stored(lambda x: relu(norm(x)))
    assert not stored(lambda x: leaky_relu(norm(x)))
    assert stored(lambda x: relu(norm(x) + x)), "a sum of blocks is no longer a few steps from what is stored"
    assert stored(lambda x: tanh(norm(x))), "an exponential costs more than reading it"


def computed_again(f, kernel):
    """Whether the gradient of f's sum hides a zero that it adds."""
    gradient = jax.grad(lambda x, w: f(x, w).sum(), argnums=(0, 1))
    return "optimization_barrier" in jax.jit(gradient).lower(X, kernel).as_text()


PRODUCTS = {
    "dense": (dense, jnp.ones((4, 2))),
    "conv": (conv, jnp.ones((2, 4, 2))),
    "conv_transpose": (conv_transpose, jnp.ones((2, 4, 2))),
}


@pytest.mark.parametrize(("product", "kernel"), PRODUCTS.values(), ids=PRODUCTS)
@without_kernels()
def test_a_kernel_gradient_computes_its_input_again_if_that_is_cheap(product, kernel):
    norm = NORMS["layer"]
    assert computed_again(lambda x, w: product(norm(x), w), kernel)
    assert computed_again(lambda x, w: product(relu(norm(x)), w), kernel)
    assert not computed_again(lambda x, w: product(2 * x, w), kernel)
    # There the norm is in one program, and its gradient in another.
    assert not computed_again(jax.jit(lambda x, w: product(norm(x), w)), kernel)


@pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")
def test_what_a_compiled_kernel_made_is_stored():
    """XLA could only copy it."""
    text = (
        jax.jit(jax.grad(lambda x, w: dense(NORMS["layer"](x), w).sum(), (0, 1))).lower(X, jnp.ones((4, 2))).as_text()
    )
    assert "fnn_kernel" in text
    assert "optimization_barrier" not in text
    assert "reduce_precision" not in text


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("product", "kernel"), PRODUCTS.values(), ids=PRODUCTS)
def test_what_is_computed_again_is_right(product, kernel, dtype):
    """Gradients, over a batch of kernels too, and second derivatives, against JAX's own."""
    x, kernel = X.astype(dtype), jnp.cos(jnp.arange(kernel.size)).reshape(kernel.shape).astype(dtype)
    kernels = jnp.stack([kernel, 2 * kernel])

    def loss(x, w):
        return (product(relu(NORMS["batch"](x)), w).astype("float32") ** 2).sum()

    def slope(x, w):
        return (jax.grad(loss, argnums=1)(x, w).astype("float32") ** 2).sum()

    def found():
        first = jax.grad(loss, argnums=(0, 1))
        second = jax.grad(slope, argnums=(0, 1))
        return jax.jit(lambda x, w, many: (first(x, w), jax.vmap(first, (None, 0))(x, many), second(x, w)))(
            x, kernel, kernels
        )

    with fnn.gradients("auto"):
        want = found()
    assert_close(found(), want)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_stored_or_not_is_the_same_to_the_bit(dtype):
    storage = Storage(output="recomputable", residuals=(0,), kept_residuals=(1,))

    @jax.jit
    def there_and_back(x):
        y, residuals = declared(storage, (x,), x, (x, x + 0, None))
        return y, *restored(storage, residuals)[:2]

    x = jnp.array([-jnp.inf, -1.5, -0.0, 0.0, 3e38, jnp.nan], dtype)
    for y in there_and_back(x):
        assert y.dtype == x.dtype
        assert jnp.array_equal(y, x, equal_nan=True)
        assert jnp.array_equal(jnp.signbit(y), jnp.signbit(x))


@without_kernels()
def test_the_switch_leaves_both_to_xla():
    dense_after_norm = lambda x, w: dense(NORMS["layer"](x), w)  # noqa: E731
    kernel = jnp.ones((4, 2))
    with fnn.storage(keep=False):
        assert not stored(lambda x: relu(2 * x))
        assert computed_again(dense_after_norm, kernel)
    with fnn.storage(recompute=False):
        assert stored(lambda x: relu(2 * x))
        assert not computed_again(dense_after_norm, kernel)
    again = jax.jit(jax.grad(lambda x: relu(2 * x).sum()))
    again(X)
    with fnn.storage(keep=False):  # what is compiled already obeys, too
        assert "stablehlo.while" not in again.lower(X).as_text()


LEAN = """
import jax, jax.numpy as jnp
import fnn
from fnn.ops import batch_norm, conv, relu
from fnn.train import compiler_options

def loss(w, x):
    for _ in range(3):
        x = conv(relu(batch_norm(x, None, None)[0]), w)
    return (x**2).sum()

def planned():
    step = jax.jit(lambda w, x: jax.grad(loss)(w, x), compiler_options=compiler_options())
    return step.lower(jnp.ones((1, 1, 8, 8)), jnp.ones((4, 64, 64, 8))).compile().memory_analysis().temp_size_in_bytes

lean = planned()
with fnn.storage(recompute=False):
    print(lean, planned(), 4 * 64 * 64 * 8 * 4)
"""


def test_memory_is_that_of_arrays_that_are_not_recomputable():
    lean, full, array = map(int, as_users_run("-c", LEAN).split())
    assert lean <= full - array


def test_kept_is_exported_with_unknown_sizes_for_other_platforms():
    batch, *_ = jax.export.symbolic_shape("b")
    slope = jax.jit(jax.grad(lambda x: (kept(jnp.tanh(x)) * x).sum()))
    exported = jax.export.export(slope, platforms=("cpu", "cuda", "tpu"))(jax.ShapeDtypeStruct((batch, 3), X.dtype))
    x = X.reshape(-1, 3)
    assert_close(exported.call(x), jnp.tanh(x) + x * (1 - jnp.tanh(x) ** 2))
    assert "stablehlo.while" in exported.mlir_module()
    elsewhere = jax.export.export(slope, platforms=("cuda",))(x)
    assert "stablehlo.while" not in elsewhere.mlir_module()


@pytest.mark.sharded
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
def test_kept_leaves_arrays_where_they_live(kind):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(kind,), devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("d")))
        y = jax.jit(lambda x: kept(x))(x)
        assert y.sharding.is_equivalent_to(x.sharding, x.ndim)
        assert jax.typeof(y) == jax.typeof(x)


def test_kept_is_linear_and_nothing_on_arrays():
    assert kept(X) is X
    with jax.disable_jit():
        assert jax.grad(lambda x: kept(x) * x)(3.0) == 6.0
    assert jax.linear_transpose(kept, X)(X)[0] is X
    assert jax.jvp(kept, (X,), (2 * X,))[1].tolist() == (2 * X).tolist()
