"""What operators choose by annotation of a Service or a Namespace: `service` or `endpoint`, by direction."""

from collections.abc import Mapping
from typing import NamedTuple

from streams.objects.fields import Json, texts
from streams.wire.routing_records import OperatorChoice

ANNOTATIONS = {"gateway": "service-facets.io/gateway-routing", "mesh": "service-facets.io/mesh-routing"}


class Choices(NamedTuple):
    """An operator's choices in the annotations of one object; `invalid` says what is wrong with one of them."""

    choices: Mapping[str, OperatorChoice]
    invalid: str = ""


NO_CHOICES = Choices({})


def choices_of(metadata: Json, source: str) -> Choices:
    """The operator's choices in annotations. Any other value is ignored, and reported as `invalid`."""
    annotations = texts(metadata, "annotations")
    choices: dict[str, OperatorChoice] = {}
    invalid = ""
    for direction, annotation in ANNOTATIONS.items():
        choice = annotations.get(annotation)
        if choice in {"service", "endpoint"}:
            choices[direction] = OperatorChoice(choice, source)  # type: ignore[arg-type]
        elif choice is not None:
            invalid = f"{source} annotation {annotation}: {choice!r:.80} is neither service nor endpoint"
    return Choices(choices, invalid) if choices or invalid else NO_CHOICES
