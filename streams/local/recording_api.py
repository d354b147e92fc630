"""What a recorded cluster serves beside its recording: API discovery, the Namespaces of its objects,
and ServiceExports.

Discovery as in Kubernetes' API concepts: APIGroupList, APIGroup and APIResourceList, of the recorded resources only.
"""

from collections.abc import Mapping
from typing import Any

from streams.local.derived_uid import derived_uid
from streams.local.recording import Recording, Track

NAMESPACES = "/api/v1/namespaces"
SERVICE_EXPORTS = "/apis/multicluster.x-k8s.io/v1beta1/serviceexports"


def with_namespaces(recording: Recording) -> Recording:
    """The recording with a list of the Namespaces, which never change, unless they were recorded."""
    tracks = recording.tracks
    if NAMESPACES in tracks:
        return recording
    names = {
        str(namespace)
        for track in tracks.values()
        for item in (*track.state(track.first), *(moment.item for moment in track.moments))
        if (namespace := item["metadata"].get("namespace"))
    }
    return _with_constant(recording, NAMESPACES, "Namespace", [_namespace(name, recording) for name in sorted(names)])


def with_exports(recording: Recording, exports: Mapping[tuple[str, str], Mapping[str, str]]) -> Recording:
    """The recording with ServiceExports (KEP-1645), which never change: their annotations by namespace and name. Of
    none there is no such type."""
    items = [_export(*name, annotations, recording) for name, annotations in sorted(exports.items())]
    return _with_constant(recording, SERVICE_EXPORTS, "ServiceExport", items) if items else recording


def _with_constant(recording: Recording, path: str, kind: str, items: list[dict[str, Any]]) -> Recording:
    """The recording with a type whose objects never change."""
    tracks = recording.tracks
    first = min(track.first for track in tracks.values())
    group_version = path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0]
    listed = {"apiVersion": group_version, "metadata": {"resourceVersion": str(first)}, "items": items}
    track = Track(path, kind, listed)
    # As an API server's bookmarks do: without one, a watch to which nothing happens would fall out of the history.
    newest = max(recorded.last for recorded in tracks.values())
    track.add(recording.duration_ms, "BOOKMARK", {"metadata": {"resourceVersion": str(newest)}})
    return Recording(recording.header, {**tracks, path: track})


def _export(namespace: str, name: str, annotations: Mapping[str, str], recording: Recording) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": derived_uid(f"export/{recording.cluster}/{namespace}/{name}"),
            "resourceVersion": "1",
            "creationTimestamp": recording.header.get("recorded"),
            "annotations": dict(annotations),
        }
    }


def _namespace(name: str, recording: Recording) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": derived_uid(f"namespace/{recording.cluster}/{name}"),
            "resourceVersion": "1",
            "creationTimestamp": recording.header.get("recorded"),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def discovery(tracks: Mapping[str, Track], path: str) -> dict[str, Any] | None:
    """The answer at a discovery path; None where there is none."""
    resources: dict[str, list[dict[str, Any]]] = {}
    for track in tracks.values():
        root, _, name = track.path.rpartition("/")
        resources.setdefault(root, []).append(
            {
                "name": name, "singularName": track.kind.lower(), "namespaced": track.path != NAMESPACES,
                "kind": track.kind, "verbs": ["list", "watch"],
            }
        )  # fmt: skip
    groups: dict[str, dict[str, Any]] = {}
    for root in resources:
        if root.startswith("/apis/"):
            group, version = root.removeprefix("/apis/").split("/")
            named = {"groupVersion": f"{group}/{version}", "version": version}
            groups[group] = {
                "kind": "APIGroup",
                "apiVersion": "v1",
                "name": group,
                "versions": [named],
                "preferredVersion": named,
            }
    if path in resources:
        version = path.removeprefix("/apis/").removeprefix("/api/")
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources[path]}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(groups.values())}
    return groups.get(path.removeprefix("/apis/")) if path.startswith("/apis/") else None
