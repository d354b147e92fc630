"""A row as this version of the fold writes it, from what is held of the Service and nothing that happened to it."""

from streams.facets import endpoint_set as sets
from streams.facets.routing_rows import HeldRouting, routing_row
from streams.facets.rows import Context, Frontend, HeldBackend, backend_row, frontend_row
from streams.facets.slice_text import Source


def row_again(
    ctx: Context, key: str, held: Frontend | HeldBackend | HeldRouting, previous: int | None, legacy: Source | None
) -> bytes:
    """The row's wire bytes, with no cause and no change. `legacy` are the Endpoints that are held beside a backend."""
    if isinstance(held, Frontend):
        return frontend_row(ctx, key, held, previous, [])
    if isinstance(held, HeldRouting):
        return routing_row(ctx, key, held, previous, [])
    backend = held.backend._replace(legacy=legacy)
    if legacy is not None and not backend.slices:
        backend = backend._replace(shadows=sets.shadows_of(backend.counted))
    new = held._replace(backend=backend)
    return backend_row(ctx, key, new, previous, cause=[], difference=sets.NO_DIFFERENCE)
