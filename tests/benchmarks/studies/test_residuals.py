"""The table of what is kept for the backward pass: on functions whose residuals are known."""

import jax
import jax.numpy as jnp
import pytest

import fnn
from benchmarks.operations.zoo import Operation
from benchmarks.studies import residuals

X = jax.ShapeDtypeStruct((4, 8), jnp.float32)
SIZE = 4 * 8 * 4


@pytest.mark.parametrize(
    ("f", "arguments", "output", "more"),
    [
        (lambda x: 2 * x, 0, 0, 0),
        (lambda x: x * x, SIZE, 0, 0),
        (jnp.exp, 0, SIZE, 0),
        (lambda x: jnp.sin(jnp.exp(x)), 0, 0, 2 * SIZE),  # exp x and cos exp x
        (lambda x: jnp.where(x > 0, x, 0), 0, 0, SIZE // 4),  # a mask, of one byte an entry
        (lambda x: x * jnp.ones_like(x), 0, 0, 0),  # a constant is no residual
        (jax.jit(lambda x: x * jnp.ones_like(x)), 0, 0, 0),
        (lambda x: x.astype(jnp.bfloat16) ** 2, 0, 0, SIZE // 2),
    ],
)
def test_known_residuals(f, arguments, output, more):
    assert residuals.saved(f, (X,)) == {"arguments": arguments, "output": output, "more": more}


def test_each_array_counts_once_and_fixed_ones_are_arguments():
    assert residuals.saved(lambda x, w: x * w * w, (X,), (X,))["arguments"] == SIZE
    assert residuals.saved(lambda x: jnp.exp(x) * 2 + jnp.exp(x), (X,))["more"] <= 2 * SIZE


def test_rules_keep_what_their_files_say():
    relu = residuals.row("relu", Operation("relu", {"x": (4, 8)}))
    assert relu["hand"] == {"arguments": 0, "output": SIZE, "more": 0}
    assert relu["auto"] == {"arguments": 0, "output": 0, "more": SIZE // 4}
    pool = residuals.row("pool", Operation("max_pool", {"x": (2, 4, 4, 1)}, {"window": 2}))
    assert pool["hand"] == {"arguments": 0, "output": 0, "more": 2 * 2 * 2}  # one byte an output
    assert pool["auto"]["arguments"] == 2 * 4 * 4 * 4


def test_every_rule_has_a_row():
    operations = {operation.op for operation in {**residuals.OPERATIONS, **residuals.MORE}.values()}
    named = {"l2": "l2_penalty", "multiclass_hinge": "hinge"}
    assert {named.get(rule, rule) for rule in fnn.rules()} <= operations


def test_markdown_marks_what_is_worse():
    better, worse = {"arguments": 0, "output": 2**20, "more": 0}, {"arguments": 2**20, "output": 0, "more": 2**20}
    rows = [{"operation": "a", "hand": better, "auto": worse}, {"operation": "b", "hand": worse, "auto": better}]
    a, b = residuals.markdown({"rows": rows}).splitlines()[-2:]
    assert a == "| a | 0.00 | 1.00 | 1.00 | 2.00 | output | arguments, more |"
    assert b == "| b | **1.00** | 0.00 | **2.00** | 1.00 | arguments, more | output |"
