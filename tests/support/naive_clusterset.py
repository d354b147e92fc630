"""What KEP-1645 and mcs-api say that clusters export together, computed from their objects in the plainest way. Calls
nothing of the code that it judges."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]
Name = tuple[str, str]
Claim = tuple[str, str, str, int]
"""An address, the set's name of the port, protocol, number."""
ID_PROPERTY = "cluster.clusterset.k8s.io"


class NaiveCluster(NamedTuple):
    """A cluster's objects as its API server has them, by namespace and name (ClusterProperties by name alone)."""

    name: str
    services: dict[Name, Json]
    slices: dict[Name, Json]
    exports: dict[Name, Json]
    properties: dict[str, Json]

    @property
    def id(self) -> str:
        """Its id: the ClusterProperty, else its name."""
        held = self.properties.get(ID_PROPERTY)
        return str(held["spec"]["value"]) if held else self.name


def naive_set(clusters: list[NaiveCluster], name: Name) -> Json | None:
    """The set of a Service as `facets.clusterset` has it (without its stamps and states); None where nobody exports."""
    exporting = sorted((each for each in clusters if name in each.exports), key=lambda each: each.name)
    if not exporting:
        return None
    reasons = {each.name: _reason(each, name, exporting) for each in exporting}
    good = [each for each in exporting if reasons[each.name] == "Valid"]
    good.sort(key=lambda each: (each.exports[name]["metadata"]["creationTimestamp"], each.id))
    specs = [each.services[name]["spec"] for each in good]
    exports = [each.exports[name].get("spec") or {} for each in good]
    conflicts = _conflicts(specs, exports)
    result: Json = {
        "dnsName": f"{name[1]}.{name[0]}.svc.clusterset.local",
        "type": None, "ports": [], "sessionAffinity": "None", "sessionAffinityTimeoutSeconds": None,
        "internalTrafficPolicy": None, "trafficDistribution": None, "ipFamilies": [], "labels": {}, "annotations": {},
        "locality": {"prefer": [], "reason": "Default"},
        "conflicts": [(conflict, good[0].id) for conflict in conflicts],
        "exports": [
            (
                each.name, each.id, each.exports[name]["metadata"]["creationTimestamp"], reasons[each.name],
                (",".join(conflicts) or "NoConflicts") if each in good else "", each in good,
            )
            for each in exporting
        ],
    }  # fmt: skip
    if good:
        first = specs[0]
        result |= {
            "type": "Headless" if first.get("clusterIP") == "None" else "ClusterSetIP",
            "sessionAffinity": first.get("sessionAffinity", "None"),
            "sessionAffinityTimeoutSeconds": _timeout(first),
            "internalTrafficPolicy": first.get("internalTrafficPolicy"),
            "trafficDistribution": first.get("trafficDistribution"),
            "ipFamilies": first["ipFamilies"],
            "locality": _locality(good[0].exports[name]["metadata"], first.get("trafficDistribution")),
            "labels": exports[0].get("exportedLabels", {}),
            "annotations": exports[0].get("exportedAnnotations", {}),
            "ports": _ports([(each.id, each.services[name]["spec"]) for each in good]),
        }
    return result


def _locality(meta: Json, distribution: str | None) -> Json:
    """What README says that clients try first."""
    if (said := (meta.get("annotations") or {}).get("service-facets.io/prefer")) is not None:
        return {"prefer": said.split(", "), "reason": "ServiceExport"}
    near = {"PreferSameNode": ["own-node", "own-zone", "own-cluster"], None: []}
    prefer = near.get(distribution, ["own-zone", "own-cluster"])
    return {"prefer": prefer, "reason": "TrafficDistribution" if prefer else "Default"}


def naive_endpoints(clusters: list[NaiveCluster], name: Name, dropped: Collection[str] = ()) -> dict[str, list[str]]:
    """The addresses that each cluster contributes, of those whose export is valid and that are not dropped."""
    exports = (naive_set(clusters, name) or {"exports": []})["exports"]
    counted = {row[0] for row in exports if row[5] and row[0] not in dropped}
    return {
        each.name: sorted(
            {
                endpoint["addresses"][0]
                for (namespace, _), item in each.slices.items()
                if namespace == name[0] and item["metadata"]["labels"]["kubernetes.io/service-name"] == name[1]
                for endpoint in item["endpoints"]
            }
        )
        for each in clusters
        if each.name in counted
    }


def naive_claims(
    clusters: list[NaiveCluster], name: Name, dropped: Collection[str] = ()
) -> list[tuple[str, str, str, str, int]]:
    """The endpoints' ports (cluster, address, the set's name of the port, protocol, number), each in one cluster: the
    one with the oldest export, of those with the lowest id."""
    found = naive_set(clusters, name)
    if found is None:
        return []
    by_name = {each.name: each for each in clusters}
    owners: dict[Claim, str] = {}
    for cluster, cluster_id, *_ in sorted(
        (row for row in found["exports"] if row[5] and row[0] not in dropped), key=lambda row: (row[2], row[1])
    ):
        for (namespace, _), item in by_name[cluster].slices.items():
            if namespace != name[0] or item["metadata"]["labels"]["kubernetes.io/service-name"] != name[1]:
                continue
            for claim, _ in _claims_of(item, cluster_id, found["ports"]):
                owners.setdefault(claim, cluster)
    return sorted((cluster, *claim) for claim, cluster in owners.items())


