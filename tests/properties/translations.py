"""`facets translate` of made-up clusters, as documents in files, and what must hold of what it prints."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml
from click.testing import CliRunner
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import ParseDict
from hypothesis import strategies as st

from streams.cli.past.fold import fold_command
from streams.cli.past.translate import translate_command
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.resource import Resource
from tests.properties.xds_worlds import HOSTS, NAMES, Step, applied, check_set, journals, rows_of
from tests.support.routes import by_cookie, gateway, listener, route, rule, to_gateway, to_service
from tests.support.xds_checks import Refused, check_resource
from tests.support.xds_expected import Row
from tests.unit.xds.world import World

_CLUSTERS = ("east", "west")
_CART = "shop/cart"
Messages = dict[str, dict[str, Any]]
"""Decoded resources: by type, then by name."""


@st.composite
def _route_steps(draw: st.DrawFn) -> Step:
    """A Gateway, or a route to the Service: of a gateway, the producer's, or a consumer's, with a cookie or without."""
    cluster = draw(st.sampled_from(_CLUSTERS))
    if draw(st.sampled_from([True, False, False, False])):
        item = gateway("edge", listener("http"))
    else:
        namespace = draw(st.sampled_from(["shop", "buyer", "buyer"]))
        to_cart = to_service(namespace="shop")
        parent = draw(st.sampled_from([to_gateway(namespace="shop"), to_cart, to_cart]))
        cookie = draw(st.sampled_from([None, by_cookie("cart")]))
        rules = [rule({"name": "cart", "namespace": "shop", "port": 80}, persistence=cookie)]
        item = route(draw(st.sampled_from("ab")), [parent], rules, namespace=namespace)
    return Step(cluster, item, draw(st.sampled_from([False] * 4 + [True])))


@st.composite
def worlds(draw: st.DrawFn) -> list[Step]:
    """Changes of Services, slices, Gateways and routes in two clusters."""
    steps = draw(journals())
    for step in draw(st.lists(_route_steps(), min_size=1, max_size=5)):
        steps.insert(draw(st.integers(0, len(steps))), step)
    # Without any Gateway, files don't say whether there is none.
    return [*(Step(cluster, gateway("other", listener("http"))) for cluster in _CLUSTERS), *steps]


clients = st.builds(
    Client,
    st.builds(
        Place, st.sampled_from(["", "z1"]), st.sampled_from(["", "n1"]), st.sampled_from(["", *_CLUSTERS, "nowhere"])
    ),
    st.sampled_from(["mesh", "gateway"]),
    st.booleans(),
    st.sampled_from(["", "buyer", "buyer", "shop"]),
)


# ---- documents ------------------------------------------------------------------------------------------


def _as_events(steps: Iterable[Step]) -> str:
    """What --output-watch-events prints."""
    return "\n".join(
        json.dumps({"type": "DELETED" if step.is_delete else "MODIFIED", "object": step.item}) for step in steps
    )


def _as_list(steps: Iterable[Step]) -> str:
    """What `kubectl get -o json` prints at the end."""
    return json.dumps({"kind": "List", "apiVersion": "v1", "items": _left(steps)}, indent=4)


def _as_manifests(steps: Iterable[Step]) -> str:
    """The objects at the end as YAML, one document each."""
    return "".join("---\n" + yaml.safe_dump(item) for item in reversed(_left(steps)))


def _left(steps: Iterable[Step]) -> list[dict[str, Any]]:
    objects: dict[tuple[str, ...], dict[str, Any]] = {}
    for step in steps:
        meta = step.item["metadata"]
        key = step.item["kind"], meta["namespace"], meta["name"]
        objects.pop(key, None)
        if not step.is_delete:
            objects[key] = step.item
    return list(objects.values())


_FORMS: list[Callable[[Iterable[Step]], str]] = [_as_events, _as_list, _as_manifests]


def _stamped(steps: Iterable[Step]) -> list[Step]:
    """With the API server's versions of the objects."""
    return [
        step._replace(item={**step.item, "metadata": {**step.item["metadata"], "resourceVersion": str(version)}})
        for version, step in enumerate(steps, 1)
    ]


# ---- commands -------------------------------------------------------------------------------------------


class Translation(NamedTuple):
    """What was printed for a client: the resources, and the types and names that are not known."""

    messages: Messages
    unknown: set[tuple[str, str]]


