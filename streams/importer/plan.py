"""What has to be written so that a cluster has of a Service what the clusterset has: values in, values out.

The rules: KEP-1645, Importing Services and Using EndpointSlice objects to track endpoints. Only what is the importer's
own (`names.is_own`) is changed or deleted; a ServiceImport that somebody else wrote is left alone, and nothing is made
beside it. What is left over is deleted when it is certain that no cluster exports it: nothing is concluded from a
cluster that is not heard of.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from streams.importer import desired
from streams.importer.conditions import Verdict, conditions, export_verdicts, import_verdict
from streams.importer.difference import differences, others_conditions
from streams.importer.names import API_VERSION, Json, clusters_of, is_own
from streams.wire.clusterset_records import ClusterExport

Kind = Literal["ServiceImport", "ServiceExport", "EndpointSlice", "Service"]


class SetState(NamedTuple):
    """What the tables say of a Service. `row` is its set, joined with the clusters' contributions (None: there is
    none), `exports` what each cluster's ServiceExport was when the row was made. `known` are the clusters of which the
    partition has everything, `all_known` whether those are all that it has heard of."""

    row: Json | None = None
    exports: Mapping[str, ClusterExport | None] = {}
    known: frozenset[str] = frozenset()
    all_known: bool = False


class Held(NamedTuple):
    """What the cluster has under the Service's name: its namespace (if it can take objects), its ServiceImport and
    ServiceExport, whoever wrote them; and of the importer's own the slices by name, and the derived Service.
    `refused` is why the API server did not take that ("": it did)."""

    is_active: bool = False
    service_import: Json | None = None
    export: Json | None = None
    slices: Mapping[str, Json] = {}
    service: Json | None = None
    refused: str = ""


class Target(NamedTuple):
    """The cluster that is written to, whether ClusterSetIPs come from derived Services, and the time."""

    cluster: str
    derived: bool
    now: str


class Action(NamedTuple):
    """An object to apply, or to delete (`body` is None). `before` is what is there; `status` says that its status
    alone is applied."""

    kind: Kind
    namespace: str
    name: str
    body: Json | None
    before: Json | None
    status: bool = False


class Plan(NamedTuple):
    """The actions for a Service (namespace and name), in order. `foreign` is what is left alone because it is somebody
    else's: the ServiceImport, or the conditions of the ServiceExport. `kept` are the clusters because of which
    something is not deleted: they are not heard of."""

    key: tuple[str, str]
    actions: tuple[Action, ...]
    foreign: frozenset[Kind] = frozenset()
    kept: frozenset[str] = frozenset()


def plan(namespace: str, name: str, state: SetState, held: Held, target: Target) -> Plan:
    """What to write of a Service. What the API server answers may bear on what is next: plan again until nothing is."""
    if not held.is_active:
        return Plan((namespace, name), ())
    planner = _Planner(namespace, name, state, held, target)
    actions = tuple(planner.actions())
    return Plan((namespace, name), actions, frozenset(planner.foreign), frozenset(planner.kept))


class _Planner:
    def __init__(self, namespace: str, name: str, state: SetState, held: Held, target: Target) -> None:
        self._namespace, self._name = namespace, name
        self._state, self._held, self._target = state, held, target
        self._own_import = held.service_import if is_own(held.service_import) else None
        self._is_taken = held.service_import is not None and self._own_import is None
        self.foreign: set[Kind] = {"ServiceImport"} if self._is_taken else set()
        self.kept: set[str] = set()

    def actions(self) -> Iterator[Action]:
        row = self._state.row
        if row is not None and desired.exists(row) and not self._is_taken:
            yield from self._import(row)
        else:
            yield from self._remove()
        if row is not None and self._held.export is not None:
            yield from self._export_status(row, self._held.export)

    # ---- what shall be there -----------------------------------------------------------------------------

    def _import(self, row: Json) -> Iterator[Action]:
        wants_service = self._target.derived and row["type"] == "ClusterSetIP"
        service = self._held.service if wants_service else None
        spec = (service or {}).get("spec") or {}
        ips = [address for address in spec.get("clusterIPs") or () if address != "None"]
        families = (spec.get("ipFamilies") if ips else None) or row["ipFamilies"]
        body = desired.service_import(row, ips, families, also=self._unheard_before())
        of_import = list(self._apply(body, self._held.service_import))
        yield from of_import
        owner = desired.owner_reference(self._name, self._own_import["metadata"]["uid"] if self._own_import else "")
        if wants_service:
            if not self._held.refused:
                yield from self._apply(desired.derived_service(row, families, owner), service)
        elif self._held.service is not None:
            yield self._delete("Service", self._held.service)
        wanted = desired.slices(row, self._target.cluster, owner, derived=wants_service)
        for body in wanted.values():
            yield from self._apply(body, self._held.slices.get(body["metadata"]["name"]))
        for name, held in self._held.slices.items():
            if name not in wanted and not self._is_kept(row, held):
                yield self._delete("EndpointSlice", held)
        if not of_import and self._own_import is not None:
            # Else with the next plan: a status is applied to what is there then.
            yield from self._import_status(row, self._own_import, waits_for_ip=wants_service and not ips)

    def _import_status(self, row: Json, held: Json, *, waits_for_ip: bool) -> Iterator[Action]:
        verdict = import_verdict(waits_for_ip=waits_for_ip, refused=self._held.refused if waits_for_ip else "")
        status = {
            "endpointSliceObjects": "Present",
            "clusters": [{"cluster": export_id} for export_id in sorted(each["id"] for each in desired.counted(row))],
            "conditions": self._conditions([verdict], held, held["metadata"].get("generation")),
        }
        yield from self._apply_status("ServiceImport", status, held)

    def _is_kept(self, row: Json, held: Json) -> bool:
        """Whether a slice that is not wanted stays: what its cluster has is not known."""
        sources = clusters_of(held)
        states = {export["cluster"]: export["state"] for export in row["exports"] if export["counted"]}
        shown = {endpoint["cluster"] for endpoint in row["endpoints"]}
        unknown = {
            source
            for source in sources
            if (source not in shown and states[source] == "unknown" if source in states else self._is_unheard(source))
        }
        unknown -= {export["cluster"] for export in row["exports"] if not export["counted"]}
        self.kept |= unknown
        return bool(unknown)

    # ---- what shall not be there -------------------------------------------------------------------------

    def _remove(self) -> Iterator[Action]:
        leftovers = [(kind, each) for kind, each in self._own() if each is not None]
        if self._is_gone(leftovers):
            yield from (self._delete(kind, each) for kind, each in leftovers)

    def _own(self) -> Iterator[tuple[Kind, Json | None]]:
        yield from (("EndpointSlice", each) for each in self._held.slices.values())
        yield "Service", self._held.service
        yield "ServiceImport", self._own_import

    def _is_gone(self, leftovers: list[tuple[Kind, Json]]) -> bool:
        """Whether it is certain that nobody exports the Service."""
        row = self._state.row
        if self._is_taken:
            return True
        exporting = {cluster for _, each in leftovers for cluster in clusters_of(each)}
        unknown = {cluster for cluster in exporting if self._is_unheard(cluster)}
        if row is not None:
            unknown -= {export["cluster"] for export in row["exports"]}
            unknown |= {export["cluster"] for export in row["exports"] if export["state"] == "unknown"}
        if leftovers:
            self.kept |= unknown
        return not unknown and (row is not None or self._state.all_known)

    def _unheard_before(self) -> set[str]:
        """The clusters that the ServiceImport was made of, and that are not heard of now."""
        before = clusters_of(self._own_import) if self._own_import is not None else ()
        return {cluster for cluster in before if self._is_unheard(cluster)}

    def _is_unheard(self, cluster: str) -> bool:
        return cluster not in self._state.known

    # ---- ServiceExports ----------------------------------------------------------------------------------

    def _export_status(self, row: Json, held: Json) -> Iterator[Action]:
        export = next((each for each in row["exports"] if each["cluster"] == self._target.cluster), None)
        if export is None:
            return
        content = self._state.exports.get(self._target.cluster)
        if content is not None and not _is_of(content, held):
            return  # the row is of an older state of it: a newer one comes
        generation = held["metadata"].get("generation") if content is not None else None
        verdicts = export_verdicts(row, export)
        actions = list(
            self._apply_status("ServiceExport", {"conditions": self._conditions(verdicts, held, generation)}, held)
        )
        if actions and others_conditions(held) & {verdict.type for verdict in verdicts}:
            self.foreign.add("ServiceExport")
        else:
            yield from actions

    def _conditions(self, verdicts: list[Verdict], held: Json, generation: int | None) -> list[Json]:
        before = (held.get("status") or {}).get("conditions") or ()
        return conditions(verdicts, before, generation, self._target.now)

    # ---- actions -----------------------------------------------------------------------------------------

    def _apply(self, body: Json, before: Json | None) -> Iterator[Action]:
        if next(differences(before, body), None) is not None:
            yield Action(body["kind"], self._namespace, body["metadata"]["name"], body, before)

    def _apply_status(self, kind: Kind, status: Json, before: Json | None) -> Iterator[Action]:
        metadata = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "status": status}
        if next(differences(before, body), None) is not None:
            yield Action(kind, self._namespace, self._name, body, before, status=True)

    def _delete(self, kind: Kind, held: Json) -> Action:
        return Action(kind, self._namespace, held["metadata"]["name"], None, held)


def _is_of(content: ClusterExport, held: Json) -> bool:
    """Whether a ServiceExport is what a row was made of."""
    spec = held.get("spec") or {}
    return (
        content.uid == held["metadata"].get("uid")
        and content.labels == (spec.get("exportedLabels") or {})
        and content.annotations == (spec.get("exportedAnnotations") or {})
    )
