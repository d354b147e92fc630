"""A plan as text: what would be written, field by field."""

from collections.abc import Iterator, Sequence

import msgspec

from streams.importer.difference import differences
from streams.importer.names import Json
from streams.importer.plan import Action, Kind, Plan

_SHOWN = 200


def lines(cluster: str, plans: Sequence[Plan]) -> Iterator[str]:
    """The lines that name a cluster's differences."""
    for plan in plans:
        for action in plan.actions:
            yield f"{cluster}: {_verb(action)} {action.kind} {action.namespace}/{action.name}"
            if action.body is not None:
                for path, held, wanted in differences(action.before, action.body):
                    yield (
                        f"  {path}: {_text(wanted)}" if held is None else f"  {path}: {_text(held)} -> {_text(wanted)}"
                    )


def left_alone(kind: Kind, namespace: str, name: str) -> str:
    """A line that says what is somebody else's."""
    if kind == "ServiceImport":
        return (
            f"ServiceImport {namespace}/{name} is somebody else's: it is left alone, and the Service not imported; "
            "delete it to have it imported"
        )
    return f"the conditions of ServiceExport {namespace}/{name} are set by somebody else: they are left alone"


def documents(cluster: str, plans: Sequence[Plan]) -> Iterator[Json]:
    """The same for programs: an object for each action, with what would be applied."""
    for plan in plans:
        for action in plan.actions:
            yield {
                "cluster": cluster,
                "action": _verb(action),
                "kind": action.kind,
                "namespace": action.namespace,
                "name": action.name,
                "object": action.body,
            }


def _verb(action: Action) -> str:
    if action.body is None:
        return "delete"
    if action.status:
        return "update the status of"
    return "create" if action.before is None else "update"


def _text(value: object) -> str:
    if value is None:
        return "(none)"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
