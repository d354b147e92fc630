"""`facets audit` on a real journal: what was changed in it is named, by partition and offset."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from streams.cli import cli
from streams.wire.records import JOURNAL
from tests.integration.journal import PARTITIONS, clean_topics, publish, read_topic
from tests.support.past import Past

ORACLE = Path(__file__).with_name("tlog")
PARTITION = 1

Change = Callable[[list[Any]], list[Any]]


class Audit:
    """A journal with some hundred records, and the commands on it with folders of their own."""

    def __init__(self, past: Past, folder: Path) -> None:
        self.past = past
        self.log = folder / "log"
        self.key = folder / "key.pem"
        self.copies = 0

    def run(self, *arguments: str, broker: bool = True) -> Result:
        words = ["audit", *arguments]
        words += (
            ["--key", str(self.key)] if arguments[0] in {"key", "checkpoint"} else ["--public-key", f"{self.key}.pub"]
        )
        words += ["--log", str(self.log)] if arguments[0] != "key" else []
        words += ["--bootstrap-servers", self.past.bootstrap] if broker else []
        return CliRunner().invoke(cli, words, standalone_mode=False)

    def more(self, count: int) -> None:
        self.past.write([record for _ in range(count) for record in self.past.tables.churn.change()])

    def copy(self, change: Change = lambda records: records) -> str:
        """The journal in another topic, with its own times, and one partition of it changed."""
        self.copies += 1
        topic = f"audit-copy-{self.copies}"
        admin = KafkaAdminClient(bootstrap_servers=self.past.bootstrap)
        if topic in admin.list_topics():
            admin.delete_topics([topic])
        admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=self.past.bootstrap)
        by_partition: dict[int, list[Any]] = {}
        for record in read_topic(self.past.bootstrap, JOURNAL):
            by_partition.setdefault(record.partition, []).append(record)
        for partition, records in by_partition.items():
            for record in change(records) if partition == PARTITION else records:
                producer.send(topic, record.value, key=record.key, partition=partition, timestamp_ms=record.timestamp)
        producer.close()
        return topic


@pytest.fixture
def audit(bootstrap_servers: str, tmp_path: Path) -> Any:
    past = Past(bootstrap_servers)
    made = Audit(past, tmp_path)
    made.more(300)
    assert made.run("key", broker=False).exit_code == 0
    yield made
    past.tables.close()


def lines_of(result: Result, partition: int) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith(f"partition {partition}:")]


def other_value(record: Any) -> Any:
    return record._replace(value=record.value.replace(b"east", b"west", 1))


@pytest.mark.parametrize(
    ("change", "offset", "kind"),
    [
        (lambda r: [*r[:9], other_value(r[9]), *r[10:]], 9, "altered"),
        (lambda r: [*r[:9], r[9]._replace(timestamp=r[9].timestamp + 1), *r[10:]], 9, "altered"),
        (lambda r: [*r[:9], *r[10:]], 9, "missing"),
        (lambda r: [*r[:9], r[10], r[9], *r[11:]], 9, "reordered"),
        (lambda r: [*r[:9], other_value(r[9]), *r[9:]], 9, "inserted"),
    ],
    ids=["value", "time", "missing", "reordered", "inserted"],
)  # fmt: skip
def test_the_first_record_that_differs_is_named(audit: Audit, change: Change, offset: int, kind: str) -> None:
    assert audit.run("checkpoint").exit_code == 0
    untouched = audit.run("verify", "--topic", audit.copy())
    assert untouched.exit_code == 0, untouched.output
    result = audit.run("verify", "--topic", audit.copy(change))
    assert result.exit_code == 1
    (line,) = lines_of(result, PARTITION)
    assert line.startswith(f"partition {PARTITION}: offset {offset} is {kind}: ")
    for partition in {*range(PARTITIONS)} - {PARTITION}:
        assert "records are as they were taken" in lines_of(result, partition)[0]


def test_a_log_grows_with_what_is_sealed_and_what_was_kept_still_fits(audit: Audit, tmp_path: Path) -> None:
    first = audit.run("checkpoint")
    kept = tmp_path / "kept"
    kept.write_text(first.stdout)
    ends = audit.past.tables.ends()
    sizes = [int(line) for line in first.stdout.splitlines() if line.isdecimal()]
    assert sizes == [ends[p] + 1 for p in range(PARTITIONS)]
    assert audit.run("checkpoint").stdout == first.stdout
    # In the journal and not yet in the tables: not sealed, so not signed.
    audit.more(50)
    journal_only = audit.past.tables.churn.change()
    publish(audit.past.bootstrap, journal_only)
    second = audit.run("checkpoint")
    assert [int(line) for line in second.stdout.splitlines() if line.isdecimal()] == [
        audit.past.tables.ends()[p] + 1 for p in range(PARTITIONS)
    ]
    result = audit.run("verify", "--checkpoint", str(kept))
    assert result.exit_code == 0, result.output
    assert sum("has grown out of" in line for line in result.stdout.splitlines()) == PARTITIONS
    assert sum("came after the checkpoint" in line for line in result.stdout.splitlines()) == len(journal_only)
    # Made anew by who has the key: nothing but the checkpoint that was kept shows it.
    shutil.rmtree(audit.log)
    admin = KafkaAdminClient(bootstrap_servers=audit.past.bootstrap)
    admin.delete_records({TopicPartition(JOURNAL, PARTITION): 3})
    admin.close()
    assert audit.run("checkpoint").exit_code == 0
    assert audit.run("verify").exit_code == 0
    anew = audit.run("verify", "--checkpoint", str(kept))
    assert f"{JOURNAL}/{PARTITION} was made anew" in str(anew.exception)


def test_what_has_expired_is_not_called_missing(audit: Audit) -> None:
    audit.run("checkpoint")
    admin = KafkaAdminClient(bootstrap_servers=audit.past.bootstrap)
    admin.delete_records({TopicPartition(JOURNAL, PARTITION): 20})
    result = audit.run("verify")
    assert result.exit_code == 0, result.output
    expired, checked = lines_of(result, PARTITION)
    assert "offsets 0 to 19 have expired" in expired
    assert f"{audit.past.tables.ends()[PARTITION] + 1 - 20} records are as they were taken" in checked
    # Proofs of them are still to be had, with the digest alone.
    proof = audit.run("prove", f"{PARTITION}:7")
    (audit.log / "proof").write_text(proof.stdout)
    shown = audit.run("verify", "--proof", str(audit.log / "proof"), broker=False)
    assert "its bytes had expired" in shown.stdout
    # What expired before it was logged leaves a gap, which is not signed over.
    audit.more(80)
    admin.delete_records({TopicPartition(JOURNAL, PARTITION): audit.past.tables.ends()[PARTITION]})
    admin.close()
    gap = audit.run("checkpoint")
    assert "the log would have a gap" in str(gap.exception)


def test_nothing_is_signed_on_top_of_a_journal_that_was_changed(audit: Audit) -> None:
    audit.run("checkpoint")
    records = [record for record in read_topic(audit.past.bootstrap, JOURNAL) if record.partition == PARTITION]
    clean_topics(audit.past.bootstrap)
    shorter = audit.run("checkpoint")
    assert "they are gone, or it is another journal" in str(shorter.exception)
    assert audit.run("verify").exit_code == 1
    producer = KafkaProducer(bootstrap_servers=audit.past.bootstrap)
    for partition in range(PARTITIONS):
        for record in [*records, *records]:
            producer.send(JOURNAL, record.value, key=record.key, partition=partition)
    producer.close()
    other = audit.run("checkpoint")
    assert "nothing is signed on top of it" in str(other.exception)


def test_a_proof_is_checked_without_log_and_broker(audit: Audit, tmp_path: Path) -> None:
    audit.run("checkpoint")
    (record,) = [
        each for each in read_topic(audit.past.bootstrap, JOURNAL) if (each.partition, each.offset) == (PARTITION, 12)
    ]
    proof = tmp_path / "record.tlog-proof"
    proof.write_text(audit.run("prove", f"{PARTITION}:12").stdout)
    audit.log.rename(tmp_path / "gone")
    shown = audit.run("verify", "--proof", str(proof), broker=False)
    assert shown.exit_code == 0, shown.output
    told, value = shown.stdout.splitlines()
    assert told.startswith(f"offset 12, taken by Kafka at {record.timestamp} ms, is record 12 of ")
    assert value == record.value.decode()
    proof.write_text(proof.read_text().replace("index 12", "index 13"))
    assert "proves nothing" in str(audit.run("verify", "--proof", str(proof), broker=False).exception)
    (tmp_path / "gone").rename(audit.log)
    for place, problem in (
        (f"{PARTITION}:99999", "is not in the log"),
        ("99:1", "partition 99 not found"),
        ("x", "is not PARTITION:OFFSET"),
    ):
        assert problem in str(audit.run("prove", place).exception)


def test_without_log_key_or_topic_it_says_so(audit: Audit, tmp_path: Path) -> None:
    assert "there is no log of this journal" in str(audit.run("verify").exception)
    assert "has no log" in str(audit.run("prove", "0:1").exception)
    audit.run("checkpoint")
    no_proof = audit.run("verify", "--proof", str(tmp_path / "none"), broker=False)
    assert "no file" in str(no_proof.exception)
    assert "takes --public-key" in str(audit.run("verify", "--proof", "x", "--topic", "y", broker=False).exception)
    assert "no-such-topic has 0 partitions" in str(audit.run("verify", "--topic", "no-such-topic").exception)
    (tmp_path / "text").write_text("no checkpoint\n")
    assert "not a signed note" in str(audit.run("verify", "--checkpoint", str(tmp_path / "text")).exception)
    audit.key.rename(tmp_path / "other")
    assert "there is no key in" in str(audit.run("checkpoint").exception)
    audit.run("key", broker=False)  # The public key is there: another pair in its place.
    assert "can't be trusted: not signed by this key" in audit.run("verify").output


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not here")
def test_gos_own_packages_find_the_same(audit: Audit, tmp_path: Path) -> None:
    audit.run("checkpoint")
    audit.more(700)
    audit.run("checkpoint")
    program = tmp_path / "tlog"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=ORACLE, check=True)
    for partition in range(PARTITIONS):
        (folder,) = audit.log.glob(f"*/{JOURNAL}/{partition}")
        key = (folder / "verifier-key").read_text().strip()
        found = subprocess.run([program, str(folder), key], capture_output=True, text=True, check=False)
        assert found.stderr == ""
        assert int(found.stdout) == audit.past.tables.ends()[partition] + 1
