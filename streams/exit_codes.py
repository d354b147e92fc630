"""The exit codes of all `facets` commands. Numbers from 64 on are those of sysexits.h."""

from enum import IntEnum


class ExitCode(IntEnum):
    """`meaning` is what `facets --help` says of the code."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        """A code with its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "done; the answer is yes"
    NEGATIVE = 1, "the answer is no: nothing found, states differ, or a check failed"
    USAGE = 2, "a wrong option or argument"
    NOT_KNOWN = 3, "the journal can't tell: before its beginning, after its end, or in the future"
    NO_ROUTER = 4, "sealed, but no connected router follows it (wait --acked)"
    BAD_DATA = 65, "an input or a record can't be read"
    UNKNOWN_NAME = 66, "no cluster, namespace, Service, router or file of that name"
    UNAVAILABLE = 69, "Kafka, Java, a topic, a port, an API server or `facets serve` is not available"
    FATAL = 70, "a worker stopped rather than go on wrongly; start it again"
    IO_ERROR = 74, "a file, standard output or the journal can't be written"
    GAVE_UP = 75, "timed out, or replaced by another watcher"
    FORBIDDEN = 77, "the account lacks a permission"
    MISCONFIGURED = 78, "no usable kubeconfig, or topics that don't fit"
    STOPPED_UNFINISHED = 124, "stopped in time, but gave up on something (an unreachable broker, unacknowledged rows)"
    INTERRUPTED = 130, "interrupted (Ctrl-C)"


def exit_code_table() -> list[tuple[str, str]]:
    """Each code with its meaning, as help prints them."""
    return [(str(code.value), code.meaning) for code in ExitCode]
