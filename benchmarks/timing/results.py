"""Files of results: JSON with four digits a number, in which a list of records is a template and a row of values each.

    {"template": {"name": 0, "seconds": {"low": 0, "median": 0, "high": 0}, "programs": [{"library": 0}]},
     "rows": [["relu", [1, 2, 3], [["fnn"], ["torch"]]]]}

says what the records `{"name": "relu", "seconds": {"low": 1, "median": 2, "high": 3}, "programs": [{"library": "fnn"},
{"library": "torch"}]}` say. A value that is missing or None is null, and absent when it is read again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
DIGITS = 4  # more than any measurement repeats


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write a file of results; lists of records in it become rows, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f" {json.dumps(name)}: {_text(value)}" for name, value in found.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read(path: Path) -> dict[str, Any]:
    """What `write` was given, but for digits and None."""
    found = json.loads(path.read_text())
    return {name: _unpack(value) for name, value in found.items()}


def _text(value: Any) -> str:
    if not _are_records(value):
        return _dump(value)
    template = _template(value)
    rows = ",\n  ".join(_dump(_row(template, record)) for record in value)
    return f'{{"template": {_dump(template)}, "rows": [\n  {rows}]}}'


def _dump(value: Any) -> str:
    return json.dumps(rounded(value), separators=(",", ":"), ensure_ascii=False)


def rounded(value: Any) -> Any:
    """Numbers with a fraction rounded to `DIGITS` digits, at any depth.

    >>> rounded({"seconds": [0.0123456, 120000.7], "count": 123456})
    {'seconds': [0.01235, 120001], 'count': 123456}
    """
    if isinstance(value, Mapping):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    if not isinstance(value, float):
        return value
    short = float(f"{value:.{DIGITS}g}")
    return round(value) if abs(short) >= 10**DIGITS else int(short) if short.is_integer() else short


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _template(records: list[Mapping]) -> dict[str, Any]:
    """The keys of all records in order of appearance, each with 0, or with the template of what it holds."""
    keys = dict.fromkeys(key for record in records for key in record)
    return {key: _kind([r[key] for r in records if r.get(key) is not None]) for key in keys}


def _kind(values: list) -> Any:
    if values and all(isinstance(value, Mapping) for value in values):
        return _template(values)
    if values and all(isinstance(value, list) for value in values):
        inside = [each for value in values for each in value]
        return [_template(inside)] if _are_records(inside) else 0
    return 0


def _row(template: Any, value: Any) -> Any:
    if template == 0 or value is None:
        return value
    if isinstance(template, list):
        return [_row(template[0], each) for each in value]
    row = [_row(inside, value.get(key)) for key, inside in template.items()]
    while row and row[-1] is None:
        row.pop()
    return row


def _unpack(value: Any) -> Any:
    if isinstance(value, Mapping) and value.keys() == {"template", "rows"}:
        return [_record(value["template"], row) for row in value["rows"]]
    return value


def _record(template: Any, row: Any) -> Any:
    if template == 0:
        return row
    if isinstance(template, list):
        return [_record(template[0], each) for each in row]
    pairs = zip(template.items(), row, strict=False)
    return {key: _record(inside, value) for (key, inside), value in pairs if value is not None}
