"""Each input after a public bug report, through the command that people use, comes out as it must.

The first ids of each list are those of the reports that this began with; the others are their siblings.
"""

from pathlib import Path

import pytest

from tests.unit.cases import endpoint_sets, inputs, more_listeners, more_matches, more_references, resources, routes
from tests.unit.cases.case import Case, Fold, Translate, holds

_CASES: list[Case] = [
    *inputs.CASES,
    *endpoint_sets.CASES,
    *routes.CASES,
    *more_listeners.CASES,
    *more_references.CASES,
    *more_matches.CASES,
    *resources.CASES,
]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in _CASES])
def test_case(case: Case, tmp_path: Path) -> None:
    printed = case.run(tmp_path) if isinstance(case, Translate) else case.run()
    assert holds(case.expected, printed), printed


def test_each_case_is_there_once_and_names_its_source() -> None:
    ids = [case.id for case in _CASES]
    assert len(set(ids)) == len(ids)
    assert all(case.source for case in _CASES)


def test_a_part_is_not_more_than_the_whole() -> None:
    assert holds({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}], "d": 3})
    assert not holds({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"b": 2}]})
    assert not holds({"a": None}, {})
    assert not holds({"a": {}}, {"a": 1})


def test_a_case_can_fail() -> None:
    wrong = next(case for case in inputs.CASES if case.id == "in-typed-lists")
    with pytest.raises(AssertionError):
        wrong._replace(services=("shop/other",)).run()
    with pytest.raises(AssertionError):
        wrong._replace(message="UTF-16").run()
    assert not holds({"backend": {"shop/cart": {"state": "empty"}}}, wrong.run())
    assert isinstance(wrong, Fold)
