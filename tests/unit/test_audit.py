"""The Merkle log of a journal: RFC 6962's hashes, C2SP's files, notes and proofs, and what is found to differ."""

import re
import stat
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from streams.audit import keys
from streams.audit.comparison import first_difference
from streams.audit.entries import Entry, entry_of, read_entry
from streams.audit.journal_check import check_kept, check_log
from streams.audit.journal_log import JournalLog
from streams.audit.log_folder import LogDamaged, LogFolder
from streams.audit.merkle import inclusion_proof, leaf_hash
from streams.audit.notes import (
    Checkpoint,
    NoteError,
    open_checkpoint,
    open_note,
    sign_checkpoint,
    sign_note,
    split_notes,
    verifier_key,
)
from streams.audit.proofs import Record, check_proof, write_proof
from streams.audit.tiles import bundle_path, tile_path, unpack_entries
from streams.errors import FacetsError
from tests.support.naive_merkle import files_of, naive_root

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()


LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Certificate Transparency's own reference leaves, and the roots over the first of them."""


@pytest.mark.parametrize("count", range(1, 9))
def test_roots_of_certificate_transparencys_reference_leaves(tmp_path: Path, count: int) -> None:
    folder = LogFolder(tmp_path)
    assert folder.append(0, map(bytes.fromhex, LEAVES[:count])) == count
    assert folder.root(count).hex() == ROOTS[count - 1]


def test_files_are_where_tlog_tiles_has_them(tmp_path: Path) -> None:
    assert tile_path(0, 1234067, 256) == "tile/0/x001/x234/067"
    assert bundle_path(5, 3) == "tile/entries/005.p/3"
    LogFolder(tmp_path).append(0, (b"%d" % number for number in range(70_000)))
    found = files_of(tmp_path)
    # The example of the specification.
    assert sum(1 for path in found if path.startswith("tile/0/") and ".p" not in path) == 273
    partial = {path for path in found if ".p/" in path}
    assert partial == {"tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"}
    assert [len(found[path]) for path in ("tile/0/000", "tile/1/000", "tile/1/001.p/17")] == [8192, 8192, 17 * 32]
    assert found["tile/entries/273.p/112"][:7] == b"\x00\x0569888"
    with pytest.raises(ValueError, match="inside an entry"):
        unpack_entries(found["tile/entries/273.p/112"][:-1])


GOS_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GOS_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GOS_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GOS_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
GOS_NOTE = f"{GOS_TEXT}\n— PeterNeumann {GOS_SIGNATURE}\n"
"""The example of Go's package golang.org/x/mod/sumdb/note."""


def test_a_note_is_read_and_written_as_gos_package_does() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b64decode(GOS_SIGNER.split("+", 4)[4])[1:])
    public = key.public_key()
    assert verifier_key("PeterNeumann", public) == GOS_VERIFIER
    assert sign_note(GOS_TEXT, "PeterNeumann", key) == GOS_NOTE
    assert open_note(GOS_NOTE, "PeterNeumann", public) == GOS_TEXT
    other = sign_note(GOS_TEXT, "example.org/other", KEY).rpartition("\n\n")[2]
    assert open_note(GOS_NOTE + other, "PeterNeumann", public) == GOS_TEXT
    with pytest.raises(NoteError, match="not of this text"):
        open_note(GOS_NOTE.replace("cryptography", "cartography"), "PeterNeumann", public)
    with pytest.raises(NoteError, match="not signed by this key"):
        open_note(GOS_NOTE, "PeterNeumann", PUBLIC)


CHECKPOINT = Checkpoint("example.com/behind-the-sofa", 20852163, bytes(range(32)))


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("20852163", "020852163", "not of this text"),
        ("\n\n", "\n", "no signature"),
        ("sofa", "sofa\t", "not a signed note"),
        ("— ", "- ", "not a signature"),
        ("=\n\n", "\n\n", "not of this text"),
    ],
)
def test_a_checkpoint_that_is_not_one(before: str, after: str, problem: str) -> None:
    note = sign_checkpoint(CHECKPOINT, KEY)
    assert open_checkpoint(note, PUBLIC) == CHECKPOINT
    assert note.startswith("example.com/behind-the-sofa\n20852163\nAAECAw")
    with pytest.raises(NoteError, match=problem):
        open_checkpoint(note.replace(before, after, 1), PUBLIC)


@pytest.mark.parametrize(
    "text", ["a\n1\n", "a\n01\n{root}\n", "a\n-1\n{root}\n", "a\n1\nAAAA\n", "a\n1\n{root}\n\nb\n"]
)
def test_a_text_that_is_signed_and_no_checkpoint(text: str) -> None:
    root = b64encode(bytes(32)).decode()
    with pytest.raises(NoteError, match="not a checkpoint"):
        open_checkpoint(sign_note(text.format(root=root), "a", KEY), PUBLIC)


