"""The embedded broker's settings, as text: pure, so that each can be tested without a JVM.

Names and meanings: Apache Kafka 4.1 documentation, section "Broker Configs".
"""

import base64
import uuid
from dataclasses import dataclass
from pathlib import Path

#: The largest record batch, in bytes: facet rows reach 16 MiB, plus room for the batch's own fields.
MAX_MESSAGE_BYTES = 17 * 1024 * 1024

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """The broker's two ports on loopback: the clients' and the KRaft controller's."""

    broker: int
    controller: int


def new_cluster_id() -> str:
    """A KRaft cluster id: 16 random bytes in URL-safe base64 without padding, not beginning with a dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return text


def _escape(value: object) -> str:
    # Java reads a backslash in a properties file as the start of an escape.
    return str(value).replace("\\", "\\\\")


def server_properties(ports: Ports, log_dir: Path) -> str:
    """The ``server.properties`` of one node that is broker and controller, listening on loopback only."""
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{ports.controller}",
        "listeners": f"PLAINTEXT://{HOST}:{ports.broker},CONTROLLER://{HOST}:{ports.controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{ports.broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": log_dir,
        # One node keeps one copy of everything.
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # Few partitions of its own: fewer files, a quicker start and recovery.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 1,
        # A killed broker may register again once its old session is over: in 3 seconds, not 9.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # A topic is created with its settings or not at all.
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
        # Batches stay as the producer compressed them.
        "compression.type": "producer",
        "log.cleaner.enable": "true",
        "log.cleaner.threads": 1,
        "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
        "log.cleaner.backoff.ms": 5000,
        # Sized for one machine's clients.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "num.recovery.threads.per.data.dir": 2,
    }
    return "".join(f"{name}={_escape(value)}\n" for name, value in settings.items())


def log4j_config(log_file: Path) -> str:
    """A log4j 2 configuration in properties form: one rolling file of at most 5 times 10 MB."""
    path = _escape(log_file)
    return "\n".join(
        [
            "status=error",
            # Kafka's own shutdown hook logs until the end; log4j's would silence it.
            "shutdownHook=disable",
            "appender.file.type=RollingFile",
            "appender.file.name=FILE",
            f"appender.file.fileName={path}",
            f"appender.file.filePattern={path}.%i",
            "appender.file.layout.type=PatternLayout",
            "appender.file.layout.pattern=[%d] %p %m (%c)%n",
            "appender.file.policies.type=Policies",
            "appender.file.policies.size.type=SizeBasedTriggeringPolicy",
            "appender.file.policies.size.size=10MB",
            "appender.file.strategy.type=DefaultRolloverStrategy",
            "appender.file.strategy.max=4",
            "rootLogger.level=INFO",
            "rootLogger.appenderRef.file.ref=FILE",
            "",
        ]
    )


def java_command(
    java: Path, jars: list[Path], *, heap_mib: int, log_dir: Path, tmp_dir: Path, log4j_file: Path, main: str
) -> list[str]:
    """The command line, up to the arguments of the Java class ``main``."""
    return [
        str(java),
        f"-Xmx{heap_mib}m",
        "-Xms64m",
        # Compiling once is enough: what is hot in a broker is native, and the second compiler takes seconds of a core.
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        # A broker without memory must end, not limp.
        "-XX:+ExitOnOutOfMemoryError",
        f"-XX:ErrorFile={log_dir / 'jvm-crash-%p.log'}",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        # Where compression libraries unpack themselves; what a killed broker leaves there is cleared at the next start.
        f"-Djava.io.tmpdir={tmp_dir}",
        f"-Dlog4j2.configurationFile={log4j_file}",
        "-cp",
        ":".join(map(str, jars)),
        main,
    ]
