"""What the importer makes of an API server's answers, and what it asks of it."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from streams.errors import FacetsError
from streams.importer.plan import Action
from streams.importer.writer import OthersOwnIt, Outdated, Refused, Writer
from streams.kube.api_server import ClusterUnusable, ServerBusy, ServerError
from tests.support.scripted_api_server import Script, answer, serving, status

META = {"name": "cart", "namespace": "shop", "uid": "u-1", "resourceVersion": "7"}
OWN = {"metadata": {**META, "labels": {"service-facets.io/imported-by": "facets-import"}}}
BODY = {"kind": "ServiceImport", "metadata": {"name": "cart", "namespace": "shop"}, "spec": {}}


def update(before: Any = OWN, *, is_status: bool = False) -> Action:
    return Action("ServiceImport", "shop", "cart", BODY, before, is_status)


def asked(code: int, body: Any, seen: list[tuple[web.Request, Any]]) -> Callable[[web.Request], Awaitable[Any]]:
    """An answer that notes the request."""

    async def give(request: web.Request) -> web.StreamResponse:
        seen.append((request, orjson.loads(await request.read() or b"null")))
        return await answer(code, body)(request)

    return give


async def test_its_own_is_applied_by_force_on_top_of_what_was_seen(tmp_path: Path) -> None:
    seen: list[tuple[web.Request, Any]] = []
    async with serving(tmp_path, Script(asked(200, {"kind": "x"}, seen))) as server:
        assert await Writer(server).apply(update(), "") == {"kind": "x"}
    ((request, body),) = seen
    assert (request.method, request.path) == (
        "PATCH",
        "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceimports/cart",
    )
    assert dict(request.query) == {"fieldManager": "facets-import", "force": "true"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert body["metadata"] == {"name": "cart", "namespace": "shop", "uid": "u-1", "resourceVersion": "7"}


async def test_the_status_of_somebody_elses_object_is_never_forced(tmp_path: Path) -> None:
    seen: list[tuple[web.Request, Any]] = []
    action = Action("ServiceExport", "shop", "cart", {**BODY, "kind": "ServiceExport"}, {"metadata": META}, True)
    async with serving(tmp_path, Script(asked(200, {}, seen))) as server:
        await Writer(server).apply(action, "")
    ((request, _),) = seen
    assert request.path.endswith("/serviceexports/cart/status")
    assert request.query["force"] == "false"


async def test_what_is_new_is_looked_for_first(tmp_path: Path) -> None:
    async with serving(tmp_path, Script(answer(200, {"metadata": META}))) as server:
        with pytest.raises(OthersOwnIt) as raised:
            await Writer(server).apply(update(None), "")
        assert raised.value.item == {"metadata": META}
    async with serving(tmp_path, Script(answer(200, OWN))) as server:
        with pytest.raises(Outdated):
            await Writer(server).apply(update(None), "")


async def test_a_slice_names_the_import_that_owns_it(tmp_path: Path) -> None:
    seen: list[tuple[web.Request, Any]] = []
    meta = {"name": "cart-1", "ownerReferences": [{"kind": "ServiceImport", "name": "cart", "uid": ""}]}
    action = Action("EndpointSlice", "shop", "cart-1", {"kind": "EndpointSlice", "metadata": meta}, OWN)
    async with serving(tmp_path, Script(asked(200, {}, seen))) as server:
        with pytest.raises(Outdated):
            await Writer(server).apply(action, "")
        await Writer(server).apply(action, "u-9")
    ((_, body),) = seen
    assert body["metadata"]["ownerReferences"] == [{"kind": "ServiceImport", "name": "cart", "uid": "u-9"}]


async def test_only_what_was_seen_is_deleted(tmp_path: Path) -> None:
    seen: list[tuple[web.Request, Any]] = []
    action = Action("ServiceImport", "shop", "cart", None, OWN)
    async with serving(tmp_path, Script(asked(200, {}, seen), answer(404, status(404)))) as server:
        await Writer(server).delete(action)
        await Writer(server).delete(action)
    ((request, body),) = seen
    assert request.method == "DELETE"
    assert body["preconditions"] == {"uid": "u-1", "resourceVersion": "7"}


FOREIGN = {"causes": [{"reason": "FieldManagerConflict", "field": ".status.conditions"}]}


@pytest.mark.parametrize(
    ("code", "body", "error", "text"),
    [
        (404, status(404), Outdated, "is gone"),
        (409, status(409, "the object has been modified"), Outdated, "modified"),
        (409, status(409, "conflict with other", details=FOREIGN), OthersOwnIt, "conflict with other"),
        (403, status(403, "no"), ClusterUnusable, "does not let this account apply"),
        (422, status(422, "spec.type: Unsupported value"), Refused, "Unsupported value"),
        (500, status(500, ".status.x: field not declared in schema"), Refused, "not declared in schema"),
        (500, status(500, "etcd"), ServerError, "etcd"),
        (503, status(503, "later", details={"retryAfterSeconds": 3}), ServerBusy, "later"),
    ],
)
async def test_what_an_answer_means(tmp_path: Path, code: int, body: Any, error: type[Exception], text: str) -> None:
    async with serving(tmp_path, Script(answer(code, body))) as server:
        with pytest.raises(error, match=text) as raised:
            await Writer(server).apply(update(), "")
    if isinstance(raised.value, FacetsError):
        assert raised.value.remedy
    if isinstance(raised.value, ServerBusy):
        assert raised.value.retry_after == 3