def test_another_logs_checkpoint_is_not_taken() -> None:
    notes = "".join(sign_checkpoint(CHECKPOINT._replace(origin=name), KEY) for name in ("a", "b", "c"))
    assert [open_checkpoint(note, PUBLIC).origin for note in split_notes(notes)] == ["a", "b", "c"]
    with pytest.raises(NoteError, match="a checkpoint of a, not of b"):
        open_checkpoint(split_notes(notes)[0], PUBLIC, "b")


def records(count: int, first: int = 100) -> list[Entry]:
    return [entry_of(first + i, 1_764_000_000_000 + i, b"east", b'{"seq":%d}' % i) for i in range(count)]


@pytest.mark.parametrize(
    "encoded",
    [b"{}", b"[]", b"1", b'{"key":null,"offset":-1,"timestamp":1,"value":null}',
     b'{"key":null,"offset":1,"timestamp":true,"value":null}', b'{"key":"x","offset":1,"timestamp":1,"value":null}',
     b'{"key": null,"offset":1,"timestamp":1,"value":null}', b'{"offset":1,"key":null,"timestamp":1,"value":null}'],
)  # fmt: skip
def test_an_entry_has_one_form(encoded: bytes) -> None:
    assert read_entry(b'{"key":null,"offset":1,"timestamp":1,"value":null}') == Entry(None, 1, 1, None)
    with pytest.raises(ValueError, match="not an entry"):
        read_entry(encoded)


def placed(entries: list[Entry]) -> list[Entry]:
    return [entry._replace(offset=100 + i) for i, entry in enumerate(entries)]


NEW = entry_of(0, 1, b"east", b"forged")


@pytest.mark.parametrize(
    ("change", "offset", "kind", "detail"),
    [
        (lambda r: [*r[:4], NEW, *r[5:]], 104, "altered", "its value is another"),
        (lambda r: [*r[:4], r[7], *r[5:]], 104, "altered", "a copy of offset 107"),
        (lambda r: [*r[:4], r[4]._replace(timestamp=5), *r[5:]], 104, "altered", "now says 5 ms"),
        (lambda r: [*r[:4], r[5], r[4], *r[6:]], 104, "reordered", "now at offset 105, .* taken at 105"),
        (lambda r: [*r[:4], *r[5:], r[4]], 104, "reordered", "now at offset 109"),
        (lambda r: [*r[:4], *r[5:]], 104, "missing", "taken at 105"),
        (lambda r: [*r[:4], *r[7:]], 104, "missing", "taken at 107"),
        (lambda r: r[:9], 109, "missing", "nothing is at its offset"),
        (lambda r: [], 100, "missing", "nothing is at its offset"),
        (lambda r: [*r[:4], NEW, *r[4:]], 104, "inserted", "what was there is at 105"),
    ],
)  # fmt: skip
def test_the_first_difference_has_its_place_and_kind(change: Any, offset: int, kind: str, detail: str) -> None:
    taken = records(10)
    present = placed(change(taken))
    found = first_difference(lambda: taken, lambda: present)
    assert found is not None
    assert (found.offset, found.kind) == (offset, kind)
    assert re.search(detail, found.detail)
    assert first_difference(lambda: taken, lambda: taken) is None


def test_a_record_that_is_gone_from_its_offset() -> None:
    taken = records(10)
    found = first_difference(lambda: taken, lambda: [*taken[:4], *taken[5:]])
    assert found is not None
    assert found[:2] == (104, "missing")


@pytest.fixture
def log(tmp_path: Path) -> JournalLog:
    """A signed log of 600 records."""
    made = JournalLog(tmp_path, "a-cluster", 3)
    size = made.folder.append(0, (entry.encode() for entry in records(600)))
    made.folder.publish(sign_checkpoint(Checkpoint(made.origin, size, made.folder.root(size)), KEY), "key")
    return made


def checkpoint_of(log: JournalLog) -> Checkpoint:
    checkpoint = log.checkpoint(PUBLIC)
    assert checkpoint is not None
    return checkpoint


def rewrite(log: JournalLog, path: str, old: bytes, new: bytes) -> None:
    file = log.folder.path / path
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))


def test_a_log_whose_files_were_changed(log: JournalLog) -> None:
    check_log(log, checkpoint_of(log))
    old, new = records(600)[300], records(600)[300]._replace(timestamp=7)
    new_bytes = new.encode() + b" " * (len(old.encode()) - len(new.encode()))
    rewrite(log, "tile/entries/001", old.encode(), new_bytes)
    with pytest.raises(LogDamaged, match="entry 300"):
        check_log(log, checkpoint_of(log))
    new = old._replace(timestamp=old.timestamp + 1)
    rewrite(log, "tile/entries/001", new_bytes, new.encode())
    with pytest.raises(LogDamaged, match="entry of offset 400 does not fit its tile, 1"):
        check_log(log, checkpoint_of(log))
    rewrite(log, "tile/0/001", leaf_hash(old.encode()), leaf_hash(new.encode()))
    with pytest.raises(LogDamaged, match="offsets 356 to 611 is not what is in its tiles of level 1"):
        check_log(log, checkpoint_of(log))
    rewrite(
        log,
        "tile/1/000.p/2",
        *(
            naive_root([e.encode() for e in [*records(600)[256:300], each, *records(600)[301:512]]])
            for each in (old, new)
        ),
    )
    with pytest.raises(LogDamaged, match="do not have the root that was signed"):
        check_log(log, checkpoint_of(log))


