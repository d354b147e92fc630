"""Which addresses a record of a table has: found in its bytes, so that nothing needs to be decoded.

More may be found than a row has (an endpoint that another slice shadows, for one), never less: who asks for an
address's owners looks at their rows.
"""

import re
from functools import lru_cache
from ipaddress import ip_address

from streams.wire.records import CLUSTERSET

_ENDPOINT = re.compile(rb'"address":"([^"]+)"')
_CLUSTER_IPS = re.compile(rb'"clusterIPs":\[([^\]]*)\]')
_CHANGE = b',"change":'
_KNOWN = 100_000


def addresses_in(table: str, value: bytes) -> list[bytes]:
    """The addresses in a record, as they are written there."""
    if table == "frontend":
        found = _CLUSTER_IPS.search(value)
        return [each.strip(b'"') for each in found[1].split(b",")] if found is not None and found[1] else []
    if table not in {"backend", CLUSTERSET}:
        return []
    # What has been removed is in the change, which comes last; in a string its quotation marks would be escaped.
    end = value.rfind(_CHANGE)
    return _ENDPOINT.findall(value, 0, end if end >= 0 else len(value))


@lru_cache(_KNOWN)
def packed(address: bytes) -> bytes | None:
    """An address in network order, which is the same however it is written; None of what is no IP address."""
    try:
        return ip_address(address.decode()).packed
    except ValueError:
        return None
