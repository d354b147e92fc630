"""The watcher on a real Kafka: who may write, and that the journal folds to what the clusters ended as."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from aiohttp import web
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from streams.fold.fold import PartitionFold
from streams.kafka.epochs import home
from streams.kafka.journal import (
    Claim,
    EpochGuard,
    JournalWriteFailed,
    Publisher,
    Standing,
    Superseded,
    claim_epoch,
)
from streams.kafka.journal_reader import JournalReader
from streams.kube.clusters import cluster_configs
from streams.kube.list_watch import WatchTimes
from streams.local.demo_server import DemoServer, load, recordings
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.watch.session import now
from streams.watch.watcher import WatchOptions, run_watchers
from streams.wire.journal_records import read_journal_record
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import FOLD_VERSION, JOURNAL, Commit, Seal
from tests.integration.folding import Rows, commits, folded, of_objects
from tests.integration.journal import PARTITIONS, clean_topics, read_topic
from tests.support.recordings import final_objects
from tests.support.scripted_api_server import Script, answer, bookmark, page, serving, status, stream


async def discover_epoch(bootstrap: str, cluster: str) -> Standing:
    """Where a cluster stands in the journal. Raises BrokerUnreachable."""
    reader = await asyncio.to_thread(JournalReader, bootstrap)
    try:
        return await reader.call(reader.standing, cluster)
    finally:
        await reader.close()


@pytest.fixture
def journal(bootstrap_servers: str) -> str:
    clean_topics(bootstrap_servers)
    return bootstrap_servers


def collector(writer: str, cluster: str = "east") -> Collector:
    return Collector(cluster, epoch=0, writer=writer, seq=0, partitions=PARTITIONS)


def expected() -> Rows:
    """The tables of what the recorded clusters ended as."""
    return of_objects((path.name.partition(".")[0], final_objects(load(path))) for path in recordings())


def in_step(bootstrap: str, versions: dict[str, dict[str, str]]) -> bool:
    """Whether every partition's last commit of each cluster has reached these versions."""
    last: dict[tuple[int, str], dict[str, str]] = {}
    for partition, _, commit in commits(bootstrap):
        last[partition, commit["cluster"]] = commit["frontier"]
    return len(last) == PARTITIONS * len(versions) and all(
        int(frontier.get(resource, "0")) >= int(version)
        for (_, cluster), frontier in last.items()
        for resource, version in versions[cluster].items()
    )


async def until(holds: Callable[[], bool]) -> None:
    """Ask until it holds: nothing tells of what is in a topic but reading it."""
    while not await asyncio.to_thread(holds):  # noqa: ASYNC110
        await asyncio.sleep(0.2)


async def listed(bootstrap: str, cluster: str) -> None:
    """Return once the cluster's first snapshot is in the journal."""
    while not (await discover_epoch(bootstrap, cluster)).frontier:  # noqa: ASYNC110
        await asyncio.sleep(0.2)


async def test_of_two_claims_at_once_each_epoch_goes_to_one(journal: str) -> None:
    async def claims(name: str) -> list[int]:
        mine = collector(name)
        publisher = await asyncio.to_thread(Publisher, journal, "east")
        reader = await asyncio.to_thread(JournalReader, journal)
        try:
            won = []
            for _ in range(3):
                await claim_epoch(publisher, reader, mine, now)
                won.append(mine.commits.epoch)
            return won
        finally:
            await publisher.close()
            await reader.close()

    one, two = await asyncio.gather(claims("one"), claims("two"))
    assert one == sorted(one)
    assert two == sorted(two)
    assert not {*one} & {*two}
    # What the fold makes of it: in each partition, the writer that every one of them has accepted last.
    folds = [PartitionFold(partition) for partition in range(PARTITIONS)]
    for record in read_topic(journal, JOURNAL):
        folds[record.partition].step(record.offset, record.value)
    seals = [fold.clusters["east"].seal for fold in folds]
    assert {(seal.epoch, seal.writer) for seal in seals} == {
        (max(one), "one") if max(one) > max(two) else (max(two), "two")
    }


