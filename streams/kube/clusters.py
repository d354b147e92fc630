"""Which clusters to watch, and how to reach them, from a kubeconfig or a Pod's service account."""

import difflib
import logging
import os
import re
import shutil
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.wire.name_syntax import CLUSTER_NAME

IN_CLUSTER_NAME = "in-cluster"

# The package ships no types.
_kube: Any = config
_BROKEN = (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError)


class BadKubeconfig(FacetsError):
    """There is no usable kubeconfig or context."""

    exit_code = ExitCode.MISCONFIGURED


class ClusterConfig(NamedTuple):
    """A cluster to watch: the name that its rows carry and where its API server is. `source` is as in its commits."""

    name: str
    kubeconfig: Path | None = None
    context: str | None = None
    cluster_domain: str = "cluster.local"
    source: str = ""


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
    `every_context`, every context's), named after it. Raises FacetsError for duplicate or invalid names,
    BadKubeconfig."""
    named: list[tuple[str, str | None]] = [
        (name, chosen or context) for name, _, chosen in (option.partition("=") for option in clusters)
    ]
    if not named:
        named = [(slug(name), name) for name in _contexts(kubeconfig, context, every_context)]
        if not named:
            named = [(IN_CLUSTER_NAME, None)]
    elif sum(1 for option in clusters if "=" not in option) > 1:
        raise FacetsError(
            "several --cluster options name no context, so they would all be the same cluster",
            "give each its context: --cluster east=CONTEXT --cluster west=CONTEXT",
            ExitCode.USAGE,
        )
    for name, _ in named:
        if not CLUSTER_NAME.matches(name):
            raise FacetsError(
                f"{name!r} isn't a valid cluster name",
                "name it with --cluster NAME=CONTEXT: letters and digits, with '.', '_' and '-' between them",
                ExitCode.USAGE,
            )
        if [other for other, _ in named].count(name) > 1:
            raise FacetsError(
                f"two clusters are named {name}", "give each its own: --cluster NAME=CONTEXT", ExitCode.USAGE
            )
    return [ClusterConfig(name, kubeconfig, chosen, cluster_domain) for name, chosen in named]


def slug(context: str) -> str:
    """A cluster's name from a context's: invalid characters become dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", context).strip("-._")[: CLUSTER_NAME.max_length].rstrip("-._")


def config_source(cluster: ClusterConfig) -> str:
    """Where the cluster's configuration is read from, in words."""
    if _in_cluster(cluster.kubeconfig, cluster.context):
        return "the Pod's service account"
    context = f"context {cluster.context}" if cluster.context else "current context"
    return f"kubeconfig {_file_names(cluster.kubeconfig)} ({context})"


def load_access(cluster: ClusterConfig) -> Access:
    """Read the cluster's configuration anew. May run an exec plugin, so it may block. Raises BadKubeconfig."""
    settings = client.Configuration()
    try:
        if _in_cluster(cluster.kubeconfig, cluster.context):
            _kube.load_incluster_config(client_configuration=settings)
        else:
            _check_files(cluster.kubeconfig)
            _check_context(cluster)
            _load_kubeconfig(cluster, settings)
        return Access(
            settings.host.rstrip("/"),
            _ssl_context(settings) if settings.host.startswith("https") else True,
            settings.tls_server_name,
            _proxy(settings),
            settings,
        )
    except _BROKEN as error:
        raise _unusable(config_source(cluster), f" for cluster {cluster.name}: {_short(error)}") from error


def _load_kubeconfig(cluster: ClusterConfig, settings: Any) -> None:
    plugin = _exec_plugin(cluster)
    if plugin and os.sep not in plugin["command"] and shutil.which(plugin["command"]) is None:
        raise _no_credentials(cluster, plugin, "it is not installed, or not on PATH")
    with _root_errors() as messages:
        _kube.load_kube_config_from_dict(
            _merged(cluster.kubeconfig),
            context=cluster.context,
            client_configuration=settings,
            persist_config=False,
        )
    if plugin and not settings.api_key and not settings.cert_file:
        raise _no_credentials(cluster, plugin, "; ".join(messages) or "it printed none")


def _exec_plugin(cluster: ClusterConfig) -> Mapping[str, Any] | None:
    """The credential plugin of the context's user, if it has one. Raises _BROKEN."""
    merged = _merged(cluster.kubeconfig)
    chosen = cluster.context or merged["current-context"]
    user = merged["contexts"].get_with_name(chosen)["context"].safe_get("user")
    entry = merged["users"].get_with_name(user, safe=True) if user else None
    plugin = entry["user"].value.get("exec") if entry and entry["user"].value else None
    return plugin if isinstance(plugin, dict) and isinstance(plugin.get("command"), str) else None


