"""Creating and checking the topics, by Kafka's admin API (kafka-python)."""

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
from streams.wire.records import JOURNAL
from streams.wire.topics import DEFAULT_WINDOW_SECONDS, JOURNAL_RETENTION_SECONDS, RETENTION, Topic, topics

_TIMEOUT_MS = 10_000
_SAFE_REPLICAS = 3


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
    """A connected admin client. Raises BrokerError, also for what it raises in the block."""
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

    What is None is left as it is in an existing topic, and in a new one 8 partitions, the broker's own replication
    factor, seven days. Of an existing topic only the retention can be changed: with the number of partitions, Services
    would move between them. Raises BrokerError, TopicMismatch.
    """
    retention = _retention(retention_seconds)
    with admin_client(bootstrap) as client:
        shapes = _shapes(client)
        wanted = partitions or (shapes[JOURNAL].partitions if JOURNAL in shapes else DEFAULT_PARTITIONS)
        expected = topics(wanted, retention)
        for topic in expected:
            shape = shapes.get(topic.name)
            if shape is not None:
                _check_shape(topic, shape, replication_factor)
        for topic in expected:
            if topic.name not in shapes:
                _create(client, topic, replication_factor)
        if retention_seconds is not None:
            _keep_for(client, [topic for topic in expected if topic.name in shapes], retention)
        return wanted


def cluster_id(bootstrap: str) -> str:
    """What the Kafka cluster calls itself, whichever of its addresses is given. Raises BrokerError."""
    with admin_client(bootstrap) as client:
        return str(client.describe_cluster()["cluster_id"])


def require(bootstrap: str) -> int:
    """The number of partitions that the topics have; nothing is created. Raises BrokerError, and TopicMismatch
    where one is missing or has another number."""
    with admin_client(bootstrap) as client:
        shapes = _shapes(client)
    missing = [topic.name for topic in topics() if topic.name not in shapes]
    if missing:
        raise TopicMismatch(
            f"no topic {', '.join(missing)} at {bootstrap}",
            f"facets topics create --bootstrap-servers {bootstrap}  (or start this with --create-topics)",
        )
    wanted = shapes[JOURNAL].partitions
    for topic in topics(wanted):
        _check_shape(topic, shapes[topic.name], None)
    return wanted


def _retention(asked: float | None) -> int:
    """In seconds. Raises FacetsError where it is too short."""
    if asked is None:
        return JOURNAL_RETENTION_SECONDS
    if asked < DEFAULT_WINDOW_SECONDS:
        raise FacetsError(
            f"a journal that is kept for {in_words(asked)} can't make again what a cursor may still ask for",
            f"cursors hold for {in_words(DEFAULT_WINDOW_SECONDS)}: ask for a longer --retention",
            ExitCode.USAGE,
        )
    return int(asked)


def _check_shape(topic: Topic, shape: "_Shape", replication_factor: int | None) -> None:
    if shape.partitions != topic.partitions:
        raise TopicMismatch(
            f"topic {topic.name} has {shape.partitions} partitions, but {topic.partitions} are wanted",
            f"use --partitions {shape.partitions}" if topic.name == JOURNAL else
            f"delete {topic.name} (it is made again from the journal) and run: facets topics create",
        )  # fmt: skip
    if replication_factor is not None and shape.replicas != replication_factor:
        raise TopicMismatch(
            f"topic {topic.name} has replication factor {shape.replicas}, but {replication_factor} is asked for",
            "kafka-reassign-partitions.sh changes them; or leave --replication-factor out",
        )


def describe(bootstrap: str) -> list[Finding]:
    """How each topic stands against what it must be, and against what was asked for when the journal was made: its
    number of partitions and replicas, and how long it is kept. Raises BrokerError."""
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


class _Shape(NamedTuple):
    """What is for good, or nearly: `replicas` is the least that a partition has."""

    partitions: int
    replicas: int


def _finding(topic: Topic, shape: _Shape | None, replicas: int, found: dict[str, str]) -> Finding:
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
    wrong = {name: value for name, value in topic.required.items() if found.get(name) != value}
    if wrong:
        changes = ",".join(f"{name}={value}" for name, value in wrong.items())
        return Finding(
            topic.name,
            False,
            "; ".join(f"{name}={found.get(name)}, not {value}" for name, value in wrong.items()),
            f"kafka-configs.sh --alter --topic {topic.name} --add-config {changes}",
        )
    detail = f"{shape.partitions} partitions, {shape.replicas} replica{'s' if shape.replicas > 1 else ''}"
    if RETENTION not in topic.configs:
        return Finding(topic.name, True, f"{detail}, {topic.configs['cleanup.policy']}")
    kept = int(found[RETENTION])
    if topic.name == JOURNAL and 0 <= kept < DEFAULT_WINDOW_SECONDS * 1000:
        return Finding(
            topic.name,
            False,
            f"{detail}, kept for {in_words(kept / 1000)}: cursors hold for {in_words(DEFAULT_WINDOW_SECONDS)}",
            "facets topics create --retention 7d",
        )
    return Finding(topic.name, True, f"{detail}, kept for {in_words(kept / 1000)}")


def _shapes(client: Any) -> dict[str, _Shape]:
    names = {topic.name for topic in topics()}
    there = sorted(names & set(client.list_topics()))
    return {
        topic["name"]: _Shape(
            len(topic["partitions"]), min((len(part["replica_nodes"]) for part in topic["partitions"]), default=0)
        )
        for topic in (client.describe_topics(there) if there else ())
    }


def _create(client: Any, topic: Topic, replication_factor: int | None) -> None:
    configs = dict(topic.configs)
    if replication_factor is not None and replication_factor >= _SAFE_REPLICAS:
        # An acknowledged commit is then on two brokers at least, and one may be away.
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


def _keep_for(client: Any, existing: list[Topic], retention: int) -> None:
    """Set how long topics that are there keep their records."""
    value = str(retention * 1000)
    kept = [topic.name for topic in existing if RETENTION in topic.configs]
    found = _configs(client, kept)
    client.alter_configs(
        [
            ConfigResource(ConfigResourceType.TOPIC, name, {RETENTION: value})
            for name in kept
            if found[name].get(RETENTION) != value
        ]
    )


def _configs(client: Any, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer = client.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: entry["value"] for key, entry in entries.items()} for name, entries in answer.items()}
