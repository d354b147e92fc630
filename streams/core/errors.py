"""The error that a person gets to see: what is wrong, with what, and what to do about it."""


class FacetsError(Exception):
    """`remedy` says what to do; `exit_code` is the command's (sysexits where one fits)."""

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "", exit_code: int | None = None) -> None:
        super().__init__(problem)
        self.remedy = remedy
        if remedy:
            # A program that does not catch it shows the remedy below its traceback.
            self.add_note(f"remedy: {remedy}")
        if exit_code is not None:
            self.exit_code = exit_code
