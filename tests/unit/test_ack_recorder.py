"""The recorder of acknowledgements while Kafka takes nothing: it waits for nobody, counts, and tells."""

from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaTimeoutError
from prometheus_client import REGISTRY

from streams.serve import ack_recorder
from streams.serve.ack_recorder import AckRecorder
from streams.serve.xds.protocol.ack_buffer import AckBuffer, Session
from streams.wire.ack_records import ACKS, BEAT_SECONDS, AckBatch

KEY = ("shop", "cart")


class _Producer:
    """Kafka, as it is told to be."""

    def __init__(self, **_: Any) -> None:
        self.is_away = False
        self.records: list[tuple[int, AckBatch]] = []

    async def start(self) -> None:
        """There is nothing to connect to."""

    async def stop(self) -> None:
        """Nor to disconnect from."""

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, partition: int) -> None:
        assert topic == ACKS
        if self.is_away:
            raise KafkaTimeoutError
        batch = msgspec.json.decode(value, type=AckBatch)
        assert key.decode() == batch.server
        self.records.append((partition, batch))


def dropped() -> float:
    return REGISTRY.get_sample_value("facets_acks_dropped_total") or 0.0


async def test_what_kafka_does_not_take_is_counted_and_told_once_it_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = _Producer()
    monkeypatch.setattr(ack_recorder, "AIOKafkaProducer", lambda **_: kafka)
    clock = [1_764_000_000.0]
    buffer = AckBuffer("s", 1)
    recorder = AckRecorder("", buffer, lambda: clock[0])
    before = dropped()
    buffer.move("a", [(KEY, 1, clock[0], clock[0])])
    await recorder._write_some()
    kafka.is_away = True
    for version in (2, 3):
        buffer.move("a", [(KEY, version, clock[0], clock[0])])
        await recorder._write_some()
    assert dropped() - before == 2
    assert caplog.text.count("could not be recorded") == 1
    kafka.is_away = False
    buffer.move("a", [(KEY, 4, clock[0], clock[0])])
    await recorder.close()
    versions = [each.version for _, batch in kafka.records for service in batch.services for each in service.acked]
    assert versions == [1, 4]
    assert [batch.dropped for _, batch in kafka.records] == [0, 2]


async def test_a_server_with_clients_is_heard_of_in_each_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = _Producer()
    monkeypatch.setattr(ack_recorder, "AIOKafkaProducer", lambda **_: kafka)
    clock = [1_764_000_000.0]
    buffer = AckBuffer("s", 3)
    recorder = AckRecorder("", buffer, lambda: clock[0])
    clock[0] += BEAT_SECONDS
    await recorder._write_some()
    assert kafka.records == []
    buffer.connect(Session("a", 1, clock[0], "delta"))
    await recorder._write_some()
    await recorder._write_some()
    assert [partition for partition, _ in kafka.records] == [0, 1, 2]
    clock[0] += BEAT_SECONDS
    await recorder._write_some()
    assert [partition for partition, _ in kafka.records] == [0, 1, 2, 0, 1, 2]
