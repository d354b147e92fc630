"""Turns errors of the two Kafka clients (kafka-python and aiokafka) into errors with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors as aiokafka_errors
from kafka import errors as kafka_errors

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

CLIENT_ERRORS: tuple[type[Exception], ...] = (kafka_errors.KafkaError, aiokafka_errors.KafkaError)
"""The errors of both clients, except OSErrors."""

_UNREACHABLE = (
    OSError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.NodeNotReadyError,
    aiokafka_errors.KafkaConnectionError,
    aiokafka_errors.KafkaTimeoutError,
    aiokafka_errors.NoBrokersAvailable,
    aiokafka_errors.NodeNotReadyError,
    aiokafka_errors.RequestTimedOutError,
)


class BrokerError(FacetsError):
    """Kafka can't be reached, or refuses a request."""

    exit_code = ExitCode.UNAVAILABLE


class BrokerUnreachable(BrokerError):
    """No broker answers at the address."""

    def __init__(self, bootstrap: str, error: BaseException | None = None) -> None:
        super().__init__(
            f"no Kafka broker answers at {bootstrap}{f' ({type(error).__name__})' if error else ''}",
            "check --bootstrap-servers / FACETS_BOOTSTRAP_SERVERS, or start one with: facets up",
        )


@contextmanager
def broker_errors(bootstrap: str) -> Iterator[None]:
    """Raises BrokerError for a Kafka client's errors in the block."""
    try:
        yield
    except _UNREACHABLE as error:
        raise BrokerUnreachable(bootstrap, error) from error
    except CLIENT_ERRORS as error:
        raise BrokerError(
            f"Kafka at {bootstrap} refuses: {error or type(error).__name__}", "check the broker with: facets doctor"
        ) from error
