"""Faust as its guide shows it: one object a message, a table, a topic.

python -m tests.bench.peers.faust_naive BOOTSTRAP INPUT OUTPUT FOLDER PARTITIONS WEB_PORT
"""

import sys
from typing import Any

import faust

from tests.bench.peers.merge import apply, key_of


def main() -> None:
    bootstrap, source, target, folder, partitions, web_port = sys.argv[1:]
    app = faust.App(
        "bench-faust",
        broker=f"aiokafka://{bootstrap}",
        datadir=folder,
        store="memory://",
        topic_partitions=int(partitions),
        producer_max_request_size=17 * 1024 * 1024,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=65536,
        web_port=int(web_port),
        web_host="127.0.0.1",
    )
    objects = app.topic(source)
    rows = app.topic(target)
    sets: Any = app.Table("sets", partitions=int(partitions))

    @app.agent(objects)
    async def merge(stream: Any) -> None:
        async for event in stream:
            key = key_of("east", event)
            row = apply(sets.get(key), key, event)
            sets[key] = row
            await rows.send(key=key, value=row)

    app.Worker(loglevel="WARNING", quiet=True, redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
