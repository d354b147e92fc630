"""Creating and checking the topics, by Kafka's admin API (kafka-python)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from streams.core.errors import FacetsError
from streams.core.exit_codes import ExitCode
from streams.core.partitioning import DEFAULT_PARTITIONS
from streams.core.records import JOURNAL
from streams.topology.topics import Topic, topics

_TIMEOUT_MS = 10_000


class BrokerUnreachable(FacetsError):
    """No broker answers at the address."""

    exit_code = ExitCode.UNAVAILABLE


class TopicMismatch(FacetsError):
    """A topic is there, but not as it must be."""

    exit_code = ExitCode.MISCONFIGURED


class Finding(NamedTuple):
    """What is found of a topic; `remedy` is empty where nothing is to be done."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@contextmanager
def admin_client(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """A connected admin client. Raises BrokerUnreachable."""
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            request_timeout_ms=_TIMEOUT_MS,
            bootstrap_timeout_ms=_TIMEOUT_MS,
            reconnect_backoff_max_ms=1000,
            client_id="facets",
        )
    except (KafkaError, OSError, ValueError) as error:
        raise BrokerUnreachable(
            f"no Kafka broker answers at {bootstrap} ({type(error).__name__})",
            "check --bootstrap-servers / FACETS_BOOTSTRAP_SERVERS, or start one with: facets up",
        ) from error
    try:
        yield client
    finally:
        client.close()


def ensure(bootstrap: str, partitions: int | None = None, replication: int = 1) -> int:
    """Create the topics that are missing; the number of partitions that they all have.

    Without `partitions` an existing journal's number is taken, else the default. The count of an existing topic is
    never changed: Services would move between partitions. Raises BrokerUnreachable, TopicMismatch.
    """
    with admin_client(bootstrap) as client:
        counts = _partition_counts(client)
        wanted = partitions or counts.get(JOURNAL, DEFAULT_PARTITIONS)
        for topic in topics(wanted):
            count = counts.get(topic.name)
            if count is None:
                _create(client, topic, replication)
            elif count != wanted:
                raise TopicMismatch(
                    f"topic {topic.name} has {count} partitions, but {wanted} are wanted",
                    f"use --partitions {count}" if topic.name == JOURNAL else
                    f"delete {topic.name} (it is made again from the journal) and run: facets topics create",
                )  # fmt: skip
        return wanted


def describe(bootstrap: str) -> list[Finding]:
    """How each topic stands against what it must be. Raises BrokerUnreachable."""
    with admin_client(bootstrap) as client:
        counts = _partition_counts(client)
        wanted = counts.get(JOURNAL, DEFAULT_PARTITIONS)
        expected = topics(wanted)
        there = [topic.name for topic in expected if topic.name in counts]
        configs = _configs(client, there)
        return [_finding(topic, counts.get(topic.name), configs.get(topic.name, {})) for topic in expected]


def partition_counts(bootstrap: str) -> dict[str, int]:
    """How many partitions each of our topics has; those that do not exist are left out. Raises BrokerUnreachable."""
    with admin_client(bootstrap) as client:
        return _partition_counts(client)


def config(bootstrap: str, topic: str) -> dict[str, str]:
    """A topic's whole configuration. Raises BrokerUnreachable."""
    with admin_client(bootstrap) as client:
        return _configs(client, [topic]).get(topic, {})


def _finding(topic: Topic, count: int | None, found: dict[str, str]) -> Finding:
    if count is None:
        return Finding(topic.name, False, "does not exist", "facets topics create")
    if count != topic.partitions:
        return Finding(
            topic.name,
            False,
            f"{count} partitions, the journal has {topic.partitions}",
            f"delete {topic.name} and run: facets topics create",
        )
    drift = [
        f"{name}={found.get(name)}, not {value}" for name, value in topic.configs.items() if found.get(name) != value
    ]
    if drift:
        changes = ",".join(f"{name}={value}" for name, value in topic.configs.items() if found.get(name) != value)
        return Finding(
            topic.name,
            False,
            "; ".join(drift),
            f"kafka-configs.sh --alter --topic {topic.name} --add-config {changes}",
        )
    return Finding(topic.name, True, f"{count} partitions, {topic.configs['cleanup.policy']}")


def _partition_counts(client: Any) -> dict[str, int]:
    names = {topic.name for topic in topics()}
    there = sorted(names & set(client.list_topics()))
    return {each["name"]: len(each["partitions"]) for each in client.describe_topics(there)} if there else {}


def _create(client: Any, topic: Topic, replication: int) -> None:
    try:
        client.create_topics(
            [NewTopic(topic.name, topic.partitions, replication, topic_configs=dict(topic.configs))],
            wait_for_metadata=True,
        )
    except TopicAlreadyExistsError:
        return


def _configs(client: Any, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer = client.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: entry["value"] for key, entry in entries.items()} for name, entries in answer.items()}
