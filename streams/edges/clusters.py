"""Which clusters to watch, and how to reach each: what the `kubernetes` package finds in a kubeconfig or a Pod."""

import os
import re
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from streams.core.errors import FacetsError
from streams.core.exit_codes import ExitCode

IN_CLUSTER_NAME = "in-cluster"

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
# The package ships no types.
_kube: Any = config
_BROKEN = (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError)


class BadKubeconfig(FacetsError):
    """There is no usable kubeconfig or context."""

    exit_code = ExitCode.MISCONFIGURED


class ClusterConfig(NamedTuple):
    """A cluster to watch: the name that its rows carry and where its API server is."""

    name: str
    kubeconfig: Path | None = None
    context: str | None = None
    cluster_domain: str = "cluster.local"


class Access(NamedTuple):
    """How to reach an API server, as of one reading of its configuration."""

    host: str
    ssl: ssl.SSLContext | bool
    server_hostname: str | None
    proxy: str | None
    settings: Any

    def authorization(self) -> str | None:
        """The Authorization header. Runs exec plugins and re-reads token files when they are due, so it may block."""
        value: str | None = self.settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        return value


def cluster_configs(
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    clusters: Sequence[str] = (),
    cluster_domain: str = "cluster.local",
    every_context: bool = False,
) -> list[ClusterConfig]:
    """The clusters that `--cluster NAME[=CONTEXT]` options name; without any, the context's (or, with
    `every_context`, every context's), named after it. Raises FacetsError for names that are doubled or that no row
    could carry, BadKubeconfig."""
    named: list[tuple[str, str | None]] = [
        (name, chosen or context) for name, _, chosen in (each.partition("=") for each in clusters)
    ]
    if not named:
        named = [(slug(each), each) for each in _contexts(kubeconfig, context, every_context)]
        if not named:
            named = [(IN_CLUSTER_NAME, None)]
    elif sum(1 for each in clusters if "=" not in each) > 1:
        raise FacetsError(
            "several --cluster options name no context, so they would all be the same cluster",
            "give each its context: --cluster east=CONTEXT --cluster west=CONTEXT",
            ExitCode.USAGE,
        )
    for name, _ in named:
        if not _NAME.fullmatch(name):
            raise FacetsError(
                f"{name!r} isn't a valid cluster name",
                "name it with --cluster NAME=CONTEXT: letters and digits, with '.', '_' and '-' between them",
                ExitCode.USAGE,
            )
        if [each for each, _ in named].count(name) > 1:
            raise FacetsError(
                f"two clusters are named {name}", "give each its own: --cluster NAME=CONTEXT", ExitCode.USAGE
            )
    return [ClusterConfig(name, kubeconfig, chosen, cluster_domain) for name, chosen in named]


def slug(context: str) -> str:
    """A cluster's name from a context's: what a name can't have becomes a dash."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", context).strip("-._")[:253].rstrip("-._")


def load_access(cluster: ClusterConfig) -> Access:
    """Read the cluster's configuration anew. May run an exec plugin, so it may block. Raises BadKubeconfig."""
    settings = client.Configuration()
    try:
        if _in_cluster(cluster.kubeconfig, cluster.context):
            _kube.load_incluster_config(client_configuration=settings)
        else:
            _kube.load_kube_config(
                config_file=str(cluster.kubeconfig) if cluster.kubeconfig else None,
                context=cluster.context,
                client_configuration=settings,
                persist_config=False,
            )
        return Access(
            settings.host.rstrip("/"),
            _ssl_context(settings) if settings.host.startswith("https") else True,
            settings.tls_server_name,
            _proxy(settings),
            settings,
        )
    except _BROKEN as error:
        raise BadKubeconfig(
            f"no usable kubeconfig for cluster {cluster.name} (context {cluster.context or 'current'}): {error}",
            "name one with --kubeconfig or KUBECONFIG, a context with --context "
            "(`kubectl config get-contexts` lists them)",
        ) from error


def _contexts(kubeconfig: Path | None, context: str | None, every_context: bool) -> Iterable[str]:
    if context is not None and not every_context:
        return [context]
    if _in_cluster(kubeconfig, context):
        return []
    try:
        contexts, current = _kube.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)
        return [each["name"] for each in (contexts if every_context else [current])]
    except _BROKEN as error:
        raise BadKubeconfig(
            f"no usable kubeconfig: {error}", "name one with --kubeconfig or KUBECONFIG, a context with --context"
        ) from error


def _in_cluster(kubeconfig: Path | None, context: str | None) -> bool:
    """As kubectl decides: the Pod's account only where nothing names a kubeconfig and there is none."""
    if kubeconfig is not None or context is not None or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return False
    files = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)
    return not any(each and Path(each).expanduser().exists() for each in files)


def _ssl_context(settings: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    if not settings.verify_ssl:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _proxy(settings: Any) -> str | None:
    """The kubeconfig's proxy-url, else the environment's unless it excepts the host (NO_PROXY)."""
    proxy: str | None = settings.proxy
    host = urlsplit(settings.host).hostname or ""
    return None if proxy in getproxies().values() and proxy_bypass(host) else proxy
