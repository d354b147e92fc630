"""All conformance tests: those that are about facets, with what they expect, and why the others are not.

`python -m tests.conformance.expectations` writes them into the README beside this file.
"""

import re
from pathlib import Path

from tests.conformance.about_gateways import HTTP
from tests.conformance.about_listener_sets import LISTENER_SETS
from tests.conformance.about_mesh import MESH_ROUTES
from tests.conformance.about_policies import POLICIES
from tests.conformance.about_streams import STREAMS
from tests.conformance.checks import Expectation

EXPECTED: dict[str, Expectation] = {**HTTP, **STREAMS, **LISTENER_SETS, **MESH_ROUTES, **POLICIES}

_STATUS = "about observedGeneration in a status; facets writes none"
_CERTIFICATES = "about certificates of listeners, and grants for Secrets: the router's"
_CLIENTS = "about certificates of clients: the router's"
_FILTERS = "about what a router does to a request or answer (redirects, headers, CORS); who gets it is not asked"
_TIME = "about timeouts and retries: the router's"

NOT_ABOUT_FACETS: dict[str, str] = {
    "BackendTLSPolicyInvalidCACertificateRef": "about ConfigMaps with certificates: the router's",
    "BackendTLSPolicyObservedGenerationBump": _STATUS,
    "GatewayClassObservedGenerationBump": _STATUS,
    "GatewayFrontendClientCertificateValidation": _CLIENTS,
    "GatewayFrontendClientCertificateValidationInsecureFallback": _CLIENTS,
    "GatewayFrontendInvalidDefaultClientCertificateValidation": _CLIENTS,
    "GatewayInfrastructureMetadata": "about labels of what a Gateway's implementation runs",
    "GatewayInvalidFrontendClientCertificateValidation": _CLIENTS,
    "GatewayInvalidParametersRef": "about parameters of a Gateway's implementation",
    "GatewayInvalidTLSBackendConfiguration": _CERTIFICATES,
    "GatewayInvalidTLSConfiguration": _CERTIFICATES,
    "GatewayObservedGenerationBump": _STATUS,
    "GatewayOptionalAddressValue": "about a Gateway's addresses",
    "GatewaySecretInvalidReferenceGrant": _CERTIFICATES,
    "GatewaySecretMissingReferenceGrant": _CERTIFICATES,
    "GatewaySecretReferenceGrantAllInNamespace": _CERTIFICATES,
    "GatewaySecretReferenceGrantSpecific": _CERTIFICATES,
    "GatewayStaticAddresses": "about a Gateway's addresses",
    "GatewayTLSBackendClientCertificate": _CLIENTS,
    "HTTPRoute303Redirect": _FILTERS,
    "HTTPRoute307Redirect": _FILTERS,
    "HTTPRoute308Redirect": _FILTERS,
    "HTTPRouteBackendRequestHeaderModifier": _FILTERS,
    "HTTPRouteCORS": _FILTERS,
    "HTTPRouteObservedGenerationBump": _STATUS,
    "HTTPRouteRedirectHostAndStatus": _FILTERS,
    "HTTPRouteRedirectPath": _FILTERS,
    "HTTPRouteRedirectPort": _FILTERS,
    "HTTPRouteRedirectPortAndScheme": _FILTERS,
    "HTTPRouteRedirectScheme": _FILTERS,
    "HTTPRouteRequestHeaderModifier": _FILTERS,
    "HTTPRouteResponseHeaderModifier": _FILTERS,
    "HTTPRouteRetry": _TIME,
    "HTTPRouteRewriteHost": _FILTERS,
    "HTTPRouteRewritePath": _FILTERS,
    "HTTPRouteTimeoutBackendRequest": _TIME,
    "HTTPRouteTimeoutRequest": _TIME,
    "ListenerSetReferenceGrant": _CERTIFICATES,
    "MeshBasic": "has no route",
    "MeshHTTPRoute303Redirect": _FILTERS,
    "MeshHTTPRoute307Redirect": _FILTERS,
    "MeshHTTPRoute308Redirect": _FILTERS,
    "MeshHTTPRouteBackendRequestHeaderModifier": _FILTERS,
    "MeshHTTPRouteRedirectHostAndStatus": _FILTERS,
    "MeshHTTPRouteRedirectPath": _FILTERS,
    "MeshHTTPRouteRedirectPort": _FILTERS,
    "MeshHTTPRouteRequestHeaderModifier": _FILTERS,
    "MeshHTTPRouteRewritePath": _FILTERS,
    "MeshHTTPRouteSchemeRedirect": _FILTERS,
    "TLSRouteListenerMixedTerminationNotSupported": "about implementations that can't do both on a port",
    "TLSRouteListenerTerminateNotSupported": "about implementations that can't terminate TLS for TLSRoutes",
}


README = Path(__file__).with_name("README.md")

_HEAD = """# What of the Gateway API's conformance tests is about facets

Of the {total} conformance tests of Gateway API {version}, {held} are about what facets decide: where routes are
attached, which of their rules and backends count, in which order and for whom. They hold: `make e2e` applies their
manifests, as they come from the API's Go module, to a real API server (`tests/e2e/test_conformance.py`), and asks the
routing table what the test's Go text expects of statuses and answers. The other {others} are about what a router or a
controller does.

Where sources are silent or disagree, [streams/README.md](../../streams/README.md#where-sources-disagree) says what is
decided. This page is written by `python -m tests.conformance.expectations`.

"""


def version() -> str:
    """The version of the Gateway API that the tests are of."""
    match = re.search(r"^VERSION=(\S+)$", README.with_name("module.sh").read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def document() -> str:
    """The page: all tests, as a table in Markdown."""
    held, others = len(EXPECTED), len(NOT_ABOUT_FACETS)
    return _HEAD.format(total=held + others, version=version(), held=held, others=others) + _table()


def _table() -> str:
    lines = ["| test | |", "|---|---|"]
    for name in sorted((*EXPECTED, *NOT_ABOUT_FACETS)):
        if name in EXPECTED:
            note = EXPECTED[name].note
            lines.append(f"| {name} | holds{f' ({note})' if note else ''} |")
        else:
            lines.append(f"| {name} | not about facets: {NOT_ABOUT_FACETS[name]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    README.write_text(document())
