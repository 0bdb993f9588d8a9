"""Chainlink's contracts are compiled from the pinned package, once, and the committed ABIs are theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from contracts.solidity import build, chainlink
from contracts.solidity.artifacts import Artifact
from deploy.local.npm_package import Pin
from deploy.local.setup import CHAINLINK_PIN

CODE_BYTES_MAX = 24_576  # EIP-170


def test_the_pinned_versions_are_one() -> None:
    pin = Pin.read(CHAINLINK_PIN)
    assert (pin.package, pin.version) == (chainlink.PACKAGE, chainlink.PACKAGE_VERSION)
    asked = json.loads((CHAINLINK_PIN.parent / "package.json").read_bytes())["dependencies"]
    assert asked[chainlink.SOLC] == f"npm:solc@{chainlink.SOLC_VERSION}"


def test_committed_abis_are_as_compiled(chainlink_contracts: Mapping[str, Artifact]) -> None:
    assert {path: path.read_text("utf-8") for path in chainlink.abi_files(chainlink_contracts)} == chainlink.abi_files(
        chainlink_contracts
    )


def test_it_is_the_contract_and_it_fits_on_a_chain(chainlink_contracts: Mapping[str, Artifact]) -> None:
    assert chainlink_contracts.keys() == chainlink.CONTRACTS.keys()
    for name, artifact in chainlink_contracts.items():
        assert 0 < len(artifact.bytecode) // 2 < CODE_BYTES_MAX, name


def test_a_differing_abi_is_named(
    chainlink_contracts: Mapping[str, Artifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(chainlink, "ABIS", tmp_path)
    assert chainlink.main(["--check"]) == 1
    assert "VRFCoordinatorV2_5.json differs" in capsys.readouterr().err
    assert chainlink.main([]) == 0
    assert chainlink.main(["--check"]) == 0


def test_without_the_package_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHAINBOOKS_NODE_DIR", str(tmp_path))
    assert chainlink.main([]) == 3
    assert f"{chainlink.PACKAGE} {chainlink.PACKAGE_VERSION} is not in" in capsys.readouterr().err
    assert build.main(["--check"]) == 3