def _no_credentials(cluster: ClusterConfig, plugin: Mapping[str, Any], reason: str) -> BadKubeconfig:
    hint = " ".join(str(plugin.get("installHint") or "").split())
    return BadKubeconfig(
        f"the credential plugin {plugin['command']} of {config_source(cluster)} gave no credentials for cluster "
        f"{cluster.name}: {reason}",
        hint or f"see that {plugin['command']} is installed and logged in: kubectl auth whoami uses it too",
    )


@contextmanager
def _root_errors() -> Iterator[list[str]]:
    """Intercepts this thread's messages to the root logger: the `kubernetes` package logs a plugin's failure there, and
    continues without credentials."""
    messages: list[str] = []
    thread = threading.get_ident()

    def take(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        messages.append(record.getMessage())
        return False

    root = logging.getLogger()
    root.addFilter(take)
    try:
        yield messages
    finally:
        root.removeFilter(take)


def _contexts(kubeconfig: Path | None, context: str | None, every_context: bool) -> Iterable[str]:
    if context is not None and not every_context:
        return [context]
    if _in_cluster(kubeconfig, context):
        return []
    _check_files(kubeconfig)
    try:
        loader = _kube.kube_config.KubeConfigLoader(_merged(kubeconfig))
        return [entry["name"] for entry in (loader.list_contexts() if every_context else [loader.current_context])]
    except _BROKEN as error:
        raise _unusable(f"kubeconfig {_file_names(kubeconfig)}", f": {_short(error)}") from error


def _check_context(cluster: ClusterConfig) -> None:
    """Raises BadKubeconfig if the context doesn't exist, and one of _BROKEN if the file has none."""
    contexts = _kube.kube_config.KubeConfigLoader(_merged(cluster.kubeconfig)).list_contexts()
    names = [str(entry["name"]) for entry in contexts]
    if cluster.context is None or cluster.context in names:
        return
    near = difflib.get_close_matches(cluster.context, names, 3) or names[:5]
    raise BadKubeconfig(
        f"kubeconfig {_file_names(cluster.kubeconfig)} has no context {cluster.context!r} (for cluster {cluster.name})",
        f"it has {', '.join(near)}{' and others' if len(names) > len(near) else ''}; name one with --context or "
        "--cluster NAME=CONTEXT",
    )


def _merged(kubeconfig: Path | None) -> Any:
    """The files' configuration, as the `kubernetes` package merges it. They are read each time, and parsed where they
    have changed: of 250 clusters in one file each parsing takes 0.15 s, several for each cluster. Raises _BROKEN."""
    files = _files(kubeconfig)
    contents = tuple(path.read_bytes() for path in files if path.exists())
    with _PARSING:
        return _parse(os.pathsep.join(map(str, files)), contents)


_PARSING = threading.Lock()
"""Of those that need the same only the first parses it."""


@lru_cache(maxsize=1)
def _parse(paths: str, contents: tuple[bytes, ...]) -> Any:
    merged = _kube.kube_config.KubeConfigMerger(paths).config
    if merged is None:
        raise ConfigException(f"nothing is configured in {paths}")
    return merged


def _files(kubeconfig: Path | None) -> list[Path]:
    """The files that are read, as kubectl finds them."""
    if kubeconfig is not None:
        return [kubeconfig]
    named = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    return [Path(path).expanduser() for path in named or ["~/.kube/config"]]


def _file_names(kubeconfig: Path | None) -> str:
    return os.pathsep.join(map(str, _files(kubeconfig)))


def _check_files(kubeconfig: Path | None) -> None:
    files = _files(kubeconfig)
    if not any(path.exists() for path in files):
        raise BadKubeconfig(
            f"there is no kubeconfig at {_file_names(kubeconfig)}",
            "name one with --kubeconfig or KUBECONFIG (or look at recorded clusters: facets up --demo)",
        )


def _unusable(source: str, reason: str) -> BadKubeconfig:
    return BadKubeconfig(
        f"{source} is not usable{reason}",
        "name another with --kubeconfig or KUBECONFIG, a context with --context "
        "(`kubectl config get-contexts` lists them)",
    )


def _short(error: Exception) -> str:
    """The error on one line, without the lines that a YAML error quotes: they may have credentials."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        return f"{error.problem}{f', line {mark.line + 1}' if mark else ''}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _in_cluster(kubeconfig: Path | None, context: str | None) -> bool:
    """As in kubectl: the Pod's account is used only if no kubeconfig is named and none exists."""
    if kubeconfig is not None or context is not None or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return False
    files = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)
    return not any(path and Path(path).expanduser().exists() for path in files)


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
