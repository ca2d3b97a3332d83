"""A step without one of its parts."""

from contextlib import ExitStack

import jax
import jax.numpy as jnp

import fnn
from benchmarks.studies import ablation, layers
from tests.helpers import without_kernels


class TestAblation:
    @without_kernels()
    def test_finds_what_a_network_uses(self):
        assert {"matmul", "shifted", "keeping", "recomputation"} <= set(ablation.parts("mobilenet"))
        assert not {"direct", "phases"} & set(ablation.parts("mobilenet")), "only its stem could have phases"
        assert not {"shifted", "recomputation"} & set(ablation.parts("lenet5"))

    def test_takes_an_implementation_out_of_all_tables(self, monkeypatch):
        for table in layers.TABLES.values():
            monkeypatch.setattr(table, "rows", table.rows)
        before = {name: [row.name for row in table.rows] for name, table in layers.TABLES.items()}
        ablation._remove("shifted")
        for name, table in layers.TABLES.items():
            assert "shifted" in before[name]
            assert [row.name for row in table.rows] == [row for row in before[name] if row != "shifted"]

    def test_turns_the_switches(self, monkeypatch):
        program = lambda: jax.jit(lambda x: fnn.ops.relu(x)).lower(jnp.ones(2)).as_text()  # noqa: E731
        assert "while" in program()
        with ExitStack() as process:
            monkeypatch.setattr(ablation, "_process", process)
            ablation._remove("keeping")
            assert "while" not in program()
        assert "while" in program()

    def test_the_step_without_a_part_is_that_of_the_network(self, monkeypatch):
        removed = []
        monkeypatch.setattr(ablation.libraries, "build", lambda *words: words)
        monkeypatch.setattr(ablation, "_remove", removed.append)
        assert ablation.build("vgg", "fnn", "auto") == ("vgg", "fnn", "auto")
        assert removed == []
        assert ablation.build("vgg", "fnn", "hand, without winograd") == ("vgg", "fnn", "hand")
        assert removed == ["winograd"]
