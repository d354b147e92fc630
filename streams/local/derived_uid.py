"""Uids derived from text. Not with the uuid module, as the core must not have random ones."""

from hashlib import sha256


def derived_uid(text: str) -> str:
    """A UUID of version 8 (RFC 9562) that is the same for the same text, and another one for any other."""
    digest = sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
