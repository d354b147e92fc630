"""The checks of `facets doctor` on `facets serve`: whether it answers and is ready, and its routers' state."""

import asyncio
from collections.abc import Iterator
from typing import Any

from streams.errors import FacetsError
from streams.local.pipeline_checks import Check
from streams.serve.propagation_client import fetch


def server_checks(server: str, *, named: bool) -> Iterator[Check]:
    """The server at this address; that none answers is a failure only if a person `named` it."""
    try:
        ready, propagation = asyncio.run(_ask(server))
    except FacetsError as error:
        if named:
            yield Check("server", "fail", str(error), error.remedy)
        else:
            yield Check("server", "ok", f"none answers at {server}: not looked at (--server names one)")
        return
    if not ready["ready"]:
        yield Check("server", "warn", f"{server} is not ready: {ready['error']}", "wait, or see its log")
        return
    stale = f"; stale there: {', '.join(ready['stale'])}" if ready.get("stale") else ""
    yield Check("server", "ok", f"{server} is ready, up to {ready['at']}{stale}")
    clients: list[dict[str, Any]] = propagation["clients"]
    refused = [client for client in clients if client["lastNack"]]
    if refused:
        yield Check(
            "routers", "warn", f"{len(refused)} of {len(clients)} have refused something, the last: "
            f"{refused[-1]['node']}: {refused[-1]['lastNack'][:200]}", "facets status",
        )  # fmt: skip
    else:
        behind = sum(bool(client["behind"]) for client in clients)
        yield Check("routers", "ok", f"{len(clients)} connected, {behind} of them behind")


async def _ask(server: str) -> tuple[dict[str, Any], dict[str, Any]]:
    ready = await fetch(server, "/readyz", {}, allowed=(200, 503))
    if "ready" not in ready:
        return {"ready": False, **ready}, {}
    return ready, await fetch(server, "/v1/propagation", {})
