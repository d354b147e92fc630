"""Fetching jars: against a small Maven repository on loopback, through jgo's real resolver."""

import gc
import hashlib
import io
import threading
import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streams.local.kafka import jars as kafka_jars
from streams.local.kafka.jars import Cancelled, Jar, JarsUnavailableError, ensure_jars, jars_dir

BROKEN_OFF = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""A download that is broken off leaves its connection to the garbage collector (jgo does not close it), which may come
while the test still runs."""


def jar_bytes(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("content", text * 5000)
    return buffer.getvalue()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Repository:
    """A Maven repository of two jars."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.jars = tuple(self.publish(name, jar_bytes(name)) for name in ("alpha", "beta"))

    def path(self, jar: Jar) -> Path:
        return self.root / jar.group.replace(".", "/") / jar.artifact / jar.version / jar.filename

    def publish(self, name: str, content: bytes) -> Jar:
        jar = Jar("org.example.test", name, "1.0", hashlib.sha256(content).hexdigest(), len(content))
        self.path(jar).parent.mkdir(parents=True)
        self.path(jar).write_bytes(content)
        return jar


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    repository = Repository(tmp_path / "repository")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(repository.root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        config = tmp_path / "jgo.conf"
        config.write_text(f"[repositories]\ntest = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
        # Whatever is asked for beyond the test's repository gets no answer from anywhere.
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield repository
        server.shutdown()
        thread.join()
    with warnings.catch_warnings():
        # What was broken off is collected here, not in a later test.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Steps(list[tuple[str, float | None]]):
    def __call__(self, step: str, fraction: float | None) -> None:
        self.append((step, fraction))


def test_all_jars_are_fetched_once_and_then_only_checked(repository: Repository, tmp_path: Path) -> None:
    steps = Steps()
    paths = ensure_jars(tmp_path / "cache", steps, jars=repository.jars)
    assert [path.read_bytes() for path in paths] == [repository.path(jar).read_bytes() for jar in repository.jars]
    fractions = [fraction for _, fraction in steps if fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    for jar in repository.jars:
        repository.path(jar).unlink()
    steps.clear()
    assert ensure_jars(tmp_path / "cache", steps, jars=repository.jars) == paths
    assert steps == []


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, not"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "SHA-256"),
    ],
)
def test_a_damaged_jar_is_told_and_fetched_again(repository: Repository, tmp_path: Path, harm, reason: str) -> None:  # type: ignore[no-untyped-def]
    paths = ensure_jars(tmp_path / "cache", Steps(), jars=repository.jars)
    good = paths[0].read_bytes()
    harm(paths[0])
    steps = Steps()
    ensure_jars(tmp_path / "cache", steps, jars=repository.jars)
    assert paths[0].read_bytes() == good
    assert paths[0].name in steps[0][0]
    assert reason in steps[0][0]


def test_a_missing_jar_is_fetched_again(repository: Repository, tmp_path: Path) -> None:
    paths = ensure_jars(tmp_path / "cache", Steps(), jars=repository.jars)
    paths[1].unlink()
    ensure_jars(tmp_path / "cache", Steps(), jars=repository.jars)
    assert paths[1].exists()


def test_what_comes_changed_from_the_network_never_reaches_the_cache(repository: Repository, tmp_path: Path) -> None:
    changed = repository.path(repository.jars[1])
    changed.write_bytes(b"x" + changed.read_bytes()[1:])
    with pytest.raises(JarsUnavailableError, match=r"org\.example\.test:beta:1\.0 came damaged from Maven Central"):
        ensure_jars(tmp_path / "cache", Steps(), jars=repository.jars)
    assert not (jars_dir(tmp_path / "cache") / "beta-1.0.jar").exists()


@BROKEN_OFF
def test_an_interrupted_download_leaves_only_whole_jars(repository: Repository, tmp_path: Path) -> None:
    def interrupt(_step: str, fraction: float | None) -> None:
        if fraction:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_jars(tmp_path / "cache", interrupt, jars=repository.jars)
    for path in jars_dir(tmp_path / "cache").iterdir():
        assert zipfile.is_zipfile(path)
    assert not list((tmp_path / "cache").glob("fetching-*"))
    assert len(ensure_jars(tmp_path / "cache", Steps(), jars=repository.jars)) == 2


@BROKEN_OFF
def test_a_download_is_cancelled_between_chunks(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        ensure_jars(tmp_path / "cache", Steps(), jars=repository.jars, cancelled=lambda: True)


def test_without_network_the_jar_and_the_remedy_are_named(repository: Repository, tmp_path: Path) -> None:
    nowhere = Jar("org.example.test", "gamma", "1.0", "0" * 64, 1)
    with pytest.raises(JarsUnavailableError, match=r"org\.example\.test:gamma:1\.0 could not be fetched") as raised:
        ensure_jars(tmp_path / "cache", Steps(), jars=(nowhere,))
    assert "HTTPS_PROXY" in raised.value.remedy


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(JarsUnavailableError, match="the cache folder") as raised:
        ensure_jars(tmp_path / "cache", Steps(), jars=())
    assert "FACETS_CACHE_DIR" in raised.value.remedy


def test_the_lock_pins_what_the_coordinates_name() -> None:
    pinned = kafka_jars.pinned_jars()
    assert set(kafka_jars.COORDINATES) <= {jar.coordinates for jar in pinned}
    assert len({jar.filename for jar in pinned}) == len(pinned)
    # Jars of one release that do not match each other fail at start with NoSuchMethodError.
    assert {jar.version for jar in pinned if jar.group == "org.apache.kafka"} == {kafka_jars.KAFKA_VERSION}
    assert kafka_jars.LOCK_FILE.read_text() == kafka_jars.render_lock(list(pinned))
