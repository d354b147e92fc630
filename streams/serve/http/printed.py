"""What queries look at in printed rows: the fields that filters, orders and look-ups are by. The rest is skipped."""

from typing import Any

import msgspec

from streams.wire.records import Target


class PrintedPort(msgspec.Struct, rename="camel", gc=False):
    """A port of an endpoint, or of a Service. (Those of a set have no number of an endpoint's.)"""

    name: str = ""
    port: int | None = None
    protocol: str = ""
    app_protocol: str | None = None


class PrintedEndpoint(msgspec.Struct, rename="camel", gc=False):
    """An endpoint. `cluster` and `dnsName` are of a set's."""

    address: str
    family: str
    ports: list[PrintedPort]
    ready: bool
    serving: bool
    terminating: bool
    slice: str
    zone: str | None = None
    node: str | None = None
    target: Target | None = None
    hostname: str | None = None
    cluster: str = ""
    dns_name: str = ""


class _AsOf(msgspec.Struct, gc=False):
    at: str


class _Direction(msgspec.Struct, gc=False):
    reason: str = ""
    consumers: dict[str, Any] = {}


class _Export(msgspec.Struct, gc=False):
    cluster: str
    state: str
    valid: str = ""


class _Conflict(msgspec.Struct, gc=False):
    reason: str = ""


class Printed(msgspec.Struct, rename="camel", gc=False):
    """A row of any table; what the table does not have is empty."""

    cluster: str
    namespace: str
    name: str
    version: int
    state: str
    reason: str
    as_of: _AsOf
    type: str | None = None
    cluster_ips: list[str] = msgspec.field(default_factory=list, name="clusterIPs")
    dns_name: str = ""
    external_name: str | None = None
    ports: list[PrintedPort] = []
    endpoints: list[PrintedEndpoint] = []
    gateway: _Direction | None = None
    mesh: _Direction | None = None
    exports: list[_Export] = []
    conflicts: list[_Conflict] = []

    @property
    def reasons(self) -> set[str]:
        """The reasons by their names: of the row's state, of its decisions (routing), and of exports and conflicts
        (clusterset)."""
        texts = [text.partition(":")[0] for text in self.reason.split("; ")]
        for direction in (self.gateway, self.mesh):
            if direction is not None:
                texts.append(direction.reason)
                texts += [str(way["reason"]) for way in direction.consumers.values()]
        texts += [export.valid for export in self.exports if export.valid != "Valid"]
        texts += [conflict.reason for conflict in self.conflicts]
        return set(filter(None, texts))


decode = msgspec.json.Decoder(Printed).decode