def _translate(files: Mapping[str, Path], client: Client) -> Translation:
    place = client.place
    options = {
        "--zone": place.zone, "--node": place.node, "--client-cluster": place.cluster,
        "--namespace": client.namespace, "--traffic": client.traffic,
    }  # fmt: skip
    arguments = [part for option, value in options.items() if value for part in (option, value)]
    arguments += ["--grpc"] if client.grpc else []
    for cluster, file in files.items():
        arguments += ["--cluster", f"{cluster}={file}"]
    result = CliRunner().invoke(translate_command, arguments)
    if result.exit_code != 0:
        raise Refused(f"exit code {result.exit_code}: {result.output}")
    messages: Messages = {}
    for kind, printed in json.loads(result.stdout).items():
        of_kind = messages.setdefault(kind, {})
        for item in printed:
            name = item.get("cluster_name") or item["name"]
            if name in of_kind:
                raise Refused(f"a resource twice: {kind} {name}")
            of_kind[name] = check_resource(kind, name, ParseDict(item, AnyMessage()).value, grpc=client.grpc)
    unknown = {
        (kind, name.removesuffix(":"))
        for kind, name, *_ in (line.split(" ")[2:] for line in result.stderr.splitlines() if "not known" in line)
    }
    return Translation(messages, unknown)


def _rows(files: Mapping[str, Path]) -> dict[str, dict[str, Row]]:
    rows: dict[str, dict[str, Row]] = {}
    for cluster, file in files.items():
        result = CliRunner().invoke(fold_command, ["--cluster", cluster, str(file)])
        tables = json.loads(result.stdout)
        if _CART in tables["frontend"]:
            rows[cluster] = {table: of_table[_CART] for table, of_table in tables.items() if _CART in of_table}
    return rows


# ---- checks ---------------------------------------------------------------------------------------------


def check_translations(steps: list[Step], asking: list[Client]) -> None:
    """What is printed for clients, of documents in every form. Raises Refused."""
    steps = _stamped(steps)
    world = World(*_CLUSTERS)
    for step in steps:
        applied(world, step)
    with TemporaryDirectory() as folder:
        written = [_write(Path(folder), form, steps) for form in _FORMS]
        # What clusters export together is the same from the journal; each file has its own cluster's Services.
        rows = rows_of(world)._replace(own=_rows(written[0]))
        for client in asking:
            first, *others = (_translate(files, client) for files in written)
            if any(other != first for other in others):
                raise Refused(f"the form of the documents makes a difference to {client}")
            _check_references(first, client)
            for name, message in first.messages["eds"].items():
                route_kind = first.messages["cds"][name].metadata.filter_metadata["facets"]["routing"]
                check_set(message, name, client, rows, route_kind)
            _check_as_served(first, world, client)


def _write(folder: Path, form: Callable[[Iterable[Step]], str], steps: list[Step]) -> dict[str, Path]:
    files = {cluster: folder / f"{form.__name__}-{cluster}" for cluster in _CLUSTERS}
    for cluster, file in files.items():
        file.write_text(form([step for step in steps if step.cluster == cluster]))
    return files


def _check_references(translation: Translation, client: Client) -> None:
    """What a resource refers to is there, and endpoint sets are those of clusters that have one."""
    messages = translation.messages
    clusters = {name for name, cluster in messages["cds"].items() if cluster.type == cluster.EDS}
    if set(messages["eds"]) - clusters:
        raise Refused(f"endpoints without a cluster: {set(messages['eds']) - clusters}")
    without = {name for name in clusters - set(messages["eds"]) if ("eds", name) not in translation.unknown}
    if without:
        raise Refused(f"a cluster without endpoints that are not known: {without}")
    for routes in messages["rds"].values():
        for host in routes.virtual_hosts:
            missing = {item.route.cluster for item in host.routes} - set(messages["cds"])
            if missing:
                raise Refused(f"routes to what is not there: {missing}")
    if client.grpc and set(messages["lds"]) != set(messages["rds"]):
        raise Refused("a listener without routes, or routes without a listener")


def _check_as_served(translation: Translation, world: World, client: Client) -> None:
    """A server that has followed the same changes gives the same, and hosts, which are only for who asks by name."""
    for kind, messages in translation.messages.items():
        if named := messages.keys() & set(HOSTS):
            raise Refused(f"hosts in a translation: {named}")
        for name in NAMES:
            if name in HOSTS:
                continue
            served = world.catalog.resource(kind, name, client)  # type: ignore[arg-type]
            body = served.body.value if isinstance(served, Resource) else None
            if messages.get(name) != (body and check_resource(kind, name, body, grpc=client.grpc)):
                raise Refused(f"a server gives another {kind} {name} to {client}")
