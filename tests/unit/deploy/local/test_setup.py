"""``make setup`` fetches once, tries again when a download fails, and never takes half a result for a whole one."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from deploy.local import setup, toolchain
from deploy.local.failure import LocalError
from deploy.local.paths import Layout

MAVEN = """
echo "$*" >> {folder}/mvn.calls
for word; do case "$word" in -DoutputDirectory=*) out="${{word#*=}}";; esac; done
echo jar > "$out/kafka_2.13-4.1.0.jar"
"""
NPM = """
if [ "$1" = pack ]; then
  echo "$*" >> {folder}/pack.calls
  for word; do to="$word"; done
  cp {folder}/chainlink.tgz "$to/chainlink-contracts-1.0.0.tgz"
  exit
fi
echo "$*" >> {folder}/npm.calls
mkdir -p node_modules/solc node_modules/@foundry-rs/anvil-linux-amd64/bin
echo '{{}}' > node_modules/solc/package.json
touch node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil
"""
FAILS_ONCE = 'if [ ! -e {folder}/failed ]; then touch {folder}/failed; echo "connection reset" >&2; exit 1; fi\n'


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(toolchain, "ensure", lambda _say: None)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    program(tmp_path, "mvn", MAVEN)
    program(tmp_path, "npm", NPM)
    packed(tmp_path)
    monkeypatch.setattr(setup, "CHAINLINK_PIN", tmp_path / "pin.json")
    return Layout(root=tmp_path / "local")


def packed(folder: Path) -> None:
    """An archive as npm packs it, and the pin of it."""
    with tarfile.open(folder / "chainlink.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("package/package.json")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"{}"))
    digest = base64.b64encode(hashlib.sha512((folder / "chainlink.tgz").read_bytes()).digest()).decode()
    pin = {"package": "@chainlink/contracts", "version": "1.0.0", "integrity": f"sha512-{digest}"}
    (folder / "pin.json").write_text(json.dumps(pin), encoding="ascii")


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text("#!/bin/sh\n" + script.format(folder=folder), encoding="utf-8")
    path.chmod(0o755)


def calls(layout: Layout, name: str) -> int:
    path = layout.root.parent / f"{name}.calls"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def test_what_was_fetched_is_not_fetched_again(layout: Layout) -> None:
    for _time in range(3):
        setup.run(layout, lambda _line: None)
    assert (calls(layout, "mvn"), calls(layout, "npm")) == (1, 1)
    assert calls(layout, "pack") == 1
    assert (layout.kafka_jars / "kafka_2.13-4.1.0.jar").exists()
    assert (layout.chainlink_sources / "@chainlink" / "contracts" / "package.json").exists()


def test_what_was_removed_is_fetched_again(layout: Layout) -> None:
    setup.run(layout, lambda _line: None)
    (layout.kafka_jars / "kafka_2.13-4.1.0.jar").unlink()
    setup.run(layout, lambda _line: None)
    assert (calls(layout, "mvn"), calls(layout, "npm")) == (2, 1)


def test_a_changed_source_is_fetched_again(layout: Layout) -> None:
    setup.run(layout, lambda _line: None)
    (layout.stamps / "apache").write_text("of another pom", encoding="ascii")
    setup.run(layout, lambda _line: None)
    assert (calls(layout, "mvn"), calls(layout, "npm")) == (2, 1)


def test_a_download_that_fails_once_is_tried_again(layout: Layout) -> None:
    program(layout.root.parent, "mvn", FAILS_ONCE + MAVEN)
    lines: list[str] = []
    setup.run(layout, lines.append)
    assert any("trying again" in line for line in lines)
    assert calls(layout, "mvn") == 1


def test_a_download_that_always_fails_ends_with_its_reason_and_leaves_no_stamp(layout: Layout) -> None:
    program(layout.root.parent, "mvn", "echo could not resolve host >&2; exit 1")
    with pytest.raises(LocalError, match="failed 4 times\n  could not resolve host"):
        setup.run(layout, lambda _line: None)
    assert not (layout.stamps / "apache").exists()
    program(layout.root.parent, "mvn", MAVEN)
    setup.run(layout, lambda _line: None)
    assert calls(layout, "mvn") == 1


def test_a_platform_without_anvil_is_told(layout: Layout) -> None:
    program(layout.root.parent, "npm", "mkdir -p node_modules/solc; echo '{{}}' > node_modules/solc/package.json")
    with pytest.raises(LocalError, match="there is no anvil"):
        setup.run(layout, lambda _line: None)


def test_a_package_that_is_not_the_pinned_one_is_refused_and_not_unpacked(layout: Layout) -> None:
    with (layout.root.parent / "chainlink.tgz").open("ab") as archive:
        archive.write(b"x")
    with pytest.raises(LocalError, match="is not what is pinned"):
        setup.run(layout, lambda _line: None)
    assert not layout.chainlink_sources.exists()
    assert not (layout.stamps / "chainlink's").exists()
