"""Files of results come back as they were written, but for digits and None."""

import json

import pytest

from benchmarks.timing import results


@pytest.mark.parametrize(
    "found",
    [
        {"machine": {"cores": 2, "libraries": {"jax": "1"}}, "minutes": 3.5, "rows": []},
        {"rows": [{"a": 1}, {"b": [1, 2], "c": "x"}, {"a": 2, "c": "y"}, {}]},
        {"rows": [{"name": "a", "time": {"low": 1, "high": 2}}, {"name": "b", "time": {"low": 3}}]},
        {"rows": [{"programs": [{"x": 1}, {"y": {"z": 0.25}}]}, {"programs": []}, {"programs": [{"x": 2}]}]},
        {"rows": [{"wrong": ["a", "b"], "mixed": [{"x": 1}, 2]}, {"wrong": []}]},
        {"names": ["a"], "empty": {}},
    ],
)
def test_what_is_written_is_read(tmp_path, found):
    path = tmp_path / "new" / "found.json"
    results.write(path, found)
    assert results.read(path) == found
    assert json.loads(path.read_text())


def test_none_is_absent_and_numbers_have_four_digits(tmp_path):
    path = tmp_path / "found.json"
    results.write(path, {"rows": [{"a": None, "b": 1 / 3, "c": {"d": None, "e": 123456.7}}, {"a": 1, "b": 10**9}]})
    assert results.read(path) == {"rows": [{"b": 0.3333, "c": {"e": 123457}}, {"a": 1, "b": 10**9}]}


def test_a_record_is_a_line(tmp_path):
    path = tmp_path / "found.json"
    results.write(path, {"rows": [{"name": "relu", "seconds": {"low": 1.0, "high": 2.0}}, {"name": "gelu"}]})
    assert path.read_text().splitlines()[2:4] == ['  ["relu",[1,2]],', '  ["gelu"]]}']
