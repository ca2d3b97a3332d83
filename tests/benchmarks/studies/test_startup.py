"""What the benchmark of start-up times does, in small: no time is judged here."""

import pytest

from benchmarks.studies import startup


def test_both_libraries_compute_the_same_before_they_are_timed(monkeypatch):
    row = startup.eager(1, calls=2)
    assert row["fnn_microseconds"] > 0
    assert row["stax_microseconds"] > 0
    programs = startup.small_mlps()
    monkeypatch.setattr(startup, "small_mlps", lambda: {**programs, "stax": lambda: programs["stax"]() + 1})
    with pytest.raises(SystemExit, match="differ; nothing was timed"):
        startup.eager(1, calls=2)


def test_depth_does_not_make_the_program_longer():
    lengths = []
    for depth in (2, 20):
        program, arguments = startup.blocks_program(depth)
        lengths.append(len(program.lower(*arguments).as_text().splitlines()))
    assert lengths[0] == lengths[1]


def test_markdown():
    report = {
        "import": {"fnn_over_jax_seconds": 0.0501, "jax_seconds": 0.4},
        "eager": {"fnn_microseconds": 100.0, "stax_microseconds": 250.0, "ratio": 2.5},
        "repeat": {"8_blocks_seconds": 1.0, "64_blocks_seconds": 1.1, "ratio": 1.1},
        "deep": {"init_seconds": 2.0, "summary_seconds": 0.5},
    }
    text = startup.markdown(report)
    assert "| 50 ms | `import jax` 400 ms | |" in text
    assert "| 100 µs | stax 250 µs | 2.50 |" in text
    assert "64 residual blocks | 1.10 s | of 8 blocks 1.00 s | 1.10 |" in text
