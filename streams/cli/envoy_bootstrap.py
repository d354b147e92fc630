"""`facets envoy-bootstrap`: a bootstrap for one's own Envoy or gRPC client."""

import platform
from typing import Any

import click


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


@click.command("envoy-bootstrap")
@click.argument("service", required=False, metavar="[SERVICE.NAMESPACE.svc.DOMAIN:PORT]")
@click.option(
    "--xds", "server", type=Address(), default="127.0.0.1:18000", show_default=True, help="Where `facets serve` is."
)
@click.option("--node-id", default=lambda: platform.node() or "router", help="Name of the router.  [default: the host]")
@click.option(
    "--zone", default="", help="The router's zone: endpoints in it are preferred where a Service asks for it."
)
@click.option("--node", default="", help="The Kubernetes node that the router runs on.")
@click.option(
    "--traffic", type=click.Choice(["mesh", "gateway"]), default="mesh", show_default=True,
    help="Which of a Service's routing decisions the router follows.",
)  # fmt: skip
@click.option(
    "--listen", type=Address(), default="127.0.0.1:10000", show_default=True, help="Where Envoy listens for HTTP."
)
@click.option(
    "--admin", type=Address(), default=None, help="Where Envoy's admin interface listens.  [default: nowhere]"
)
@click.option(
    "--sotw", is_flag=True, help="The state-of-the-world variant of the protocol instead of the incremental one."
)
@click.option("--grpc", is_flag=True, help="A bootstrap for gRPC's xDS client instead (GRPC_XDS_BOOTSTRAP).")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="Format.")
def envoy_bootstrap_command(
    service: str | None,
    server: tuple[str, int],
    node_id: str,
    zone: str,
    node: str,
    traffic: str,
    listen: tuple[str, int],
    admin: tuple[str, int] | None,
    sotw: bool,
    grpc: bool,
    output: str,
) -> None:
    """Print a bootstrap that points an Envoy at `facets serve`.

    Its listener sends each request to the Service that the Host header names, or all to one Service, with that
    Service's session persistence.

    \b
    facets envoy-bootstrap > envoy.yaml; envoy -c envoy.yaml
    curl -H 'Host: cart.shop.svc.cluster.local:80' localhost:10000
    facets envoy-bootstrap cart.shop.svc.cluster.local:80 --zone z1
    facets envoy-bootstrap --grpc -o json > xds.json; GRPC_XDS_BOOTSTRAP=xds.json python client.py
    """
    import orjson  # noqa: PLC0415
    import yaml  # noqa: PLC0415

    from streams.core.xds.bootstrap import Router, envoy_bootstrap, grpc_bootstrap  # noqa: PLC0415

    router = Router(server, node_id, zone, node, traffic, listen, admin, service or "", not sotw)
    made = grpc_bootstrap(router) if grpc else envoy_bootstrap(router)
    if output == "json":
        click.echo(orjson.dumps(made, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(yaml.safe_dump(made, sort_keys=False), nl=False)
