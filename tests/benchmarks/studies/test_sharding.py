"""The counting of collectives: on a program written by hand, and on small compiled ones."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.studies import sharding

HLO = """HloModule jit_f

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %g = bf16[8,3]{1,0} all-gather(%a), channel_id=2, dimensions={0}
  %not = f32[4]{0} add(%all-reduce, %b), metadata={op_name="all-reduce"}
}

ENTRY %main (x: f32[2]) -> f32[] {
  %all-reduce = (f32[5]{0}, pred[3]{0}, s32[]) all-reduce(%x, %y, %z), channel_id=1
  %p = f8e4m3fn[7]{0} collective-permute-start(%x), channel_id=3
  ROOT %r = f32[]{:T(128)} all-reduce(%q), channel_id=4
}
"""


def test_counts_bytes_and_loops():
    assert sharding.collectives(HLO) == {
        "all-gather": {"count": 1, "bytes": 48, "in_loops": 1},
        "all-reduce": {"count": 2, "bytes": 20 + 3 + 4 + 4, "in_loops": 0},
        "collective-permute": {"count": 1, "bytes": 7, "in_loops": 0},
    }


@pytest.mark.parametrize("kind", sharding.KINDS)
def test_a_sum_over_the_batch_is_one_all_reduce(kind):
    def gradient(axis_name):
        return jax.grad(sharding.averaged(lambda w, x: (x * w).sum(), axis_name))

    shapes = (jax.ShapeDtypeStruct((3,), jnp.float32),), (jax.ShapeDtypeStruct((16, 3), jnp.float32),)
    compiled = sharding.compile_sharded(gradient, *shapes, kind, "hand")
    assert sharding.collectives(compiled.as_text()) == {"all-reduce": {"count": 1, "bytes": 12, "in_loops": 0}}


def test_a_loop_over_the_batch_shows():
    def gradient(axis_name):
        return lambda w, x: jax.lax.scan(lambda total, row: (total + row * w, None), w, x)[0]

    shapes = (jax.ShapeDtypeStruct((3,), jnp.float32),), (jax.ShapeDtypeStruct((16, 3), jnp.float32),)
    compiled = sharding.compile_sharded(gradient, *shapes, "auto", "hand")
    assert "all-gather" in sharding.collectives(compiled.as_text())


def test_implementations_of_a_convolution():
    assert {"wide", "separable", "direct"} <= set(sharding.implementations("conv 3x3, 16 to 16"))
    assert {"blocks", "shifted"} <= set(sharding.implementations("conv depthwise 3x3, 96"))
    assert "wide" not in sharding.implementations("conv transposed 4x4 stride 2, 64 to 32")
    compiled = sharding.compile_conv("conv patches 4x4, 3 to 64", "matmul", "shard_map")
    assert list(sharding.collectives(compiled.as_text())) == ["all-reduce"]


def test_what_does_not_compile_is_a_row(capsys):
    def build(kind, mode):
        if mode == "hand" and kind == "explicit":
            raise TypeError("no such reshape")
        return jax.jit(lambda x: x).lower(1.0).compile()

    rows = sharding.rows({"a": build})
    assert rows[0] == {"program": "a", "axes": "explicit", "hand": None, "auto": {}}
    assert [row["hand"] for row in rows[1:]] == [{}, {}]
    assert "explicit, hand: TypeError: no such reshape" in capsys.readouterr().err
    assert sharding.excess({"rows": rows})[0] == "a, explicit: count inf against 0"
    assert "| a | explicit | **does not compile** | none | **inf** | 0 |" in sharding.markdown({"rows": rows})


def test_report_says_where_hand_is_worse():
    one, two = ({"all-reduce": {"count": n, "bytes": 1000 * n, "in_loops": 0}} for n in (1, 2))
    report = {"rows": [{"program": "a", "axes": "auto", "hand": one, "auto": two}]}
    assert "None more by hand." in sharding.markdown(report)
    assert sharding.markdown(report).splitlines()[-1] == "| a | auto | 1 all-reduce | 2 all-reduce | 1,000 | 2,000 |"
    report["rows"].append({"program": "b", "axes": "auto", "hand": two, "auto": one})
    assert sharding.excess(report) == ["b, auto: count 2 against 1", "b, auto: bytes 2000 against 1000"]
    assert "Worse by hand: b, auto: count" in sharding.markdown(report)
