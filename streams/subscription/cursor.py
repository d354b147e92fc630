"""Where a subscriber stands, as opaque text outside of the process."""

import base64
from typing import NamedTuple

import msgspec

from streams.errors import FacetsError
from streams.exit_codes import ExitCode


class InvalidCursor(FacetsError, ValueError):
    """Not a cursor of any subscription."""

    exit_code = ExitCode.BAD_DATA


class Cursor(NamedTuple):
    """A subscriber's position: for each partition the journal offset that is applied, and for each table the offset of
    its topic to read on from. `at` is the time of the newest seal applied, by Kafka's clock."""

    at: str
    applied: dict[int, int]
    positions: dict[tuple[str, int], int]

    def encode(self) -> str:
        """As opaque text."""
        tables: dict[str, dict[str, int]] = {}
        for (table, partition), position in sorted(self.positions.items()):
            tables.setdefault(table, {})[str(partition)] = position
        body = {"at": self.at, "applied": {str(p): o for p, o in sorted(self.applied.items())}, "tables": tables}
        return base64.urlsafe_b64encode(msgspec.json.encode(body)).decode()

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Raises InvalidCursor."""
        try:
            body = msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=_CursorBody)
            return cls(
                body.at,
                {int(p): offset for p, offset in body.applied.items()},
                {(table, int(p)): at for table, ps in body.tables.items() for p, at in ps.items()},
            )
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise InvalidCursor(
                "the cursor is damaged or isn't one", "leave the cursor out, to start from a snapshot"
            ) from error


class _CursorBody(msgspec.Struct):
    at: str
    applied: dict[str, int]
    tables: dict[str, dict[str, int]]
