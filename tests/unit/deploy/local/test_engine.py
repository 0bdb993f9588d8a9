"""The Docker engine is asked with a limit, and each way of not having one is told as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import engine


@pytest.fixture(autouse=True)
def own_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv(engine.REFUSE_VARIABLE, raising=False)


def docker(folder: Path, script: str) -> None:
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    path.chmod(0o755)


def test_no_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engine.why_no_engine() == "there is no docker command"


def test_a_command_without_an_engine(tmp_path: Path) -> None:
    docker(tmp_path, "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    assert engine.why_no_engine() == "no Docker engine answers"


def test_an_engine_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, "exec sleep 60")
    monkeypatch.setattr(engine, "PROBE_TIMEOUT_S", 0.3)
    assert "did not answer within" in (engine.why_no_engine() or "")
    assert not engine.has_image("any")


def test_an_engine_can_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, "echo 28.0")
    assert engine.why_no_engine() is None
    monkeypatch.setenv(engine.REFUSE_VARIABLE, "1")
    assert engine.why_no_engine() == "CHAINBOOKS_NO_DOCKER is set"


def test_an_image_that_is_there_is_not_pulled(tmp_path: Path) -> None:
    docker(tmp_path, 'case "$1" in image) exit 0;; *) touch pulled; exit 1;; esac')
    assert engine.why_no_images(["kafka:1", "postgres:1"]) is None
    assert not (tmp_path / "pulled").exists()


def test_an_image_that_cannot_be_had_is_named_with_the_reason(tmp_path: Path) -> None:
    docker(tmp_path, 'case "$1" in image) exit 1;; pull) echo "no such host" >&2; exit 1;; esac')
    assert engine.why_no_images(["kafka:1"]) == "image kafka:1 is not here and could not be pulled: no such host"


def test_a_pull_has_a_limit(tmp_path: Path) -> None:
    docker(tmp_path, 'case "$1" in image) exit 1;; pull) exec sleep 60;; esac')
    assert "could not be pulled within" in (engine.why_no_images(["kafka:1"], pull_timeout_s=0.3) or "")
