"""A Kubernetes API server as a source of reflector events: raw list and watch, driven by the core's Reflector.

The `kubernetes` package finds the configuration and keeps credentials fresh; the bytes are streamed with aiohttp and
decoded with orjson, since its own watch builds model objects.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
from kubernetes import client
from kubernetes import config as kube_config
from kubernetes.config.config_exception import ConfigException

from streams.core.collector import Resource
from streams.core.errors import FacetsError
from streams.core.reflector import LaggingServer, Reflector, ReflectorEvent, UnknownEvent

log = logging.getLogger("facets.apiserver")
_kube: Any = kube_config

MAX_LINE = 16 * 1024 * 1024
_WATCH_SECONDS = 290
_IDLE_SECONDS = 120
_BACK_OFF_FIRST = 0.2
_BACK_OFF_MOST = 30.0

Sink = Callable[[str, ReflectorEvent], Awaitable[None]]


class ClusterUnusable(FacetsError):
    """The cluster's configuration or its permissions do not allow watching."""

    exit_code = 77


class BadKubeconfig(FacetsError):
    """There is no usable kubeconfig or context."""

    exit_code = 78


class Expired(Exception):
    """410 Gone."""


class Unsupported(Exception):
    """The server doesn't know streaming lists."""


class ServerBusy(Exception):
    """429 or 503; `after` is what Retry-After said, in seconds."""

    def __init__(self, text: str, after: float) -> None:
        super().__init__(text)
        self.after = after


class ClusterConfig(NamedTuple):
    """A cluster to watch: the name that its rows carry and where its API server is."""

    name: str
    kubeconfig: Path | None = None
    context: str | None = None
    cluster_domain: str = "cluster.local"


