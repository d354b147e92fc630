"""Every decoder on arbitrary and on slightly wrong input: only the documented errors, or a dead letter; never another
exception, and never more work than the input is long."""

import base64
import copy
from itertools import pairwise
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.fold.fold import JournalGap, PartitionFold
from streams.fold.offline import AuditFold, UnknownInput
from streams.fold.table import Write
from streams.kube.api_server import (
    Expired,
    LineSplitter,
    ServerBehind,
    ServerBusy,
    ServerError,
    Undecodable,
    _event,
)
from streams.local.recording import DamagedRecording, parse
from streams.objects.collector import Collector
from streams.objects.fields import MalformedObject
from streams.objects.normalize import normalize
from streams.objects.reflector import Kind, LaggingServer, Reflector, ReflectorEvent, UnknownEvent
from streams.objects.resources import RESOURCES
from streams.subscription.cursor import Cursor, InvalidCursor
from streams.wire import timestamps as rfc3339
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import decode_row
from tests.properties.folding import TABLES, compacted, logs_of, new_fold, restarted
from tests.properties.journals import Journal, apply, encode, events_of, journals
from tests.properties.strategies import (
    KINDS,
    NAMESPACE,
    SERVICES,
    SLICES,
    Object,
    json_values,
    legacy_endpoints,
    malformed,
    mutated,
    objects,
)
from tests.support.recordings import final_objects

DEEP = b"[" * 100_000 + b"]" * 100_000

_AT = "2026-11-23T12:00:00.000Z"
_SERVICE: Object = {
    "kind": "Service",
    "metadata": {"name": SERVICES[0], "namespace": NAMESPACE, "uid": "u", "resourceVersion": "1"},
    "spec": {"clusterIP": "10.96.0.1"},
}


def any_object() -> st.SearchStrategy[Object]:
    """A well-formed object of any kind."""
    return st.sampled_from(KINDS).flatmap(lambda kind: objects(kind, SLICES[0], SERVICES[0], "7"))


def odd_objects() -> st.SearchStrategy[Any]:
    """Objects with something wrong in them, and things that are no objects, as JSON can carry them."""
    return st.one_of(any_object().flatmap(malformed), any_object().flatmap(mutated), json_values())


def _live(at: str = _AT, seq: int = 3, **event: Any) -> bytes:
    return encode(
        {**_HEAD, "seq": seq, "at": at, "phase": "live", "frontier": {}, "events": [{**apply(_SERVICE), **event}]}
    )


_HEAD = {"cluster": "east", "epoch": 1, "writer": "w"}
_OPEN = [
    encode({**_HEAD, "seq": seq, "at": _AT, "phase": phase, "frontier": {}})
    for seq, phase in ((1, "begin"), (2, "end"))
]


def _sound(instance: PartitionFold, offset: int, value: bytes | None) -> list[Write]:
    """One step: whatever it is given, the offset is sealed, and every record it writes can be read."""
    writes = instance.step(offset, value)
    assert [write.table for write in writes if write.key.startswith(SEAL_PREFIX) and write.value] == list(TABLES)
    assert len(writes) <= 64
    for write in writes:
        if write.value is not None:
            read = orjson.loads(write.value)
            if write.table in TABLES and not write.key.startswith(b"~"):
                assert decode_row(write.table, write.value)["version"] == offset
                assert write.key.decode() == "/".join(read[part] for part in ("cluster", "namespace", "name"))
    return writes


# ---- the fold ----------------------------------------------------------------------------------------


@given(st.binary(max_size=200) | json_values().map(orjson.dumps))
@example(b"")
@example(DEEP)
@example(b'{"cluster":"east","events":' + DEEP)
def test_a_record_that_is_no_commit_is_dead_lettered_and_sealed(value: bytes) -> None:
    writes = _sound(new_fold(), 7, value)
    assert [write.table for write in writes] == ["deadletter", *TABLES]


@given(journals(length=4), st.data())
def test_a_commit_that_is_slightly_wrong_stops_nobody(journal: Journal, data: st.DataObject) -> None:
    """Guarantee 7. And what the fold then holds can still be read back from its rows."""
    position = data.draw(st.integers(0, len(journal.commits) - 1))
    values = journal.values
    if not isinstance(journal.commits[position], bytes):
        values[position] = orjson.dumps(data.draw(mutated(journal.commits[position])))
    instance = new_fold()
    writes = [write for offset, value in enumerate(values) for write in _sound(instance, offset, value)]
    _, offset, repairs = restarted(logs_of(writes))
    assert offset <= len(values)
    assert repairs == []


