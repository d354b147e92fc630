"""Steps of routers, through the buffer, the wire and the fold, against a plain list of what happened."""

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.history.router_log import RouterLog, RouterSteps, read_batch
from streams.serve.xds.protocol.ack_buffer import AckBuffer, Session, steps_in
from streams.wire.ack_records import AckBatch
from streams.wire.partitioning import partition_of
from streams.wire.timestamps import milliseconds

PARTITIONS = 3
BEGIN = 1_764_000_000.0
NODES = ("envoy-a", "envoy-b", "grpc-c")
KEYS = (("shop", "cart"), ("shop", "tea"), ("web", "cart"))


class Happened(NamedTuple):
    """A step, as a client itself would note it: times in milliseconds, no two of them the same."""

    what: str
    server: int
    node: str
    key: tuple[str, str]
    version: int
    at: int
    sent_at: int


happenings = st.lists(
    st.tuples(
        st.sampled_from(["sent", "acked", "acked", "acked", "refused", "unfollowed", "drain"]),
        st.integers(0, 1),
        st.sampled_from(NODES),
        st.sampled_from(KEYS),
        st.integers(0, 50),
        st.integers(1, 400),
    ),
    max_size=40,
)


def seconds(later: int) -> float:
    # A little later, as a fraction of a second has no exact binary form.
    return BEGIN + later / 1000 + 1e-4


def run(steps: list[Any]) -> tuple[list[Happened], list[tuple[int, AckBatch]]]:
    """What happened, and the batches that two servers made of it, with the partition of each."""
    buffers = [AckBuffer(f"s{i}", PARTITIONS) for i in range(2)]
    happened: list[Happened] = []
    batches: list[tuple[int, AckBatch]] = []
    now = 0
    for what, server, node, key, version, wait in steps:
        now += wait + 2
        buffer, at = buffers[server], seconds(now)
        if what == "drain":
            batches += buffer.take(at, about=version).items()
            continue
        happened.append(Happened(what, server, node, key, version, now, now - 1))
        if what == "sent":
            buffer.move(node, [(key, version, at, 0.0)])
        elif what == "acked":
            buffer.move(node, [(key, version, seconds(now - 1), at)])
        elif what == "refused":
            buffer.refuse(node, "eds", "no such port", [(key, version)], at)
        else:
            buffer.unfollow(node, [key], at)
    for buffer in buffers:
        while buffer.waiting:
            batches += buffer.take(seconds(now)).items()
    return happened, batches


def plain(happened: list[Happened], node: str, key: tuple[str, str], until: int) -> tuple[int, int, str] | None:
    """The version acknowledged, the one sent, and that of a refusal that nothing came after; None: not followed."""
    acked = sent = -1
    refused, follows = "", False
    for step in happened:
        if (step.node, step.key) != (node, key):
            continue
        if step.what == "acked" and step.sent_at <= until:
            sent, refused, follows = step.version, "", True
        if step.at > until:
            continue
        if step.what == "acked":
            acked = step.version
        elif step.what == "sent":
            sent, refused, follows = step.version, "", True
        elif step.what == "refused":
            refused, follows = f"{step.version}", True
        else:
            follows = False
    return (acked, sent, refused) if follows else None


@given(happenings, st.integers(0, 4000), st.randoms(use_true_random=False))
def test_it_knows_what_each_router_had_at_any_time(steps: list[Any], until: int, random: Any) -> None:
    happened, batches = run(steps)
    assert sum(steps_in(batch) for _, batch in batches) <= len(happened)
    random.shuffle(batches)
    log = RouterLog(round(seconds(until) * 1000))
    for partition, batch in batches:
        assert {partition_of(each.namespace, each.name, PARTITIONS) for each in batch.services} <= {partition}
        log.take(read_batch(msgspec.json.encode(batch)), partition)
    for node in NODES:
        expected = {key: found for key in KEYS if (found := plain(happened, node, key, until)) is not None}
        versions = log.versions(node)
        found = {
            key: (held.acked, held.sent, f"{held.refused.version}" if held.refused else "")
            for key, held in versions.items()
        }
        assert found == expected
        assert all(log.holders(key)[node] == held for key, held in versions.items())
        assert log.router(node).services == len(expected)


