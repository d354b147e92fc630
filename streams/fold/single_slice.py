"""The commonest change by far, on a short way: one event of a slice that is held, of a Service that is ready.

It makes the bytes that the fold's long way makes (a property test compares the two), and gives up wherever it might
not: then the long way is gone.
"""

from streams.facets.endpoint_set import NO_CHANGE, Backend, encode_change, encode_groups
from streams.facets.rows import Context, HeldBackend, row_head, service_json
from streams.facets.slice_text import BORDER, Group, Source, address_of, changed, new_source
from streams.wire.records import Cause, Event
from streams.wire.validation import MAX_ID, is_version


def one_slice(ctx: Context, key: str, old: HeldBackend, event: Event) -> tuple[HeldBackend, bytes] | None:
    """The backend and its row after `event`, the only one of the Service in its commit; None for the long way."""
    version, service, (slices, _, shadows), state, reason, rejected = old
    if (
        event.op != "apply"
        or event.kind != "EndpointSlice"
        or version is None
        or version >= ctx.offset
        or service is None
        or state != "ready"
        or reason
        or rejected
        or shadows
        or ctx.stale_since
        or ctx.lost
    ):
        return None
    held = slices.get(event.name)
    if held is None or len(held.groups) != 1 or not is_version(event.resource_version) or len(event.uid) > MAX_ID:
        return None
    change = changed(held.groups[0], bytes(event.object))
    if change is None or not change.group.text:
        return None
    group, gone, fresh = change
    source = new_source(event.name, event.uid, event.resource_version, (group,))
    if source == held:
        return None
    added, removed, updated = fresh, gone, fresh
    if not fresh or not gone:
        updated = []
    elif len(fresh) == 1 == len(gone) and fresh[0].startswith(gone[0][: gone[0].index(b'"', len(BORDER)) + 1]):
        added, removed = [], []
    else:
        before, after = set(map(address_of, gone)), set(map(address_of, fresh))
        if len(after) != len(fresh):
            return None
        added = [each for each in fresh if address_of(each) not in before]
        removed = [each for each in gone if address_of(each) not in after]
        updated = [each for each in fresh if address_of(each) in before]
    if added and (b"\\" in group.text or _claimed(slices, event.name, group, added)):
        return None
    now = Backend({**slices, event.name: source}, None, {})
    new = HeldBackend(ctx.offset, service, now, state, reason, rejected)
    difference = NO_CHANGE
    if added or removed or updated:
        lead = group.layout.lead
        difference = b'{"added":[%b],"removed":[%b],"updated":[%b]}' % (
            encode_change(event.name, lead, added) if added else b"",
            encode_change(event.name, lead, removed) if removed else b"",
            encode_change(event.name, lead, updated) if updated else b"",
        )
    cause = [Cause(event.kind, event.name, event.uid, event.resource_version, event.trigger)]
    return new, b"".join(
        (
            row_head(ctx, key, version, new, cause),
            b',"service":%b,"groups":[' % service_json(*service),
            encode_groups(now, withdrawn=False),
            b'],"change":',
            difference,
            b"}",
        )
    )


def _claimed(slices: dict[str, Source], label: str, group: Group, added: list[bytes]) -> bool:
    """Whether an address that is new in the slice is there twice, or in another slice with the same ports."""
    for endpoint in added:
        start = endpoint[: endpoint.index(b'"', len(BORDER)) + 1]
        if group.text.count(start) > 1:
            return True
        for other in slices.values():
            if other.label != label and any(
                rival.layout.kind == group.layout.kind and start in rival.text for rival in other.groups
            ):
                return True
    return False
