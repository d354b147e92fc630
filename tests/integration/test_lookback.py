"""`facets who`, `history`, `diff` and `replay` on a real journal and real tables."""

import json

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from streams.wire.partitioning import partition_of
from streams.wire.records import JOURNAL, TABLES
from tests.integration.journal import PARTITIONS, Churn
from tests.support.past import TIMES, Past, facets


def test_who_has_an_address_now_and_had_it_then(past: Past) -> None:
    result = facets(past, "who", "10.9.0.3", "-o", "json")
    (found,) = json.loads(result.stdout)["items"]
    assert (found["cluster"], found["name"], found["held_as"], found["state"]) == ("east", "s1", "endpoint", "ready")
    assert facets(past, "who", "10.9.0.1").exit_code == 1
    then = facets(past, "who", "10.9.0.1", "--at", TIMES[1])
    assert then.exit_code == 0, then.output
    assert then.stdout.splitlines()[1].split()[:3] == ["east", "shop", "s1"]
    clusters = json.loads(facets(past, "who", "10.96.0.7", "-o", "json").stdout)["items"]
    assert {each["held_as"] for each in clusters} == {"cluster IP"}
    assert len(clusters) == 20
    with pytest.raises(Exception, match="not an IP address"):
        raise facets(past, "who", "cart").exception or AssertionError


def test_history_has_each_row_with_its_cause_and_change(past: Past) -> None:
    result = facets(past, "history", "s1", "-n", "shop", "--table", "backend", "--since", TIMES[0])
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert all("EndpointSlice s1-z@" in line and "+1 -" in line for line in lines)
    rows = [json.loads(line) for line in facets(past, "history", "s1", "-n", "shop", "-o", "json").stdout.splitlines()]
    chain = [row for row in rows if row["table"] == "backend"]
    assert [row["previous"] for row in chain] == [None, *(row["version"] for row in chain[:-1])]
    assert [row["asOf"]["at"] for row in chain[-4:]] == TIMES[:4]
    assert len(facets(past, "history", "--last", "7").stdout.splitlines()) == 7


def test_diff_of_versions_and_times(past: Past) -> None:
    result = facets(past, "diff", "s1", "-n", "shop")
    assert result.exit_code == 1
    signs = [(line[0], line.split()[3]) for line in result.stdout.splitlines()[1:]]
    assert signs == [("-", "10.9.0.2:8080"), ("+", "10.9.0.3:8080")]
    result = facets(past, "diff", "s1", "-n", "shop", "--from", TIMES[0], "--to", TIMES[2], "-o", "json")
    items = json.loads(result.stdout)["items"]
    assert [(each["sign"], each["what"]) for each in items] == [("-", "10.9.0.0:8080"), ("+", "10.9.0.2:8080")]
    assert facets(past, "diff", "s1", "-n", "shop", "--from", TIMES[2], "--to", TIMES[2]).exit_code == 0
    newest = json.loads(facets(past, "history", "s1", "-n", "shop", "-o", "json").stdout.splitlines()[-1])["version"]
    same = facets(past, "diff", "shop/s1", "--from", f"v{newest}", "--to", str(newest))
    assert same.stdout == f"shop/s1: no difference between version {newest} and version {newest}\n"


def test_replay_up_to_a_time_a_seq_and_an_offset(past: Past) -> None:
    def addresses(*until: str) -> set[str]:
        result = facets(past, "replay", "backend", "-n", "shop", "--service", "s1", "-o", "json", *until)
        (row,) = json.loads(result.stdout)["items"]
        return {each["address"] for each in row["endpoints"] if each["address"].startswith("10.9.")}

    rows = facets(past, "history", "s1", "-n", "shop", "--table", "backend", "-o", "json").stdout.splitlines()
    second = json.loads(rows[-3])
    assert addresses() == {"10.9.0.3"}
    assert addresses("--at", TIMES[1]) == {"10.9.0.1"}
    assert addresses("--seq", f"east={second['asOf']['seq']}") == {"10.9.0.1"}
    partition = partition_of("shop", "s1", PARTITIONS)
    assert addresses("--offset", f"{partition}={second['version']}") == {"10.9.0.1"}
    table = facets(past, "replay", "--service", "s1").stdout
    assert [line for line in table.splitlines() if line.endswith(":")] == [f"{name}:" for name in TABLES]
    assert max(map(len, table.splitlines())) <= 80
    for bad, text in (
        (("--at", "noon"), "neither a time"), (("--seq", "east"), "CLUSTER=SEQ"),
        (("--offset", "99=1"), "partition 99 not found"), (("--verify", "--at", "1m"), "no other option"),
    ):  # fmt: skip
        assert text in str(facets(past, "replay", *bad).exception)


def test_verify_holds_every_row_against_the_tables(past: Past) -> None:
    result = facets(past, "replay", "--verify")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{20 * len(TABLES)} rows of {', '.join(TABLES)} follow from the journal")
    # A row that no worker wrote, or one that it did not write.
    past.move("10.9.0.8", TIMES[5], skip="east/shop/s1")
    result = facets(past, "replay", "--verify")
    assert result.exit_code == 1
    assert "backend east/shop/s1: version" in result.stdout


def test_where_the_journals_beginning_has_expired_the_content_is_compared(past: Past) -> None:
    collector = past.tables.churn.collector
    ends = dict(past.tables._offsets)
    again = Churn(5, epoch=2)
    again._version = 9000
    again.collector.commits.seq = collector.commits.seq + 1
    past.write(again.start())
    admin = KafkaAdminClient(bootstrap_servers=past.bootstrap)
    admin.delete_records({TopicPartition(JOURNAL, p): end for p, end in ends.items()})
    admin.close()
    result = facets(past, "replay", "--verify")
    assert result.exit_code == 0, result.output
    assert "beginning has expired" in result.stderr
    assert "rows have the same content" in result.stdout