@given(journals(length=3), st.data())
def test_one_flipped_byte_stops_nobody(journal: Journal, data: st.DataObject) -> None:
    values = journal.values
    position = data.draw(st.integers(0, len(values) - 1))
    broken = bytearray(values[position] or b"{}")
    broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    values[position] = bytes(broken)
    instance = new_fold()
    for offset, value in enumerate(values):
        _sound(instance, offset, value)


@pytest.mark.parametrize(
    "event",
    [
        {"namespace": "a/b"},
        {"service": "a/b"},
        {"service": "a/b", "op": "reject", "message": "no"},
        {"namespace": "", "service": "", "op": "reject", "message": "no"},
        {"service": 'a"b', "op": "reject", "message": "no"},
        {"service": ""},
        {"namespace": 'a"b'},
        {"service": "a\nb"},
        {"kind": "Secret"},
        {"kind": "EndpointSlice", "name": "Endpoints/cart", "object": {"groups": []}},
        {"resourceVersion": "x", "kind": "EndpointSlice"},
        {"object": {**apply(_SERVICE)["object"], "sessionAffinityTimeoutSeconds": 1e300}},
    ],
    ids=str,
)
def test_an_event_that_no_watcher_writes_is_dead_lettered(event: dict[str, Any]) -> None:
    """The rest of its commit is folded, and so is the same event in a snapshot."""
    instance = new_fold()
    for offset, value in enumerate(_OPEN):
        _sound(instance, offset, value)
    commit = orjson.loads(_live(**event))
    commit["events"].append(apply({**_SERVICE, "metadata": {**_SERVICE["metadata"], "name": SERVICES[1]}}))
    writes = _sound(instance, 2, encode(commit))
    assert next(write.table for write in writes) == "deadletter"
    assert [write.table for write in writes if write.key.endswith(b"/pay")] == list(TABLES)
    snapshot = new_fold()
    for offset, phase in enumerate(("begin", "snapshot", "end")):
        events = commit["events"] if phase == "snapshot" else []
        writes = _sound(snapshot, offset, encode({**commit, "seq": offset + 1, "phase": phase, "events": events}))
    assert [write.table for write in writes if write.key.endswith(b"/pay")] == list(TABLES)


