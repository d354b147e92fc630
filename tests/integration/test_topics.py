"""The topics on a real Kafka: made as asked for, checked against that, and only where one is told to."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kafka.admin import ConfigResource, ConfigResourceType

from streams.cli.admin.topics import topics_command
from streams.errors import FacetsError
from streams.kafka.admin import admin_client, config, describe, partition_counts
from streams.wire.records import DEAD_LETTER, JOURNAL
from streams.wire.topics import topics as declared_topics
from tests.integration.journal import clean_topics, delete_topics

DAY = 86_400_000


@pytest.fixture
def empty(bootstrap_servers: str) -> Any:
    """The run's broker without topics of ours; they are as the other tests want them afterwards."""
    delete_topics(bootstrap_servers)
    yield bootstrap_servers
    clean_topics(bootstrap_servers)


def facets(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and all that was said."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        env={"FACETS_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    return done.returncode, done.stdout


def topics(bootstrap: str, *arguments: str) -> tuple[int, str]:
    """The same of `facets topics`, in this process."""
    result = CliRunner().invoke(topics_command, [*arguments, "--bootstrap-servers", bootstrap])
    if isinstance(result.exception, FacetsError):
        return result.exception.exit_code, f"{result.exception} {result.exception.remedy}"
    return result.exit_code, result.output


def alter(bootstrap: str, topic: str, **configs: str) -> None:
    named = {name.replace("_", "."): value for name, value in configs.items()}
    with admin_client(bootstrap) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])


def test_they_are_made_as_asked_for_and_checked_against_that(empty: str) -> None:
    code, text = topics(empty, "create", "--partitions", "3", "--replication-factor", "1", "--retention", "14d")
    assert code == 0
    assert f"ok    {JOURNAL:20}  3 partitions, 1 replica, kept for 14 days" in text
    assert set(partition_counts(empty).values()) == {3}
    assert config(empty, JOURNAL)["retention.ms"] == config(empty, DEAD_LETTER)["retention.ms"] == str(14 * DAY)
    assert all(finding.ok for finding in describe(empty))
    # Another start does not put back the default.
    assert topics(empty, "create")[0] == 0
    assert config(empty, JOURNAL)["retention.ms"] == str(14 * DAY)
    # The retention may be another one later, and for ever; the number of partitions may not.
    assert topics(empty, "create", "--retention", "36h")[0] == 0
    assert config(empty, JOURNAL)["retention.ms"] == str(36 * 3_600_000)
    assert config(empty, JOURNAL)["max.message.bytes"] == str(17 * 1024 * 1024)
    alter(empty, JOURNAL, retention_ms="-1")
    code, text = topics(empty, "check")
    assert (code, "kept for ever" in text) == (0, True)
    code, text = topics(empty, "create", "--partitions", "4")
    assert code == 78
    assert "has 3 partitions, but 4 are wanted" in text
    code, text = topics(empty, "create", "--replication-factor", "2")
    assert code == 78
    assert "has replication factor 1, but 2 is asked for" in text


def test_what_must_not_be_is_a_failure(empty: str) -> None:
    assert topics(empty, "create")[0] == 0
    alter(empty, JOURNAL, retention_ms=str(DAY // 2))
    alter(empty, "facets.backend", cleanup_policy="delete")
    code, text = topics(empty, "check")
    assert code == 1
    assert "kept for 12 hours: cursors hold for 1 day" in text
    assert "facets topics create --retention 7d" in text
    assert "cleanup.policy=delete, not compact" in text
    assert topics(empty, "create", "--retention", "7d")[0] == 0
    assert [finding.name for finding in describe(empty) if not finding.ok] == ["facets.backend"]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["create", "--retention", "12h"], 2, "cursors hold for 1 day"),
        (["create", "--replication-factor", "3"], 78, "ask for no more than there are brokers"),
        (["check", "--retention", "14d"], 2, "are for `facets topics create`"),
    ],
)
def test_what_cannot_be_asked_for(empty: str, arguments: list[str], code: int, problem: str) -> None:
    found = topics(empty, *arguments)
    assert found[0] == code
    assert problem in found[1]
    assert partition_counts(empty) == {}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.parametrize("command", ["watch", "work"])
def test_a_process_creates_none_without_being_told(empty: str, tmp_path: Path, command: str) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "{current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}], "
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]}"
    )
    options = ["--kubeconfig", str(kubeconfig)] if command == "watch" else ["--http-port", free_port()]
    code, text = facets(tmp_path, command, "--bootstrap-servers", empty, *options)
    assert code == 78
    assert f"error: no topic {JOURNAL}, " in text
    assert f"remedy: facets topics create --bootstrap-servers {empty}  (or start this with --create-topics)" in text
    assert partition_counts(empty) == {}
    # Told to, it does; what it would do next is not waited for.
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.cli", command, "--bootstrap-servers", empty, *options, "--create-topics"],
        env={"FACETS_DATA_DIR": str(tmp_path)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while len(partition_counts(empty)) < len(declared_topics()):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
