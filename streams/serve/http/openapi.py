"""The HTTP interface of `facets serve` as OpenAPI 3.1, generated from the types of its endpoints."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from streams.serve.http.endpoint import Body, Endpoint, Error, query_type
from streams.serve.http.parameters import Conditional
from streams.wire.json_schema import tidy
from streams.wire.records import FOLDED_TABLES

_REF = "#/components/schemas/"


def openapi(version: str, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The whole description."""
    described = [table_endpoint for endpoint in endpoints for table_endpoint in _by_table(endpoint)]
    bodies = [endpoint.answer for endpoint in described if isinstance(endpoint.answer, Body)]
    kinds = [endpoint.answer for endpoint in described if not isinstance(endpoint.answer, Body)]
    kinds += [Error, *(kind for body in bodies for kind in body.types)]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=f"{_REF}{{name}}")
    schemas |= {body.name: body.schema for body in bodies if body.name}
    document: dict[str, Any] = tidy(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Service Facets",
                "version": version,
                "description": "The facets of Kubernetes Services over HTTP: changes as server-sent events, look-ups, "
                "and which router has what.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": {endpoint.path: _operation(endpoint) for endpoint in described},
            "components": {"schemas": dict(sorted(schemas.items()))},
        }
    )
    return document


def _by_table(endpoint: Endpoint) -> Iterator[Endpoint]:
    """An endpoint with a table in its path as one endpoint for each table, as their answers differ in type."""
    if "{table}" not in endpoint.path:
        yield endpoint
        return
    for table in FOLDED_TABLES:
        yield endpoint._replace(
            answer=endpoint.answer[table],
            query=query_type(endpoint.query, table),
            path=endpoint.path.replace("{table}", table),
            operation=endpoint.operation.replace("{table}", table.capitalize()),
            summary=endpoint.summary.replace("{table}", table),
        )


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "get": {
            "operationId": endpoint.operation,
            "summary": endpoint.summary,
            **({"description": endpoint.description} if endpoint.description else {}),
            "parameters": [
                *_parameters(endpoint.path_parameters, "path", endpoint.path),
                *_parameters(endpoint.query, "query"),
                *_parameters(endpoint.headers, "header"),
            ],
            "responses": {
                "200": _body(endpoint.answer) if isinstance(endpoint.answer, Body) else _json(endpoint.answer),
                **_not_modified(endpoint),
                "400": _json(Error, "Invalid parameter."),
                "404": _json(Error, "Not found."),
                **({"410": _json(Error, "The retained log does not go back so far.")} if _looks_back(endpoint) else {}),
                "503": {
                    **_json(Error, "Not ready, or at its limit: retry later."),
                    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
                },
            },
        }
    }


def _looks_back(endpoint: Endpoint) -> bool:
    return any(field.name in {"at", "since"} for field in msgspec.structs.fields(query_type(endpoint.query, "")))


def _not_modified(endpoint: Endpoint) -> dict[str, Any]:
    if not issubclass(endpoint.headers, Conditional):
        return {}
    return {"304": {"description": "The rows are those of the ETag in If-None-Match."}}


def _parameters(kind: Any, place: str, path: str = "") -> Iterator[dict[str, Any]]:
    _, components = msgspec.json.schema_components([kind])
    schema = components[kind.__name__]
    for name, property_schema in schema["properties"].items():
        if place == "path" and f"{{{name}}}" not in path:
            continue
        # An empty list as default means that the parameter is absent.
        parameter_schema = {key: value for key, value in property_schema.items() if (key, value) != ("default", [])}
        text = parameter_schema.pop("description", "")
        yield {
            "name": name,
            "in": place,
            **({"required": True} if name in schema["required"] else {}),
            **({"description": text} if text else {}),
            "schema": parameter_schema,
        }


def _json(kind: Any, text: str = "Success.") -> dict[str, Any]:
    return _content(text, "application/json", {"$ref": f"{_REF}{kind.__name__}"})


def _body(body: Body) -> dict[str, Any]:
    return _content(body.text, body.content_type, {"$ref": f"{_REF}{body.name}"} if body.name else body.schema)


def _content(text: str, content_type: str, schema: Any) -> dict[str, Any]:
    return {"description": text, "content": {content_type: {"schema": schema}}}
