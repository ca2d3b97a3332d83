"""What a check returns: truth, text, and plain data."""

import dataclasses
import json

import numpy as np
import pytest

from fnn.check.report import Finding, GradientError, Leaf, Report, Suite, verdict_of

GOOD = Leaf("x", (3, 2), "float32", 1e-7, 2e-7, 1.5, 1.0, (2, 1), 0.25, 0.25, None, "agree")
BAD = dataclasses.replace(
    GOOD,
    path="p/kernel",
    shape=(),
    worst=(),
    absolute=np.float32(2.0),
    relative=np.inf,
    ulps=np.float64(3e7),
    cosine=np.nan,
    hand=np.float64(-1.0),
    numeric=np.nan,
    verdict="DIFFER",
    culprit="hand",
)
PASS = Finding("zero", "pass", error=0.0, tolerance=0.0)
SKIP = Finding("exact", "skip", detail="it rounds")
NOTE = Finding("precision", "note", "x", "it is rounding")
FAIL = Finding("automatic", "FAIL", "p/kernel", "one\nor two", np.inf, np.float32(0.5))
RIGHT = Report("sine", (GOOD,), (PASS, SKIP, NOTE))
WRONG = Report("cosine", (GOOD, BAD), (PASS, FAIL), ("p/kernel: all zeros.",), ("x at (0,): a kink",), ("x: chance 0",))


class TestTruth:
    def test_only_a_failure_is_false(self):
        assert Report("empty")
        for finding in (PASS, SKIP, NOTE):
            assert Report("one", findings=(finding,))
        assert not Report("one", findings=(PASS, FAIL, PASS))
        assert WRONG.failures() == (FAIL,)
        assert RIGHT.failures() == ()

    def test_a_suite_is_as_true_as_its_reports(self):
        assert Suite("none", ())
        assert Suite("all", (RIGHT, Suite("inner", (RIGHT,))))
        deep = Suite("all", (RIGHT, Suite("inner", (RIGHT, WRONG))))
        assert not deep
        assert deep.flat() == [RIGHT, RIGHT, WRONG]
        assert deep.failures() == (FAIL,)

    def test_raise_if_wrong(self):
        suite = Suite("all", (RIGHT,))
        assert RIGHT.raise_if_wrong() is RIGHT
        assert suite.raise_if_wrong() is suite
        with pytest.raises(GradientError, match="cosine: WRONG, says automatic"):
            WRONG.raise_if_wrong()
        with pytest.raises(AssertionError) as caught:  # what pytest shows well
            Suite("all", (RIGHT, WRONG)).raise_if_wrong()
        assert str(WRONG) in str(caught.value)


class TestText:
    def test_a_report(self):
        lines = str(WRONG).splitlines()
        assert lines[0] == "cosine: WRONG, says automatic"
        assert repr(WRONG) == str(WRONG)
        (row,) = [line for line in lines if line.startswith("p/kernel")][:1]
        assert row.split()[:3] == ["p/kernel", "()", "2.0e+00"]
        assert row.endswith("DIFFER (hand)")
        (row,) = [line for line in lines if line.startswith("x ")]
        assert row.split() == ["x", "3x2", "1.0e-07", "2.0e-07", "1.5", "1.000000", "2x1", "0.25", "0.25", "-", "agree"]
        (row,) = [line for line in lines if line.startswith("automatic")]
        assert row.split() == ["automatic", "p/kernel", "FAIL", "inf", "5.0e-01", "one", "or", "two"]
        for title, line in (
            ("diagnosis", "p/kernel: all zeros."),
            ("kinks", "x at (0,): a kink"),
            ("sensitivity", "x: chance 0"),
        ):
            assert lines[lines.index(f"{title}:") + 1] == f"  {line}"
        assert max(map(len, lines)) < 140

    def test_what_is_empty_is_left_out(self):
        assert str(Report("empty")) == "empty: right, by 0 checks"
        text = str(RIGHT)
        assert text.startswith("sine: right, by 1 checks")
        for title in ("diagnosis", "kinks", "sensitivity"):
            assert f"{title}:" not in text

    def test_a_suite(self):
        lines = str(Suite("rules", (RIGHT, Suite("inner", (WRONG, RIGHT))), 12.3)).splitlines()
        assert lines[0].split() == ["cases", "checks", "skipped", "failed", "verdict"]
        assert [line.split() for line in lines[2:4]] == [
            ["sine", "1", "1", "1", "0", "right"],
            ["inner", "2", "3", "1", "1", "WRONG"],
        ]
        assert str(WRONG) in "\n".join(lines)
        assert lines[-1] == "rules: WRONG, says automatic (12 s)"
        assert str(Suite("rules", (RIGHT,))).endswith("rules: right, in 1 calls")

    def test_many_failures_are_counted_and_not_printed(self):
        text = str(Suite("rules", (WRONG,) * 8))
        assert text.count("p/kernel: all zeros.") == 5
        assert "... and 3 more reports with failures" in text

    def test_names_each_failing_check_once(self):
        other = Finding("zero", "FAIL")
        assert verdict_of(Report("f", findings=(other, FAIL, FAIL))) == "WRONG, says automatic, zero"
        assert verdict_of(Suite("s", (RIGHT, Suite("t", (RIGHT, RIGHT))))) == "right, in 3 calls"


class TestJson:
    def test_numbers_come_back(self):
        back = json.loads(RIGHT.to_json())
        assert back == RIGHT.to_dict()
        assert back["name"] == "sine"
        assert back["ok"] is True
        leaf = dict(back["leaves"][0])
        assert (leaf.pop("shape"), leaf.pop("worst")) == ([3, 2], [2, 1])
        assert Leaf(shape=(3, 2), worst=(2, 1), **leaf) == GOOD
        assert [Finding(**finding) for finding in back["findings"]] == [PASS, SKIP, NOTE]

    def test_numpy_and_what_is_not_finite(self):
        def refuse(name):
            raise AssertionError(f"{name} is not JSON")

        back = json.loads(WRONG.to_json(), parse_constant=refuse)
        assert back["ok"] is False
        leaf = back["leaves"][1]
        assert (leaf["absolute"], leaf["ulps"], leaf["hand"]) == (2.0, 3e7, -1.0)
        assert (leaf["relative"], leaf["cosine"], leaf["numeric"]) == ("inf", "nan", "nan")
        assert back["findings"][1]["error"] == "inf"
        assert back["findings"][1]["tolerance"] == 0.5
        assert back["diagnosis"] == list(WRONG.diagnosis)
        odd = dataclasses.replace(GOOD, worst=(np.int64(1),), absolute=-np.inf)
        back = json.loads(Report("odd", (odd,)).to_json(), parse_constant=refuse)
        assert back["leaves"][0]["worst"] == [1]
        assert back["leaves"][0]["absolute"] == "-inf"

    def test_a_suite(self):
        back = json.loads(Suite("rules", (RIGHT, Suite("inner", (WRONG,), 0.5)), 2.0).to_json())
        assert (back["name"], back["ok"], back["seconds"]) == ("rules", False, 2.0)
        inner = back["reports"][1]
        assert (inner["name"], inner["ok"], inner["seconds"]) == ("inner", False, 0.5)
        assert inner["reports"][0] == json.loads(WRONG.to_json())

    def test_results_are_frozen(self):
        for thing in (RIGHT, GOOD, PASS, Suite("s", ())):
            with pytest.raises(dataclasses.FrozenInstanceError):
                thing.name = "other"