def _claims_of(item: Json, cluster_id: str, ports: list[Json]) -> Iterator[tuple[Claim, str | None]]:
    """What the slice of a cluster says of the set's ports, with the endpoint's hostname."""
    for endpoint in item["endpoints"]:
        for own in item["ports"]:
            for port in ports:
                if port["clusters"].get(cluster_id) == own["name"]:
                    yield (
                        (endpoint["addresses"][0], port["name"], own["protocol"], own["port"]),
                        endpoint.get("hostname"),
                    )


class NaiveHost(NamedTuple):
    """An endpoint of one host of a headless set, in the cluster that its name names: with one of its ports."""

    dns_name: str
    cluster: str
    address: str
    port: str
    protocol: str
    number: int


def naive_hosts(clusters: list[NaiveCluster], name: Name, dropped: Collection[str] = ()) -> set[NaiveHost]:
    """KEP-1645, specification, 2.4.1: "for each ready endpoint with hostname of `<hostname>`, member cluster ID of
    `<clusterid>`" the name is `<hostname>.<clusterid>.<service>.<ns>.svc.<clustersetzone>`, of a headless Service.
    (2.3.4: a ClusterSetIP has none of a single cluster.) `port` is the set's name of it. Of one cluster's slices that
    say something of one address and port, the newest counts."""
    found = naive_set(clusters, name)
    if found is None or found["type"] != "Headless":
        return set()
    by_name = {each.name: each for each in clusters}
    hosts = set()
    for cluster, cluster_id, *_ in (row for row in found["exports"] if row[5] and row[0] not in dropped):
        says: dict[Claim, str | None] = {}
        for item in sorted(by_name[cluster].slices.values(), key=lambda each: int(each["metadata"]["resourceVersion"])):
            if (item["metadata"]["namespace"], item["metadata"]["labels"]["kubernetes.io/service-name"]) != name:
                continue
            says |= dict(_claims_of(item, cluster_id, found["ports"]))
        for claim, hostname in says.items():
            if hostname:
                hosts.add(NaiveHost(f"{hostname}.{cluster_id}.{found['dnsName']}", cluster, *claim))
    return hosts


def _reason(cluster: NaiveCluster, name: Name, exporting: list[NaiveCluster]) -> str:
    rivals = [each for each in exporting if each.id == cluster.id]
    named_so = [each for each in rivals if each.name == each.id]
    if cluster is not (named_so or rivals)[0]:
        return "ClusterIDConflict"
    if name not in cluster.services:
        return "NoService"
    return "InvalidServiceType" if cluster.services[name]["spec"].get("type") == "ExternalName" else "Valid"


def _timeout(spec: Json) -> int | None:
    return 10800 if spec.get("sessionAffinity") == "ClientIP" else None


def _ports(specs: list[tuple[str, Json]]) -> list[Json]:
    union: list[Json] = []
    for _, spec in specs:
        for port in spec.get("ports", []):
            same_name = [each for each in union if each["name"] == port["name"]]
            same_number = [
                each for each in union if (each["protocol"], each["port"]) == (port["protocol"], port["port"])
            ]
            if not same_name and not same_number:
                union.append({**port, "appProtocol": port.get("appProtocol"), "clusters": {}})
    for port in union:
        for cluster_id, spec in sorted(specs):
            own = [each for each in spec.get("ports", []) if each["name"] == port["name"]]
            if not own:
                own = [
                    each
                    for each in spec.get("ports", [])
                    if (each["protocol"], each["port"]) == (port["protocol"], port["port"])
                ]
            if own and own[0]["protocol"] == port["protocol"]:
                port["clusters"][cluster_id] = own[0]["name"]
    return union


def _conflicts(specs: list[Json], exports: list[Json]) -> list[str]:
    def differ(values: list[Any]) -> bool:
        return any(value != values[0] for value in values)

    seen = {
        "PortConflict": [
            sorted((each["name"], each["port"], each["protocol"], each.get("appProtocol") or "") for each in ports)
            for ports in (spec.get("ports", []) for spec in specs)
        ],
        "TypeConflict": [spec.get("clusterIP") == "None" for spec in specs],
        "SessionAffinityConflict": [spec.get("sessionAffinity", "None") for spec in specs],
        "SessionAffinityConfigConflict": [_timeout(spec) for spec in specs],
        "LabelsConflict": [export.get("exportedLabels", {}) for export in exports],
        "AnnotationsConflict": [export.get("exportedAnnotations", {}) for export in exports],
        "InternalTrafficPolicyConflict": [spec.get("internalTrafficPolicy", "Cluster") for spec in specs],
        "TrafficDistributionConflict": [spec.get("trafficDistribution") for spec in specs],
        "IPFamilyConflict": [sorted(spec["ipFamilies"]) for spec in specs],
    }
    return [reason for reason, values in seen.items() if values and differ(values)]
