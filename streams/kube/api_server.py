"""A Kubernetes API server over HTTP: raw lists and watch streams, decoded with orjson.

The `kubernetes` package finds the configuration and renews credentials; the bytes are streamed with aiohttp, since the
package's own watch builds model objects and doesn't support streaming lists.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn, Self

import aiohttp
import orjson

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kube.cluster_errors import Obstacle, obstacle
from streams.kube.clusters import Access, BadKubeconfig, ClusterConfig, config_source, load_access
from streams.objects.resources import RESOURCES, Resource
from streams.runtime.retry import RetryLater

log = logging.getLogger("facets.apiserver")

MAX_LINE = 16 * 1024 * 1024
"""The longest watch event, in bytes; etcd's own limit for an object is 1.5 MiB."""

IDLE_SECONDS = 60
"""How long an answer may go without a byte."""

_PROBE_SECONDS = 5
_READ_SECONDS = 30
_CONNECT_SECONDS = 10
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

Event = tuple[str, Any]


class ClusterUnusable(FacetsError):
    """The cluster's permissions or resources do not allow watching."""

    exit_code = ExitCode.FORBIDDEN


class Expired(Exception):
    """410 Gone."""


class Unsupported(Exception):
    """The server has no streaming lists."""


class ServerBehind(Exception):
    """The server has not reached the resourceVersion that was asked for."""


class Undecodable(Exception):
    """The server's answer is not valid by the API."""


class SilentStream(Exception):
    """A watch that is open, but gets nothing, not even a bookmark."""


class ServerBusy(RetryLater):
    """429 or 503, with the seconds of Retry-After."""


class ServerError(Exception):
    """Any other unsuccessful answer."""


TRANSIENT = (aiohttp.ClientError, TimeoutError, OSError, ServerError)
"""Errors that may be temporary: no connection, a broken one, an unsuccessful answer."""


class ApiServer:
    """One cluster's API server; use it as an async context manager."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self.cluster = cluster
        self._access: Access | None = None
        self._session: aiohttp.ClientSession | None = None
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._access = await asyncio.to_thread(load_access, self.cluster)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=_socket),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=IDLE_SECONDS),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "service-facets"},
            read_bufsize=1024 * 1024,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def explain(self, error: Exception) -> Obstacle:
        """Explains an error of this server's methods."""
        return obstacle(error, self.cluster, self._access.host if self._access else "the API server")

    # ---- list and watch --------------------------------------------------------------------------------

    async def page(self, resource: Resource, params: Mapping[str, str]) -> Mapping[str, Any]:
        """A page of a list. Raises ClusterUnusable, Expired, ServerBusy, ServerBehind, Undecodable, TRANSIENT."""
        async with self._open("GET", resource.path, params) as response:
            await self._check(response, resource, "list")
            return _decoded(await response.read())

    async def watch(
        self, resource: Resource, params: Mapping[str, str], silence: float = IDLE_SECONDS
    ) -> AsyncGenerator[list[Event], None]:
        """The events of a watch, in batches as they arrive; the first is empty, once the stream is open. `silence` is
        how many seconds the stream may be silent. Raises as `page`, and Unsupported, SilentStream."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence)
        async with self._open("GET", resource.path, params, limits=limits) as response:
            await self._check(response, resource, "watch", "sendInitialEvents" in params)
            yield []
            lines = LineSplitter(MAX_LINE)
            while True:
                try:
                    chunk = await response.content.readany()
                except aiohttp.SocketTimeoutError:
                    raise SilentStream(f"the watch was silent for {silence:g} s, without a bookmark") from None
                if not chunk:
                    return
                events: list[Event] = []
                failure: Exception | None = None
                for line in lines.feed(chunk):
                    try:
                        events.append(_event(line))
                    except (Expired, ServerBehind, ServerBusy, ServerError, Undecodable) as error:
                        failure = error
                        break
                if events:
                    yield events
                if failure is not None:
                    raise failure

    async def preflight(self, resource: Resource) -> int | None:
        """Check that the resource may be listed and watched, before anything depends on it; the number of its objects,
        if the server tells. Raises as `watch`."""
        page = await self.page(resource, {"limit": "1"})
        meta = page.get("metadata")
        meta = meta if isinstance(meta, dict) else {}
        params = {"watch": "true", "resourceVersion": str(meta.get("resourceVersion") or ""), "timeoutSeconds": "1"}
        async with self._open("GET", resource.path, params) as response:
            if response.status != 410:
                await self._check(response, resource, "watch")
        remaining = meta.get("remainingItemCount")
        items = page.get("items")
        return len(items if isinstance(items, list) else ()) + (remaining if isinstance(remaining, int) else 0)

    # ---- other requests --------------------------------------------------------------------------------

    async def reachable(self) -> bool:
        """Whether the server answers now, without a server error (5xx)."""
        try:
            async with self._open("GET", "/version", {}, limits=_within(_PROBE_SECONDS)) as response:
                return response.status < 500
        except TRANSIENT:
            return False

    async def read(self, path: str) -> dict[str, Any] | None:
        """The object at a path; None on 404. Raises ClusterUnusable (401, 403), ServerBusy, Undecodable,
        TRANSIENT."""
        async with self._open("GET", path, {}, limits=_within(_READ_SECONDS)) as response:
            if response.status == 404:
                return None
            if response.status in {401, 403}:
                raise ClusterUnusable(
                    f"cluster {self.cluster.name} ({config_source(self.cluster)}) does not let this account get "
                    f"{path}: HTTP {response.status}",
                    self._login if response.status == 401 else "bind the ClusterRole system:discovery to the account",
                )
            body = _decoded(await response.read())
            if response.status != 200:
                after = response.headers.get("Retry-After", "")
                _fail({"code": response.status, **body}, float(after) if after.isdecimal() else 0.0)
            return body

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        seconds: float,
        params: Mapping[str, str] = MappingProxyType({}),
        content_type: str = "application/json",
    ) -> tuple[int, Any]:
        """Send a request, to be answered within `seconds`: status and decoded body. Raises TRANSIENT,
        Undecodable."""
        limits = _within(seconds)
        async with self._open(method, path, params, body=body, content_type=content_type, limits=limits) as response:
            return response.status, _decoded(await response.read())

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        body: Any = None,
        content_type: str = "application/json",
        limits: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._ask(method, path, params, body, content_type, limits)
        try:
            if response.status == 401:
                # The kubeconfig, a client certificate or a plugin's token may have been renewed meanwhile.
                response.close()
                await self._renew()
                response = await self._ask(method, path, params, body, content_type, limits)
            yield response
        finally:
            response.close()

    async def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Any,
        content_type: str,
        limits: aiohttp.ClientTimeout | None,
    ) -> aiohttp.ClientResponse:
        access = self._access
        if self._session is None or access is None:
            raise RuntimeError("use `async with ApiServer(...)`")
        authorization = await asyncio.to_thread(access.authorization)
        headers = {"Authorization": authorization} if authorization else {}
        if body is not None:
            headers["Content-Type"] = content_type
        return await self._session.request(
            method,
            access.host + path,
            params=params,
            headers=headers,
            data=None if body is None else orjson.dumps(body),
            ssl=access.ssl,
            server_hostname=access.server_hostname,
            proxy=access.proxy,
            allow_redirects=False,
            timeout=limits or self._session.timeout,
        )

    async def _renew(self) -> None:
        async with self._renewing:
            try:
                self._access = await asyncio.to_thread(load_access, self.cluster)
            except BadKubeconfig as error:
                log.warning(
                    "cluster %s: the credentials can't be renewed: %s (%s)", self.cluster.name, error, error.remedy
                )

    @property
    def _login(self) -> str:
        return f"the credentials of {config_source(self.cluster)} are unknown or have expired: log in again"

    async def _check(
        self, response: aiohttp.ClientResponse, resource: Resource, verb: str, streaming_list: bool = False
    ) -> None:
        status = response.status
        if status == 200:
            return
        text = await response.content.read(16384)
        try:
            body = orjson.loads(text)
        except orjson.JSONDecodeError:
            body = None
        body = body if isinstance(body, dict) else {}
        message = str(body.get("message") or text[:300].decode(errors="replace"))
        if streaming_list and status in {400, 422}:
            raise Unsupported(message)
        if status in {401, 403}:
            raise ClusterUnusable(
                f"cluster {self.cluster.name} ({config_source(self.cluster)}) does not let this account "
                f"{verb} {resource.frontier}: HTTP {status}: {message}",
                _rule(resource) if status == 403 else self._login,
            )
        if status == 404:
            raise ClusterUnusable(
                f"cluster {self.cluster.name} has no {resource.frontier} (nothing at {resource.path})",
                "is this a Kubernetes API server of 1.21 or newer?" if resource in RESOURCES else "is its CRD gone?",
            )
        after = response.headers.get("Retry-After", "")
        _fail({"code": status, **body, "message": message}, float(after) if after.isdecimal() else 0.0)


class LineSplitter:
    """Splits a stream of chunks into lines."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk, without empty ones. Raises Undecodable if one is over the limit."""
        if b"\n" not in chunk:
            self._buffer += chunk
            lines = []
        else:
            first, *lines = chunk.split(b"\n")
            lines.insert(0, bytes(self._buffer) + first if self._buffer else first)
            self._buffer = bytearray(lines.pop())
        if len(self._buffer) > self._limit:
            raise Undecodable(f"a watch event of more than {self._limit} bytes")
        return [line for line in lines if line]


