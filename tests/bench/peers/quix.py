"""Quix Streams (in an environment of its own): commits in, state by Service, rows out.

python tests/bench/peers/quix.py BOOTSTRAP INPUT OUTPUT FOLDER
"""

import sys
from typing import Any

from merge import apply, key_of
from quixstreams import Application, State


def main() -> None:
    bootstrap, source, target, folder = sys.argv[1:]
    app = Application(
        broker_address=bootstrap,
        consumer_group="bench-quix",
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="WARNING",
        producer_extra_config={"compression.type": "lz4", "message.max.bytes": 17 * 1024 * 1024},
        consumer_extra_config={"fetch.message.max.bytes": 17 * 1024 * 1024},
    )

    def merge(commit: dict[str, Any], state: State) -> list[dict[str, Any]]:
        rows = []
        for event in commit.get("events", ()):
            key = key_of(commit["cluster"], event)
            row = apply(state.get(key), key, event)
            state.set(key, row)
            rows.append(row)
        return rows

    stream = app.dataframe(app.topic(source, value_deserializer="json"))
    rows = stream.apply(merge, stateful=True, expand=True)
    rows.to_topic(app.topic(target, value_serializer="json"), key=lambda row: row["key"])
    app.run()


if __name__ == "__main__":
    main()
