"""librdkafka (confluent-kafka), which is there with the extra `librdkafka`: what its clients have in common."""

import logging
from importlib.util import find_spec
from typing import Any

LOG = logging.getLogger("kafka.net.librdkafka")
"""Below kafka-python's logger for connections, as it says the same: each one that is refused."""

RECONNECT_MS = 1000
"""The longest pause before a broker is tried again, in milliseconds."""


def is_installed() -> bool:
    """Whether its clients can be had."""
    return find_spec("confluent_kafka") is not None


def client_config(bootstrap: str, client_id: str) -> dict[str, Any]:
    """The settings of any client."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "reconnect.backoff.max.ms": RECONNECT_MS,
        "socket.nagle.disable": True,
        "enable.metrics.push": False,
    }
