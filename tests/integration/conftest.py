"""One real Kafka for all integration tests of a run."""

from collections.abc import Iterator

import pytest

from streams.local.kafka.broker import EmbeddedKafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker with an empty data folder; the jars come from this user's cache."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def bootstrap_of_the_run(kafka: EmbeddedKafka) -> str:
    """The same, for fixtures that last longer than a test."""
    return kafka.bootstrap_servers


@pytest.fixture
def bootstrap_servers(kafka: EmbeddedKafka) -> str:
    """The address of the run's broker. Tests share it: name topics and groups after the test."""
    return kafka.bootstrap_servers
