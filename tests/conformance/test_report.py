"""The lists of conformance tests and the document made of their results."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from hack.conformance import catalog, report, suite
from hack.conformance.suite import FAILED, NOT_RUN, PASSED, Result


def test_lists_hold_conformance_tests():
    tests = catalog.all_tests()
    assert len({test.name for test in tests}) == 462
    green = catalog.read_names(catalog.KNOWN_GREEN)
    assert green == sorted(set(green))
    assert len(catalog.named(green)) == len(green)
    assert set(catalog.read_names(catalog.QUICK)) <= set(green)


def test_known_green_only_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "KNOWN_GREEN", tmp_path / "green.txt")
    assert catalog.add_known_green(["b", "a"]) == ["a", "b"]
    assert catalog.add_known_green(["c", "a"]) == ["c"]
    assert catalog.read_names(tmp_path / "green.txt") == ["a", "b", "c"]


def test_unknown_name_is_an_error():
    with pytest.raises(catalog.UnknownTest, match="no such"):
        catalog.named(["no such"])


def test_document_remembers_other_runs(tmp_path):
    path = tmp_path / "conformance.md"
    tests = [test for test in catalog.all_tests() if test.need == catalog.REAL][:2]
    first = [Result(tests[0], FAILED, 1.0, "got <nil> | wanted 1")]
    report.write(path, tests, first, date="2026-01-01", command="one", runtime="fake")
    lines = report.read(path)
    assert lines[tests[0].name] == report.Line(FAILED, "2026-01-01", "got <nil> | wanted 1")
    assert lines[tests[1].name].outcome == NOT_RUN
    assert lines[tests[1].name].note
    second = [Result(tests[1], PASSED)]
    summary = report.write(path, tests, second, date="2026-01-02", command="two", runtime="oci")
    assert summary == "1 of 2 tests passed, 1 failed, 0 were not run"
    assert report.read(path)[tests[0].name] == lines[tests[0].name]


@pytest.mark.parametrize(
    ("case", "outcome", "note"),
    [
        ('<testcase name="[It] x" status="passed"/>', PASSED, ""),
        ('<testcase name="[It] x" status="failed"><failure message="a\n b"/></testcase>',
         FAILED, "a b"),
        ('<testcase name="[It] x" status="skipped"><skipped message="skipped - why"/></testcase>',
         NOT_RUN, "skipped - why"),
        ('<testcase name="[It] x" status="interrupted"><error message="by User"/></testcase>',
         NOT_RUN, "by User"),
        ('<testcase name="[It] x" status="skipped"><skipped message="skipped"/></testcase>',
         NOT_RUN, "the suite holds no such test"),
        ('<testcase name="[BeforeSuite]" status="failed"><failure message="no"/></testcase>',
         FAILED, "no"),
    ],
)  # fmt: skip
def test_junit(tmp_path, case, outcome, note):
    path = tmp_path / "junit_01.xml"
    path.write_text(f"<testsuites><testsuite>{case}</testsuite></testsuites>")
    assert suite.read_junit(path, 1) == (outcome, note)
    kept = [case.get("message") for case in ElementTree.parse(path).iter("skipped")]
    assert "skipped" not in kept


def test_tests_share_no_folder():
    common = "Resource Metric) should scale and scale and scale " * 5
    first, second = suite.folder_name(f"Container{common}"), suite.folder_name(common)
    assert first != second and max(len(first), len(second)) <= 150


def test_no_junit_is_a_failure(tmp_path):
    outcome, note = suite.read_junit(tmp_path / "none.xml", 60)
    assert (outcome, note) == (FAILED, "no report within 90 s")
