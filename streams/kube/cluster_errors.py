"""Explains errors of requests to an API server, with a remedy."""

import socket
import ssl
from typing import NamedTuple

import aiohttp

from streams.kube.clusters import ClusterConfig, config_source


class Obstacle(NamedTuple):
    """`problem` names the server and what is wrong, `remedy` what to do. `lasting`: a retry can't help."""

    problem: str
    remedy: str
    lasting: bool = False


def obstacle(error: Exception, cluster: ClusterConfig, host: str) -> Obstacle:
    """Explains the error of a request to the API server at `host` (its URL). Names no credentials."""
    source = config_source(cluster)
    address = f"check `server` of the cluster in {source}, and that nothing (VPN, firewall, proxy) is in the way"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error
        text = reason.verify_message if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
        return Obstacle(
            f"the certificate of {host} can't be verified: {text}",
            f"check certificate-authority-data and tls-server-name of the cluster in {source}",
            lasting=True,
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Obstacle(
            f"the proxy to {host} can't be reached: {_reason(error.os_error)}",
            f"check proxy-url of the cluster in {source}, and HTTPS_PROXY and NO_PROXY",
        )
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Obstacle(
            f"TLS with {host} failed: {_reason(error)}",
            f"check `server` and the client certificate (has it expired?) in {source}",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return Obstacle(f"the host name of {host} can't be resolved: {_reason(error)}", address)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Obstacle(f"no connection to {host}: {_reason(error)}", address)
    if isinstance(error, TimeoutError):
        return Obstacle(f"{host} does not answer in time", address)
    text = str(error) or type(error).__name__
    if "HTTP request to an HTTPS server" in text:
        return Obstacle(f"{host} speaks HTTPS: {text}", f"let `server` in {source} begin with https://", lasting=True)
    if isinstance(error, aiohttp.ClientError | OSError):
        return Obstacle(f"the connection to {host} broke: {text}", address)
    return Obstacle(
        f"{host} can't serve the request: {text}", "see the API server's log, or: kubectl get --raw '/readyz?verbose'"
    )


def _reason(error: BaseException) -> str:
    inner = getattr(error, "os_error", None) or error
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return str(text)
