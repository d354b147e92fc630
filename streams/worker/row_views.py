"""Point look-ups on the worker's web port: any worker answers for any row, by routing to the one that has it."""

import time
from typing import Any

import msgspec

from streams.facets.row_parts import find_newest, join_row
from streams.subscription.freshness import overlay, silences
from streams.wire.keys import parse_row_key
from streams.wire.partitioning import partition_of
from streams.wire.records import TABLES, decode_row
from streams.worker.materializer import Materializer


def add_views(app: Any, materializer: Materializer) -> None:
    """Add `GET /v1/{table}/{cluster}/{namespace}/{name}` for every table, and `GET /v1/status`."""
    for table in TABLES:
        _add_row_view(app, materializer, table)

    async def status(web: Any, request: Any) -> Any:
        partitions = {
            str(partition): {
                "nextOffset": fold.next_offset,
                "clusters": {
                    name: {
                        "epoch": cluster.seal.epoch,
                        "seq": cluster.seal.seq,
                        "at": cluster.seal.at,
                        "appended": cluster.seal.appended,
                        "frontier": cluster.seal.frontier,
                        "deadLetters": cluster.seal.dead_letters,
                    }
                    for name, cluster in sorted(fold.clusters.items())
                },
            }
            for partition, fold in sorted(materializer.folds.items())
        }
        return web.json({"partitions": partitions})

    app.page("/v1/status", name="status")(status)


def _silence(app: Any, materializer: Materializer, key: str) -> str:
    """Why the cluster of a row is considered silent; "" if it is not."""
    cluster, namespace, name = parse_row_key(key)
    partition = partition_of(namespace, name, app.partitions)
    fold = materializer.folds.get(partition)
    if fold is None or cluster not in fold.clusters:
        return ""
    place = (partition, cluster)
    seals = {(partition, name): seal for name, seal in fold.seals().items() if name in {cluster, *fold.progress}}
    silence = silences(seals, time.time()).get(place)
    return silence.reason if silence else ""


def _add_row_view(app: Any, materializer: Materializer, name: str) -> None:
    table = app.tables[name]

    async def row(web: Any, request: Any, key: str) -> Any:
        rows = table.data.data
        value = rows.get(key.encode())
        if value is None:
            return web.json({"error": f"no {name} row {key}", "remedy": "facets get lists what there is"}, status=404)
        whole = join_row(name, value, find_newest(rows, key)).row
        row = overlay(decode_row(name, whole), _silence(app, materializer, key))
        return web.bytes(msgspec.json.encode(row), content_type="application/json")

    routed = app.table_route(table=table, match_info="key")(row)
    app.page(f"/v1/{name}/{{key:[^/]+/[^/]+/[^/]+}}", name=f"{name}-row")(routed)
