"""One resource type's list and watch as a step function: from API server messages to reflector events.

Every transition is here. The phases, and what each accepts:

    LISTING    a page of a list (more to come, or the last), or an event of a streaming list (KEP-3157), whose
               end is the bookmark annotated k8s.io/initial-events-end
    WATCHING   ADDED, MODIFIED, DELETED, BOOKMARK; a closed connection (watch again from the version reached)

    LISTING  --last page / initial-events-end-->  WATCHING
    WATCHING --410 Gone (Expired)-->              LISTING    (absence means deletion, but only at InitDone)
    LISTING  --410 Gone (continue expired)-->     LISTING    (from the start)
    LISTING  --list older than the version reached--> LISTING    (a lagging server: LaggingServer, ask again later)

resourceVersions are compared as numbers, within one type only (KEP-5504). An object older than the one held is
dropped: it comes from a lagging server.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from streams.objects.fields import MalformedObject, identify

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
PAGE_SIZE = 500


class Kind(Enum):
    """The kind of a reflector event."""

    INIT = "Init"
    INIT_APPLY = "InitApply"
    INIT_DONE = "InitDone"
    APPLY = "Apply"
    DELETE = "Delete"
    BOOKMARK = "Bookmark"
    MALFORMED = "Malformed"


class ReflectorEvent(NamedTuple):
    """`item` is the object as served (None for INIT, INIT_DONE, BOOKMARK), `resource_version` the version that the
    reflector has reached with this event, `message` why a MALFORMED object can't be used."""

    kind: Kind
    item: Any
    resource_version: str
    message: str = ""


class Request(NamedTuple):
    """The next request to the API server: `params` of a GET on the resource, as a watch or as a list."""

    watch: bool
    params: Mapping[str, str]


class LaggingServer(Exception):
    """The version listed is older than the one already reached: ask again after a while."""

    def __init__(self, listed: str, reached: str) -> None:
        super().__init__(f"the list is as of resourceVersion {listed}, but {reached} was already reached")
        self.listed = listed
        self.reached = reached


class UnknownEvent(Exception):
    """A watch event of a type that the API doesn't define."""


