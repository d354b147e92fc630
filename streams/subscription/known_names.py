"""Checks names against the tables, to tell a typo from a name that has no rows."""

from collections.abc import Collection, Iterable

from streams.subscription.client import read_names
from streams.subscription.names import unknown_names
from streams.subscription.rows import Row


async def check_names(
    bootstrap: str,
    rows: Iterable[Row],
    *,
    clusters: Collection[str] = (),
    namespaces: Collection[str] = (),
    services: Collection[str] = (),
) -> None:
    """Raise UnknownName if the rows were selected by a name that the tables do not have. Reads the tables' names only
    if one of these has no row."""
    rows = tuple(rows)
    if (
        {row.cluster for row in rows}.issuperset(clusters)
        and {row.namespace for row in rows}.issuperset(namespaces)
        and {row.name for row in rows}.issuperset(services)
    ):
        return
    error = unknown_names(await read_names(bootstrap), clusters, namespaces, services)
    if error is not None:
        raise error
