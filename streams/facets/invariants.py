"""Invariants between the steps of the fold and of a subscription, whatever the input. If one fails, the fault is ours:
the process stops rather than continue with wrong state.

Each costs a comparison or two. Two are too expensive to assert, and are left to property tests: that a row's groups
equal the Service's entry, and that the fast paths make the same bytes as the general one.
"""

from collections.abc import Iterable
from typing import Protocol

from streams.wire.records import Commit, Seal

_HEAD_BYTES = 1024


def assert_row_follows(table: str, key: str, before: int | None, version: int, row: bytes) -> None:
    """Versions rise, and `previous` is the version that was written last (`before`; None: no row is there)."""
    assert before is None or before < version, f"{table} {key}: version {version} after {before}"
    stamp = b'"version":%d,"previous":%b,' % (version, b"null" if before is None else b"%d" % before)
    assert row.find(stamp, 0, _HEAD_BYTES) > 0, f"{table} {key}: the row of {version} does not name {before}"


def assert_commit_follows(seal: Seal, commit: Commit) -> None:
    """An accepted commit follows the cluster's newest seal: an epoch opens with its begin, and an open snapshot's epoch
    is its cluster's."""
    name = commit.cluster
    assert commit.epoch >= seal.epoch, f"cluster {name}: epoch {commit.epoch} after {seal.epoch}"
    if commit.epoch > seal.epoch:
        assert commit.phase == "begin", f"cluster {name}: epoch {commit.epoch} has no begin"
        return
    assert commit.seq > seal.seq, f"cluster {name}: seq {commit.seq} after {seal.seq}"
    assert commit.writer == seal.writer, f"cluster {name}: {commit.writer} writes in the epoch of {seal.writer}"
    assert not seal.closed, f"cluster {name}: seq {commit.seq} after its end"


class Sealed(Protocol):
    """A table: the journal offset that it has sealed."""

    sealed: int


def assert_sealed(partition: int, offset: int, tables: Iterable[Sealed]) -> None:
    """After the step of an offset every table has sealed it."""
    for table in tables:
        assert table.sealed >= offset, f"partition {partition}: offset {offset} is not sealed by every table"


def assert_no_hole(partition: int, offset: int, tables: Iterable[Sealed]) -> None:
    """Work that resumes at an offset skips none that a table has not sealed."""
    for table in tables:
        assert table.sealed >= offset - 1, f"partition {partition}: offset {offset} leaves out {table.sealed + 1}"


def assert_claimed_once(members: int, claims: int, shadowed: int) -> None:
    """Of all claims to an endpoint, exactly one is not shadowed."""
    assert members == claims - shadowed, f"{claims} claims, {shadowed} of them shadowed, make {members} endpoints"


def assert_advances(partition: int, applied: int, target: int) -> None:
    """The applied offset of a partition never goes back."""
    assert target >= applied, f"partition {partition}: {target} is applied after {applied}"