class Reflector:
    """`at_least` is a resourceVersion that the first list must have reached ("": any);
    `namespaced` whether the type's objects are in namespaces; `selector` by which labels they are chosen ("": all)."""

    def __init__(self, at_least: str = "", streaming: bool = True, namespaced: bool = True, selector: str = "") -> None:
        self.listing = True
        self.streaming = streaming
        self._namespaced = namespaced
        self._selected = {"labelSelector": selector} if selector else {}
        self.resource_version = at_least
        self._continue = ""
        self._listed_versions: dict[tuple[str, str], int] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._started = False

    def request(self, timeout_seconds: int = 290) -> Request:
        """The next request."""
        if not self.listing:
            return Request(
                True,
                {
                    "watch": "true",
                    "allowWatchBookmarks": "true",
                    "resourceVersion": self.resource_version,
                    "timeoutSeconds": str(timeout_seconds),
                    **self._selected,
                },
            )
        if self.streaming:
            return Request(
                True,
                {
                    "watch": "true",
                    "allowWatchBookmarks": "true",
                    "sendInitialEvents": "true",
                    "resourceVersionMatch": "NotOlderThan",
                    "resourceVersion": self.resource_version,
                    "timeoutSeconds": str(timeout_seconds),
                    **self._selected,
                },
            )
        params = {"limit": str(PAGE_SIZE), **self._selected}
        if self._continue:
            params["continue"] = self._continue
        return Request(False, params)

    def page(self, answer: Mapping[str, Any]) -> Iterator[ReflectorEvent]:
        """A page of a list. Raises LaggingServer."""
        meta = _object(answer.get("metadata"))
        version = str(meta.get("resourceVersion") or "")
        if not self._continue:
            self._refuse_older(version)
        yield from self._begin_list()
        for item in answer.get("items") or ():
            yield from self._listed(item)
        self._continue = str(meta.get("continue") or "")
        if not self._continue:
            yield from self._end_list(version)

    def event(self, kind: str, item: Any) -> Iterator[ReflectorEvent]:
        """A watch event (also of a streaming list). Raises LaggingServer, UnknownEvent."""
        if kind == "BOOKMARK":
            meta = _object(_object(item).get("metadata"))
            version = str(meta.get("resourceVersion") or "")
            if not self.listing:
                if _number(version) > _number(self.resource_version):
                    self.resource_version = version
                    yield ReflectorEvent(Kind.BOOKMARK, None, version)
            elif _object(meta.get("annotations")).get(INITIAL_EVENTS_END) == "true":
                self._refuse_older(version)
                yield from self._begin_list()
                yield from self._end_list(version)
            return
        if kind not in {"ADDED", "MODIFIED", "DELETED"}:
            raise UnknownEvent(f"{kind!r} is no watch event that the Kubernetes API names")
        if self.listing:
            yield from self._begin_list()
            if kind == "DELETED":
                yield from self._unlisted(item)
            else:
                yield from self._listed(item)
        else:
            yield from self._watched(kind, item)

    def expired(self) -> None:
        """410 Gone: the requested version is no longer available. List again."""
        self.listing = True
        self._continue = ""
        self._started = False
        self._listed_versions = {}

    def interrupted(self) -> None:
        """The connection ended. A watch goes on from the version reached; a list starts anew."""
        if self.listing:
            self.expired()

    def unsupported(self) -> None:
        """The server has no streaming lists: use paged ones."""
        self.streaming = False
        self.expired()

    def _begin_list(self) -> Iterator[ReflectorEvent]:
        if not self._started:
            self._started = True
            yield ReflectorEvent(Kind.INIT, None, self.resource_version)

    def _end_list(self, version: str) -> Iterator[ReflectorEvent]:
        self.listing = False
        self.resource_version = version
        self._versions, self._listed_versions = self._listed_versions, {}
        self._started = False
        yield ReflectorEvent(Kind.INIT_DONE, None, version)

    def _refuse_older(self, version: str) -> None:
        if self.resource_version and _number(version) < _number(self.resource_version):
            reached = self.resource_version
            self.expired()
            raise LaggingServer(version, reached)

    def _listed(self, item: Any) -> Iterator[ReflectorEvent]:
        try:
            meta = identify(item, self._namespaced)
        except MalformedObject as error:
            yield ReflectorEvent(Kind.MALFORMED, item, self.resource_version, str(error))
            return
        self._listed_versions[meta.namespace, meta.name] = _number(meta.resource_version)
        yield ReflectorEvent(Kind.INIT_APPLY, item, self.resource_version)

    def _unlisted(self, item: Any) -> Iterator[ReflectorEvent]:
        try:
            meta = identify(item, self._namespaced)
        except MalformedObject as error:
            yield ReflectorEvent(Kind.MALFORMED, item, self.resource_version, str(error))
            return
        if self._listed_versions.pop((meta.namespace, meta.name), None) is not None:
            yield ReflectorEvent(Kind.DELETE, item, self.resource_version)

    def _watched(self, kind: str, item: Any) -> Iterator[ReflectorEvent]:
        try:
            meta = identify(item, self._namespaced)
        except MalformedObject as error:
            yield ReflectorEvent(Kind.MALFORMED, item, self.resource_version, str(error))
            return
        key = (meta.namespace, meta.name)
        version = _number(meta.resource_version)
        current = self._versions.get(key)
        if version > _number(self.resource_version):
            self.resource_version = meta.resource_version
        if kind == "DELETED":
            if current is not None and current <= version:
                del self._versions[key]
                yield ReflectorEvent(Kind.DELETE, item, self.resource_version)
        elif current is None or current < version:
            self._versions[key] = version
            yield ReflectorEvent(Kind.APPLY, item, self.resource_version)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(version: str) -> int:
    return int(version) if version.isascii() and version.isdigit() else 0
