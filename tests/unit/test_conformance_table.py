"""What is written of the conformance tests is what is expected of them."""

import re

from tests.conformance.expectations import EXPECTED, NOT_ABOUT_FACETS, README, document, version

ROOT = README.parents[2]


def test_the_page_is_up_to_date() -> None:
    assert README.read_text() == document(), "run python -m tests.conformance.expectations"


def test_no_test_is_in_both_lists() -> None:
    assert not EXPECTED.keys() & NOT_ABOUT_FACETS.keys()


def test_readme_has_the_counts() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    match = re.search(r"Of the (\d+) conformance tests of Gateway API (\S+), (\d+) are about facets", text)
    assert match is not None
    assert match.groups() == (str(len(EXPECTED) + len(NOT_ABOUT_FACETS)), version(), str(len(EXPECTED)))
