"""Tables of implementations: which row runs on which platform, rows of a user's own, rows that cannot run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import check
from fnn.core.implementation import PLATFORMS, Product, observed
from tests.helpers import assert_close, float_vjp, normal

RULES = fnn.rules()
SHARED = {"hand", "direct"}  # the last rows


def row(name, value, **options):
    return fnn.Implementation(name=name, run=lambda spec, x: x + value, **options)


PRODUCT = Product(
    "sum",
    row("never", 1, when=lambda spec, x: False),
    row("gpu", 2, platform="cuda", when=lambda spec, x: x.shape[0] > 1),
    row("missing", 3, missing=lambda: "no such library"),
    row("processor", 4, platform="cpu", when=lambda spec, x: x.shape[0] > 2),
    row("second", 5, platform="cuda"),
    row("plain", 0),
)


@pytest.mark.parametrize(
    ("n", "cpu", "cuda", "tpu"),
    [(1, "plain", "second", "plain"), (2, "plain", "gpu", "plain"), (3, "processor", "gpu", "plain")],
)
def test_the_first_row_that_holds_a_platform_is_its_choice(n, cpu, cuda, tpu):
    x = jnp.zeros(n)
    assert [PRODUCT.chosen(None, x, platform=p).name for p in ("cpu", "cuda", "tpu")] == [cpu, cuda, tpu]
    value = {"plain": 0, "processor": 4}[cpu]
    assert jax.jit(lambda x: PRODUCT(None, x))(x).tolist() == [value] * n
    program = str(jax.make_jaxpr(lambda x: PRODUCT(None, x))(x))
    assert ("platform_index" in program) == (len({cpu, cuda, tpu}) > 1)


def test_where_a_size_is_unknown_rows_of_a_platform_wait():
    batch, n = jax.export.symbolic_shape("b, n")
    assert PRODUCT.choices(None, jax.ShapeDtypeStruct((batch,), "float32")).keys() == {"cuda", ""}
    assert PRODUCT.choices(None, jax.ShapeDtypeStruct((3, n), "float32")).keys() == {""}


def _one_by_one(spec, x, w):
    return x.shape[-1] == 1 and w.size == 1 and x.shape[1] == 4


@pytest.fixture
def doubled():
    """A user's rows on top of two rules of fnn, wrong on purpose: the value tells who ran."""
    rules = RULES["squared_error"], RULES["conv"]
    twice = fnn.Implementation(
        name="twice", run=lambda spec, p, t: (2 * (p - t) ** 2, (p, t)), when=lambda spec, p, t: p.ndim == 2
    )
    rules[0].add("fwd", twice)
    rules[1].add(
        "forward", fnn.Implementation(name="zero", run=lambda spec, x, w: 0 * x, when=_one_by_one, platform="cpu")
    )
    yield
    for rule, name in zip(rules, ("twice", "zero"), strict=True):
        if name in rule.implementations:
            rule.remove(name)


@pytest.mark.usefixtures("doubled")
def test_a_row_of_a_users_own_runs_and_goes():
    p, t, x, w = jnp.ones((3, 1)), jnp.zeros((3, 1)), jnp.ones((1, 4, 1)), jnp.ones((1, 1, 1))
    assert fnn.squared_error(p, t).tolist() == [2, 2, 2]
    slope = jax.grad(lambda p: fnn.squared_error(p, t).sum())(p)
    assert slope.tolist() == [[2]] * 3, "bwd has rows of its own"
    assert fnn.squared_error(p[:, 0], t[:, 0]).tolist() == [1, 1, 1], "where its condition does not hold, the next row"
    assert not jax.jit(fnn.ops.conv)(x, w).any()
    with fnn.gradients({"conv": "direct"}):
        assert jax.jit(fnn.ops.conv)(x, w).all()
    with fnn.gradients({"squared_error": "twice"}):
        assert jax.jit(lambda p, t: fnn.squared_error(p, t))(p[:, 0], t[:, 0]).tolist() == [2, 2, 2], "forced"
    with pytest.raises(AssertionError, match="primal"):  # fnn.check sees the row
        fnn.check.check_rule("squared_error", cases=[0], skip=("pairs",)).raise_if_wrong()
    with fnn.gradients({"squared_error": "plain"}):
        assert fnn.squared_error(p, t).tolist() == [1, 1, 1], "the rule's own form has a name, too"
    RULES["squared_error"].remove("twice")
    assert fnn.squared_error(p, t).tolist() == [1, 1, 1]


def test_checks_see_a_row_that_is_forced_around_them():
    rule = RULES["tanh"]
    rule.add("bwd", fnn.Implementation(name="big", run=lambda s, r, dy: (3 * dy,), when=lambda s, r, dy: False))
    try:
        assert fnn.check.check_rule("tanh", cases=[0], checks=["automatic"])
        with fnn.gradients({"tanh": "big"}):
            assert not fnn.check.check_rule("tanh", cases=[0], checks=["automatic"])
            assert not fnn.check.check_vjp(fnn.ops.tanh, normal(0, (3,)), checks=["automatic"])
    finally:
        rule.remove("big")


