"""A journal with a past, and the commands that look back at it."""

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streams.cli import cli
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from tests.integration.journal import Churn, clean_topics, endpoint_slice, publish
from tests.support.tables import Tables

TIMES = [f"2026-11-24T12:0{i}:00.000Z" for i in range(1, 10)]


class Past:
    """A journal and its tables, with a Service `cart` whose endpoint moves once a minute from 10.9.0.0 on."""

    def __init__(self, bootstrap: str) -> None:
        clean_topics(bootstrap)
        self.bootstrap = bootstrap
        self._versions = 5000
        self.tables = Tables(bootstrap, seed=5)
        # The tables have the snapshot now: the journal gets the same, made by the same seed.
        publish(bootstrap, Churn(5).start())

    def write(self, records: list[JournalRecord], **how: Any) -> None:
        publish(self.bootstrap, records)
        self.tables.write(records, **how)

    def move(self, to: str, at: str, of: str = "s1", **how: Any) -> None:
        """A Service has this address too, instead of the one before, from then on."""
        self._versions += 1
        collector = self.tables.churn.collector
        item = endpoint_slice(f"{of}-z", of, self._versions, {to: True})
        collector.ingest("EndpointSlice", ReflectorEvent(Kind.APPLY, item, str(self._versions)))
        self.write(collector.flush(at), **how)


@pytest.fixture
def past(bootstrap_servers: str) -> Iterator[Past]:
    made = Past(bootstrap_servers)
    for i in range(4):
        made.move(f"10.9.0.{i}", TIMES[i])
    yield made
    made.tables.close()


def facets(past: Past, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--bootstrap-servers", past.bootstrap], standalone_mode=False)
