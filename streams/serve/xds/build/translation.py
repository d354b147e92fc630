"""All resources that a client gets of given rows: what `facets serve` would send, without a server."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage

from streams.objects.resources import SERVICES
from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.resource import Absence, Resource
from streams.subscription.rows import Row
from streams.wire.records import Seal


class Translation(NamedTuple):
    """The resources by type, by name within it; `unknown` are the types and names of which a client is told nothing."""

    resources: dict[Kind, list[AnyMessage]]
    unknown: list[tuple[Kind, str]]


def translate(rows: Iterable[Row], seals: Mapping[str, Seal], client: Client, kinds: Sequence[Kind]) -> Translation:
    """Translate the rows of one partition, with each cluster's last seal. All clusters are complete: a Service that a
    cluster has no row of is not there."""
    catalog = Catalog(partitions=1)
    catalog.replace(rows, {(0, cluster): _complete(seal) for cluster, seal in seals.items()})
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


def _complete(seal: Seal) -> Seal:
    """The seal of a complete snapshot, also where no list had a resourceVersion: files need not have any."""
    return msgspec.structs.replace(seal, frontier=seal.frontier or {SERVICES.frontier: "0"})
