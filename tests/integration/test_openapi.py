"""The HTTP interface against its own description: requests that it allows, and requests that it forbids, to the real
server on a real Kafka."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import settings
from hypothesis import strategies as st
from schemathesis import Case
from tenacity import Retrying, retry, retry_if_result, stop_after_delay, wait_fixed

from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.openapi import openapi
from streams.serve.http.parameters import ADDRESS_FORMAT, AFTER_FORMAT, CURSOR_FORMAT, TIME_FORMAT
from streams.serve.run import LINE_BYTES
from streams.subscription.cursor import Cursor
from streams.watch.session import now
from tests.integration.journal import PARTITIONS
from tests.integration.mesh import AT, DEADLINE, endpoint_slice, free_port, service
from tests.support.journaled_tables import JournaledTables

_AT = "2026-11-24T12:00:00.000Z"
_CURSORS = [
    Cursor(_AT, {}, {}).encode(),
    Cursor(_AT, dict.fromkeys(range(PARTITIONS), 2), {("backend", p): 4 for p in range(PARTITIONS)}).encode(),
    Cursor("2020-01-01T00:00:00.000Z", {0: 1_000_000}, {("frontend", 0): 1_000_000}).encode(),
]

_TIMES = [AT, "2026-11-24T13:00:01+01:00", "2026-11-24t12:00:02.5z"]
_LOOKED_FOR = ("address", "dns", "pod", "node", "zone")

_ADDRESSES = ["10.1.0.1", "10.1.0.1:8080", "fd00::1", "[fd00::1]:80,443"]

schemathesis.openapi.format(CURSOR_FORMAT, st.sampled_from(_CURSORS))
schemathesis.openapi.format(ADDRESS_FORMAT, st.sampled_from(_ADDRESSES))
schemathesis.openapi.format(TIME_FORMAT, st.sampled_from(_TIMES))
schemathesis.openapi.format(AFTER_FORMAT, st.just("nonsense"))
DESCRIPTION = openapi("0", all_endpoints())
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)


@pytest.fixture(scope="module")
def server(bootstrap_of_the_run: str) -> Iterator[str]:
    """The URL of `facets serve`, a process of its own: Hypothesis minds who else uses this one's `random`."""
    tables = JournaledTables(bootstrap_of_the_run)
    tables.start(service(), endpoint_slice("cart-a", "cart", 8080, {"10.1.0.1": "ready", "10.1.0.2": "draining"}))
    tables.close()
    port = free_port()
    command = ["serve", "--bootstrap-servers", bootstrap_of_the_run, "--xds-port", "0", "--http-port", str(port)]
    with subprocess.Popen([sys.executable, "-m", "streams.cli", *command]) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for attempt in Retrying(stop=stop_after_delay(DEADLINE), wait=wait_fixed(0.1), reraise=True):
                with attempt:
                    requests.get(f"{url}/readyz", timeout=DEADLINE).raise_for_status()
            yield url
        finally:
            process.terminate()


@SCHEMA.parametrize()
@settings(max_examples=10, derandomize=True, database=None, deadline=None)
def test_what_is_described_is_answered_as_described(case: Case, server: str) -> None:
    """Status, content type and body are documented, what is allowed is not refused, what is not allowed is, nothing
    ends in a 5xx."""
    if _may_wait(case) and _waits(case.query):
        case.query["timeout"] = 0.01  # Nobody acknowledges here.
    if case.operation.path == "/v1/wait" and case.query.get("address") == "":
        case.query["address"] = "nonsense"
    if case.query.get("cursor") == "":
        # An empty one is as none, whatever a format says; what is no cursor is another text.
        case.query["cursor"] = "nonsense"
    if case.meta is not None and case.meta.generation.mode.is_positive:
        _heed_what_types_do_not_say(case)
    request = case.as_transport_kwargs(base_url=server)
    answer = _answer(request)
    if len(requests.Request(**request).prepare().path_url) > LINE_BYTES - 100:
        # Refused before it is known what it asks for.
        assert answer.status_code == 400
    else:
        case.validate_response(answer)


def _is_busy(answer: requests.Response) -> bool:
    return answer.status_code == 503 and "Retry-After" in answer.headers


@retry(stop=stop_after_delay(DEADLINE), wait=wait_fixed(0.1), retry=retry_if_result(_is_busy))
def _answer(request: dict[str, Any]) -> requests.Response:
    """The answer; of a stream, which does not end, without its events (test_http looks at them)."""
    with requests.request(**request, stream=True, timeout=DEADLINE) as answer:
        if answer.headers.get("Content-Type") == "text/event-stream":
            answer._content = b""
        _ = answer.content  # Read before the connection is closed.
        return answer


def _heed_what_types_do_not_say(case: Case) -> None:
    if _asks_for_sets(case):
        case.query.pop("cluster", None)  # It is of no cluster.
    case.query.pop("after", None)  # Only a page before has one.
    if case.operation.path.startswith("/v1/routers") and "at" in case.query:
        case.query["at"] = now()  # What is recorded of routers has the broker's time, and is of this run.
    moments = [name for name in ("at", "atLeast", "cut") if name in case.query]
    for name in moments[1:]:
        del case.query[name]  # Of one moment at a time.
    if "atLeast" in case.query and len(case.query.get("cluster") or ()) != 1:
        del case.query["atLeast"]  # Of one cluster.
    if case.query.get("since", "") > case.query.get("until", "~"):
        case.query.pop("since")
    if case.operation.path == "/v1/lookup":
        asked = [name for name in _LOOKED_FOR if name in case.query]
        for name in asked[1:]:
            del case.query[name]  # For one thing at a time.
        if not asked:
            case.query["address"] = _ADDRESSES[0]


def _asks_for_sets(case: Case) -> bool:
    return case.operation.path.startswith("/v1/facets/clusterset") or "clusterset" in (case.query.get("table") or ())


def _may_wait(case: Case) -> bool:
    return case.operation.path in {"/v1/acked", "/v1/wait"} or bool({"atLeast", "cut"} & case.query.keys())


def _waits(query: dict[str, Any]) -> bool:
    """Whether the request asks for some time to wait; without one it is 30 s."""
    try:
        return float(query.get("timeout", 30)) > 0
    except (TypeError, ValueError):
        return False


def test_the_longest_request_that_is_allowed_is_answered(server: str) -> None:
    longest = {
        parameter["name"]: ["a" * items["maxLength"]] * parameter["schema"]["maxItems"]
        for parameter in DESCRIPTION["paths"]["/v1/changes"]["get"]["parameters"]
        if "maxLength" in (items := parameter["schema"].get("items", {}))
    }
    assert longest.keys() == {"cluster", "namespace", "service"}
    with requests.get(f"{server}/v1/changes", params=longest, stream=True, timeout=DEADLINE) as answer:
        assert answer.status_code == 200


def test_who_has_gone_holds_no_place_of_those_who_wait(server: str) -> None:
    host, port = server.removeprefix("http://").split(":")
    asked = "/v1/acked?cluster=east&resourceVersion=99999999&timeout="
    for _ in range(150):
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as waiting:
            waiting.sendall(f"GET {asked}3600 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = _answer({"method": "GET", "url": f"{server}{asked}0.01"})
    assert (answer.status_code, answer.json()["acked"]) == (200, False)
