"""The HTTP interface follows from the types of its endpoints: what is described, decoded and encoded is one thing."""

from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from streams.serve.http.endpoint import Body, Endpoint, Nothing, Parameters, query_type
from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.openapi import openapi
from streams.serve.http.parameters import KubernetesName
from streams.serve.http.routes import add_endpoints, in_json
from streams.serve.http.sse import ChangesHub, SseSettings
from streams.serve.xds.server import XdsServer, XdsSettings
from streams.wire.records import FOLDED_TABLES, Record


class Query(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Whom to greet."""

    first_name: KubernetesName
    times: float = 1.0


class Greeting(Record):
    """A greeting."""

    text: str
    times: int


async def greet(_parts: Any, _request: web.Request, parameters: Parameters) -> Greeting:
    return Greeting(text=f"hello {parameters.query.first_name}", times=round(parameters.query.times))


TOY = Endpoint("/v1/greeting", "greet", "Greets.", Greeting, greet, query=Query)


async def test_an_endpoint_is_one_declaration() -> None:
    app = web.Application(middlewares=[in_json])
    hub = ChangesHub(SseSettings(), "nowhere", 1, 60.0)
    add_endpoints(app, XdsServer(XdsSettings(), 1), hub, lambda: 0.0, (*all_endpoints(), TOY))
    async with TestClient(TestServer(app)) as http:
        answer = await http.get("/v1/greeting?firstName=cart&times=2")
        assert await answer.json() == {"text": "hello cart", "times": 2}
        answer = await http.get("/v1/greeting?times=2")
        problem = "parameter firstName is missing: a Kubernetes name (lower case letters, digits, - and .)"
        assert (answer.status, await answer.json()) == (
            400, {"error": problem, "reason": "INVALID_PARAMETER", "parameter": "firstName"}
        )  # fmt: skip
        described = await (await http.get("/openapi.json")).json()
        operation = described["paths"]["/v1/greeting"]["get"]
        assert [(each["name"], each["in"], each.get("required", False)) for each in operation["parameters"]] == [
            ("firstName", "query", True), ("times", "query", False),
        ]  # fmt: skip
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Greeting"}
        assert list(described["components"]["schemas"]["Greeting"]["properties"]) == ["text", "times"]


@pytest.mark.parametrize("endpoint", all_endpoints(), ids=lambda endpoint: endpoint.path)
def test_every_endpoint_says_all_of_itself(endpoint: Endpoint) -> None:
    described = openapi("0", [endpoint])
    paths = [endpoint.path.replace("{table}", table) for table in FOLDED_TABLES] if "{table}" in endpoint.path else None
    assert list(described["paths"]) == (paths or [endpoint.path])
    for path, methods in described["paths"].items():
        parameters = {(each["name"], each["in"]) for each in methods["get"]["parameters"]}
        assert {name for name, place in parameters if place == "path"} == {
            part[1:-1] for part in path.split("/") if part.startswith("{")
        }
        table = path.split("/")[3] if "{table}" in endpoint.path else ""
        queried = {field.encode_name for field in msgspec.structs.fields(query_type(endpoint.query, table))}
        assert {name for name, place in parameters if place == "query"} == queried
    if endpoint.handle is None:
        # Answered by the probes that every process has.
        assert (endpoint.query, endpoint.path_parameters) == (Nothing, Nothing)
    elif not isinstance(endpoint.answer, Body | dict):
        kind = described["components"]["schemas"][endpoint.answer.__name__]
        assert list(kind["properties"]) == [field.encode_name for field in msgspec.structs.fields(endpoint.answer)]


def test_no_two_types_of_the_interface_have_one_name() -> None:
    """msgspec tells two of one name apart by their modules (`a.b.Router`), which generators of clients can't."""
    described = openapi("0", all_endpoints())
    assert [name for name in described["components"]["schemas"] if not name.isidentifier()] == []
