"""What the importer's objects are called and marked with, so that it knows its own, and others know what they are."""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from streams.objects.multicluster import IMPORTED_BY
from streams.objects.resources import ENDPOINT_SLICES, MULTICLUSTER_API, SERVICE_EXPORT, SERVICES, Resource
from streams.wire.name_syntax import KUBERNETES_NAME, NameSyntax

Json = dict[str, Any]

MANAGER = "facets-import"
"""The field manager of all that it applies, and the value of the label by which it knows its own."""

API_VERSION = f"{MULTICLUSTER_API}/v1beta1"

NAMESPACES = Resource("Namespace", "namespaces", namespaced=False).served_as("v1")
IMPORTS = Resource("ServiceImport", f"serviceimports.{MULTICLUSTER_API}").served_as("v1beta1")
EXPORTS = SERVICE_EXPORT.served_as("v1beta1")
SLICES = ENDPOINT_SLICES
OWN_LABELS = {IMPORTED_BY: MANAGER}
SELECTOR = f"{IMPORTED_BY}={MANAGER}"

SERVICE_NAME = "multicluster.kubernetes.io/service-name"
"""mcs-api, well_known_labels.go: of which Service of the clusterset a slice is."""
SOURCE_CLUSTER = "multicluster.kubernetes.io/source-cluster"
"""The same file: the id of the cluster whose endpoints are in a slice."""
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGED_BY_VALUE = "import.service-facets.io"
K8S_SERVICE_NAME = "kubernetes.io/service-name"

RESERVED = "service-facets.io/"
"""Labels and annotations that no export can bring with it."""
CLUSTERS = "service-facets.io/clusters"
"""An annotation: of which clusters, by their names in the tables, an object has been made."""

_LABEL_LENGTH = 63
_LABEL = NameSyntax(
    re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"), _LABEL_LENGTH, "a label's name, or its value"
)
"""Kubernetes: Labels and Selectors, Syntax and character set."""
_DIGEST_LENGTH = 12

COLLECTIONS = {resource.kind: resource for resource in (IMPORTS, EXPORTS, SLICES, SERVICES)}


def path_of(kind: str, namespace: str, name: str = "") -> str:
    """Where an object is on an API server; without a name, its collection."""
    root, _, plural = COLLECTIONS[kind].path.rpartition("/")
    collection = f"{root}/namespaces/{namespace}/{plural}"
    return f"{collection}/{name}" if name else collection


def derived_service_name(namespace: str, name: str) -> str:
    """The name of the Service that has a set's ClusterSetIP."""
    return f"derived-{digest(namespace, name)}"


def slice_name(service: str, *parts: str) -> str:
    """The name of a slice: the same for the same parts."""
    return f"{service}-{digest(service, *parts)}"


def digest(*parts: str) -> str:
    """A short digest: a suffix of names."""
    return sha256("\0".join(parts).encode()).hexdigest()[:_DIGEST_LENGTH]


def label_value(text: str) -> str:
    """The text as a label's value, which has 63 characters at most (a cluster's id may be a longer DNS name)."""
    return text if len(text) <= _LABEL_LENGTH else f"{text[: _LABEL_LENGTH - _DIGEST_LENGTH - 1]}-{digest(text)}"


def is_qualified(key: str) -> bool:
    """Whether a text is a key of labels and annotations: a name, after a DNS subdomain and a slash or without."""
    prefix, slash, name = key.rpartition("/")
    return _LABEL.matches(name) and (not slash or KUBERNETES_NAME.matches(prefix))


def is_label(key: str, value: str) -> bool:
    """Whether an API server takes this label."""
    return is_qualified(key) and (not value or _LABEL.matches(value))


def is_own(item: Json | None) -> bool:
    """Whether an object is the importer's."""
    return item is not None and _texts(item, "labels").get(IMPORTED_BY) == MANAGER


def clusters_of(item: Json) -> frozenset[str]:
    """Of which clusters an object of the importer's has been made."""
    return frozenset(_texts(item, "annotations").get(CLUSTERS, "").split(",")) - {""}


def joined(clusters: Iterable[str]) -> str:
    """Clusters as the annotation has them."""
    return ",".join(sorted(clusters))


def _texts(item: Json, field: str) -> dict[str, str]:
    return item["metadata"].get(field) or {}
