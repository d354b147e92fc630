"""The file in which a follower keeps its cursor."""

import os
from pathlib import Path

from streams.errors import FacetsError
from streams.exit_codes import ExitCode


class CursorFile:
    """A cursor in a file that is replaced atomically. Raises FacetsError if the file can't be read or written; writing
    is tried at the start, before anything is followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self._part.write_text("")
            self._part.unlink()
        except OSError as error:
            raise self._failed("write", error) from error

    def read(self) -> str | None:
        """The cursor; None if there is none yet."""
        try:
            return self._path.read_text().strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._failed("read", error) from error

    def write(self, cursor: str) -> None:
        """Replace the cursor."""
        try:
            self._part.write_text(cursor + "\n")
            self._part.replace(self._path)
        except OSError as error:
            raise self._failed("write", error) from error

    def _failed(self, action: str, error: OSError | UnicodeDecodeError) -> FacetsError:
        why = error.strerror if isinstance(error, OSError) else "not a text file"
        return FacetsError(
            f"can't {action} cursor file {self._path}: {why}", "name a file in a writable folder", ExitCode.IO_ERROR
        )
