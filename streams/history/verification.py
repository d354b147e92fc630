"""Whether the tables follow from the retained journal."""

from typing import NamedTuple

from streams.history.collectors import Place
from streams.history.queries import Until
from streams.subscription.client import Subscriber
from streams.subscription.rows import Row
from streams.wire.keys import row_key
from streams.wire.row_codec import same_content


class Verdict(NamedTuple):
    """How the replayed rows compare with those in the tables: the same bytes, the same content (the journal's beginning
    has expired, or another fold version wrote the row), or wrong."""

    identical: int
    same: int
    wrong: tuple[str, ...]


async def table_rows(bootstrap: str, tables: tuple[str, ...]) -> tuple[dict[Place, Row], Until]:
    """These tables at a sealed cut, and the journal offsets of that cut."""
    async with Subscriber(bootstrap, tables=tables) as subscriber:
        snapshot = await subscriber.snapshot()
        sealed: dict[int, int] = dict.fromkeys(range(subscriber.partitions), -1)
        for (partition, _), seal in subscriber.sealed().items():
            sealed[partition] = max(sealed[partition], seal.offset)
    rows = {(row.table, row.cluster, row.namespace, row.name): row for row in snapshot.rows}
    return rows, Until(offsets=sealed)


def compare(actual: dict[Place, Row], replayed: dict[Place, Row], *, whole: bool) -> Verdict:
    """Compare the replayed rows with those in the tables."""
    identical = same = 0
    wrong: list[str] = []
    for key in sorted({*actual, *replayed}):
        row, replayed_row = actual.get(key), replayed.get(key)
        name = f"{key[0]} {row_key(*key[1:])}"
        if row is None or replayed_row is None:
            wrong.append(f"{name}: {'is not in the table' if row is None else 'does not follow from the journal'}")
        elif row.value == replayed_row.value:
            identical += 1
        elif (not whole or b'"cause":[],' in row.value or _only_change_differs(row, replayed_row)) and same_content(
            row.value, replayed_row.value
        ):
            # A row without a cause was rewritten by another fold version: from the journal alone its version is older.
            # What another version said of the way to the same content stays, as it is written only once.
            same += 1
        else:
            wrong.append(f"{name}: version {row.version} in the table, {replayed_row.version} from the journal")
    return Verdict(identical, same, tuple(wrong))


def _only_change_differs(row: Row, replayed_row: Row) -> bool:
    heads = [each.value.partition(b',"change":') for each in (row, replayed_row)]
    return row.table == "backend" and heads[0][0] == heads[1][0]
