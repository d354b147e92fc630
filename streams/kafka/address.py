"""Which Kafka is meant where none is named."""

import os

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

VARIABLE = "FACETS_BOOTSTRAP_SERVERS"


def default_bootstrap() -> str:
    """The address in FACETS_BOOTSTRAP_SERVERS, else that of the broker which `facets up` runs on this machine. Looks at
    the machine's processes: blocks for some tens of milliseconds. Raises FacetsError where there is neither."""
    # Imported here: a subscriber that is given an address needs nothing of the embedded broker.
    from streams.local.kafka.broker import find_running  # noqa: PLC0415

    found = os.environ.get(VARIABLE) or find_running()
    if not found:
        raise FacetsError(
            "no Kafka broker: `facets up` isn't running here, and --bootstrap-servers isn't set",
            f"start one with `facets up`, or name one with --bootstrap-servers or {VARIABLE}",
            ExitCode.UNAVAILABLE,
        )
    return found