class ApiServer:
    """One cluster's API server. Errors that a person must mend raise ClusterUnusable."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self.cluster = cluster
        self._api = _api_client(cluster)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "ApiServer":
        settings = self._api.configuration
        ssl_context: ssl.SSLContext | bool = True
        if settings.host.startswith("https"):
            context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
            if settings.cert_file:
                context.load_cert_chain(settings.cert_file, settings.key_file)
            if not settings.verify_ssl:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            ssl_context = context
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl_context, limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_IDLE_SECONDS),
            read_bufsize=1024 * 1024,
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def follow(
        self, resource: Resource, reflector: Reflector, sink: Sink, contact: Callable[[bool], None]
    ) -> None:
        """List and watch for ever. `contact` is told of every answer (True) and every failure (False)."""
        delay = _BACK_OFF_FIRST
        synced = False
        while True:
            try:
                request = reflector.request(_WATCH_SECONDS)
                if request.watch:
                    async for kind, item in self._watch(resource, request.params):
                        contact(True)
                        for event in reflector.event(kind, item):
                            await sink(resource.kind, event)
                        delay = _BACK_OFF_FIRST
                        synced = synced or not reflector.listing
                    reflector.interrupted()
                    continue
                page = await self._list(resource, request.params)
                contact(True)
                for event in reflector.page(page):
                    await sink(resource.kind, event)
                delay = _BACK_OFF_FIRST
                synced = synced or not reflector.listing
                continue
            except Expired as error:
                log.info("%s %s: %s: listing again", self.cluster.name, resource.frontier, error)
                reflector.expired()
            except Unsupported:
                reflector.unsupported()
                continue
            except ServerBusy as error:
                log.warning("%s %s: %s", self.cluster.name, resource.frontier, error)
                reflector.interrupted()
                await asyncio.sleep(error.after)
                continue
            except LaggingServer as error:
                log.warning(
                    "%s %s: %s: asking again (restored from a backup? then use --accept-older-list)",
                    self.cluster.name, resource.frontier, error,
                )  # fmt: skip
            except UnknownEvent as error:
                log.warning("%s %s: %s: ignored", self.cluster.name, resource.frontier, error)
                reflector.interrupted()
            except ClusterUnusable:
                if not synced:
                    raise
                log.warning("%s %s: not permitted any more: trying again", self.cluster.name, resource.frontier)
                contact(False)
                reflector.interrupted()
            except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
                log.warning("%s %s: %s: %s", self.cluster.name, resource.frontier, type(error).__name__, error)
                contact(False)
                reflector.interrupted()
            # Full jitter, so that many watchers of one server do not come back together.
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311
            delay = min(delay * 2, _BACK_OFF_MOST)

    async def get(self, path: str) -> Any:
        """A GET of a path below the server's root, decoded."""
        async with self._request(path, {}) as response:
            return orjson.loads(await response.read())

    async def _list(self, resource: Resource, params: Mapping[str, str]) -> Mapping[str, Any]:
        async with self._request(resource.path, params) as response:
            await self._check(response, resource, "list")
            page: Mapping[str, Any] = orjson.loads(await response.read())
            return page

    async def _watch(self, resource: Resource, params: Mapping[str, str]) -> AsyncIterator[tuple[str, Any]]:
        async with self._request(resource.path, params) as response:
            if response.status in {400, 422} and "sendInitialEvents" in params:
                raise Unsupported
            await self._check(response, resource, "watch")
            held = bytearray()
            async for chunk in response.content.iter_any():
                held += chunk
                if b"\n" not in chunk:
                    if len(held) > MAX_LINE:
                        raise aiohttp.ClientPayloadError(f"a watch event of more than {MAX_LINE} bytes")
                    continue
                *lines, rest = held.split(b"\n")
                held = bytearray(rest)
                for line in lines:
                    if not line:
                        continue
                    event = orjson.loads(line)
                    kind, item = str(event.get("type")), event.get("object")
                    if kind == "ERROR":
                        _raise_status(item if isinstance(item, dict) else {})
                    yield kind, item

    def _request(self, path: str, params: Mapping[str, str]) -> Any:
        if self._session is None:
            raise RuntimeError("use `async with ApiServer(...)`")
        # The package's hook renews tokens of exec plugins and service accounts before they expire.
        headers: dict[str, str] = {"Accept": "application/json", "User-Agent": "service-facets"}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        return self._session.get(self._api.configuration.host.rstrip("/") + path, params=params, headers=headers)

    async def _check(self, response: aiohttp.ClientResponse, resource: Resource, verb: str) -> None:
        if response.status == 200:
            return
        text = (await response.content.read(4096)).decode(errors="replace")
        try:
            message = str(orjson.loads(text).get("message") or text)
        except (orjson.JSONDecodeError, AttributeError):
            message = text[:300]
        if response.status == 410:
            raise Expired(message)
        if response.status in {429, 503}:
            after = response.headers.get("Retry-After", "1")
            raise ServerBusy(f"HTTP {response.status}: {message}", min(float(after) if after.isdigit() else 1.0, 60))
        if response.status in {401, 403}:
            group = resource.frontier.partition(".")[2]
            raise ClusterUnusable(
                f"cluster {self.cluster.name} (context {self.cluster.context or 'current'}) does not let this account "
                f"{verb} {resource.frontier}: HTTP {response.status}: {message}",
                f'grant it: apiGroups ["{group}"], resources ["{resource.frontier.partition(".")[0]}"], '
                'verbs ["get", "list", "watch"] (compose/rbac.yaml has the whole role)',
            )
        if response.status == 404:
            raise ClusterUnusable(
                f"cluster {self.cluster.name} has no {resource.frontier} at {resource.path}: {message}",
                "is this a Kubernetes API server of 1.21 or newer?",
            )
        raise aiohttp.ClientError(f"HTTP {response.status}: {message}")


def _raise_status(status: Mapping[str, Any]) -> None:
    message = str(status.get("message") or status)
    if status.get("code") == 410 or status.get("reason") in {"Expired", "Gone"}:
        raise Expired(message)
    raise aiohttp.ClientError(message)


def _api_client(cluster: ClusterConfig) -> Any:
    settings = client.Configuration()
    try:
        if cluster.kubeconfig is None and cluster.context is None:
            try:
                _kube.load_incluster_config(client_configuration=settings)
                return client.ApiClient(settings)
            except ConfigException:
                pass
        _kube.load_kube_config(
            config_file=str(cluster.kubeconfig) if cluster.kubeconfig else None,
            context=cluster.context,
            client_configuration=settings,
            persist_config=False,
        )
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise BadKubeconfig(
            f"no usable kubeconfig for cluster {cluster.name}: {error}",
            "name one with --kubeconfig or KUBECONFIG, a context with --context (kubectl config get-contexts)",
        ) from error
    return client.ApiClient(settings)
