"""A step without one of its parts."""

import jax
import jax.numpy as jnp
from jax.interpreters import mlir

from benchmarks.studies import ablation, layers
from fnn.core import kept
from fnn.ops.convolution import tables as conv_forms


class TestAblation:
    def test_finds_what_a_network_uses(self):
        assert {"matmul", "shifted", "kept", "cheap"} <= set(ablation.parts("mobilenet"))
        assert not {"direct", "phases"} & set(ablation.parts("mobilenet")), "only its stem could have phases"
        assert not {"shifted", "cheap"} & set(ablation.parts("lenet5"))

    def test_takes_a_formulation_out_of_all_tables(self, monkeypatch):
        for name in ("FORWARD", "INPUT_GRADIENT", "KERNEL_GRADIENT"):
            monkeypatch.setattr(conv_forms, name, getattr(conv_forms, name))
        ablation._remove("shifted")
        tables_left = (conv_forms.FORWARD, conv_forms.INPUT_GRADIENT, conv_forms.KERNEL_GRADIENT)
        assert all(row.formulation is not conv_forms.shifted for table in tables_left for row in table)
        assert [len(table) for table in tables_left] == [len(table) - 1 for table in layers.TABLES.values()]
        assert conv_forms.shifted in {row.formulation for table in layers.TABLES.values() for row in table}

    def test_takes_kept_out(self):
        program = lambda: jax.jit(lambda x: kept.kept(x)).lower(1.0).as_text()  # noqa: E731
        assert "while" in program()
        ablation._remove("kept")
        try:
            assert "while" not in program()
        finally:
            mlir.register_lowering(kept._kept(), mlir.lower_fun(kept._loop, multiple_results=False), platform="cpu")

    def test_takes_cheap_out(self, monkeypatch):
        monkeypatch.setattr(kept, "_cheap", kept._cheap)
        x = jnp.ones(2)
        assert kept.is_cheap(kept.cheap(x))
        ablation._remove("cheap")
        assert not kept.is_cheap(kept.cheap(x))

    def test_the_step_without_a_part_is_that_of_the_network(self, monkeypatch):
        removed = []
        monkeypatch.setattr(ablation.libraries, "build", lambda *words: words)
        monkeypatch.setattr(ablation, "_remove", removed.append)
        assert ablation.build("vgg", "fnn", "auto") == ("vgg", "fnn", "auto")
        assert removed == []
        assert ablation.build("vgg", "fnn", "hand, without winograd") == ("vgg", "fnn", "hand")
        assert removed == ["winograd"]
