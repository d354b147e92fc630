"""`facets.acks` on the wire: what each router was sent of a Service, and what it has acknowledged or refused.

A record has what one `facets serve` saw in a moment, of the Services of its partition, so that a partition says all
about its Services. Nodes are named once a record. Times are milliseconds after the record's `at` (before it, if
negative), by the clock of that server; Kafka's own time of the record (LogAppendTime) is the brokers'.
"""

from typing import Annotated, Literal

import msgspec

from streams.wire.records import Number, Record

ACKS = "facets.acks"

BEAT_SECONDS = 30.0
"""A server with clients writes to each partition at least so often. One that has not for three times as long has
ended, or could not write."""

Index = Annotated[int, msgspec.Meta(ge=0)]
"""A node's place in the record's `nodes`."""

Version = Annotated[int, msgspec.Meta(ge=-1)]
"""A version of a Service: the journal offset, in the record's partition, of the newest row in it. -1: none."""

Variant = Literal["sotw", "delta", "sse"]
"""State of the world, incremental, or server-sent events, of which nothing is acknowledged."""


class AckedVersion(Record):
    """Routers that have acknowledged everything of a Service up to this version: when each had been sent it, and when
    its acknowledgement was there. The lists are in step."""

    version: Version
    nodes: list[Index]
    sent: list[Number]
    acked: list[Number]


class SentVersion(Record):
    """Routers that were sent this version, and have not acknowledged it within the record. The lists are in step."""

    version: Version
    nodes: list[Index]
    sent: list[Number]


class RefusedVersion(Record):
    """A router's NACK: it keeps what it had. `type` is that of the resources in the response, `version` the newest that
    it was sent."""

    version: Version
    node: Index
    at: Number
    type: Literal["cds", "eds", "lds", "rds"]
    error: str


class Unfollowed(Record):
    """A router that no longer asks for anything of a Service."""

    node: Index
    at: Number


class ServiceAcks(Record, omit_defaults=True):
    """What was sent, acknowledged and refused of a Service."""

    namespace: str
    name: str
    acked: list[AckedVersion] = msgspec.field(default_factory=list)
    sent: list[SentVersion] = msgspec.field(default_factory=list)
    refused: list[RefusedVersion] = msgspec.field(default_factory=list)
    unfollowed: list[Unfollowed] = msgspec.field(default_factory=list)


class ClientConnected(Record, omit_defaults=True):
    """A client that connected to the server; `session` is this connection's number there. `selection` is what an SSE
    client asked for: its query."""

    node: Index
    session: Index
    at: Number
    variant: Variant
    agent: str = ""
    cluster: str = ""
    zone: str = ""
    peer: str = ""
    selection: str = ""


class ClientDisconnected(Record):
    """The end of a connection. A router goes on with what it had."""

    node: Index
    session: Index
    at: Number


class StreamedThrough(Record):
    """What an SSE client was sent: every selected row of this partition up to a journal offset."""

    node: Index
    offset: Version
    at: Number


class AckBatch(Record, omit_defaults=True):
    """`facets.acks`, keyed by `server`: one process of `facets serve`, by a name that no other one has. Connections are
    in all partitions, and a server with clients writes to each at least every 30 seconds. `dropped` counts the steps
    that it could not record since its last record here, as Kafka took nothing for too long: what its clients have may
    be newer than what is recorded."""

    server: str
    at: str
    nodes: list[str] = msgspec.field(default_factory=list)
    services: list[ServiceAcks] = msgspec.field(default_factory=list)
    connected: list[ClientConnected] = msgspec.field(default_factory=list)
    disconnected: list[ClientDisconnected] = msgspec.field(default_factory=list)
    streamed: list[StreamedThrough] = msgspec.field(default_factory=list)
    dropped: Annotated[int, msgspec.Meta(ge=0)] = 0