@given(happenings)
def test_a_routers_history_has_each_step_once(steps: list[Any]) -> None:
    happened, batches = run(steps)
    for node in NODES:
        log = RouterSteps(node)
        for partition, batch in batches:
            log.take(batch, partition)
        told = log.steps()
        expected: set[Any] = set()
        for step in happened:
            if step.node == node:
                version = -1 if step.what == "unfollowed" else step.version
                expected.add((step.what, *step.key, version, step.at))
                if step.what == "acked":
                    expected.add(("sent", *step.key, version, step.sent_at))
        base = round(BEGIN * 1000)
        found = {(each.what, each.namespace, each.name, each.version, milliseconds(each.at) - base) for each in told}
        # A version that was sent and then acknowledged in one batch is told as sent when it was sent last.
        assert {each for each in expected if each[0] != "sent"} == {each for each in found if each[0] != "sent"}
        assert found <= expected
        assert len(found) == len(told)
        assert [each.at for each in told] == sorted(each.at for each in told)
        since = told[len(told) // 2].at if told else ""
        last = RouterSteps(node, ("shop", ""), (since, ""), 3)
        for partition, batch in batches:
            last.take(batch, partition)
        assert last.steps() == [each for each in told if each.namespace == "shop" and each.at >= since][-3:]


def test_what_does_not_fit_is_dropped_counted_and_told() -> None:
    buffer = AckBuffer("s", 2, most=10)
    for version in range(30):
        buffer.move("a", [(KEYS[0], version, BEGIN, BEGIN)])
    assert (buffer.waiting, buffer.dropped) == (10, 20)
    batches = buffer.take(BEGIN)
    assert {partition: batch.dropped for partition, batch in batches.items()} == {0: 20, 1: 20}
    assert [each.version for batch in batches.values() for s in batch.services for each in s.acked] == list(range(10))
    # It is told once; a batch that Kafka did not take is to be told with the next.
    assert buffer.take(BEGIN) == {}
    buffer.move("a", [(KEYS[0], 31, BEGIN, BEGIN)])
    ((partition, batch),) = buffer.take(BEGIN).items()
    assert (batch.dropped, buffer.restore(partition, batch)) == (0, 1)
    assert {p: b.dropped for p, b in buffer.take(BEGIN).items()} == {partition: 1}


def test_connections_are_told_to_each_partition_and_end_with_their_server() -> None:
    buffer = AckBuffer("s", 2)
    buffer.connect(Session("a", 1, BEGIN, "delta", "envoy", "east", "zone-1", "ipv4:10.0.0.1:5"))
    buffer.connect(Session("b", 2, BEGIN, "sotw", cluster="west"))
    buffer.disconnect("b", 2, BEGIN + 10)
    batches = buffer.take(BEGIN + 10)
    assert list(batches) == [0, 1]
    assert [session.node for session in buffer.sessions.values()] == ["a"]

    def at(later: float) -> dict[str, tuple[bool, int]]:
        log = RouterLog(round((BEGIN + later) * 1000))
        log.take(read_batch(msgspec.json.encode(batches[1])), 1)
        return {router.node: (router.connected, router.since // 1000 - round(BEGIN)) for router in log.routers()}

    assert at(-1) == {}
    assert at(5) == {"a": (True, 0), "b": (True, 0)}
    assert at(20) == {"a": (True, 0), "b": (False, 10)}
    # Nothing was heard of the server for longer than it is ever silent.
    assert at(500) == {"a": (False, 10), "b": (False, 10)}
    assert [steps_in(each) for each in buffer.take(BEGIN + 20, all_partitions=True).values()] == [0, 0]


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"garbage", b"\xff", b"[]", b'{"server":"s"}', b'{"server":"s","at":"noon"}',
        b'{"server":"s","at":"2026-11-24T12:00:00.000Z","disconnected":[{"node":0,"session":1,"at":0}]}',
        b'{"server":"s","at":"2026-11-24T12:00:00.000Z","nodes":["a"],"services":[{"namespace":"x","name":"y",'
        b'"acked":[{"version":1,"nodes":[0],"sent":[],"acked":[1]}]}]}',
        b'{"server":"s","at":"2026-11-24T12:00:00.000Z","nodes":["a"],"services":[{"namespace":"x","name":"y",'
        b'"sent":[{"version":1,"nodes":[1],"sent":[0]}]}]}',
        b'{"server":"s","at":"2026-11-24T12:00:00.000Z","more":1}',
    ],
)  # fmt: skip
def test_what_is_no_batch_is_refused(value: bytes | None) -> None:
    with pytest.raises(ValueError):
        read_batch(value)


def test_what_an_sse_client_was_sent_is_known_by_partition() -> None:
    buffer = AckBuffer("s", 3)
    buffer.connect(Session("sse:1.2.3.4:5", 1, BEGIN, "sse", selection="table=backend"))
    buffer.stream("sse:1.2.3.4:5", [(0, 7), (2, 4)], BEGIN + 1)
    buffer.stream("sse:1.2.3.4:5", [(2, 9)], BEGIN + 5)
    buffer.disconnect("sse:1.2.3.4:5", 1, BEGIN + 9, "sse")
    batches = buffer.take(BEGIN + 9)
    for later, expected in ((0.5, {}), (2.0, {0: 7, 2: 4}), (6.0, {0: 7, 2: 9})):
        log = RouterLog(round((BEGIN + later) * 1000))
        for partition, batch in batches.items():
            log.take(read_batch(msgspec.json.encode(batch)), partition)
        assert log.streamed("sse:1.2.3.4:5") == expected
        assert [(each.variant, each.connected) for each in log.routers()] == [("sse", True)]
    steps = RouterSteps("sse:1.2.3.4:5")
    for partition, batch in batches.items():
        steps.take(batch, partition)
    assert [(each.what, each.version, each.detail) for each in steps.steps()] == [
        ("connected", -1, "server s"), ("sent", 4, "partition 2"), ("sent", 7, "partition 0"),
        ("sent", 9, "partition 2"), ("disconnected", -1, "server s"),
    ]  # fmt: skip
