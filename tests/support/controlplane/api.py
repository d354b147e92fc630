"""Plain HTTP to an API server: JSON in, JSON out, no client library between a test and what the server says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import urllib3

RESOURCES = {
    "Service": "/api/v1/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
    "Endpoints": "/api/v1/endpoints",
}


class ApiError(Exception):
    """The server's answer was a Status: `code` is the HTTP status, `reason` its machine-readable cause."""

    def __init__(self, method: str, path: str, code: int, body: bytes) -> None:
        try:
            status = orjson.loads(body)
        except orjson.JSONDecodeError:
            status = {"message": body.decode(errors="replace")}
        self.code = code
        self.reason = status.get("reason", "")
        super().__init__(f"{method} {path}: {code} {status.get('message', '')}")


class Api:
    """One user's requests to one API server. Safe to use from several threads."""

    def __init__(self, url: str, token: str, ca: Path) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._pool = urllib3.PoolManager(maxsize=16, ca_certs=str(ca), retries=urllib3.Retry(connect=3, read=0))

    def close(self) -> None:
        self._pool.clear()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        query: dict[str, str] | None = None,
    ) -> Any:
        """The decoded answer. Raises ApiError for a status of 400 and above."""
        headers = self._headers if body is None else self._headers | {"Content-Type": content_type}
        answer = self._pool.request_encode_url(
            method,
            self.url + path,
            fields=query,
            headers=headers,
            body=None if body is None else orjson.dumps(body),
            timeout=30,
        )
        if answer.status >= 400:
            raise ApiError(method, path, answer.status, answer.data)
        try:
            return orjson.loads(answer.data)
        except orjson.JSONDecodeError:
            return answer.data.decode()

    def get(self, path: str, **query: str) -> Any:
        return self.request("GET", path, query=query or None)

    def post(self, path: str, body: Any) -> Any:
        return self.request("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """A JSON merge patch (RFC 7396): lists are replaced as a whole."""
        return self.request("PATCH", path, body, content_type="application/merge-patch+json")

    def delete(self, path: str, grace: int | None = None) -> Any:
        """Delete with `grace` seconds; None leaves the period to the object."""
        return self.request("DELETE", path, None if grace is None else {"gracePeriodSeconds": grace})

    @contextmanager
    def stream(self, path: str, **query: str) -> Iterator[Iterator[bytes]]:
        """The lines of a watch as they come. Raises ApiError where the server refuses it at once."""
        answer = self._pool.request_encode_url(
            "GET",
            self.url + path,
            fields={"watch": "true", **query},
            headers=self._headers,
            preload_content=False,
            timeout=urllib3.Timeout(connect=10, read=None),
        )
        try:
            if answer.status >= 400:
                raise ApiError("WATCH", path, answer.status, answer.data)
            yield _lines(answer)
        finally:
            answer.close()


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for chunk in answer.read_chunked():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)
