"""Writes a plan's actions to an API server: by server-side apply, on top of the state that was seen, never over it."""

from typing import Any

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.importer.names import MANAGER, Json, is_own, path_of
from streams.importer.plan import Action
from streams.kube.api_server import ApiServer, ClusterUnusable, ServerBusy, ServerError

_SECONDS = 20.0
_APPLY = "application/apply-patch+yaml"
_OWNED_KINDS = frozenset({"EndpointSlice", "Service"})


class Outdated(Exception):
    """The object is not what was seen any more: a newer state of it comes, and another plan follows from that."""


class OthersOwnIt(Exception):
    """Somebody else's object is there, or somebody else sets the fields; `item` is the object, if it is known."""

    def __init__(self, text: str, item: Json | None = None) -> None:
        super().__init__(text)
        self.item = item


class Refused(FacetsError):
    """The API server does not take the object: it is not valid there."""

    exit_code = ExitCode.BAD_DATA


class Writer:
    """One cluster's. Its methods raise ClusterUnusable, Outdated, OthersOwnIt, Refused, ServerBusy, Undecodable,
    TRANSIENT."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def explain(self, error: Exception) -> tuple[str, str]:
        """What is wrong, and what to do."""
        return self._server.explain(error)[:2]

    async def apply(self, action: Action, owner_uid: str) -> Json:
        """Apply the object; returns it as it is then. `owner_uid` is the ServiceImport's."""
        path = path_of(action.kind, action.namespace, action.name)
        body: Json = {**(action.body or {})}
        if action.kind in _OWNED_KINDS and not owner_uid:
            raise Outdated(f"{path} has no ServiceImport that owns it")
        if action.before is None:
            await self._see_that_it_is_free(path)
        else:
            meta = action.before["metadata"]
            seen = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
            body["metadata"] = {**body["metadata"], **seen}
        if action.kind in _OWNED_KINDS:
            (owner,) = body["metadata"]["ownerReferences"]
            body["metadata"] = {**body["metadata"], "ownerReferences": [{**owner, "uid": owner_uid}]}
        # What is the importer's stays its own; the status of a ServiceExport and a name may be somebody else's.
        is_ours = action.before is not None and is_own(action.before)
        params = {"fieldManager": MANAGER, "force": "true" if is_ours else "false"}
        answer = await self._send("PATCH", path + ("/status" if action.status else ""), body, params, _APPLY)
        if answer is None:
            raise Outdated(f"{path} is gone")
        return answer

    async def delete(self, action: Action) -> None:
        """Delete the object that was seen."""
        meta = (action.before or {})["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
        }
        await self._send("DELETE", path_of(action.kind, action.namespace, action.name), body, {})

    async def _see_that_it_is_free(self, path: str) -> None:
        found = await self._send("GET", path, None, {})
        if found is None:
            return
        if is_own(found):
            raise Outdated(f"{path} is there")
        raise OthersOwnIt(f"{path} is somebody else's", found)

    async def _send(
        self, method: str, path: str, body: Any, params: dict[str, str], content_type: str = "application/json"
    ) -> Json | None:
        """The answer; None where the object is not there."""
        status, answer = await self._server.send(
            method, path, body, seconds=_SECONDS, params=params, content_type=content_type
        )
        message = " ".join(str(answer.get("message") or answer).split())[:500]
        if status < 300:
            found: Json = answer
            return found
        if status == 404:
            return None
        if status in {401, 403}:
            verb = {"PATCH": "apply (patch, create)", "GET": "get", "DELETE": "delete"}[method]
            raise ClusterUnusable(
                f"cluster {self._server.cluster.name} does not let this account {verb} {path}: "
                f"HTTP {status}: {message}",
                "bind the ClusterRole of compose/import-rbac.yaml to the account, and that of import-derived-rbac.yaml "
                "for derived Services",
            )
        if status == 409:
            causes = (answer.get("details") or {}).get("causes") or ()
            if any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
                raise OthersOwnIt(f"{path}: {message}")
            raise Outdated(f"{path}: {message}")
        if status in {429, 503}:
            raise ServerBusy(
                f"HTTP {status}: {message}", float((answer.get("details") or {}).get("retryAfterSeconds") or 0)
            )
        if status in {400, 422} or "field not declared in schema" in message:
            raise Refused(f"{path} is refused: {message}", _remedy(message))
        raise ServerError(f"HTTP {status}: {message}")


def _remedy(message: str) -> str:
    if "not declared in schema" in message:
        return "its CRD is older: install those of mcs-api v0.5.2 (config/crd)"
    return "see what the message names in `facets get clusterset -o json`"
