"""`facets envoy-bootstrap`: prints a bootstrap for an Envoy or gRPC client."""

import platform
import re
from typing import Any

import click

from streams.cli.options import RouterPlace, router_options


class Address(click.ParamType):
    """HOST:PORT; an IPv6 address in brackets."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Host and port."""
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
            self.fail(f"{value!r} is not HOST:PORT", param, ctx)
        return host.removeprefix("[").removesuffix("]"), int(port)


class DomainName(click.ParamType):
    """A DNS name, such as cluster.local."""

    name = "domain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it is."""
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", str(value)):
            self.fail(f"{value!r} is not a DNS name such as cluster.local", param, ctx)
        return str(value)


@click.command("envoy-bootstrap")
@click.argument("service", required=False, metavar="[SERVICE.NAMESPACE.svc.DOMAIN:PORT]")
@click.option(
    "--xds", "server", type=Address(), default="127.0.0.1:18000", show_default=True, help="Where `facets serve` is."
)
@click.option("--node-id", default=lambda: platform.node() or "router", help="Name of the router.  [default: the host]")
@router_options("--cluster")
@click.option(
    "--listen", type=Address(), default="127.0.0.1:10000", show_default=True, help="Where Envoy listens for HTTP."
)
@click.option(
    "--admin", type=Address(), default=None, help="Where Envoy's admin interface listens.  [default: nowhere]"
)
@click.option(
    "--sotw", is_flag=True, help="The state-of-the-world variant of the protocol instead of the incremental one."
)
@click.option(
    "--cluster-domain", type=DomainName(), default="cluster.local", show_default=True,
    help="DNS domain of Services that a Host header names without one.",
)  # fmt: skip
@click.option("--grpc", is_flag=True, help="A bootstrap for gRPC's xDS client instead (GRPC_XDS_BOOTSTRAP).")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="Format.")
def envoy_bootstrap_command(
    service: str | None,
    server: tuple[str, int],
    node_id: str,
    place: RouterPlace,
    listen: tuple[str, int],
    admin: tuple[str, int] | None,
    sotw: bool,
    cluster_domain: str,
    grpc: bool,
    output: str,
) -> None:
    """Print a bootstrap that points an Envoy at `facets serve`.

    Its listener sends each request to the Service that the Host header names (SERVICE.NAMESPACE[.svc[.DOMAIN]][:PORT],
    port 80 where it names none), or all to one Service, with that Service's session persistence.

    \b
    facets envoy-bootstrap --cluster east > envoy.yaml; envoy -c envoy.yaml
    curl -H 'Host: cart.shop' localhost:10000
    curl -H 'Host: cart.shop.svc.cluster.local:80' localhost:10000
    curl -H 'Host: cart.shop.svc.clusterset.local' localhost:10000     what clusters export together
    curl -H 'Host: db-0.east.db.shop.svc.clusterset.local' localhost:10000      one host of it (not with --sotw)
    facets envoy-bootstrap cart.shop.svc.cluster.local:80 --zone z1
    facets envoy-bootstrap --grpc -o json > xds.json; GRPC_XDS_BOOTSTRAP=xds.json python client.py
    """
    import orjson  # noqa: PLC0415
    import yaml  # noqa: PLC0415

    from streams.serve.xds.build.bootstrap import Router, envoy_bootstrap, grpc_bootstrap  # noqa: PLC0415

    router = Router(
        server, node_id, listen=listen, admin=admin, service=service or "", delta=not sotw,
        cluster_domain=cluster_domain, **place._asdict(),
    )  # fmt: skip
    bootstrap = grpc_bootstrap(router) if grpc else envoy_bootstrap(router)
    if output == "json":
        click.echo(orjson.dumps(bootstrap, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(yaml.dump(bootstrap, Dumper=_dumper(), sort_keys=False), nl=False)


def _dumper() -> Any:
    """A yaml.SafeDumper that writes multi-line text as a literal block, so that a person can read it."""
    import yaml  # noqa: PLC0415

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return Dumper
