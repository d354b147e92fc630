"""The error that a command reports: what is wrong, and what to do about it."""

from streams.exit_codes import ExitCode


class FacetsError(Exception):
    """`remedy` says what to do; `exit_code` is the command's."""

    exit_code: ExitCode = ExitCode.NEGATIVE

    def __init__(self, problem: str, remedy: str = "", exit_code: ExitCode | None = None) -> None:
        super().__init__(problem)
        self.remedy = remedy
        if remedy:
            # An uncaught error then shows the remedy below its traceback.
            self.add_note(f"remedy: {remedy}")
        if exit_code is not None:
            self.exit_code = exit_code
