"""What resources depend on: who the client is, and where."""

from typing import NamedTuple

from envoy.config.core.v3 import base_pb2

from streams.wire.routing_records import Traffic

_METADATA = {
    "cluster": ("cluster", "CLUSTER_ID"),
    "node": ("node", "NODE_NAME"),
    "namespace": ("namespace", "NAMESPACE"),
}
"""By what of the client is named: the fields of `node.metadata` that name it, the second as Istio's clients do."""


class Place(NamedTuple):
    """Where a client says that it is; empty if it doesn't say. A node's name means something in its cluster only;
    zones are the infrastructure's, and may span clusters."""

    zone: str = ""
    node: str = ""
    cluster: str = ""


class Client(NamedTuple):
    """The client's properties. `namespace` is its own: mesh routes of a consumer's namespace apply to its clients alone
    (GEP-1294)."""

    place: Place = Place()
    traffic: Traffic = "mesh"
    grpc: bool = False
    namespace: str = ""


def place_of(node: base_pb2.Node) -> Place:
    """A client's place: its locality's zone, and its node and cluster in the metadata."""
    return Place(node.locality.zone, _metadata(node, "node"), _metadata(node, "cluster"))


def namespace_of(node: base_pb2.Node) -> str:
    """The namespace that a client runs in; "" if it doesn't say."""
    return _metadata(node, "namespace")


def _metadata(node: base_pb2.Node, name: str) -> str:
    fields = node.metadata.fields
    return next((fields[key].string_value for key in _METADATA[name] if key in fields), "")
