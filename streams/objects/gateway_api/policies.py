"""Policies that target Services: XBackendTrafficPolicy and BackendTLSPolicy, as the journal carries them."""

from collections.abc import Iterator

import msgspec

from streams.objects.fields import Json, mapping, objects, optional_text, text
from streams.objects.gateway_api.references import ServiceKey
from streams.objects.gateway_api.session_persistence import read_session_persistence
from streams.objects.resources import TLS_POLICY
from streams.wire.routing_records import (
    BackendTLSContent,
    CertificateReference,
    PolicyContent,
    SubjectAltName,
    TLSValidation,
)

_encode = msgspec.json.encode


def read_policy(kind: str, item: Json) -> dict[ServiceKey, bytes]:
    """A policy's content, by Service that it targets. Raises MalformedObject."""
    meta, spec = item["metadata"], mapping(item.get("spec"), "spec")
    created = text(meta.get("creationTimestamp"), "metadata.creationTimestamp", "")
    targets: dict[str, list[str]] = {}
    for name, section in _targets(spec):
        targets.setdefault(name, []).append(section)
    if kind != TLS_POLICY.kind:
        body = _encode(PolicyContent(created, read_session_persistence(spec, "spec")))
        return {(meta["namespace"], name): body for name in targets}
    validation = _validation(mapping(spec.get("validation"), "spec.validation"))
    return {
        (meta["namespace"], name): _encode(BackendTLSContent(created, sorted(set(sections)), validation))
        for name, sections in targets.items()
    }


def _targets(spec: Json) -> Iterator[tuple[str, str]]:
    """The names of the Services that are targeted, with the port's ("": all)."""
    for i, target in enumerate(objects(spec.get("targetRefs"), "spec.targetRefs")):
        if (target.get("group") or "", target.get("kind")) == ("", "Service"):
            at = f"spec.targetRefs[{i}]"
            yield text(target.get("name"), f"{at}.name"), text(target.get("sectionName"), f"{at}.sectionName", "")


def _validation(validation: Json) -> TLSValidation:
    at = "spec.validation"
    names = [
        SubjectAltName(
            text(name.get("type"), f"{at}.subjectAltNames[{i}].type"),
            text(name.get("hostname") or name.get("uri"), f"{at}.subjectAltNames[{i}]", ""),
        )
        for i, name in enumerate(objects(validation.get("subjectAltNames"), f"{at}.subjectAltNames"))
    ]
    certificates = [
        CertificateReference(
            text(reference.get("group"), f"{at}.caCertificateRefs[{i}].group", ""),
            text(reference.get("kind"), f"{at}.caCertificateRefs[{i}].kind"),
            text(reference.get("name"), f"{at}.caCertificateRefs[{i}].name"),
        )
        for i, reference in enumerate(objects(validation.get("caCertificateRefs"), f"{at}.caCertificateRefs"))
    ]
    well_known = optional_text(validation.get("wellKnownCACertificates"), f"{at}.wellKnownCACertificates")
    return TLSValidation(text(validation.get("hostname"), f"{at}.hostname"), names, certificates, well_known)
