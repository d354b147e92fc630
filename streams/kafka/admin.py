"""Creates and checks the topics, with Kafka's admin API (kafka-python)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import InvalidReplicationFactorError, TopicAlreadyExistsError

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.kafka.errors import BrokerUnreachable, broker_errors
from streams.runtime.durations import in_words
from streams.wire.partitioning import DEFAULT_PARTITIONS
from streams.wire.records import JOURNAL, TABLES, topic_of
from streams.wire.topics import (
    DEFAULT_WINDOW_SECONDS,
    JOURNAL_RETENTION_SECONDS,
    OPTIONAL_TOPICS,
    RETENTION,
    Topic,
    topics,
)

_TIMEOUT_MS = 10_000
_SAFE_REPLICAS = 3


class TopicMismatch(FacetsError):
    """A topic exists, but is not as required."""

    exit_code = ExitCode.MISCONFIGURED


class Finding(NamedTuple):
    """The result of checking a topic; `remedy` is empty if there is nothing to do."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@contextmanager
def admin_client(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """A connected admin client. Raises BrokerError, also for the client's errors in the block."""
    with broker_errors(bootstrap):
        try:
            client = KafkaAdminClient(
                bootstrap_servers=bootstrap,
                request_timeout_ms=_TIMEOUT_MS,
                bootstrap_timeout_ms=_TIMEOUT_MS,
                reconnect_backoff_max_ms=1000,
                client_id="facets",
            )
        except ValueError as error:
            raise BrokerUnreachable(bootstrap, error) from error
        try:
            yield client
        finally:
            client.close()


def ensure(
    bootstrap: str,
    *,
    partitions: int | None = None,
    replication_factor: int | None = None,
    retention_seconds: float | None = None,
) -> int:
    """Create the topics that are missing; the number of partitions that they all have.

    An argument of None leaves an existing topic as it is; a new one gets 8 partitions, the broker's default
    replication factor, and seven days. Of an existing topic only the retention can be changed: another number of
    partitions would move Services between them. Raises BrokerError, TopicMismatch.
    """
    retention = _retention(retention_seconds)
    with admin_client(bootstrap) as client:
        shapes = _shapes(client)
        partition_count = partitions or (shapes[JOURNAL].partitions if JOURNAL in shapes else DEFAULT_PARTITIONS)
        expected = topics(partition_count, retention)
        for topic in expected:
            shape = shapes.get(topic.name)
            if shape is not None:
                _check_shape(topic, shape, replication_factor)
        for topic in expected:
            if topic.name not in shapes:
                _create(client, topic, replication_factor)
        if retention_seconds is not None:
            _set_retention(client, [topic for topic in expected if topic.name in shapes], retention)
        return partition_count


def cluster_id(bootstrap: str) -> str:
    """The Kafka cluster's id, which is the same at each of its addresses. Raises BrokerError."""
    with admin_client(bootstrap) as client:
        return str(client.describe_cluster()["cluster_id"])


def require(bootstrap: str) -> int:
    """The number of partitions that the topics have; nothing is created. Raises BrokerError, and TopicMismatch
    where one is missing or has another number."""
    with admin_client(bootstrap) as client:
        shapes = _shapes(client)
    missing = [topic.name for topic in topics() if topic.name not in shapes and topic.name not in OPTIONAL_TOPICS]
    if missing:
        raise TopicMismatch(
            f"no topic {', '.join(missing)} at {bootstrap}",
            f"facets topics create --bootstrap-servers {bootstrap}  (or start this with --create-topics)",
        )
    partition_count = shapes[JOURNAL].partitions
    for topic in topics(partition_count):
        if topic.name in shapes:
            _check_shape(topic, shapes[topic.name], None)
    return partition_count


def _retention(seconds: float | None) -> int:
    """In seconds. Raises FacetsError where it is too short."""
    if seconds is None:
        return JOURNAL_RETENTION_SECONDS
    if seconds < DEFAULT_WINDOW_SECONDS:
        raise FacetsError(
            f"a journal that is kept for {in_words(seconds)} can't make again what a cursor may still ask for",
            f"cursors hold for {in_words(DEFAULT_WINDOW_SECONDS)}: ask for a longer --retention",
            ExitCode.USAGE,
        )
    return int(seconds)


def _check_shape(topic: Topic, shape: "_Shape", replication_factor: int | None) -> None:
    if shape.partitions != topic.partitions:
        remade = "" if topic.name in OPTIONAL_TOPICS else " (it is made again from the journal)"
        raise TopicMismatch(
            f"topic {topic.name} has {shape.partitions} partitions, but {topic.partitions} are wanted",
            f"use --partitions {shape.partitions}" if topic.name == JOURNAL else
            f"delete {topic.name}{remade} and run: facets topics create",
        )  # fmt: skip
    if replication_factor is not None and shape.replicas != replication_factor:
        raise TopicMismatch(
            f"topic {topic.name} has replication factor {shape.replicas}, but {replication_factor} is asked for",
            "kafka-reassign-partitions.sh changes them; or leave --replication-factor out",
        )


def describe(bootstrap: str) -> list[Finding]:
    """Check each topic against its required configuration, and against the journal's number of partitions and replicas.
    Raises BrokerError."""
    with admin_client(bootstrap) as client:
        shapes = _shapes(client)
        journal = shapes.get(JOURNAL, _Shape(DEFAULT_PARTITIONS, 1))
        expected = topics(journal.partitions)
        configs = _configs(client, [topic.name for topic in expected if topic.name in shapes])
        return [
            _finding(topic, shapes.get(topic.name), journal.replicas, configs.get(topic.name, {})) for topic in expected
        ]


def partition_counts(bootstrap: str) -> dict[str, int]:
    """How many partitions each of our topics has; those that do not exist are left out. Raises BrokerError."""
    with admin_client(bootstrap) as client:
        return {name: shape.partitions for name, shape in _shapes(client).items()}


def config(bootstrap: str, topic: str) -> dict[str, str]:
    """A topic's whole configuration. Raises BrokerError."""
    with admin_client(bootstrap) as client:
        return _configs(client, [topic]).get(topic, {})


def resume_window(bootstrap: str, table: str = TABLES[0]) -> int:
    """The workers' resume window in seconds, after which deleted rows get their tombstones: each table's topic has it.
    Raises BrokerError."""
    settings = config(bootstrap, topic_of(table))
    return int(settings.get("min.compaction.lag.ms", DEFAULT_WINDOW_SECONDS * 1000)) // 1000


class _Shape(NamedTuple):
    """What can't be changed, or hardly; `replicas` is the lowest number that a partition has."""

    partitions: int
    replicas: int


def _finding(topic: Topic, shape: _Shape | None, replicas: int, configs: dict[str, str]) -> Finding:
    if shape is None:
        return Finding(topic.name, False, "does not exist", "facets topics create")
    if shape.partitions != topic.partitions:
        return Finding(
            topic.name,
            False,
            f"{shape.partitions} partitions, the journal has {topic.partitions}",
            f"delete {topic.name} and run: facets topics create",
        )
    if shape.replicas < replicas:
        return Finding(
            topic.name,
            False,
            f"{shape.replicas} replicas, the journal has {replicas}",
            f"give {topic.name} as many: kafka-reassign-partitions.sh",
        )
    wrong = {name: value for name, value in topic.required.items() if configs.get(name) != value}
    if wrong:
        changes = ",".join(f"{name}={value}" for name, value in wrong.items())
        return Finding(
            topic.name,
            False,
            "; ".join(f"{name}={configs.get(name)}, not {value}" for name, value in wrong.items()),
            f"kafka-configs.sh --alter --topic {topic.name} --add-config {changes}",
        )
    detail = f"{shape.partitions} partitions, {shape.replicas} replica{'s' if shape.replicas > 1 else ''}"
    if RETENTION not in topic.configs:
        return Finding(topic.name, True, f"{detail}, {topic.configs['cleanup.policy']}")
    retention_ms = int(configs[RETENTION])
    if topic.name == JOURNAL and 0 <= retention_ms < DEFAULT_WINDOW_SECONDS * 1000:
        return Finding(
            topic.name,
            False,
            f"{detail}, kept for {in_words(retention_ms / 1000)}: cursors hold for {in_words(DEFAULT_WINDOW_SECONDS)}",
            "facets topics create --retention 7d",
        )
    return Finding(topic.name, True, f"{detail}, kept for {in_words(retention_ms / 1000)}")


def _shapes(client: Any) -> dict[str, _Shape]:
    names = {topic.name for topic in topics()}
    existing = sorted(names & set(client.list_topics()))
    return {
        topic["name"]: _Shape(
            len(topic["partitions"]), min((len(part["replica_nodes"]) for part in topic["partitions"]), default=0)
        )
        for topic in (client.describe_topics(existing) if existing else ())
    }


def _create(client: Any, topic: Topic, replication_factor: int | None) -> None:
    configs = dict(topic.configs)
    if replication_factor is not None and replication_factor >= _SAFE_REPLICAS:
        # An acknowledged commit is then on at least two brokers, so one may be away.
        configs["min.insync.replicas"] = str(_SAFE_REPLICAS - 1)
    options = {
        "num_partitions": topic.partitions,
        "replication_factor": -1 if replication_factor is None else replication_factor,
        "configs": configs,
    }
    try:
        client.create_topics({topic.name: options}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        return
    except InvalidReplicationFactorError as error:
        raise TopicMismatch(
            f"topic {topic.name} can't have {replication_factor} replicas of each partition: {error}",
            "ask for no more than there are brokers: --replication-factor",
        ) from error


def _set_retention(client: Any, existing: list[Topic], retention: int) -> None:
    """Set how long existing topics keep their records."""
    value = str(retention * 1000)
    names = [topic.name for topic in existing if RETENTION in topic.configs]
    configs = _configs(client, names)
    client.alter_configs(
        [
            ConfigResource(ConfigResourceType.TOPIC, name, {RETENTION: value})
            for name in names
            if configs[name].get(RETENTION) != value
        ]
    )


def _configs(client: Any, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer = client.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: entry["value"] for key, entry in entries.items()} for name, entries in answer.items()}
