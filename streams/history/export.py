"""A time range of the tables' changes, for other systems: what is in it, and its form as CloudEvents 1.0."""

from collections.abc import Callable
from typing import Any

from streams.history.collectors import commit_time
from streams.subscription.rows import Row
from streams.wire.keys import row_key
from streams.wire.row_codec import is_deleted


class ExportedRows:
    """Gives each row from a time on ("" is the beginning) to `write`, in the order of its partition; keeps none."""

    def __init__(self, write: Callable[[Row], None], since: str) -> None:
        self._write = write
        self._since = since
        self.count = 0

    def take(self, row: Row) -> None:
        """Write the row, if it is of the range; a tombstone is not a row."""
        if row.value and commit_time(row.value) >= self._since:
            self._write(row)
            self.count += 1


def cloud_event(row: Row, kafka_cluster: str) -> dict[str, Any]:
    """The event of a row in the JSON format of CloudEvents 1.0. Exported again, it has the same source and id; its data
    is the row as the commands print it, and its dataschema the row's JSON Schema. `partitionkey` is CloudEvents' own
    extension: events of one Service are in order."""
    key = row_key(row.cluster, row.namespace, row.name)
    return {
        "specversion": "1.0",
        "id": f"{row.table}/{key}/{row.version}",
        "source": f"urn:service-facets:journal:{kafka_cluster}",
        "type": f"io.service-facets.{row.table}.{'deleted' if is_deleted(row.value) else 'changed'}",
        "subject": key,
        "time": commit_time(row.value),
        "datacontenttype": "application/json",
        "dataschema": f"urn:service-facets:{row.table}-view",
        "partitionkey": f"{row.namespace}/{row.name}",
        "data": row.decode(),
    }
