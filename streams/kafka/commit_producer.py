"""The clients that append commits to the journal: idempotent, acknowledged by all in-sync replicas, in order.

librdkafka is taken where it is installed (the extra `librdkafka`), else kafka-python: an acknowledgement takes half the
time with it, as its network thread needs no Python. Both hold the same guarantees.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from kafka import KafkaProducer
from kafka.codec import has_zstd
from kafka.errors import KafkaError

from streams.kafka import librdkafka
from streams.kafka.errors import BrokerUnreachable, broker_errors
from streams.wire.records import JOURNAL
from streams.wire.topics import MAX_MESSAGE_BYTES

log = logging.getLogger("facets.journal")

DELIVERY_SECONDS = 300
"""How long a commit is retried before the watcher gives up, and so how long a broker may be away."""

_BOOTSTRAP_SECONDS = 15
_POLL_SECONDS = 0.2
_FULL_SECONDS = 0.01

Done = Callable[[object, int, float], None]
"""Is told an error, or None, the offset of the record, and when the broker took it (unix time); in another thread."""


class CommitProducer(Protocol):
    """Appends records to the journal, in the order of the calls of `send`."""

    def send(self, partition: int, key: bytes, value: bytes, done: Done) -> None:
        """Hand over a record; may block while the client's buffer is full. What it raises was not handed over."""

    def close(self, seconds: float) -> None:
        """Disconnect; records that are not acknowledged within the time are given up."""


def commit_producer(bootstrap: str, client_id: str) -> CommitProducer:
    """A connected producer. Raises BrokerError."""
    if librdkafka.is_installed():
        return LibrdkafkaProducer(bootstrap, client_id)
    return KafkaPythonProducer(bootstrap, client_id)


class KafkaPythonProducer:
    """See CommitProducer."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        with broker_errors(bootstrap):
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                # Most records are batches of their own: of one, zstd leaves 390 bytes where lz4 leaves 530 (measured).
                compression_type="zstd" if has_zstd() else "gzip",
                max_request_size=MAX_MESSAGE_BYTES,
                delivery_timeout_ms=DELIVERY_SECONDS * 1000,
                max_block_ms=_BOOTSTRAP_SECONDS * 1000,
                bootstrap_timeout_ms=_BOOTSTRAP_SECONDS * 1000,
                reconnect_backoff_max_ms=librdkafka.RECONNECT_MS,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                client_id=client_id,
            )

    def send(self, partition: int, key: bytes, value: bytes, done: Done) -> None:
        """See CommitProducer."""
        future = self._producer.send(JOURNAL, value, key=key, partition=partition)
        future.add_callback(lambda metadata: done(None, metadata.offset, metadata.timestamp / 1000))
        future.add_errback(lambda error: done(error, -1, 0.0))

    def close(self, seconds: float) -> None:
        """See CommitProducer."""
        try:
            self._producer.close(seconds)
        except KafkaError as error:
            log.warning("the journal's producer was not closed cleanly: %s", error)


class LibrdkafkaProducer:
    """See CommitProducer. A thread of ours takes the acknowledgements from librdkafka's."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        from confluent_kafka import KafkaException, Producer  # noqa: PLC0415

        self._producer: Any = Producer(
            {
                **librdkafka.client_config(bootstrap, client_id),
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "compression.type": "zstd",
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "delivery.timeout.ms": DELIVERY_SECONDS * 1000,
            },
            logger=librdkafka.LOG,
        )
        try:
            self._producer.list_topics(JOURNAL, _BOOTSTRAP_SECONDS)
        except KafkaException as error:
            raise BrokerUnreachable(bootstrap, error) from error
        self._closing = False
        self._thread = threading.Thread(target=self._poll, name="facets-journal-acks", daemon=True)
        self._thread.start()

    def send(self, partition: int, key: bytes, value: bytes, done: Done) -> None:
        """See CommitProducer."""

        def delivered(error: object, message: Any) -> None:
            if error is None:
                done(None, message.offset(), message.timestamp()[1] / 1000)
            else:
                done(error, -1, 0.0)

        while True:
            try:
                self._producer.produce(JOURNAL, value, key, partition, on_delivery=delivered)
            except BufferError:
                time.sleep(_FULL_SECONDS)
            else:
                return

    def close(self, seconds: float) -> None:
        """See CommitProducer."""
        remaining = self._producer.flush(seconds)
        if remaining:
            log.warning("the journal's producer was not closed cleanly: %d records were not acknowledged", remaining)
            self._producer.purge()
        self._closing = True
        self._thread.join()

    def _poll(self) -> None:
        while not self._closing:
            self._producer.poll(_POLL_SECONDS)