def test_a_row_that_returns_something_else_is_refused():
    rule = RULES["relu"]
    for returned in ("float16", "(1, 3)"):
        run = {"float16": lambda s, x: (x.astype("float16"), (x,)), "(1, 3)": lambda s, x: (x[None], (x,))}[returned]
        rule.add("fwd", fnn.Implementation(name="other", run=run))
        try:
            with pytest.raises(fnn.InputError, match=r"implementation 'other' expected fwd to return \('float32\[3\]'"):
                fnn.ops.relu(jnp.ones(3))
        finally:
            rule.remove("other")


def test_rules_that_share_a_table_forget_together():
    x, w = jnp.ones((1, 4, 1)), jnp.ones((1, 1, 1))
    assert fnn.ops.conv_transpose(x, w).all()
    zero = fnn.Implementation(name="zero", run=lambda spec, x, w: 0 * x, when=_one_by_one)
    RULES["conv"].add("input gradient", zero)
    try:
        assert not fnn.ops.conv_transpose(x, w).any()
    finally:
        RULES["conv"].remove("zero")
    assert fnn.ops.conv_transpose(x, w).all()


def test_a_row_on_another_platform_leaves_what_is_stored_alone():
    rule, program = RULES["relu"], lambda: jax.jit(jax.grad(lambda x: fnn.ops.relu(2 * x).sum())).lower(jnp.ones(3))
    before = program().as_text().count("stablehlo.while")
    rule.add("fwd", fnn.Implementation(name="elsewhere", run=rule.fwd, platform="cuda"))
    try:
        assert program().as_text().count("stablehlo.while") == before == 1
    finally:
        rule.remove("elsewhere")


def test_a_forced_row_is_remembered_for_the_backward_pass():
    x, w = normal(0, (2, 6, 6, 3)), normal(1, (3, 3, 3, 4))
    with fnn.gradients({"conv": "winograd"}):
        y, pull = jax.vjp(lambda x, w: fnn.ops.conv(x, w, padding=1), x, w)
        program = str(jax.make_jaxpr(pull)(y))
    assert program == str(jax.make_jaxpr(pull)(y))
    with fnn.gradients({"conv": "direct"}):
        want, pull_direct = jax.vjp(lambda x, w: fnn.ops.conv(x, w, padding=1), x, w)
    assert_close(y, want, ulps=64)
    assert_close(pull(y), pull_direct(y), ulps=64)
    assert str(jax.make_jaxpr(pull_direct)(y)) != program


@pytest.mark.parametrize("name", RULES)
def test_every_row_of_every_table_is_reached_by_a_case(name):
    """By its table's choice on CPU, or by name: so that `fnn.check` has seen the program."""
    rule = RULES[name]
    rows = {(product, row) for product in rule.products for row in product.rows if row.platform in ("", "cpu")}
    with observed() as watch:
        for i, case in enumerate(rule.cases):
            jax.eval_shape(lambda args, case=case: gradient(rule.of(case), args), case.sample(i))
    missed = rows - watch.run_on("cpu")
    assert not [(product.name, row.name) for product, row in missed if not row.lacks()]


@pytest.mark.parametrize("ask", [lambda x: x.sum() > 0, lambda x: x[x > 0].size > 1, lambda x: int(x[0]) > 0, np.max])
def test_a_condition_on_values_is_refused(ask):
    rule = RULES["relu"]
    rule.add("fwd", fnn.Implementation(name="asks", run=rule.fwd, when=lambda spec, x: ask(x)))
    try:
        with pytest.raises(
            fnn.InputError, match="'asks' expected when to decide from shapes and dtypes; got a question"
        ):
            jax.jit(fnn.ops.relu)(jnp.ones(3))
    finally:
        rule.remove("asks")


def gradient(operation, args):
    y, pull = float_vjp(operation, args)
    return pull(jax.tree.map(jnp.ones_like, y))


def test_what_an_inner_jit_has_traced_before_is_seen():
    inner = jax.jit(lambda x: PRODUCT(None, x))
    for _ in range(2):
        with observed() as watch:
            inner(jnp.ones(3))
        assert [row.name for _, row in watch.run_on("cpu")] == ["processor"]


# Name, options, and what the report of case 0 in bfloat16 says of it. Rows are added on top, one after the other.
FOREIGN = [
    ("behind", {"platform": "cpu"}, "was not checked, no case that ran reaches it"),
    ("always", {"platform": "cpu"}, ""),
    ("never", {"when": lambda spec, x: False}, "was not checked, no case that ran reaches it"),
    ("elsewhere", {"platform": "cuda"}, "is for cuda, and was not run here"),
    ("lacking", {"missing": lambda: "no such library"}, "cannot run here: no such library"),
    ("half", {"when": lambda spec, x: x.dtype == jnp.bfloat16}, ""),
]