async def test_where_a_cluster_stands(journal: str) -> None:
    assert await discover_epoch(journal, "east") == (0, 0, {}, False)
    publisher = await asyncio.to_thread(Publisher, journal, "east")
    mine, other = collector("one"), collector("other", "west")
    mine.commits.epoch, mine.commits.seq, mine.commits.synced, mine.commits.frontier = 3, 40, True, {"services": "17"}
    other.commits.epoch = 9
    await publisher.publish(mine.heartbeat(now()))
    # Far more of another cluster's than the first look back finds, and garbage.
    await publisher.publish([each for _ in range(300) for each in other.heartbeat(now())])
    await publisher.publish([JournalRecord(each, b"\xff garbage", 0) for each in range(PARTITIONS)])
    assert await discover_epoch(journal, "east") == (3, 41, {"services": "17"}, False)
    mine.commits.epoch = 4
    mine.commits.synced = False
    await publisher.publish(mine.begin(now()))
    assert await discover_epoch(journal, "east") == (4, 42, {"services": "17"}, False)
    # A replaced watcher that was asleep sends what it had in hand.
    stale = collector("stale")
    stale.commits.epoch, stale.commits.seq, stale.commits.synced, stale.commits.frontier = (
        3,
        30,
        True,
        {"services": "9"},
    )
    await publisher.publish([each for _ in range(300) for each in stale.heartbeat(now())])
    assert (await discover_epoch(journal, "east")).epoch == 4
    await publisher.close()


async def test_a_cluster_that_the_journal_forgot_stands_as_its_seals_say(journal: str) -> None:
    seal = {
        "cluster": "east", "offset": 7, "epoch": 12, "writer": "w", "seq": 90, "at": now(), "phase": "live",
        "frontier": {"services": "17"}, "fold": 1,
    }  # fmt: skip
    producer = KafkaProducer(bootstrap_servers=journal)
    partition = home("east", PARTITIONS)
    producer.send("facets.frontend", b"{}", key=b"east/shop/cart", partition=partition)
    stamp = [("v", b"7")]
    producer.send("facets.frontend", orjson.dumps(seal), key=SEAL_PREFIX + b"east", partition=partition, headers=stamp)
    producer.flush()
    producer.close()
    assert await discover_epoch(journal, "east") == (12, 90, {"services": "17"}, False)


async def test_a_higher_epoch_is_noticed(journal: str) -> None:
    publisher = await asyncio.to_thread(Publisher, journal, "east")
    rival = await asyncio.to_thread(Publisher, journal, "east")
    reader = await asyncio.to_thread(JournalReader, journal)
    mine, other, west = collector("one"), collector("two"), collector("west", "west")
    try:
        guard = EpochGuard(publisher, reader, mine, await claim_epoch(publisher, reader, mine, now))
        await guard.check()
        for _ in range(3):
            await publisher.publish(mine.heartbeat(now()))
            await guard.check()
            await rival.publish(west.heartbeat(now()))
            await guard.check()
        await asyncio.gather(publisher.publish(mine.heartbeat(now())), guard.check())
        await guard.check()
        await claim_epoch(rival, reader, other, now)
        with pytest.raises(Superseded, match="watcher two has opened epoch 2"):
            await guard.check()
    finally:
        await publisher.close()
        await rival.close()
        await reader.close()


async def test_an_epoch_that_two_have_opened_is_noticed_by_both(journal: str) -> None:
    """Simulation, seed 26064: the first one's `begin` had expired, and no table had it yet. A `begin` alone is of a
    claim that came second, and tries the next epoch."""
    publisher, rival = [await asyncio.to_thread(Publisher, journal, "east") for _ in range(2)]
    reader = await asyncio.to_thread(JournalReader, journal)
    mine, other = collector("one"), collector("two")
    try:
        guard = EpochGuard(publisher, reader, mine, await claim_epoch(publisher, reader, mine, now))
        other.commits.epoch = mine.commits.epoch
        claim = Claim(Standing(0, 0, {}), 0, 0)
        await rival.publish([other.begin_in(home("east", PARTITIONS), now())])
        await guard.check()
        await rival.publish(other.heartbeat(now()))
        with pytest.raises(Superseded, match="watcher two has opened epoch 1"):
            await guard.check()
        await publisher.publish(mine.heartbeat(now()))
        with pytest.raises(Superseded, match="watcher one has opened epoch 1"):
            await EpochGuard(rival, reader, other, claim).check()
    finally:
        await publisher.close()
        await rival.close()
        await reader.close()


