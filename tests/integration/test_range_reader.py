"""Ranges of topics on a real Kafka: what is asked for, in order and bounded; what is not there any more is named."""

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from streams.exit_codes import ExitCode
from streams.history.queries import Until
from streams.history.replay import Replay
from streams.kafka.admin import admin_client
from streams.kafka.errors import BrokerError
from streams.kafka.range_reader import RangeExpired, RangeReader
from streams.wire.records import JOURNAL
from tests.integration.journal import Churn, clean_topics, publish

TOPIC = "range-reader"


@pytest.fixture(scope="module")
def topic(bootstrap_of_the_run: str) -> str:
    """Two partitions: 600 records in the first, of which 100 have expired, none in the second."""
    with admin_client(bootstrap_of_the_run) as client:
        client.create_topics([NewTopic(TOPIC, 2, 1)])
    producer = KafkaProducer(bootstrap_servers=bootstrap_of_the_run)
    for number in range(600):
        producer.send(TOPIC, b"%d" % number, partition=0)
    producer.close()
    expire(bootstrap_of_the_run, TOPIC, 100)
    return TOPIC


def expire(bootstrap: str, topic: str, offset: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_records({TopicPartition(topic, 0): offset})
    admin.close()


def offsets(reader: RangeReader, start: int, end: int, *, whole: bool = False) -> list[int]:
    return [record.offset for record in reader.records(TOPIC, 0, start, end, whole=whole)]


def test_a_range_is_read_in_order_up_to_its_end(bootstrap_servers: str, topic: str) -> None:
    with RangeReader(bootstrap_servers) as reader:
        assert reader.partitions(topic) == 2
        assert reader.partitions("no-such-topic") == 0
        assert reader.has_records(topic)
        assert not reader.has_records("no-such-topic")
        assert reader.bounds(topic, [0, 1]) == ({0: 100, 1: 0}, {0: 600, 1: 0})
        assert offsets(reader, 250, 420, whole=True) == list(range(250, 420))
        assert offsets(reader, 300, 300) == []
        # Another range ends one that is not through.
        next(reader.records(TOPIC, 0, 100, 600))
        assert offsets(reader, 590, 600) == list(range(590, 600))


def test_tails_are_what_is_there_of_the_last_offsets(bootstrap_servers: str, topic: str) -> None:
    with RangeReader(bootstrap_servers) as reader:
        tails = reader.tails(topic, [0, 1], 3)
        assert {p: (tail.end, [r.value for r in tail.records]) for p, tail in tails.items()} == {
            0: (600, [b"597", b"598", b"599"]),
            1: (0, []),
        }
        assert len(reader.tails(topic, [0], 9000)[0].records) == 500


def test_what_is_not_there_any_more_is_left_out_or_named(bootstrap_servers: str, topic: str) -> None:
    with RangeReader(bootstrap_servers) as reader:
        assert offsets(reader, 90, 110) == list(range(100, 110))
        with pytest.raises(RangeExpired, match=r"range-reader\[0\]: offsets 90 to 99 are not there any more") as caught:
            offsets(reader, 90, 110, whole=True)
        assert caught.value.exit_code == ExitCode.NOT_KNOWN


def test_what_does_not_come_is_waited_for_within_a_bound(bootstrap_servers: str, topic: str) -> None:
    with RangeReader(bootstrap_servers, read_seconds=0.1) as reader:
        with pytest.raises(BrokerError, match=r"range-reader\[0\] can't be read: no record"):
            offsets(reader, 590, 700)
        assert offsets(reader, 598, 600) == [598, 599]


def test_a_journal_that_expires_while_it_is_replayed_is_named(bootstrap_servers: str) -> None:
    clean_topics(bootstrap_servers, 1)
    publish(bootstrap_servers, Churn(11, partitions=1).start())
    with Replay(bootstrap_servers) as replay:
        expire(bootstrap_servers, JOURNAL, 1)
        with pytest.raises(RangeExpired, match=r"facets.journal\[0\]: offsets 0 to 0 are not there any more"):
            replay.tables(Until())
