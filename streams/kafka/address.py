"""The default Kafka address."""

import os

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

VARIABLE = "FACETS_BOOTSTRAP_SERVERS"


def default_bootstrap() -> str:
    """The address in FACETS_BOOTSTRAP_SERVERS, else that of the broker which `facets up` runs on this machine. It looks
    at the machine's processes, which blocks for some tens of milliseconds. Raises FacetsError if there is neither."""
    # Imported here: a subscriber with a given address doesn't need the embedded broker.
    from streams.local.kafka.broker import find_running  # noqa: PLC0415

    bootstrap = os.environ.get(VARIABLE) or find_running()
    if not bootstrap:
        raise FacetsError(
            "no Kafka broker: `facets up` isn't running here, and --bootstrap-servers isn't set",
            f"start one with `facets up`, or name one with --bootstrap-servers or {VARIABLE}",
            ExitCode.UNAVAILABLE,
        )
    return bootstrap