def test_files_that_are_missing_or_cut(log: JournalLog) -> None:
    bundle = log.folder.path / "tile/entries/001"
    content = bundle.read_bytes()
    bundle.write_bytes(content[:-3])
    with pytest.raises(LogDamaged, match="does not have what a log of this size has"):
        check_log(log, checkpoint_of(log))
    bundle.unlink()
    with pytest.raises(LogDamaged, match="is missing"):
        check_log(log, checkpoint_of(log))
    bundle.write_bytes(content)
    (log.folder.path / "tile/0/002.p/88").write_bytes(b"short")
    with pytest.raises(LogDamaged, match="does not have what"):
        check_log(log, checkpoint_of(log))
    (log.folder.path / "checkpoint").write_bytes(b"\xff")
    with pytest.raises(LogDamaged, match="can't be read"):
        log.checkpoint(PUBLIC)


def test_a_log_that_was_made_anew_is_not_the_one_that_was_kept(log: JournalLog, tmp_path: Path) -> None:
    kept, current = Checkpoint(log.origin, 500, log.folder.root(500, 600)), checkpoint_of(log)
    check_kept(log, current, kept)
    with pytest.raises(LogDamaged, match="was made anew"):
        check_kept(log, current, kept._replace(root=bytes(32)))
    with pytest.raises(LogDamaged, match="has 600 records; the checkpoint that was kept has 700"):
        check_kept(log, current, kept._replace(size=700))
    other = JournalLog(tmp_path / "other", "a-cluster", 3)
    other.folder.publish(sign_checkpoint(current, Ed25519PrivateKey.generate()), "key")
    with pytest.raises(LogDamaged, match="not signed by this key"):
        other.checkpoint(PUBLIC)


def proof_of(log: JournalLog, index: int, record: Record | None) -> str:
    siblings = inclusion_proof(log.folder.hash_reader(600), index, 600)
    note = log.folder.note()
    assert note is not None
    return write_proof(records(600)[index], record, index, siblings, note)


def test_a_proof_shows_its_record_alone(log: JournalLog) -> None:
    proof = proof_of(log, 17, Record(b"east", b'{"seq":17}'))
    proven = check_proof(proof, PUBLIC)
    assert (proven.leaf, proven.entry, proven.record) == (17, records(18)[17], Record(b"east", b'{"seq":17}'))
    assert check_proof(proof_of(log, 17, None), PUBLIC).record is None
    first, _, *rest = proof.split("\n")
    assert first == "c2sp.org/tlog-proof@v1"
    wrong = {
        "another hash": proof_of(log, 17, Record(b"east", b'{"seq":18}')),
        "does not lead to the signed root": "\n".join([first, proof_of(log, 18, None).split("\n")[1], *rest]),
        "not signed": check_and_resign(proof),
        "begin with": proof.replace("v1", "v2", 1),
        "has 10 hashes, not 9": proof.replace(f"{rest[1]}\n", "", 1),
        "not of this text": proof.replace("\n600\n", "\n601\n"),
        "extra data": "\n".join([first, f"extra {b64encode(b'{}').decode()}", *rest]),
    }
    for problem, text in wrong.items():
        with pytest.raises(ValueError, match=problem):
            check_proof(text, PUBLIC)


def check_and_resign(proof: str) -> str:
    """The proof with its checkpoint signed by somebody else."""
    head, _, note = proof.partition("\n\n")
    return f"{head}\n\n{sign_checkpoint(open_checkpoint(note, PUBLIC), Ed25519PrivateKey.generate())}"


def test_a_key_is_its_owners_alone_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    public = keys.make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.read_key(path).public_key() == public == keys.read_public_key(keys.public_path(path))
    with pytest.raises(FacetsError, match="exists"):
        keys.make_key(path)
    path.chmod(0o640)
    with pytest.raises(FacetsError, match="can be read by others"):
        keys.read_key(path)
    with pytest.raises(FacetsError, match="there is no key"):
        keys.read_key(tmp_path / "none")
    for wrong in (b"text", keys.public_path(path).read_bytes()):
        (tmp_path / "wrong").write_bytes(wrong)
        (tmp_path / "wrong").chmod(0o600)
        with pytest.raises(FacetsError, match="not an Ed25519 key"):
            keys.read_key(tmp_path / "wrong")
    with pytest.raises(FacetsError, match="not an Ed25519 public key"):
        keys.read_public_key(path)
