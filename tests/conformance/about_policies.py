"""Conformance tests about BackendTLSPolicy."""

from tests.conformance.checks import Expectation, backend_tls, expect, subject_alt_names

_PLAIN = "backendtlspolicy-conflicted-without-section-name-test"
_PORT = "backendtlspolicy-conflicted-with-section-name-test"
_URI = "spiffe://abc.example.com/test-identity"

POLICIES: dict[str, Expectation] = {
    "BackendTLSPolicy": expect(
        "backendtlspolicy",
        backend_tls("backendtlspolicy-test", ("normative-test", "btls", "")),
        backend_tls("backendtlspolicy-host-mismatch-test", ("host-mismatch", "btls", "")),
        note="the handshake is the router's",
    ),
    "BackendTLSPolicyConflictResolution": expect(
        "backendtlspolicy-conflict-resolution",
        backend_tls(
            _PLAIN,
            ("conflicted-without-section-name-1", "", ""),
            ("conflicted-without-section-name-2", "", "Conflicted"),
        ),
        backend_tls(
            _PORT,
            ("conflicted-with-section-name-1", "https-1", ""),
            ("conflicted-with-section-name-2", "https-1", "Conflicted"),
        ),
        backend_tls(
            "backendtlspolicy-not-conflicted-test",
            ("not-conflicted-without-section-name", "", ""),
            ("not-conflicted-with-section-name", "https-1", ""),
        ),
    ),
    "BackendTLSPolicyInvalidKind": expect(
        "backendtlspolicy-invalid-kind",
        backend_tls("backendtlspolicy-invalid-kind-test", ("invalid-kind", "", "NoValidCACertificate")),
    ),
    "BackendTLSPolicySANValidation": expect(
        "backendtlspolicy-san",
        subject_alt_names("backendtlspolicy-san-dns-test", ("Hostname", "abc.example.com")),
        subject_alt_names("backendtlspolicy-san-uri-test", ("URI", _URI)),
        subject_alt_names("backendtlspolicy-multiple-sans-test", ("URI", _URI), ("Hostname", "abc.example.com")),
        note="the handshake is the router's",
    ),
}
