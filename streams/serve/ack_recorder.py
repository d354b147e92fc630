"""Writes to `facets.acks` what the clients of this server were sent and have acknowledged.

It has a task of its own, so no stream waits for Kafka: what comes meanwhile is in the buffer, up to its limit.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaProducer

from streams.kafka.admin import partition_counts
from streams.kafka.errors import CLIENT_ERRORS
from streams.runtime.shutdown import closed
from streams.serve.metrics import ACKS_DROPPED, ACKS_RECORDED
from streams.serve.xds.protocol.ack_buffer import STEPS_AT_ONCE, AckBuffer, steps_in
from streams.wire.ack_records import ACKS, BEAT_SECONDS, AckBatch
from streams.wire.topics import MAX_MESSAGE_BYTES

log = logging.getLogger("facets.acks")

_PAUSE_SECONDS = 0.5
"""How long steps are collected for a batch: each names its nodes, so fewer of them are much smaller."""

_SEND_SECONDS = 20.0
_CLOSE_SECONDS = 3.0
_ERRORS: tuple[type[Exception], ...] = (*CLIENT_ERRORS, OSError)


def server_name() -> str:
    """A name for this process that no other one has, now or later."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


class AckRecorder:
    """`run` writes what the buffer gets, until it is cancelled; `close` writes the rest and disconnects."""

    def __init__(self, bootstrap: str, buffer: AckBuffer, clock: Callable[[], float] = time.time) -> None:
        self.buffer = buffer
        self._clock = clock
        self._beaten = clock()
        self._is_failing = False
        self._encoder = msgspec.json.Encoder()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            linger_ms=0,
            max_request_size=MAX_MESSAGE_BYTES,
            request_timeout_ms=int(_SEND_SECONDS * 1000),
            client_id="facets-acks",
        )

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        await self._producer.start()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._write_some()
            while self.buffer.waiting >= STEPS_AT_ONCE:
                await self._write_some()

    async def close(self) -> None:
        """Write what is left, as far as Kafka takes it in time, and disconnect."""
        await closed("Kafka to take which router has what", self._write_rest(), _CLOSE_SECONDS)
        await closed("the producer of acknowledgements to disconnect", self._producer.stop(), _CLOSE_SECONDS)

    async def _write_rest(self) -> None:
        while self.buffer.waiting:
            await self._write_some()
            if self._is_failing:
                return

    async def _write_some(self) -> None:
        now = self._clock()
        is_beat = bool(self.buffer.sessions) and now - self._beaten >= BEAT_SECONDS
        if is_beat:
            self._beaten = now
        batches = self.buffer.take(now, all_partitions=is_beat)
        sent = [asyncio.create_task(self._send(partition, batch)) for partition, batch in batches.items()]
        if sent:
            await asyncio.gather(*sent)
        if self.buffer.dropped:
            ACKS_DROPPED.inc(self.buffer.dropped)
            self.buffer.dropped = 0

    async def _send(self, partition: int, batch: AckBatch) -> None:
        try:
            await self._producer.send_and_wait(
                ACKS, self._encoder.encode(batch), key=batch.server.encode(), partition=partition
            )
        except _ERRORS as error:
            lost = self.buffer.restore(partition, batch)
            if not self._is_failing:
                log.warning(
                    "%s[%d]: %d steps of routers could not be recorded, nor what comes until Kafka takes it again: %s",
                    ACKS, partition, lost, error or type(error).__name__,
                )  # fmt: skip
            self._is_failing = True
            return
        if self._is_failing:
            log.info("%s: which router has what is recorded again", ACKS)
            self._is_failing = False
        ACKS_RECORDED.inc(steps_in(batch))


async def find_recorder(bootstrap: str, partitions: int) -> AckRecorder | None:
    """A recorder that is not connected yet; none, and a warning, where there is no topic for it. Raises BrokerError."""
    count = (await asyncio.to_thread(partition_counts, bootstrap)).get(ACKS)
    if count == partitions:
        return AckRecorder(bootstrap, AckBuffer(server_name(), partitions))
    if count is None:
        log.warning(
            "which router has what is not recorded: there is no topic %s; run facets topics create, then restart "
            "facets serve", ACKS,
        )  # fmt: skip
    else:
        log.warning(
            "which router has what is not recorded: %s has %d partitions, the journal has %d; delete it, run facets "
            "topics create, then restart facets serve", ACKS, count, partitions,
        )  # fmt: skip
    return None
