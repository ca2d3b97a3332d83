"""bfloat16 and float16 under transformations, run and not only traced: some products have no runtime on CPU."""

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.core import dtypes
from tests.helpers import as_users_run, assert_close, cotangent_like, is_float, normal
from tests.ops.test_conv_forms import GRID, implementations

RULES = fnn.rules()
HALVES = ("bfloat16", "float16")
COPIES = 2


def subsets(n):
    """Which of n arguments are batched: one alone, all but the last, all."""
    return sorted({*[(k,) for k in range(n)], tuple(range(n - 1)), tuple(range(n))} - {()})


def assert_vmaps(f, args):
    """Under vmap over subsets of the arguments, f gives what it gives one after the other."""
    copies = [jnp.stack([a, a * 0.75]) for a in args]
    chosen = subsets(len(args))

    @jax.jit
    def together(args, copies):
        found = []
        for some in chosen:
            axes = tuple(0 if i in some else None for i in range(len(args)))
            found.append(jax.vmap(f, axes)(*[copies[i] if i in some else args[i] for i in range(len(args))]))
        return found

    alone = jax.jit(f)
    for some, got in zip(chosen, together(args, copies), strict=True):
        each = [alone(*[copies[i][k] if i in some else args[i] for i in range(len(args))]) for k in range(COPIES)]
        assert_close(got, jax.tree.map(lambda *a: jnp.stack(a), *each), ulps=8, names=f"batched: {some}")


def sweep(name, i, dtype):
    """Value and gradients of a rule, vmapped over subsets of its arguments and the cotangent."""
    rule = RULES[name]
    case = rule.cases[i]
    args = case.sample(i, jnp.dtype(dtype))
    where = [k for k, a in enumerate(args) if is_float(a)]

    def pulled(*given):
        *floats, dy = given

        def f(*floats):
            full = list(args)
            for k, a in zip(where, floats, strict=True):
                full[k] = a
            return jax.tree.leaves(rule.of(case)(*full))[0]

        y, pull = jax.vjp(f, *floats)
        return y, pull(dy)

    y = jax.eval_shape(lambda: jax.tree.leaves(rule.of(case)(*args))[0])
    assert_vmaps(pulled, [*[args[k] for k in where], cotangent_like(y)])


@pytest.mark.parametrize("dtype", HALVES)
def test_dense_under_vmap_over_any_of_its_arguments(dtype):
    sweep("dense", 0, dtype)


@pytest.mark.long
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", RULES)
def test_every_rule_under_vmap_over_any_of_its_arguments(name, dtype, monkeypatch):
    for i in range(min(len(RULES[name].cases), 2)):
        if all(a.size for a in RULES[name].cases[i].sample(i) if is_float(a)):
            sweep(name, i, dtype)


@pytest.mark.long
@pytest.mark.parametrize(("spec", "kernel"), GRID.values(), ids=GRID)
def test_every_implementation_under_vmap_over_either_argument(spec, kernel):
    x = normal(0, (2, *spec.sizes, kernel[-2] * spec.groups), "bfloat16")
    w = normal(1, kernel, "bfloat16")
    dy = cotangent_like(jax.eval_shape(lambda: implementations(spec, x, w, "forward")[0](spec, x, w)))

    def run(x, w, dy):
        ys = [f(spec, x, w) for f in implementations(spec, x, w, "forward")]
        dxs = [f(spec, dy, w) for f in implementations(spec, dy, w, "input_gradient")]
        return ys, dxs, [f(spec, x, dy, w=w) for f in implementations(spec, x, w, "kernel_gradient")]

    assert_vmaps(run, [x, w, dy])


ENSEMBLE = """
import jax, jax.numpy as jnp, optax, fnn
from fnn import train

model = fnn.serial(
    fnn.conv(4, 3, padding="SAME"), fnn.batch_norm(), fnn.relu(), fnn.conv(4, 1), fnn.gelu(), fnn.max_pool(2),
    fnn.separable_conv(6, 3, padding="SAME"), fnn.group_norm(2), fnn.conv(4, 2, stride=2), fnn.flatten(),
    fnn.dropout(0.1), fnn.dense(8), fnn.layer_norm(), fnn.tanh(), fnn.dense(3),
)
assert jax.device_count() == 1
for dtype in ("bfloat16", "float16"):
    x, y = jnp.ones((4, 8, 8, 3), dtype), jnp.arange(4) % 3

    def init(key):
        params, state = model.init(key, x)
        return jax.tree.map(lambda a: a.astype(dtype), params), state

    def loss(params, state, key):
        logits, _ = model.apply(params, state, x, train=True, key=key)
        return fnn.softmax_cross_entropy(logits, y).astype("float32").mean()

    keys = jax.random.split(jax.random.key(0), 3)
    params, state = jax.vmap(init)(keys)
    gradient = jax.grad(loss)
    for around in (gradient, jax.grad(jax.checkpoint(loss))):
        many = jax.jit(jax.vmap(around))(params, state, keys)
        one = jax.jit(around)(*jax.tree.map(lambda a: a[0], (params, state, keys)))
        for a, b in zip(*map(jax.tree.leaves, (many, one)), strict=True):
            wide = a[0].astype("float32"), b.astype("float32")
            assert a.dtype == b.dtype == dtype and jnp.allclose(*wide, rtol=0.1, atol=0.05), (dtype, a[0], b)
    optimizer = optax.sgd(0.1)
    step = train.make_step(model, fnn.softmax_cross_entropy, optimizer)
    start = train.init_state(model, optimizer, keys[0], x)
    step(start._replace(params=init(keys[0])[0]), (x, y))
print("right")
"""


@pytest.mark.long
def test_an_ensemble_of_small_networks_as_users_run_it():
    assert as_users_run("-c", ENSEMBLE) == "right\n"


@pytest.mark.parametrize("dtype", HALVES)
def test_products_sum_in_float32_and_round_once(dtype):
    n = 4096  # as a sum in half precision, 1 + 1 + ... stalls before
    ones, many = jnp.ones((n, 3), dtype), jnp.ones((2, n, 5), dtype)
    for f, expected in ((dtypes.product, dtype), (dtypes.wide_product, "float32")):
        y = jax.jit(jax.vmap(lambda a, b, f=f: f(a, b, ((0,), (0,))), (None, 0)))(ones, many)
        assert y.dtype == expected
        assert (y == n).all()