def _event(line: bytes) -> Event:
    event = _decoded(line)
    kind, item = str(event.get("type")), event.get("object")
    if kind == "ERROR":
        _fail(item if isinstance(item, dict) else {"message": repr(item)}, 0.0)
    return kind, item


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"not JSON ({error}): {body[:100]!r}") from None
    if not isinstance(decoded, dict):
        raise Undecodable(f"not a JSON object: {body[:100]!r}")
    return decoded


def _fail(status: Mapping[str, Any], after: float) -> NoReturn:
    """Raise the error of a metav1.Status, from an answer or from inside a watch."""
    code, reason = status.get("code"), status.get("reason")
    message = str(status.get("message") or status)[:500]
    details = status.get("details")
    details = details if isinstance(details, dict) else {}
    if code == 410 or reason in ("Expired", "Gone"):  # tuples: what stands there need not be hashable
        raise Expired(message)
    causes = details.get("causes")
    causes = causes if isinstance(causes, list) else []
    if any(isinstance(cause, dict) and cause.get("reason") == "ResourceVersionTooLarge" for cause in causes):
        raise ServerBehind(message)
    if code in (429, 503):
        wait = after or details.get("retryAfterSeconds")
        raise ServerBusy(f"HTTP {code}: {message}", float(wait) if isinstance(wait, int | float) else 0.0)
    raise ServerError(f"HTTP {code}: {message}")


def _rule(resource: Resource) -> str:
    plural, _, group = resource.frontier.partition(".")
    return (
        f'grant it with a ClusterRole: apiGroups ["{group}"], resources ["{plural}"], verbs ["get", "list", "watch"] '
        "(the files compose/*rbac.yaml have the whole roles)"
    )


def _within(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)


def _socket(address: Any) -> socket.socket:
    """A socket that notices a dead peer within half a minute, where the platform supports it."""
    family, kind, protocol, *_ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock
