"""The conditions of ServiceExports and ServiceImports (mcs-api v1beta1), from what a set's row says.

A condition's lastTransitionTime changes with its status only (metav1.Condition); `now` is RFC 3339, in whole seconds.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streams.importer.names import Json

_INVALID = {
    "NoService": "The cluster has no Service of this name.",
    "InvalidServiceType": "A Service of type ExternalName can't be exported.",
    "ObjectRejected": "The ServiceExport can't be read: facets get clusterset names the field.",
}
_CONFLICT_SEPARATOR = " "


class Verdict(NamedTuple):
    """A condition without its times."""

    type: str
    status: str
    reason: str
    message: str


def export_verdicts(row: Json, export: Json) -> list[Verdict]:
    """What the set says of one cluster's ServiceExport. Whether it conflicts is said of a valid one only."""
    reason = export["valid"]
    if reason != "Valid":
        message = (
            _INVALID.get(reason) or f"Another cluster has the id {export['id']!r}, too, and is the one that counts."
        )
        ready = "Pending" if reason == "NoService" else "Failed"
        return [Verdict("Valid", "False", reason, message), Verdict("Ready", "False", ready, message)]
    verdicts = [Verdict("Valid", "True", "Valid", "The Service can be exported."), _export_ready(export)]
    if export["conflict"] in {"", "NoConflicts"}:
        return [*verdicts, Verdict("Conflict", "False", "NoConflicts", "All exports agree.")]
    message = _CONFLICT_SEPARATOR.join(conflict["message"] for conflict in row["conflicts"])
    return [*verdicts, Verdict("Conflict", "True", export["conflict"], message)]


def import_verdict(*, waits_for_ip: bool, refused: str) -> Verdict:
    """Whether a ServiceImport is ready; `refused` is why its derived Service could not be made ("": it could)."""
    if refused:
        # The API server names the field, spec.ipFamilies[0] or such.
        return Verdict("Ready", "False", "IPFamilyNotSupported" if "ipFamil" in refused else "Pending", refused)
    if waits_for_ip:
        return Verdict("Ready", "False", "Pending", "The derived Service has no IP yet.")
    return Verdict("Ready", "True", "Ready", "The ServiceImport is ready.")


def conditions(
    verdicts: Sequence[Verdict], held: Sequence[Mapping[str, Any]], generation: int | None, now: str
) -> list[Json]:
    """The conditions as a status has them. `held` are those that are there; `generation` is that of the object which
    the verdicts are about (None: not known)."""
    before = {each.get("type"): each for each in held}
    observed = {"observedGeneration": generation} if generation is not None else {}
    return [
        {**verdict._asdict(), **observed, "lastTransitionTime": _since(before.get(verdict.type), verdict, now)}
        for verdict in verdicts
    ]


def _export_ready(export: Json) -> Verdict:
    unavailable = export.get("unavailable")
    if not export["counted"] and unavailable is not None:
        message = f"Nothing is heard of the cluster since {unavailable['since']}: its endpoints are not in the set."
        return Verdict("Ready", "False", "Pending", message)
    return Verdict("Ready", "True", "Exported", "The Service is exported to the clusterset.")


def _since(held: Mapping[str, Any] | None, verdict: Verdict, now: str) -> str:
    if held is None or held.get("status") != verdict.status:
        return now
    return str(held.get("lastTransitionTime") or now)