def test_the_report_names_rows_that_did_not_run():
    rule = RULES["relu"]
    for row, options, _ in FOREIGN:
        rule.add("fwd", fnn.Implementation(name=row, run=rule.fwd, **options))
    try:
        suite = check.check_rule("relu", cases=[0], checks=["zero", "automatic"], dtype="bfloat16")
        said = {line.split("'")[1]: line for line in suite.remarks}
        for row, _, words in FOREIGN:
            assert (words in said[row] and f"row {row!r} of relu's fwd " in said[row]) if words else row not in said
        assert all(line in str(suite) for line in suite.remarks)
        assert suite.to_dict()["remarks"] == list(suite.remarks)
        with fnn.gradients({"relu": "elsewhere"}):
            forced = check.check_rule("relu", cases=[0], checks=["zero"]).remarks
        assert not any("elsewhere" in line for line in forced)
    finally:
        for row, _, _ in FOREIGN:
            rule.remove(row)
    assert check.check_rule("relu", cases=[0], checks=["zero"]).remarks == ()


@pytest.mark.parametrize("run", [lambda x: x, lambda spec, x, y: x])
def test_a_row_of_other_arguments_is_refused(run):
    with pytest.raises(
        fnn.InputError, match=r"'other' expected a function run\(option, x\); got the function .* of other"
    ):
        RULES["relu"].add("fwd", fnn.Implementation(name="other", run=run))
    assert not RULES["relu"].implementations


def test_an_error_says_in_which_row():
    for options in ({"run": broken}, {"run": RULES["relu"].fwd, "when": lambda spec, x: 1 / 0}):
        RULES["relu"].add("fwd", fnn.Implementation(name="bad", **options))
        try:
            with pytest.raises((RuntimeError, ZeroDivisionError)) as caught:
                jax.jit(fnn.ops.relu)(jnp.ones(3))
        finally:
            RULES["relu"].remove("bad")
        part = "when" if "when" in options else "fwd"
        assert f"in {part} of the implementation 'bad'" in caught.value.__notes__


def broken(spec, x):
    raise RuntimeError("my kernel is broken")


@pytest.mark.parametrize(
    "options", [{"run": broken}, {"run": lambda spec, x: x}, {"run": broken, "when": lambda spec, x: x.sum() > 0}]
)
def test_a_row_that_raises_is_a_verdict(options):
    rule = RULES["relu"]
    rule.add("fwd", fnn.Implementation(name="bad", **options))
    try:
        suite = check.check_rule("relu", cases=[0], checks=["zero"])
    finally:
        rule.remove("bad")
    assert suite.verdict == "not checked"
    assert "the function raises" in str(suite)


def test_a_row_that_cannot_run_is_skipped_and_refused_by_name():
    rule = RULES["tanh"]
    rule.add("fwd", fnn.Implementation(name="compiled", run=rule.fwd, missing=lambda: "numba is not installed"))
    try:
        assert fnn.ops.tanh(jnp.zeros(2)).tolist() == [0, 0]
        message = "gradients expected an implementation for 'tanh' that can run here; got \"compiled\": numba is not"
        with pytest.raises(fnn.InputError, match=message):
            fnn.gradients({"tanh": "compiled"})
    finally:
        rule.remove("compiled")
    assert rule.implementations == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: row("", 0), "a name, a string; got ''"),
        (lambda: row("auto", 0), "a name, a string; got 'auto'"),
        (lambda: row("x", 0, measured=3), "measured, words; got 3"),
        (lambda: row("x", 0, alone="yes"), "True or False for alone"),
        (lambda: row("x", 0, missing=lambda: True).lacks(), r"words of missing\(\); got True"),
        (lambda: RULES["conv"].remove("nothing"), r"an implementation of \['plain'|'matmul'.*got 'nothing'"),
        (lambda: row("x", 0, platform="gpu"), f"a platform of {', '.join(PLATFORMS)}"),
        (lambda: fnn.Implementation(name="x", run=3), "run"),
        (lambda: RULES["conv"].add("backward", row("x", 0)), "a product of fwd, bwd, forward, input gradient"),
        (lambda: RULES["conv"].add("fwd", lambda spec, x: x), "an Implementation; got"),
        (lambda: RULES["relu"].add("fwd", row("plain", 0)), "another name than the last row's; got plain"),
        (lambda: RULES["conv"].add("forward", row("direct", 0)), "another name than the last row's; got direct"),
        (lambda: fnn.gradients({"relu": "winograd"}), "mode for 'relu' \"hand\" or \"auto\"; got 'winograd'"),
    ],
)
def test_what_is_no_row_is_refused(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()
