"""Custody of named tokens: which tokens are read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_hash.auto import keccak

from contracts.registry import RegistryError, load_registry
from tests.unit.contracts.build import CHAIN_ID, DEPLOYMENT, OTHER_TOKEN, SHIPPED, TOKEN, shipped_registry

DEPOSIT = keccak(b"Deposit(address,uint256)")
TRANSFER = keccak(b"Transfer(address,address,uint256)")
NAMED = DEPLOYMENT.replace("contracts:\n", f'contracts:\n  weth9: {{addresses: ["{TOKEN}"]}}\n')


def test_only_the_named_token_is_read_and_its_transfers_stay_with_the_standard(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path, NAMED)

    def reader(token: str, topics: list[bytes]) -> str | None:
        codec = registry.dispatch(bytes.fromhex(token[2:]), topics, 5)
        return None if codec is None else codec.contract

    assert reader(TOKEN, [DEPOSIT, b"\0" * 32]) == "weth9"
    assert reader(OTHER_TOKEN, [DEPOSIT, b"\0" * 32]) is None
    assert reader(TOKEN, [TRANSFER, b"\0" * 32, b"\0" * 32]) == "erc20"


def test_without_a_named_token_it_is_not_on_the_chain(tmp_path: Path) -> None:
    assert "weth9" not in {contract.name for contract in shipped_registry(tmp_path).contracts}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("{to: dst, amount: wad}", "{amount: wad}", "names neither from nor to"),
        (
            "tokens: named\nchains: {}",
            f'tokens: listed\nchains: {{5: {{addresses: ["{TOKEN}"]}}}}',
            "write tokens: named",
        ),
        ("{to: dst, amount: wad}", "{to: dts, amount: wad}", "did you mean 'dst'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = (SHIPPED / "weth9.yaml").read_text()
    assert old in text
    (tmp_path / "weth9.yaml").write_text(text.replace(old, new))
    (tmp_path / "deployment.yaml").write_text(NAMED)
    others = [path for path in sorted(SHIPPED.glob("*.yaml")) if path.name != "weth9.yaml"]
    with pytest.raises(RegistryError, match=problem):
        load_registry([*others, tmp_path], chain_id=CHAIN_ID)
