"""A `facets` command that also writes down when a change passes, with the full resolution of the clock:

    python -m tests.bench.traced OUT watch ...
    python -m tests.bench.traced OUT serve ...

OUT gets a line for each step of a change: its name, the unix time, and what the change is known by there. Nothing of
it is in the program itself, whose records carry whole milliseconds.

    event TIME RESOURCE_VERSION              the watcher has a watch event, decoded
    produce TIME PARTITION OFFSET            a commit is handed to the producer
    acknowledged TIME PARTITION OFFSET       and the journal has acknowledged it
    read TIME PARTITION OFFSET               the server has the commit
    folded TIME PARTITION OFFSET             and has folded it
    sent TIME OFFSET                         a response with a resource of this version is handed to gRPC
"""

import functools
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TextIO

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse

from streams.cli import main


def _trace_watch(log: TextIO) -> None:
    from streams.kafka.journal import Publisher
    from streams.kube.api_server import ApiServer

    watch, publish = ApiServer.watch, Publisher.publish

    @functools.wraps(watch)
    async def traced_watch(*arguments: Any) -> AsyncGenerator[list[Any], None]:
        async with aclosing(watch(*arguments)) as chunks:
            async for chunk in chunks:
                now = time.time()
                for _, item in chunk:
                    log.write(f"event {now} {item['metadata']['resourceVersion']}\n")
                yield chunk

    @functools.wraps(publish)
    async def traced_publish(publisher: Publisher, records: Any) -> list[int]:
        begun = time.time()
        offsets = await publish(publisher, records)
        ended = time.time()
        for record, offset in zip(records, offsets, strict=True):
            log.write(f"produce {begun} {record.partition} {offset}\n")
            log.write(f"acknowledged {ended} {record.partition} {offset}\n")
        return offsets

    ApiServer.watch = traced_watch  # type: ignore[assignment,method-assign]
    Publisher.publish = traced_publish  # type: ignore[method-assign]


def _trace_serve(log: TextIO) -> None:
    from streams.serve.xds.protocol.delta import DeltaStream
    from streams.subscription.journal_client import JournalClient

    step, advance = JournalClient.step, DeltaStream.advance

    @functools.wraps(step)
    def traced_step(client: JournalClient, partition: int, record: Any) -> list[Any]:
        begun = time.time()
        writes = step(client, partition, record)
        ended = time.time()
        log.write(f"read {begun} {partition} {record.offset}\nfolded {ended} {partition} {record.offset}\n")
        return writes

    @functools.wraps(advance)
    def traced_advance(*arguments: Any) -> Iterator[Any]:
        for response in advance(*arguments):
            now = time.time()
            for resource in DeltaDiscoveryResponse.FromString(response.body).resources:
                log.write(f"sent {now} {resource.version.partition('.')[0]}\n")
            yield response

    JournalClient.step = traced_step  # type: ignore[method-assign]
    DeltaStream.advance = traced_advance  # type: ignore[method-assign]


_TRACES: dict[str, Callable[[TextIO], None]] = {"watch": _trace_watch, "serve": _trace_serve}


if __name__ == "__main__":
    out, *arguments = sys.argv[1:]
    with Path(out).open("w", buffering=1) as written:
        for name, trace in _TRACES.items():
            if name in arguments:
                trace(written)
        sys.argv = ["facets", *arguments]
        main()
