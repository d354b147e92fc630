"""Policies that target Services: XBackendTrafficPolicy and BackendTLSPolicy, as the journal carries them. The former
may target ServiceImports, too (XBackendTrafficPolicy spec.targetRefs)."""

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import msgspec

from streams.objects.fields import Json, mapping, objects, optional_text, text
from streams.objects.gateway_api.references import ServiceKey, backend_kind
from streams.objects.gateway_api.session_persistence import read_session_persistence
from streams.wire.event_encoding import Key
from streams.wire.routing_records import (
    BackendKind,
    BackendTLSContent,
    CertificateReference,
    PolicyContent,
    SubjectAltName,
    TLSValidation,
)

_encode = msgspec.json.encode
_CERTIFICATE_KINDS = {("", "ConfigMap"), ("", "Secret")}

PortNames = Callable[[ServiceKey], Container[str] | None]
"""The names of a Service's ports; None where they are not known."""


def read_traffic_policy(item: Json) -> dict[ServiceKey, bytes]:
    """An XBackendTrafficPolicy's content, by Service that it targets, or ServiceImport of that name. Raises
    MalformedObject."""
    meta, spec = item["metadata"], mapping(item.get("spec"), "spec")
    created = text(meta.get("creationTimestamp"), "metadata.creationTimestamp", "")
    persistence = read_session_persistence(spec, "spec")
    imports = _imports_targeted(spec)
    contents = {
        name: PolicyContent(created, None if reason else persistence, reason)
        for name, (_, reason) in _targets(spec).items()
    }
    for name in imports:
        is_both = name in contents and not contents[name].reason
        targets: list[BackendKind] = ["Service", "ServiceImport"] if is_both else ["ServiceImport"]
        contents[name] = PolicyContent(created, persistence, targets=targets)
    return {(meta["namespace"], name): _encode(content) for name, content in contents.items()}


def _imports_targeted(spec: Json) -> list[str]:
    """The names of ServiceImports that an XBackendTrafficPolicy targets."""
    targets = enumerate(objects(spec.get("targetRefs"), "spec.targetRefs"))
    named = {
        text(target.get("name"), f"spec.targetRefs[{i}].name")
        for i, target in targets
        if backend_kind(target.get("group"), target.get("kind")) == "ServiceImport"
    }
    return sorted(named)


def read_tls_policy(item: Json) -> dict[ServiceKey, BackendTLSContent]:
    """A BackendTLSPolicy's content, by Service that it targets. Raises MalformedObject."""
    meta, spec = item["metadata"], mapping(item.get("spec"), "spec")
    created = text(meta.get("creationTimestamp"), "metadata.creationTimestamp", "")
    validation = _validation(mapping(spec.get("validation"), "spec.validation"))
    return {
        (meta["namespace"], name): BackendTLSContent(created, sorted(sections), validation, reason=reason)
        for name, (sections, reason) in _targets(spec).items()
    }


class TLSPolicies:
    """A cluster's BackendTLSPolicies: which of the ports that they name are there depends on the Services."""

    def __init__(self, port_names: PortNames) -> None:
        self._port_names = port_names
        self._contents: dict[Key, Mapping[ServiceKey, BackendTLSContent]] = {}
        self._by_service: dict[ServiceKey, set[Key]] = {}
        self._outdated: set[Key] = set()

    def take(self, key: Key, contents: Mapping[ServiceKey, BackendTLSContent]) -> None:
        """Hold a policy."""
        self.drop(key)
        self._contents[key] = contents
        for service in contents:
            self._by_service.setdefault(service, set()).add(key)

    def drop(self, key: Key) -> None:
        """The policy is deleted."""
        for service in self._contents.pop(key, ()):
            policies = self._by_service[service]
            policies.discard(key)
            if not policies:
                del self._by_service[service]

    def outdate(self, service: ServiceKey) -> None:
        """The Service has changed."""
        self._outdated.update(self._by_service.get(service, ()))

    def take_outdated(self, except_for: Container[Key]) -> list[Key]:
        """The policies whose events may have changed since the last call; the exceptions stay outdated."""
        held = {key for key in self._outdated if key in self._contents}
        self._outdated = {key for key in held if key in except_for}
        return sorted(held - self._outdated)

    def project(self, key: Key) -> dict[ServiceKey, bytes]:
        """What a policy says of each Service that it targets."""
        return {
            service: _encode(self._with_missing_sections(service, content))
            for service, content in self._contents[key].items()
        }

    def _with_missing_sections(self, service: ServiceKey, content: BackendTLSContent) -> BackendTLSContent:
        names = self._port_names(service)
        if names is None:
            return content
        missing = [section for section in content.section_names if section and section not in names]
        return msgspec.structs.replace(content, missing_sections=missing)


def _targets(spec: Json) -> dict[str, tuple[set[str], str]]:
    """The Services that are targeted, by name: the names of the ports ("": all), and why the policy is none of the
    Service's: it names a kind of another group, which is listed so that nothing is dropped without a word."""
    targets: dict[str, tuple[set[str], str]] = {}
    for group, name, section in sorted(_service_references(spec)):
        # Those of the core group ("") come first.
        sections, reason = targets.setdefault(name, (set(), "InvalidKind" if group else ""))
        if bool(group) == bool(reason):
            sections.add(section)
    return targets


def _service_references(spec: Json) -> Iterator[tuple[str, str, str]]:
    for i, target in enumerate(objects(spec.get("targetRefs"), "spec.targetRefs")):
        if target.get("kind") == "Service":
            at = f"spec.targetRefs[{i}]"
            yield (
                text(target.get("group"), f"{at}.group", ""),
                text(target.get("name"), f"{at}.name"),
                text(target.get("sectionName"), f"{at}.sectionName", ""),
            )


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
        _certificate(reference, f"{at}.caCertificateRefs[{i}]")
        for i, reference in enumerate(objects(validation.get("caCertificateRefs"), f"{at}.caCertificateRefs"))
    ]
    well_known = optional_text(validation.get("wellKnownCACertificates"), f"{at}.wellKnownCACertificates")
    return TLSValidation(text(validation.get("hostname"), f"{at}.hostname"), names, certificates, well_known)


def _certificate(reference: Any, at: str) -> CertificateReference:
    group, kind = text(reference.get("group"), f"{at}.group", ""), text(reference.get("kind"), f"{at}.kind")
    reason = "" if (group, kind) in _CERTIFICATE_KINDS else "InvalidKind"
    return CertificateReference(group, kind, text(reference.get("name"), f"{at}.name"), reason)
