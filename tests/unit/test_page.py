"""The page's files as they are served and packed: headers, entity tags, nothing from elsewhere, text only as text."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from streams.serve.page.routes import CONTENT_SECURITY_POLICY, add_page, page_files

ROOT = Path(__file__).parents[2]
FILES = ROOT / "streams" / "serve" / "page" / "files"
SCRIPTS = sorted(FILES.glob("*.js"))


def client() -> TestClient[web.Request, web.Application]:
    app = web.Application()
    add_page(app)
    return TestClient(TestServer(app))


async def test_every_file_is_served_with_the_policy_and_its_type() -> None:
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    async with client() as asking:
        for file in FILES.iterdir():
            answer = await asking.get("/" if file.name == "index.html" else f"/page/{file.name}")
            assert answer.status == 200, file.name
            assert answer.content_type == types[file.suffix]
            assert await answer.read() == file.read_bytes()
            assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    directives = dict(each.split(" ", 1) for each in CONTENT_SECURITY_POLICY.split("; "))
    assert directives["default-src"] == "'none'"
    assert {directives[f"{kind}-src"] for kind in ("script", "style", "connect", "img")} == {"'self'"}
    assert {directives[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}


async def test_a_file_that_is_held_is_not_sent_again() -> None:
    async with client() as asking:
        first = await asking.get("/page/app.js")
        held = await asking.get("/page/app.js", headers={"If-None-Match": first.headers["ETag"]})
        assert (held.status, await held.read()) == (304, b"")
        assert held.headers["ETag"] == first.headers["ETag"]
        other = await asking.get("/page/app.js", headers={"If-None-Match": '"another"'})
        assert other.status == 200
        assert (await asking.head("/")).status == 200


async def test_nothing_else_is_served() -> None:
    async with client() as asking:
        for path in ("/page/", "/page/routes.py", "/page/..%2froutes.py", "/page/index.html", "/page/none.js"):
            assert (await asking.get(path)).status == 404, path


def test_what_the_page_names_is_there_and_its_own() -> None:
    document = (FILES / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"#]+)"', document)
    assert {name.removeprefix("page/") for name in named} <= set(page_files())
    for script in SCRIPTS:
        for name in re.findall(r'from "([^"]+)"', script.read_text()):
            assert name.startswith("./"), f"{script.name}: {name}"
            assert name.removeprefix("./") in page_files(), f"{script.name}: {name}"
    for file in FILES.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"'<)]+", file.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name  # The name of SVG, which nobody asks for.


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_text_is_inserted_as_text_alone(script: Path) -> None:
    """No way for markup or script: the policy's Trusted Types refuse them in Chromium, not in every browser."""
    ways = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\b"
        r"|Function\(|srcdoc|javascript:"
    )
    assert re.findall(ways, script.read_text()) == []


def test_the_wheel_has_it(tmp_path: Path) -> None:
    """(The source distribution has all that is tracked: test_sdist.)"""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {f"streams/serve/page/files/{file.name}" for file in FILES.iterdir()} <= packed
