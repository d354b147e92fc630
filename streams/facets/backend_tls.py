"""How routers must verify a Service's endpoints: its BackendTLSPolicies, and which of them takes effect.

Where several select the same Service, or the same port of it, the oldest takes precedence, then the first by
namespace/name; the others are Conflicted (BackendTLSPolicySpec.targetRefs). CA certificates are in ConfigMaps, which
the watcher doesn't read: the router has to check them. Routers need not support other kinds of certificate references;
where there are only those, connections must fail (NoValidCACertificate).
"""

from collections.abc import Iterable

import msgspec

from streams.facets.route_order import in_age_order
from streams.objects.resources import TLS_POLICY
from streams.wire.event_encoding import Key
from streams.wire.records import Event
from streams.wire.routing_records import BackendTLS, BackendTLSContent, TLSValidation


def tls_entries(event: Event, content: BackendTLSContent) -> tuple[BackendTLS, ...]:
    """A policy's entries, one for each port that it selects."""
    valid = _has_certificates(content.validation)
    return tuple(
        BackendTLS(
            event.namespace,
            event.name,
            event.uid,
            content.created,
            section,
            valid,
            "" if valid else "NoValidCACertificate",
            content.validation,
        )
        for section in content.section_names
    )


def policies_by_key(entries: Iterable[BackendTLS]) -> dict[Key, tuple[BackendTLS, ...]]:
    """The policies by key, from a row's entries, as `tls_entries` gives them."""
    policies: dict[Key, tuple[BackendTLS, ...]] = {}
    for entry in sorted(entries, key=lambda entry: entry.section_name):
        key = TLS_POLICY.kind, entry.namespace, entry.name
        valid = _has_certificates(entry.validation)
        plain = msgspec.structs.replace(entry, accepted=valid, reason="" if valid else "NoValidCACertificate")
        policies[key] = (*policies.get(key, ()), plain)
    return policies


def backend_tls(policies: Iterable[Iterable[BackendTLS]]) -> list[BackendTLS]:
    """All entries, by port, the effective one first."""
    sections: set[str] = set()
    decided = []
    for entry in in_age_order(entry for entries in policies for entry in entries):
        if entry.section_name in sections:
            decided.append(msgspec.structs.replace(entry, accepted=False, reason="Conflicted"))
        else:
            decided.append(entry)
        sections.add(entry.section_name)
    return sorted(decided, key=lambda entry: entry.section_name)


def _has_certificates(validation: TLSValidation) -> bool:
    readable_kinds = {("", "ConfigMap"), ("", "Secret")}
    references = [(reference.group, reference.kind) for reference in validation.ca_certificate_refs]
    return not readable_kinds.isdisjoint(references) if references else bool(validation.well_known_ca_certificates)
