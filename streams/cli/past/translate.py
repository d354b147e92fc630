"""`facets translate`: the xDS resources that a router would get, offline, on objects from files."""

from typing import IO, TYPE_CHECKING, Any

import click
import orjson

from streams.cli.objects_input import ClusterFile, ObjectsInput, inputs_by_cluster
from streams.cli.options import RouterPlace, router_options, routing_options
from streams.facets.tables import WHOLE_WORKER_TABLES
from streams.fold.offline import AuditFold, OfflineJournal
from streams.serve.xds.build.names import TYPE_URLS, Kind
from streams.subscription.rows import Row
from streams.wire.keys import parse_row_key
from streams.wire.records import Seal

if TYPE_CHECKING:
    from streams.serve.xds.build.client import Client
    from streams.serve.xds.build.translation import Translation


class Kinds(click.ParamType):
    """Resource types, with commas between them."""

    name = "type,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Kind, ...]:
        """The types, in the order in which a server sends them."""
        if isinstance(value, tuple):
            return value
        kinds = str(value).split(",")
        for kind in kinds:
            if kind not in TYPE_URLS:
                self.fail(f"{kind!r} is none of {', '.join(TYPE_URLS)}", param, ctx)
        return tuple(kind for kind in TYPE_URLS if kind in kinds)


@click.command("translate")
@click.argument("files", type=click.File("rb"), nargs=-1, metavar="[FILE]...")
@click.option(
    "--cluster", "clusters", type=ClusterFile(), multiple=True,
    help="A cluster's name and the file with its objects; repeatable.",
)  # fmt: skip
@router_options("--client-cluster")
@click.option("--grpc", is_flag=True, help="As gRPC's xDS client gets them; else as Envoy does.")
@click.option("--only", type=Kinds(), help="Only these types: cds,eds,lds,rds.  [default: all; lds with --grpc only]")
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the clusters.")
@routing_options
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), default="json", show_default=True, help="Format.")
def translate_command(
    files: tuple[IO[bytes], ...],
    clusters: tuple[tuple[str, IO[bytes]], ...],
    place: RouterPlace,
    grpc: bool,
    only: tuple[Kind, ...] | None,
    cluster_domain: str,
    routing_defaults: dict[str, str],
    output: str,
) -> None:
    """Translate Kubernetes objects into the xDS resources that a router would get of them.

    Each FILE (without one, standard input) is as for `facets fold`, and all are of one cluster; with --cluster there
    are several: a Service's own name is that of the client's cluster (without --client-cluster, of the first by name
    that has it), and what clusters export together is named SERVICE.NAMESPACE.svc.clusterset.local:PORT. The hosts of
    a headless Service are left out there: a router gets them only if it asks for their names.
    Prints {"cds": [...], "eds": [...], ...}, the resources of a type in the order of their names.
    Resources of which a router would be told nothing, so that it keeps what it has, are named on standard error.

    \b
    kubectl get services,endpointslices -A -o yaml | facets translate
    facets translate --cluster east=east.json --cluster west=west.json --client-cluster east --zone z1
    facets translate cart.yaml --grpc --only eds -o yaml
    """
    from streams.serve.xds.build.client import Client, Place  # noqa: PLC0415
    from streams.serve.xds.build.translation import translate  # noqa: PLC0415

    inputs = inputs_by_cluster(files, clusters)
    client = Client(Place(place.zone, place.node, place.cluster), place.traffic, grpc, place.namespace)
    rows: dict[tuple[str, bytes], Row] = {}
    seals: dict[str, Seal] = {}
    sources = []
    journal = OfflineJournal(WHOLE_WORKER_TABLES)
    for name, cluster_files in inputs.items():
        source = ObjectsInput("translate", cluster_files)
        fold = AuditFold(name, cluster_domain, routing_defaults=routing_defaults, journal=journal)
        sources.append(source)
        for write in source.writes(fold):
            if write.value is None:
                rows.pop((write.table, write.key), None)
            else:
                owner = parse_row_key(write.key.decode())
                rows[write.table, write.key] = Row(write.table, *owner, write.version, write.value)
        if fold.seal is not None:
            seals[name] = fold.seal
    translation = translate(rows.values(), seals, client, only or _kinds_for(client))
    _print(translation, output)
    for source in sources:
        source.raise_for_unreadable()


def _kinds_for(client: "Client") -> tuple[Kind, ...]:
    """The types that the client asks for: Envoy's listeners are in its own bootstrap."""
    return tuple(kind for kind in TYPE_URLS if kind != "lds" or client.grpc)


def _print(translation: "Translation", output: str) -> None:
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

    resources = {
        kind: [MessageToDict(message, preserving_proto_field_name=True) for message in messages]
        for kind, messages in translation.resources.items()
    }
    text = orjson.dumps(resources, option=orjson.OPT_INDENT_2)
    if output == "json":
        click.echo(text.decode())
    else:
        import yaml  # noqa: PLC0415

        # PyYAML writes plain dicts only.
        click.echo(yaml.safe_dump(orjson.loads(text), sort_keys=False), nl=False)
    for kind, name in translation.unknown:
        click.echo(f"facets translate: {kind} {name}: not known; a router keeps what it has", err=True)
