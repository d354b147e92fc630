"""An object that can't be read marks the Services that it names now, and only these."""

from typing import Any

import pytest

from streams.fold.offline import AuditFold
from streams.wire.records import decode_row
from tests.support.routed_service import service
from tests.support.routes import Object, route, rule, to_service


def marks(*objects: Object) -> dict[str, list[str]]:
    """The names in `rejected` of each Service's row, in the tables that have them."""
    rows: dict[tuple[str, str], Any] = {}
    fold = AuditFold("east")
    for number, item in enumerate(objects, 10):
        for write in fold.take({**item, "metadata": {**item["metadata"], "resourceVersion": str(number)}}):
            if write.table in {"backend", "routing"} and not write.key.startswith(b"~") and write.value:
                rows[write.table, write.key.decode()] = decode_row(write.table, write.value)
    marked: dict[str, list[str]] = {}
    for (_, key), row in sorted(rows.items()):
        names = [rejection["name"] for rejection in row.get("rejected", ())]
        marked.setdefault(key.rpartition("/")[2], []).extend(names)
    return marked


def bad_route(*names: str) -> Object:
    item = route("r", [to_service(name) for name in names], [rule(name) for name in names])
    item["spec"]["hostnames"] = 7
    return item


def bad_slice(name: str) -> Object:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": "r", "namespace": "shop", "uid": "u9", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPX",
    }


@pytest.mark.parametrize("bad", [bad_route, bad_slice])
def test_one_that_names_another_service_no_longer_marks_the_first(bad: Any) -> None:
    services = [service("a"), service("b")]
    assert marks(*services, bad("a")) == {"a": ["r"], "b": []}
    assert marks(*services, bad("a"), bad("b")) == {"a": [], "b": ["r"]}


def test_one_that_names_fewer_services_no_longer_marks_the_others() -> None:
    services = [service("a"), service("b")]
    assert marks(*services, bad_route("a", "b"), bad_route("b")) == {"a": [], "b": ["r"]}