@pytest.mark.parametrize("at", ["", "yesterday", "2026-11-23T12:00:00", "2026-13-23T12:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_commit_without_a_time_is_dead_lettered(at: str) -> None:
    """A time without an offset would be read in the worker's own time zone; one at the end of days has no morrow."""
    instance = new_fold()
    for offset, value in enumerate([*_OPEN, _live()]):
        _sound(instance, offset, value)
    writes = _sound(instance, 3, _live(at=at, seq=4, op="delete"))
    assert [write.table for write in writes] == ["deadletter", *TABLES]
    assert orjson.loads(writes[0].value or b"")["reason"]


def test_a_commit_nested_without_end_is_dead_lettered() -> None:
    """The JSON decoder refuses to go that deep, with RecursionError."""
    instance = new_fold()
    for offset, value in enumerate(_OPEN):
        _sound(instance, offset, value)
    value = _live(object=None).replace(b'"object":null', b'"object":' + DEEP)
    assert [write.table for write in _sound(instance, 2, value)] == ["deadletter", *TABLES]


@given(st.integers(-2, 5))
def test_only_the_next_offset_is_taken(offset: int) -> None:
    instance = new_fold()
    instance.step(1, b"")
    if offset == 2:
        instance.step(offset, b"")
        return
    with pytest.raises(JournalGap):
        instance.step(offset, b"")
    assert instance.next_offset == 2


@given(journals(length=4, garbage=False), st.data())
def test_a_version_spelt_otherwise_survives_a_restart_alike(journal: Journal, data: st.DataObject) -> None:
    """No resourceVersion, or one with leading zeros: a row read back is what was held."""
    for commit in journal.commits:
        for event in events_of(commit):
            event["resourceVersion"] = data.draw(st.sampled_from(("", "0", "7", "007")))
    values = journal.values
    cut = data.draw(st.integers(0, len(values)))
    calm, first = new_fold(), new_fold()
    expected = [write for offset, value in enumerate(values) for write in calm.step(offset, value)]
    before = [write for offset, value in enumerate(values[:cut]) for write in first.step(offset, value)]
    again, resume, _ = restarted(logs_of(before))
    after = [write for offset in range(resume, len(values)) for write in again.step(offset, values[offset])]
    assert compacted(logs_of([*before, *after])) == compacted(logs_of(expected))


# ---- objects -----------------------------------------------------------------------------------------


@given(st.sampled_from(KINDS), odd_objects())
def test_an_object_is_normalized_or_called_malformed(kind: str, item: Any) -> None:
    item = orjson.loads(orjson.dumps(item))
    try:
        found = normalize(kind, item, "cluster.local")
    except MalformedObject:
        return
    if found is not None:
        orjson.loads(found.body)


@given(st.lists(st.tuples(st.sampled_from(KINDS), odd_objects()), max_size=4))
def test_the_collector_and_the_fold_take_whatever_an_api_server_lists(listed: list[tuple[str, Any]]) -> None:
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    records = collector.begin(_AT)
    for kind in KINDS:
        reflector = Reflector(streaming=False)
        items = [orjson.loads(orjson.dumps(item)) for each, item in listed if each == kind]
        for event in reflector.page({"metadata": {"resourceVersion": "9"}, "items": items}):
            collector.ingest(kind, event)
    records += collector.flush(_AT) + collector.snapshot(_AT)
    instance = new_fold()
    for offset, record in enumerate(records):
        _sound(instance, offset, record.value)
    assert {resource.kind for resource in RESOURCES} >= set(KINDS)


@given(
    st.lists(st.tuples(st.sampled_from(("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "?")), odd_objects()), max_size=6)
)
def test_a_reflector_takes_whatever_a_watch_says(said: list[tuple[str, Any]]) -> None:
    for streaming in (False, True):
        reflector = Reflector(streaming=streaming)
        collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
        if not streaming:
            for event in reflector.page({"metadata": {"resourceVersion": "5"}, "items": []}):
                collector.ingest("EndpointSlice", event)
        for kind, item in copy.deepcopy(said):
            try:
                for event in reflector.event(kind, item):
                    collector.ingest("EndpointSlice", event)
            except (UnknownEvent, LaggingServer):
                continue
        for record in collector.flush(_AT):
            orjson.loads(record.value)


def documents() -> st.SearchStrategy[Any]:
    """What a user may give to `facets fold`."""
    watched = st.fixed_dictionaries(
        {"type": st.sampled_from(("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR")), "object": odd_objects()}
    )
    listing = st.fixed_dictionaries({"kind": st.sampled_from(("List", "ServiceList")), "items": json_values()}) | (
        st.lists(odd_objects(), max_size=3).map(lambda items: {"kind": "List", "items": items})
    )
    return st.one_of(odd_objects(), watched, watched.flatmap(mutated), listing)


@given(st.lists(documents(), max_size=4))
@example([{"type": "DELETED", "object": {"kind": "Service"}}])
@example([{"kind": ["Service"], "metadata": {}}])
@example([{"type": [], "object": {}}])
@example([{"kind": "Service", "metadata": {"name": "a/b", "namespace": "x/y"}}])
def test_the_audit_fold_takes_any_document_or_names_it(said: list[Any]) -> None:
    audit = AuditFold()
    for document in said:
        try:
            writes = list(audit.take(orjson.loads(orjson.dumps(document))))
        except UnknownInput:
            continue
        for write in writes:
            orjson.loads(write.value or b"null")


@given(legacy_endpoints(), st.integers(0, 3))
def test_an_endpoints_object_repeated_makes_no_rows(item: Object, times: int) -> None:
    audit = AuditFold()
    list(audit.take(copy.deepcopy(item)))
    for _ in range(times):
        assert list(audit.take(copy.deepcopy(item))) == []


# ---- small formats -----------------------------------------------------------------------------------


@given(st.text(max_size=60) | json_values().map(lambda value: base64.urlsafe_b64encode(orjson.dumps(value)).decode()))
@example(base64.urlsafe_b64encode(DEEP).decode())
@example(base64.urlsafe_b64encode(b'{"at":"","applied":{},"tables":{},"x":' + DEEP + b"}").decode())
@example("\ud800")
def test_what_is_no_cursor_is_called_so(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.decode(text)


@given(
    st.text(max_size=8),
    st.dictionaries(st.integers(0, 9), st.integers(-1, 2**60)),
    st.dictionaries(st.tuples(st.sampled_from(TABLES), st.integers(0, 9)), st.integers(0, 2**60)),
)
def test_a_cursor_is_itself_again(at: str, applied: dict[int, int], positions: dict[tuple[str, int], int]) -> None:
    cursor = Cursor(at, applied, positions)
    assert Cursor.decode(cursor.encode()) == cursor


@given(st.text(max_size=40))
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
@example("2026-11-23")
def test_a_time_is_read_or_is_a_value_error(text: str) -> None:
    try:
        at = rfc3339.read(text)
    except ValueError:
        return
    assert at.utcoffset() is not None
    assert rfc3339.read(rfc3339.write(at)) <= at


@given(st.datetimes(timezones=st.timezones()), st.datetimes(timezones=st.timezones()))
def test_times_sort_as_text(one: Any, other: Any) -> None:
    try:
        texts = [rfc3339.write(one), rfc3339.write(other)]
    except OverflowError:  # a local time at either end of the calendar
        return
    assert (texts[0] <= texts[1]) == (rfc3339.read(texts[0]) <= rfc3339.read(texts[1]))
    assert [rfc3339.write(rfc3339.read(text)) for text in texts] == texts


@given(st.lists(json_values(), max_size=4) | st.data())
def test_what_is_no_recording_is_called_damaged(lines: Any) -> None:
    if not isinstance(lines, list):
        whole = [
            {
                "format": 1,
                "cluster": "east",
                "kubernetes": "v1.36.0",
                "duration_ms": 100,
                "resources": [{"path": "/api/v1/services", "kind": "Service"}],
            },
            {
                "path": "/api/v1/services",
                "list": {"apiVersion": "v1", "metadata": {"resourceVersion": "3"}, "items": [_SERVICE]},
            },
            {"path": "/api/v1/services", "ms": 5.5, "event": {"type": "MODIFIED", "object": _SERVICE}},
        ]
        lines = lines.draw(mutated(whole))
    try:
        recording = parse(lines if isinstance(lines, list) else [lines], "a file")
    except DamagedRecording:
        return
    assert final_objects(recording)["kind"] == "List"


WATCH_ERRORS = (Expired, ServerBehind, ServerBusy, ServerError, Undecodable)


@given(
    st.binary(max_size=80)
    | mutated(
        {
            "type": "ERROR",
            "object": {
                "code": 429,
                "reason": "Timeout",
                "message": "later",
                "details": {"causes": [{"reason": "ResourceVersionTooLarge"}], "retryAfterSeconds": 1},
            },
        }
    ).map(orjson.dumps)
)
@example(b'{"type":"ERROR","object":{"details":{"causes":5}}}')
@example(DEEP)
def test_a_watch_line_is_an_event_or_a_known_error(line: bytes) -> None:
    try:
        kind, _ = _event(line)
    except WATCH_ERRORS:
        return
    assert isinstance(kind, str)
    assert kind != "ERROR"


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_lines_are_the_same_wherever_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    splitter, edges = LineSplitter(1000), sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    lines = [line for start, end in pairwise(edges) for line in splitter.feed(stream[start:end])]
    assert lines == [line for line in stream.split(b"\n")[:-1] if line]


@given(st.integers(1, 50))
def test_a_line_without_end_is_refused(limit: int) -> None:
    splitter = LineSplitter(limit)
    assert splitter.feed(b"x" * limit) == []
    with pytest.raises(Undecodable):
        splitter.feed(b"x")


def test_bookmarks_and_objects_without_versions_move_nothing() -> None:
    reflector = Reflector(streaming=False)
    list(reflector.page({"metadata": {"resourceVersion": "5"}, "items": []}))
    for item in ({}, {"metadata": {}}, {"metadata": {"resourceVersion": "x"}}, None, []):
        assert list(reflector.event("BOOKMARK", item)) == []
    assert reflector.resource_version == "5"
    assert ReflectorEvent(Kind.INIT, None, "").message == ""
    assert issubclass(msgspec.ValidationError, msgspec.MsgspecError)
