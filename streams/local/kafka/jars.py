"""Apache Kafka's jars: fetched from Maven Central once, checked against pinned checksums at every start.

``kafka-jars.lock`` beside this file pins every jar by version and SHA-256, so what runs is what was tested. Only whole,
checked jars get into the cache folder: an interrupted download leaves nothing there, a damaged jar is fetched again.
After a change of ``COORDINATES`` renew the lock with ``python -m streams.local.kafka.jars``.
"""

import hashlib
import os
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.runtime.progress import ProgressReport

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA_VERSION = "4.1.0"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Named, since the resolver would take another version that a dependency of a dependency asks for.
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)
LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")

_DOWNLOADS_AT_ONCE = 4
_TIMEOUT_SECONDS = 30

#: Called with a file's name and size; what it opens is called with the bytes of each chunk.
_Report = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


class JarsUnavailableError(FacetsError):
    """Kafka's jars are neither in the cache nor available; the message names the jar and the reason."""

    exit_code = ExitCode.UNAVAILABLE


class Cancelled(Exception):
    """The caller cancelled before all jars were fetched."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar: Maven coordinates, SHA-256 in hex and size in bytes."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def parse_lock(text: str) -> tuple[Jar, ...]:
    """Reads lines of ``group:artifact:version sha256 size``; ``#`` begins a comment line.

    Raises:
        ValueError: a line says anything else.
    """
    jars = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        coordinates, sha256, size = line.split()
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256, int(size)))
    return tuple(jars)


def pinned_jars() -> tuple[Jar, ...]:
    """The jars that this version of the package runs Kafka from."""
    return parse_lock(LOCK_FILE.read_text(encoding="utf-8"))


def damage(path: Path, jar: Jar) -> str | None:
    """What is wrong with the file that should be ``jar``; None when it is right."""
    try:
        size = path.stat().st_size
        if size != jar.size:
            return f"{size} bytes, not {jar.size}"
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return None if checksum == jar.sha256 else f"SHA-256 {checksum}, not {jar.sha256}"


def jars_dir(cache_dir: Path) -> Path:
    """The folder of this Kafka version's jars inside the cache."""
    return cache_dir / f"kafka-{KAFKA_VERSION}"


def ensure_jars(
    cache_dir: Path,
    progress: ProgressReport,
    *,
    jars: tuple[Jar, ...] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """The class path: every pinned jar, checked; what is missing or damaged is fetched first.

    Safe to call from several processes at once: one fetches, the others wait for it.

    Raises:
        JarsUnavailableError: a jar can't be fetched, or the cache folder can't be written.
        Cancelled: ``cancelled()`` became true.
    """
    required = pinned_jars() if jars is None else jars
    folder = jars_dir(cache_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            broken = []
            for jar in required:
                reason = damage(folder / jar.filename, jar)
                if reason is not None:
                    broken.append(jar)
                    if reason != "missing":
                        progress(f"{jar.filename} in {folder} is damaged ({reason}); fetching it again", None)
            if broken:
                _fetch_all(broken, folder, progress, cancelled)
    except OSError as error:
        raise JarsUnavailableError(
            f"the cache folder {cache_dir} can't be used: {error}", "free space, or name another with FACETS_CACHE_DIR"
        ) from error
    return [folder / jar.filename for jar in required]


def _fetch_all(jars: list[Jar], folder: Path, progress: ProgressReport, cancelled: Callable[[], bool]) -> None:
    total = sum(jar.size for jar in jars)
    step = f"Fetching Apache Kafka {KAFKA_VERSION} ({total / 1e6:.0f} MB, once)"
    lock, fetched, stop = threading.Lock(), 0, threading.Event()
    progress(step, 0.0)

    def advance(count: int) -> None:
        nonlocal fetched
        if stop.is_set() or cancelled():
            raise Cancelled
        with lock:
            fetched += count
            progress(step, min(fetched / total, 1.0))

    @contextmanager
    def report(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder.parent) as staging:
        context = _maven(Path(staging), report)
        pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE, thread_name_prefix="fetch")
        try:
            for future in as_completed([pool.submit(_fetch, context, jar, folder) for jar in jars]):
                future.result()
        finally:
            # Downloads under way end at their next chunk, so that Ctrl-C is answered at once.
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    progress(step, 1.0)


def _fetch(context: "MavenContext", jar: Jar, folder: Path) -> None:
    import requests  # noqa: PLC0415  (jgo's client; only a download needs it)

    try:
        fetched = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (requests.RequestException, RuntimeError) as error:
        raise JarsUnavailableError(
            f"{jar.coordinates} could not be fetched from Maven Central: {_brief(error)}",
            "check the network (a proxy is taken from HTTPS_PROXY), or use a Kafka that runs elsewhere: "
            "--bootstrap-servers",
        ) from error
    reason = damage(fetched, jar)
    if reason is None and not zipfile.is_zipfile(fetched):
        reason = "not a jar"
    if reason is not None:
        raise JarsUnavailableError(
            f"{jar.coordinates} came damaged from Maven Central ({reason})",
            "try again; if it stays so, something between this machine and Maven Central changes downloads",
        )
    os.replace(fetched, folder / jar.filename)


def _brief(error: Exception) -> str:
    """The innermost reason: the outer layers of a failed request repeat each other."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(cause).__name__}: {cause}"


def _maven(repo_cache: Path, report: _Report | None = None) -> "MavenContext":
    # Imported late: jgo takes a third of a second that a start from a full cache need not wait for.
    from jgo.config import GlobalSettings  # noqa: PLC0415
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    # Mirrors that the user has set up for jgo come first; the checksums hold for them, too.
    remotes = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    return MavenContext(
        resolver=PythonResolver(progress_callback=report),
        repo_cache=repo_cache,
        local_repos=[],
        remote_repos=remotes,
        timeout=_TIMEOUT_SECONDS,
    )


def render_lock(jars: list[Jar]) -> str:
    """The lock file's text, sorted, so that a renewal shows only what changed."""
    head = "# Made by `python -m streams.local.kafka.jars`: group:artifact:version sha256 size\n"
    return head + "".join(f"{jar.coordinates} {jar.sha256} {jar.size}\n" for jar in sorted(jars, key=repr))


def resolve() -> list[Jar]:
    """Resolves ``COORDINATES`` and all they depend on at run time, and takes each jar's checksum. Needs the network."""
    from jgo.parse import Coordinate  # noqa: PLC0415

    jars = []
    with tempfile.TemporaryDirectory() as staging:
        context = _maven(Path(staging))
        inputs, transitive = context.resolver.resolve(
            [context.create_dependency(replace(Coordinate.parse(name), scope="compile")) for name in COORDINATES]
        )
        for dependency in [*inputs, *(d for d in transitive if d.scope in ("compile", "runtime"))]:
            artifact = dependency.artifact
            path = artifact.resolve()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            jars.append(
                Jar(artifact.groupId, artifact.artifactId, artifact.version, digest, path.stat().st_size),
            )
    return jars


if __name__ == "__main__":
    LOCK_FILE.write_text(render_lock(resolve()), encoding="utf-8")
    sys.stdout.write(f"{LOCK_FILE} written\n")