async def test_who_slept_through_the_retention_does_not_share_an_epoch(
    journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulation, seed 10919: a watcher is stopped in the middle of its claim, and what another one wrote meanwhile is
    gone when it goes on."""
    publisher, rival = [await asyncio.to_thread(Publisher, journal, "east") for _ in range(2)]
    reader = await asyncio.to_thread(JournalReader, journal)
    sleeper, other, partition = collector("sleeper"), collector("other"), home("east", PARTITIONS)
    admin = KafkaAdminClient(bootstrap_servers=journal)

    def expire() -> None:
        admin.delete_records({TopicPartition(JOURNAL, partition): reader.end(partition)})

    async def asleep(records: list[JournalRecord]) -> list[int]:
        monkeypatch.setattr(publisher, "publish", publish)
        await claim_epoch(rival, reader, other, now)
        await reader.call(expire)
        return await publish(records)

    publish = publisher.publish
    monkeypatch.setattr(publisher, "publish", asleep)
    try:
        claim = await claim_epoch(publisher, reader, sleeper, now)
        assert (other.commits.epoch, sleeper.commits.epoch) == (1, 2)
        # Its guard slept, too, and the tables have taken the epoch from another writer.
        await reader.call(expire)
        seal = Seal("east", 0, 2, "other", 9, now(), "live", {"services": "17"}, FOLD_VERSION)
        producer = KafkaProducer(bootstrap_servers=journal)
        value, stamp = msgspec.json.encode(seal), [("v", b"0")]
        producer.send("facets.frontend", value, key=SEAL_PREFIX + b"east", partition=partition, headers=stamp)
        producer.flush()
        await rival.publish(collector("w", "west").heartbeat(now()))
        with pytest.raises(Superseded, match="watcher other has opened epoch 2"):
            await EpochGuard(publisher, reader, sleeper, claim).check()
        producer.close()
    finally:
        await publisher.close()
        await rival.close()
        await reader.close()
        await asyncio.to_thread(admin.close)


async def test_what_the_older_watcher_writes_until_the_epoch_is_open_counts(
    journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list as old as the journal was when the claim began would go back behind what the tables hold by its end."""
    publisher, rival = [await asyncio.to_thread(Publisher, journal, "east") for _ in range(2)]
    reader = await asyncio.to_thread(JournalReader, journal)
    old, new = collector("old"), collector("new")
    older = home("east", PARTITIONS)
    late = KafkaProducer(bootstrap_servers=journal)

    def begin_in(partition: int, at: str) -> JournalRecord:
        old.commits.frontier["services"] = "36"
        (record,) = old.heartbeat(at, [older])
        late.send(JOURNAL, record.value, key=b"east", partition=older).get(30)
        return Collector.begin_in(new, partition, at)

    monkeypatch.setattr(new, "begin_in", begin_in)
    try:
        await claim_epoch(rival, reader, old, now)
        for resource in RESOURCES:
            for kind in (Kind.INIT, Kind.INIT_DONE):
                old.ingest(resource.kind, ReflectorEvent(kind, None, "25"))
        await rival.publish(old.flush(now()))
        claim = await claim_epoch(publisher, reader, new, now)
        assert claim.before.frontier["services"] == "36"
        assert new.commits.epoch == 2
        assert new.commits.seq >= old.commits.seq
    finally:
        await asyncio.to_thread(late.close)
        await publisher.close()
        await rival.close()
        await reader.close()


async def test_a_commit_that_cannot_be_written_is_an_error(journal: str) -> None:
    publisher = await asyncio.to_thread(Publisher, journal, "east")
    try:
        with pytest.raises(JournalWriteFailed) as raised:
            await publisher.publish([JournalRecord(0, b"x" * (18 * 1024 * 1024), 0)])
        assert raised.value.remedy
        assert await publisher.publish([JournalRecord(0, b"{}", 0), JournalRecord(0, b"{}", 0)]) == [0, 1]
    finally:
        await publisher.close()


@pytest.mark.parametrize("speed", [math.inf, 40.0])
async def test_the_journal_folds_to_what_the_clusters_ended_as(journal: str, speed: float) -> None:
    async with DemoServer(speed=speed) as server, asyncio.timeout(120):
        configs = cluster_configs(kubeconfig=server.kubeconfig, every_context=True)
        versions = {path.name.partition(".")[0]: newest(final_objects(load(path))) for path in recordings()}
        stop = asyncio.Event()
        watching = asyncio.create_task(run_watchers(configs, journal, stop=stop))
        await server.finished.wait()
        await until(lambda: in_step(journal, versions))
        stop.set()
        await watching
    wanted = expected()
    assert all(wanted.values())
    assert folded(journal) == wanted
    for _, _, commit in commits(journal):
        assert commit["epoch"] == 1


def newest(listed: dict[str, Any]) -> dict[str, str]:
    """The highest resourceVersion of each resource among these objects."""
    names = {"Service": "services", "EndpointSlice": "endpointslices.discovery.k8s.io", "Endpoints": "endpoints"}
    found: dict[str, int] = {}
    for item in listed["items"]:
        name = names[item["kind"]]
        found[name] = max(found.get(name, 0), int(item["metadata"]["resourceVersion"]))
    return {name: str(version) for name, version in found.items()}


async def test_the_second_watcher_takes_over(journal: str) -> None:
    async with DemoServer(speed=math.inf) as server, asyncio.timeout(60):
        configs = cluster_configs(kubeconfig=server.kubeconfig, context="east")
        stop = asyncio.Event()
        first = asyncio.create_task(run_watchers(configs, journal, stop=stop))
        await listed(journal, "east")
        second = asyncio.create_task(run_watchers(configs, journal, stop=stop))
        with pytest.raises(Superseded) as raised:
            await first
        assert raised.value.exit_code == 75
        assert not second.done()
        stop.set()
        await second
    assert {commit["epoch"] for _, _, commit in commits(journal)} == {1, 2}
    assert {key for table in folded(journal).values() for key in table} <= {
        key for table in expected().values() for key in table
    }


async def test_every_record_is_in_the_schema(journal: str) -> None:
    async with DemoServer(speed=math.inf) as server, asyncio.timeout(60):
        stop = asyncio.Event()
        configs = cluster_configs(kubeconfig=server.kubeconfig, context="west", clusters=["renamed"])
        watching = asyncio.create_task(run_watchers(configs, journal, stop=stop))
        await listed(journal, "renamed")
        stop.set()
        await watching
    records = list(read_topic(journal, JOURNAL))
    by_partition: dict[int, list[Commit]] = {}
    for each in records:
        said = read_journal_record(each.value)
        if isinstance(said, Commit):
            assert each.key == b"renamed"
            by_partition.setdefault(each.partition, []).append(said)
        else:
            assert not each.key
            assert {entry.cluster for entry in said.clusters} <= {"renamed"}
    assert len(by_partition) == PARTITIONS
    for written in by_partition.values():
        phases = [commit.phase for commit in written]
        assert phases[0] == "begin"
        assert "end" in phases
        assert [commit.seq for commit in written] == sorted({commit.seq for commit in written})
        assert [commit.at for commit in written] == sorted(commit.at for commit in written)


class SilentServer(Script):
    """An API server without objects, which answers everything, and on whose watches nothing comes while `silent`."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False
        self.first_silent_watch = ""
        self.version = 10

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return await answer(200, {"major": "1"})(request)
        if not any(request.path == each.path for each in RESOURCES):
            return await answer(404, status(404))(request)
        if request.query.get("limit"):
            return await page(version=self.version)(request)
        if "sendInitialEvents" in request.query:
            return await stream(bookmark(self.version, end=True), hang=True)(request)
        if self.silent:
            self.first_silent_watch = self.first_silent_watch or now()
            return await stream(hang=True)(request)
        self.version += 1
        return await stream(bookmark(self.version), hang=True)(request)


async def test_a_cluster_whose_watches_say_nothing_becomes_stale_and_well_again(journal: str, tmp_path: Path) -> None:
    """Though the API server answers everything else."""

    def newest_commit() -> dict[str, Any]:
        return max((commit for _, _, commit in commits(journal)), key=lambda each: each["seq"])

    script = SilentServer()
    options = WatchOptions(stale_after=3, times=WatchTimes(silence=1.0, confirm=1, grace=0.0))
    async with serving(tmp_path, script) as server, asyncio.timeout(60):
        stop = asyncio.Event()
        watching = asyncio.create_task(run_watchers([server.cluster], journal, stop=stop, options=options))
        await listed(journal, "east")
        script.silent = True
        await until(lambda: bool(newest_commit().get("staleSince")))
        # As of the last sign of life: that watches can be opened, and other questions are answered, is none.
        assert newest_commit()["staleSince"] <= script.first_silent_watch
        script.silent = False
        await until(lambda: not newest_commit().get("staleSince"))
        stop.set()
        await watching
