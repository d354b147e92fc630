"""The conformance tests' manifests through the pure core: what `tests/e2e/test_conformance.py` asks with a real API
server, asked without one."""

from typing import Any

import pytest

from streams.fold.offline import AuditFold
from streams.wire.records import decode_row
from tests.conformance import manifests
from tests.conformance.expectations import EXPECTED, NOT_ABOUT_FACETS
from tests.conformance.table import Table
from tests.support.routes import Object

OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def stamped(item: Object, version: int, created: str) -> Object:
    """The object as an API server would serve it."""
    meta = {"uid": f"uid-{version}", "resourceVersion": str(version), "creationTimestamp": created, **item["metadata"]}
    return {**item, "metadata": meta}


def test_every_test_of_the_module_is_accounted_for() -> None:
    assert sorted(manifests.names()) == sorted((*EXPECTED, *NOT_ABOUT_FACETS))


@pytest.mark.parametrize("name", EXPECTED)
def test_the_table_is_as_the_test_expects(name: str) -> None:
    expectation = EXPECTED[name]
    audit, rows = AuditFold(), dict[str, Any]()
    objects = [*manifests.base(), *(item for path in expectation.files for item in manifests.read(path))]
    held = {_key(item): stamped(item, number, OLD) for number, item in enumerate(objects, 1)}
    version = len(held)
    documents: list[Any] = [{"kind": "List", "items": list(held.values())}]
    for step in expectation.steps:
        for item in (*step.added, *step.younger):
            version += 1
            documents.append({"type": "MODIFIED", "object": stamped(item, version, NEW)})
        documents += [{"type": "DELETED", "object": held[key]} for key in step.deleted]
        for document in documents:
            for write in audit.take(document):
                if write.table == "routing":
                    row = None if write.value is None else decode_row("routing", write.value)
                    rows[write.key.decode().partition("/")[2]] = row
        documents = []
        table = Table({key: row for key, row in rows.items() if row and row["state"] != "deleted"})
        for check in step.checks:
            check(table)


def _key(item: Object) -> tuple[str, str, str]:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]
