"""The page of mcs-api's conformance suite: what each spec asks is asked in every run, by a test that is there."""

from pathlib import Path

from tests.conformance.mcs import PAGE, SPECS, Result, page, results

IMPORTING = Path(__file__).parents[1] / "e2e" / "test_import.py"


def test_every_spec_is_on_the_page_and_what_needs_no_data_plane_has_a_test() -> None:
    lines = PAGE.read_text().splitlines()
    tests = IMPORTING.read_text()
    for spec in SPECS.values():
        (line,) = (each for each in lines if each.startswith(f"| {spec.asks} |"))
        assert ("| passed |" in line) == bool(spec.test), line
        assert ("| not run |" in line) == (not spec.test), line
        if spec.test:
            assert f"def {spec.test}(" in tests


def test_a_report_is_read_as_ginkgo_writes_it() -> None:
    spec = {
        "LeafNodeType": "It", "LeafNodeText": "works", "LeafNodeLabels": ["Required"], "State": "passed",
        "ContainerHierarchyTexts": ["", "A thing"], "ContainerHierarchyLabels": [["ClusterIP"], None],
    }  # fmt: skip
    report = [{"SpecReports": [spec, {**spec, "LeafNodeType": "BeforeSuite"}]}]
    assert list(results(report)) == [Result("b74eb7d4", "passed", ("ClusterIP", "Required"))]


def test_a_failure_is_shown_as_one() -> None:
    key, spec = next(iter(SPECS.items()))
    assert f"| {spec.asks} | Required | failed |" in page([Result(key, "failed", ("Required",))])
