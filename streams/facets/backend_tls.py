"""How routers must verify a Service's endpoints: its BackendTLSPolicies, and which of them takes effect.

Where several select the same Service, or the same port of it, the oldest takes precedence, then the first by
namespace/name; the others are Conflicted (BackendTLSPolicySpec.targetRefs). CA certificates are in ConfigMaps, which
the watcher doesn't read: the router has to check them. Routers need not support other kinds of certificate references;
where there are only those, connections must fail (NoValidCACertificate). A policy for a port that the Service doesn't
have is not attached (TargetNotFound), nor is one for a `Service` of another group (InvalidKind).
"""

from collections.abc import Iterable

import msgspec

from streams.facets.route_order import in_age_order
from streams.objects.resources import TLS_POLICY
from streams.wire.event_encoding import Key
from streams.wire.records import Event
from streams.wire.routing_records import BackendTLS, BackendTLSContent, TLSValidation

_NOT_ATTACHED = {"TargetNotFound", "InvalidKind"}


def tls_entries(event: Event, content: BackendTLSContent) -> tuple[BackendTLS, ...]:
    """A policy's entries, one for each port that it selects."""
    return tuple(
        _judged(
            BackendTLS(
                event.namespace,
                event.name,
                event.uid,
                content.created,
                section,
                True,
                content.reason or ("TargetNotFound" if section in content.missing_sections else ""),
                content.validation,
            )
        )
        for section in content.section_names
    )


def policies_by_key(entries: Iterable[BackendTLS]) -> dict[Key, tuple[BackendTLS, ...]]:
    """The policies by key, from a row's entries, as `tls_entries` gives them."""
    policies: dict[Key, tuple[BackendTLS, ...]] = {}
    for entry in sorted(entries, key=lambda entry: entry.section_name):
        key = TLS_POLICY.kind, entry.namespace, entry.name
        policies[key] = (*policies.get(key, ()), _judged(entry))
    return policies


def backend_tls(policies: Iterable[Iterable[BackendTLS]]) -> list[BackendTLS]:
    """All entries, by port, the effective one first."""
    sections: set[str] = set()
    decided = []
    for entry in in_age_order(entry for entries in policies for entry in entries):
        if entry.reason in _NOT_ATTACHED:
            decided.append(entry)
            continue
        if entry.section_name in sections:
            decided.append(msgspec.structs.replace(entry, accepted=False, reason="Conflicted"))
        else:
            decided.append(entry)
        sections.add(entry.section_name)
    return sorted(decided, key=lambda entry: entry.section_name)


def _judged(entry: BackendTLS) -> BackendTLS:
    """The entry as it is without other policies."""
    reason = entry.reason if entry.reason in _NOT_ATTACHED else ""
    if not reason and not _has_certificates(entry.validation):
        reason = "NoValidCACertificate"
    return msgspec.structs.replace(entry, accepted=not reason, reason=reason)


def _has_certificates(validation: TLSValidation) -> bool:
    readable_kinds = {("", "ConfigMap"), ("", "Secret")}
    references = [(reference.group, reference.kind) for reference in validation.ca_certificate_refs]
    return not readable_kinds.isdisjoint(references) if references else bool(validation.well_known_ca_certificates)
