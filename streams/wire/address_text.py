"""IP addresses with ports, as people write them and commands print them."""

import re
from collections.abc import Sequence
from ipaddress import ip_address

_PORTS = "(?::([0-9]{1,9}(?:,[0-9]{1,9})*))?"
_BRACKETED = re.compile(rf"\[([^]]+)\]{_PORTS}")
_PLAIN = re.compile(rf"([^:]+){_PORTS}")


def parse_address(text: str) -> tuple[str, tuple[int, ...]]:
    """The address and the ports of 10.1.2.3, 10.1.2.3:8080, 10.1.2.3:80,8080, fd00::1 or [fd00::1]:80. Raises
    ValueError, which completes the text."""
    match = _BRACKETED.fullmatch(text) or (_PLAIN.fullmatch(text) if text.count(":") < 2 else None)
    host, ports = match.groups() if match else (text, None)
    numbers = tuple(map(int, ports.split(","))) if ports else ()
    try:
        ip_address(host)
    except ValueError:
        raise ValueError("is not an IP address, with or without a port") from None
    if not all(0 < number < 65536 for number in numbers):
        raise ValueError("has a port that is not from 1 to 65535")
    return host, numbers


def format_address(host: str, ports: Sequence[int] = ()) -> str:
    """The inverse of `parse_address`."""
    if not ports:
        return host
    return f"{f'[{host}]' if ':' in host else host}:{','.join(map(str, ports))}"
