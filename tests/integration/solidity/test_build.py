"""The committed artifacts are what the sources compile to, and the build says so when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.solidity import build


@pytest.fixture(scope="module")
def compiled() -> dict[Path, str]:
    return build.compile_sources(build.node_folder())


def test_committed_files_are_as_compiled(compiled: dict[Path, str]) -> None:
    assert build.differences(compiled) == []


def test_a_difference_is_found_and_named(
    compiled: dict[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = build.ARTIFACTS / "PaymentGateway.json"
    removed = build.ABIS / "ERC20.json"
    surplus = {path: text for path, text in compiled.items() if path.stem != "LegacyVault"}
    surplus[changed] = surplus[changed].replace("eventSeq", "eventNumber")
    surplus[removed.with_name("New.json")] = "[]\n"
    monkeypatch.setattr(build, "compile_sources", lambda _: surplus)
    assert build.main(["--check"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "contracts/abi/New.json is missing",
        "contracts/solidity/artifacts/PaymentGateway.json differs from what its sources compile to",
        "contracts/solidity/artifacts/LegacyVault.json has no source",
    ]


def test_sources_that_do_not_compile_are_told_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compile.mjs").write_bytes((build.SOURCES / "compile.mjs").read_bytes())
    (tmp_path / "Broken.sol").write_text(
        "// SPDX-License-Identifier: Apache-2.0\npragma solidity 0.8.37;\ncontract {}\n"
    )
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert build.main(["--check"]) == 2
    assert "Broken.sol:3" in capsys.readouterr().err


def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHAINBOOKS_NODE_DIR", str(tmp_path))
    assert build.main(["--check"]) == 3
    assert "solc 0.8.37 is not in" in capsys.readouterr().err
    package = tmp_path / "node_modules" / "solc" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "0.8.1"}')
    assert build.main(["--check"]) == 3
    assert "solc is 0.8.1, 0.8.37 is pinned" in capsys.readouterr().err
