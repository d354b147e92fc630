"""mcs-api's conformance suite: what became of each of its specs, as its own report says, and the page of that.

The suite's text is not here: a spec is known by a checksum of its name, and named in other words. A spec that is not
known is one of another version of the suite.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

PAGE = Path(__file__).with_name("MCS.md")
LABEL_FILTER = "!Connectivity && !DNS"
"""What the suite itself labels as needing a network of Pods, or DNS servers."""
SKIP = "Connectivity"
"""One spec of connectivity has no such label. It asks that a Pod gets no answer: without Pods it always passes."""


class Spec(NamedTuple):
    """What a spec asks, in our words; `test` is the one of tests/e2e/test_import.py that asks it in every run, "" where
    it needs a data plane."""

    asks: str
    test: str = ""


class Result(NamedTuple):
    """A spec's outcome, as Ginkgo reports it, with its labels."""

    key: str
    state: str
    labels: tuple[str, ...]


_TWO = "test_what_two_clusters_export_is_one_service_in_both"
_CONFLICTS = "test_conflicts_are_said_of_every_export"
_MERGED = "test_ports_are_merged_and_the_oldest_export_has_the_rest"
_HEADLESS = "test_a_headless_service_and_a_namespace_that_comes_later"
_DERIVED = "test_a_derived_service_has_the_ip_and_is_no_service_of_the_cluster"

SPECS = {
    "f72ee05a": Spec("a ServiceImport is there while one cluster exports, and no longer", _TWO),
    "ae228d97": Spec("ClusterIP: a ServiceImport in each cluster, of type ClusterSetIP; gone after the export", _TWO),
    "8f70e06c": Spec("headless: a ServiceImport in each cluster, of type Headless; gone after the export", _HEADLESS),
    "a10a90cd": Spec("ExternalName: the export is not valid, and nothing is imported", _CONFLICTS),
    "9e2fecb7": Spec("session affinity and its time-out are the Service's", _TWO),
    "b2130750": Spec("the internal traffic policy is the Service's", _TWO),
    "6e0c1b0e": Spec("the traffic distribution is the Service's", _MERGED),
    "43a84d4f": Spec("the ports are the Service's", _TWO),
    "9eb11728": Spec("a ClusterSetIP for each IP family, in their order", _DERIVED),
    "9e12bd19": Spec("a headless Service has no ClusterSetIP", _DERIVED),
    "3e91181a": Spec("exported labels and annotations, and no others", _TWO),
    "fc3a40c1": Spec("two clusters, different ports: the union, and a conflict on both exports", _MERGED),
    "00d1d55f": Spec("two clusters, conflicting ports: the older export's, and a conflict on both", _MERGED),
    "f4a82cb4": Spec("two clusters, other labels and annotations: the older export's, and a conflict on both", _MERGED),
    "f6332f2c": Spec("two clusters, one headless: the older export's type, and a conflict on both", _CONFLICTS),
    "6a4c64a5": Spec("EndpointSlices with mcs-api's labels in each cluster; gone after the export", _TWO),
    "3f9f3409": Spec("a Service that is not exported can't be reached from elsewhere"),
    "04219773": Spec("an exported Service can be reached by its name"),
    "70879421": Spec("only the cluster that exports gets requests"),
    "2f9bb485": Spec("one port name, two numbers: only the cluster with the number gets requests"),
    "daffebed": Spec("two port names: each goes to the cluster that has it"),
    "8fb018e1": Spec("a ClusterSetIP in DNS"),
    "2e2b17d1": Spec("SRV records of a ClusterSetIP's ports"),
    "831d98e5": Spec("names below cluster.local are of the own cluster only"),
    "f164f5da": Spec("a headless Service's ready endpoints in DNS"),
    "8a7aca91": Spec("a headless Service's hosts in DNS, by cluster"),
    "546e7d83": Spec("SRV records of a headless Service's endpoints"),
}

_HEAD = """# mcs-api's conformance suite and `facets import`

Of the {total} specs of the suite (as of 2026-05-07, after v0.5.0), {passed} need no data plane: they are about
ServiceImports, EndpointSlices and the conditions of ServiceExports. They pass, unchanged, with
`facets import --cluster-set-ip derived` between two real API servers. The other {others} send requests between Pods,
or ask DNS servers, of which there are none here: they are not run, and nothing is claimed of them.

The suite's Go module is not in Go's module proxy, so `make e2e` does not build it. With a test binary of it,
`MCS_CONFORMANCE=/path/to/conformance.test make e2e` runs it, and fails where its report is not what this page says.
What each spec that needs no data plane asks, a test of `tests/e2e/test_import.py` asks in every run of `make e2e`.

Written by `python -m tests.conformance.mcs REPORT`, from the suite's own report (Ginkgo's JSON).

"""


def results(report: list[dict[str, Any]]) -> Iterator[Result]:
    """The outcome of each spec in Ginkgo's report."""
    for spec in (spec for suite in report for spec in suite["SpecReports"] if spec["LeafNodeType"] == "It"):
        containers = [text for text in spec["ContainerHierarchyTexts"] or () if text]
        name = " ".join([*containers, spec["LeafNodeText"]]).strip()
        labels = {
            label
            for labels in (spec["LeafNodeLabels"], *(spec["ContainerHierarchyLabels"] or ()))
            for label in labels or ()
        }
        yield Result(f"{crc32(name.encode()):08x}", spec["State"], tuple(sorted(labels)))


def page(outcomes: Iterable[Result]) -> str:
    """The page. Raises KeyError for a spec that is not known."""
    outcomes = list(outcomes)
    passed = sum(each.state == "passed" for each in outcomes)
    others = sum(each.state == "skipped" for each in outcomes)
    lines = ["| the spec asks | labels | | in every run |", "|---|---|---|---|"]
    order = {key: number for number, key in enumerate(SPECS)}
    for each in sorted(outcomes, key=lambda each: order[each.key]):
        spec = SPECS[each.key]
        said = "not run" if each.state == "skipped" else each.state
        lines.append(f"| {spec.asks} | {', '.join(each.labels)} | {said} | {f'`{spec.test}`' if spec.test else ''} |")
    return _HEAD.format(total=len(outcomes), passed=passed, others=others) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(results(json.loads(Path(sys.argv[1]).read_text()))))
