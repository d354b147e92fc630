"""The endpoints of the HTTP interface, one a file: each module in this folder has an `ENDPOINT`."""

import importlib
import pkgutil
from functools import cache

from streams.serve.http.endpoint import Endpoint


@cache
def all_endpoints() -> tuple[Endpoint, ...]:
    """All of them, by path."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    endpoints = [importlib.import_module(f"{__name__}.{name}").ENDPOINT for name in names]
    return tuple(sorted(endpoints, key=lambda endpoint: endpoint.path))
