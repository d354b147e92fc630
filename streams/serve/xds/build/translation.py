"""All resources that a client gets of given rows: what `facets serve` would send, without a server."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.resource import Absence, Resource
from streams.subscription.delivery import Row
from streams.wire.records import Seal


class Translation(NamedTuple):
    """The resources by type, by name within it; `unknown` are the types and names of which a client is told nothing."""

    resources: dict[Kind, list[AnyMessage]]
    unknown: list[tuple[Kind, str]]


def translate(rows: Iterable[Row], seals: Mapping[str, Seal], client: Client, kinds: Sequence[Kind]) -> Translation:
    """Translate the rows of one partition, with each cluster's seal. What `replace` takes must be sealed: a Service is
    only known not to be there where its cluster's snapshot is complete."""
    catalog = Catalog(partitions=1)
    catalog.replace(rows, {(0, cluster): seal for cluster, seal in seals.items()})
    names = sorted(name for key in catalog.services() for name in catalog.names_of(key))
    translation = Translation({kind: [] for kind in kinds}, [])
    for kind in kinds:
        for name in names:
            answer = catalog.resource(kind, name, client)
            if isinstance(answer, Resource):
                translation.resources[kind].append(answer.body)
            elif answer is Absence.UNKNOWN:
                translation.unknown.append((kind, name))
    return translation
