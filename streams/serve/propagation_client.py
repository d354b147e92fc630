"""Queries a running `facets serve` about propagation."""

import os
from collections.abc import Container
from typing import Any

import aiohttp

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

_SLACK_SECONDS = 10


async def fetch(
    server: str, path: str, query: dict[str, str], wait: float = 0.0, *, allowed: Container[int] = (200,)
) -> dict[str, Any]:
    """The answer of `GET path`; the server may take `wait` seconds for it. Raises FacetsError, also for a status that
    is not `allowed`."""
    timeout = aiohttp.ClientTimeout(total=wait + _SLACK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(server.rstrip("/") + path, params=query) as answer,
        ):
            if answer.status not in allowed:
                raise FacetsError(
                    f"{answer.url} answers {answer.status}: {(await answer.text())[:500]}",
                    exit_code=ExitCode.UNAVAILABLE,
                )
            body: dict[str, Any] = await answer.json()
            return body
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise FacetsError(
            f"no `facets serve` answers at {server} ({_reason(error)})",
            "start one with facets serve, or name it with --server or FACETS_SERVER",
            ExitCode.UNAVAILABLE,
        ) from error


def _reason(error: Exception) -> str:
    """The operating system's reason, if there is one."""
    cause = getattr(error, "os_error", None)
    return os.strerror(cause.errno) if cause is not None and cause.errno else str(error) or type(error).__name__
