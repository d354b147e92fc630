"""Objects as people have them: JSON and YAML in every form that kubectl prints, and text that is neither."""

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from streams.objects.documents import Document, UnreadableDocument, UnreadableInput, read_documents

A = {"kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}, {"port": 81}]}}
B = {"kind": "Service", "metadata": {"name": "b", "creationTimestamp": "2026-11-24T12:00:00Z"}, "empty": {}}


def read(text: str | bytes) -> list[Any]:
    lines = (text.encode() if isinstance(text, str) else text).splitlines(keepends=True)
    return [item.value if isinstance(item, Document) else item for item in read_documents(lines)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(A) + "\n" + json.dumps(B),
        json.dumps(A, indent=4) + "\n" + json.dumps(B, indent=4) + "\n",
        json.dumps(A, indent=4) + json.dumps(B, indent=4),
        json.dumps(A) + json.dumps(B),
        json.dumps(A) + "\n\n" + json.dumps(B, indent=2),
        json.dumps(A, indent=0) + "\n" + json.dumps(B, indent=0),
        "\n\n  " + json.dumps(A) + "\r\n" + json.dumps(B) + "\r\n",
        "\ufeff" + json.dumps(A) + "\n" + json.dumps(B),
        yaml.safe_dump_all([A, B]),
        "---\n" + yaml.safe_dump(A) + "---\n# only a comment\n---\n" + yaml.safe_dump(B) + "...\n",
        "# a manifest\n" + yaml.safe_dump(A) + "--- \n" + json.dumps(B),
    ],
)
def test_every_form_of_two_documents(text: str) -> None:
    assert read(text) == [A, B]


def test_times_without_quotes_are_text() -> None:
    assert read("at: 2026-11-24T12:00:00Z\nday: 2026-11-24\n") == [{"at": "2026-11-24T12:00:00Z", "day": "2026-11-24"}]


def test_a_document_is_there_as_soon_as_its_last_line_is() -> None:
    lines = (json.dumps(A, indent=4) + "\n").encode().splitlines(keepends=True)
    consumed = []

    def watch() -> Any:
        for line in [*lines, b"{\n", b'  "kind"']:
            consumed.append(line)
            yield line

    assert next(read_documents(watch())) == Document("line 1", A)
    assert consumed == lines


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{nonsense", "no JSON"),
        ('{"kind": "Service", "metadata": {"na', "no JSON"),
        ('{"kind": oops}', "no JSON"),
    ],
)
def test_a_line_that_is_wrong_costs_itself(bad: str, reason: str) -> None:
    first, wrong, last = read("\n".join([json.dumps(A), bad, json.dumps(B)]))
    assert (first, last) == (A, B)
    assert isinstance(wrong, UnreadableDocument)
    assert wrong.place == "line 2"
    assert reason in wrong.reason


def test_a_yaml_document_that_is_wrong_costs_itself() -> None:
    first, wrong, last = read(yaml.safe_dump(A) + "---\nkind: Service\n  name: x\n---\n" + yaml.safe_dump(B))
    assert (first, last) == (A, B)
    assert isinstance(wrong, UnreadableDocument)
    assert wrong.place == f"line {yaml.safe_dump(A).count(chr(10)) + 3}"
    assert "YAML" in wrong.reason


def test_aliases_are_refused_and_asterisks_are_not() -> None:
    assert read('hosts: ["*.example.com", "*"]\n') == [{"hosts": ["*.example.com", "*"]}]
    (refused,) = read("a: &a [1, 2]\nb: *a\n")
    assert isinstance(refused, UnreadableDocument)
    assert "aliases" in refused.reason


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (json.dumps(A).encode("utf-16"), "UTF-16"),
        (json.dumps(A).encode("utf-16-le"), "UTF-16"),
        (json.dumps(A).encode("utf-16-be"), "UTF-16"),
        (json.dumps(A).encode("utf-32"), "UTF-32"),
        (b"\x1f\x8b\x08\x00abc", "gzip"),
        (b"\x89PNG\r\n\x1a\n", "UTF-8"),
    ],
)
def test_what_is_no_text_is_one_error_with_its_cause(text: bytes, cause: str) -> None:
    with pytest.raises(UnreadableInput, match=cause):
        read(text)


@pytest.mark.parametrize("text", ["", "\n \n", "---\n", "# nothing\n"])
def test_nothing_is_no_document(text: str) -> None:
    assert read(text) == []


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "[" * 100_000, "\n".join("{" * 1000)])
def test_depth_is_bounded(text: str) -> None:
    assert all(isinstance(item, UnreadableDocument) for item in read(text))


documents = st.lists(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    ),
    min_size=1,
    max_size=4,
)


@example([{}, {"": [{}]}], 0, "")
@given(documents, st.sampled_from([None, 0, 1, 4]), st.sampled_from(["\n", "", "\n\n", " ", "\r\n"]))
def test_whatever_way_json_is_written_it_is_read(items: list[Any], indent: int | None, between: str) -> None:
    assert read(between.join(json.dumps(item, indent=indent) for item in items)) == items


@given(documents)
def test_whatever_is_written_as_yaml_is_read(items: list[Any]) -> None:
    assert read("".join("---\n" + yaml.safe_dump(item) for item in items)) == items


@given(st.binary(max_size=200))
def test_no_bytes_break_it(text: bytes) -> None:
    with suppress(UnreadableInput):
        read(text)
