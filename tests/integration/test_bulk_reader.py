"""Bulk reading next to a consumer, on real Kafka: the same records, whatever wrote them."""

from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from kafka.admin import NewTopic

from streams.kafka.admin import admin_client
from streams.kafka.bulk_reader import VERSION_HEADER, BulkReader
from streams.kafka.range_reader import RangeReader

TOPIC = "bulk-reader"
PARTITIONS = [TopicPartition(TOPIC, p) for p in range(3)]


async def _write(bootstrap: str) -> None:
    """Every codec, a committed and an aborted transaction with its markers, and a record larger than a fetch asks for.
    Partition 2 stays empty."""
    count = 0
    for codec in (None, "gzip", "lz4", "zstd"):
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec) as producer:
            for _ in range(300):
                stamp = [(VERSION_HEADER, b"%d" % count)]
                await producer.send(
                    TOPIC, b"value %d" % count, key=b"%d" % (count % 7), partition=count % 2, headers=stamp
                )
                count += 1
    large = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=1 << 23, compression_type="zstd")
    async with large as producer:
        await producer.send_and_wait(TOPIC, bytes(3 << 20), key=b"large", partition=1)
        await producer.send_and_wait(TOPIC, None, key=b"gone", partition=1)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="bulk-reader") as producer:
        async with producer.transaction():
            await producer.send(TOPIC, b"committed", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"aborted", partition=0)
        await producer.abort_transaction()


async def test_it_reads_what_a_consumer_reads(bootstrap_servers: str) -> None:
    with admin_client(bootstrap_servers) as client:
        client.create_topics([NewTopic(TOPIC, 3, 1, topic_configs={"max.message.bytes": "16777216"})])
    await _write(bootstrap_servers)
    async with BulkReader(bootstrap_servers) as reader:
        begins, ends = await reader.begins(PARTITIONS), await reader.ends(PARTITIONS)
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer:
            consumer.assign(PARTITIONS)
            assert begins == await consumer.beginning_offsets(PARTITIONS)
            assert ends == await consumer.end_offsets(PARTITIONS)
            wanted: dict[TopicPartition, list[tuple[int, int, bytes, bytes | None]]] = {each: [] for each in PARTITIONS}
            for each in PARTITIONS:
                while await consumer.position(each) < ends[each]:
                    for found, records in (await consumer.getmany(timeout_ms=1000)).items():
                        wanted[found] += [(r.offset, r.timestamp, r.key or b"", r.value) for r in records]
        for start in (0, 1, 333, 602):
            read: dict[TopicPartition, list[tuple[int, int, bytes, bytes | None]]] = {each: [] for each in PARTITIONS}
            starts = {each: min(start, ends[each]) for each in PARTITIONS}
            reached = dict(starts)
            async with aclosing(reader.read(starts, ends)) as chunks:
                async for chunk in chunks:
                    for (offset, key, value, version), at in zip(chunk, chunk.timestamps, strict=True):
                        read[chunk.partition].append((offset, at, key, value))
                        assert version == (int((value or b"").split()[1]) if (value or b"")[:5] == b"value" else -1)
                    reached[chunk.partition] = chunk.next
            assert read == {each: [r for r in records if r[0] >= start] for each, records in wanted.items()}
            assert reached == ends
        with RangeReader(bootstrap_servers) as blocking:
            for each in PARTITIONS:
                records = blocking.records(TOPIC, each.partition, 333, ends[each])
                ranged = [(r.offset, r.timestamp, r.key or b"", r.value) for r in records]
                assert ranged == [r for r in wanted[each] if r[0] >= 333]
        past = {PARTITIONS[0]: ends[PARTITIONS[0]] + 5}
        with pytest.raises(OffsetOutOfRangeError):
            async for _ in reader.read(past, {PARTITIONS[0]: 1 << 40}):
                pass
