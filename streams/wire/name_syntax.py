"""The names that rows are keyed by: what they look like, and how long they may be."""

import re
from typing import NamedTuple


class NameSyntax(NamedTuple):
    """The syntax of a kind of name. The expression must match the whole name, and means the same in Python and in
    ECMA 262 (which JSON Schema uses); `max_length` is in characters."""

    expression: re.Pattern[str]
    max_length: int
    description: str

    def matches(self, text: str) -> bool:
        """Whether the text is such a name."""
        return len(text) <= self.max_length and self.expression.fullmatch(text) is not None

    @property
    def pattern(self) -> str:
        """The expression with its anchors."""
        return f"^{self.expression.pattern}$"


KUBERNETES_NAME = NameSyntax(
    re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"), 253, "a Kubernetes name (lower case letters, digits, - and .)"
)
"""A DNS subdomain (RFC 1123), the widest syntax that Kubernetes has for names; the length of a label is left to the
API server."""
DNS_LABEL = NameSyntax(
    re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"), 63, "a DNS label (lower case letters, digits and -)"
)
"""RFC 1123, in lower case, as Kubernetes has it."""
CLUSTER_NAME = NameSyntax(
    re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?"), 253, "a cluster's name (letters, digits, - _ and .)"
)
RESOURCE_VERSION = NameSyntax(re.compile(r"[0-9]{1,20}"), 20, "a decimal number")
"""Kubernetes' resourceVersions are compared as unsigned 64-bit numbers (KEP-5504)."""
