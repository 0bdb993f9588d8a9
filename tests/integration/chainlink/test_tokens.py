"""Custody of LINK and of WETH on their real bytecode: what a wallet of ours holds is what its token says, always."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.messages import asset_id
from contracts.registry import RegistryError, load_registry
from tests.integration.chainlink.audit import Balances, folded
from tests.integration.chainlink.stage import Stage
from tests.integration.ledger.onchain import Narrator
from tests.integration.solidity.chain import Contract
from tests.unit.ledger.story import CHAIN_ID, SHIPPED

WALLET = """\
kind: contract
contract: treasury
book: treasury
abi: []
chains: {{{chain}: {{addresses: ["{address}"]}}}}
events: {{}}
"""


def narrator(stage: Stage, token: Contract, folder: Path, *, wrapper: bool = False) -> Narrator:
    """Of ann, who is a wallet of ours."""
    (folder / "treasury.yaml").write_text(WALLET.format(chain=CHAIN_ID, address=stage.ann))
    overlay = (
        f'kind: deployment\nchain: {CHAIN_ID}\ntokens: [{{address: "{token.address}", symbol: X, decimals: 18}}]\n'
    )
    if wrapper:
        overlay += f'contracts: {{weth9: {{addresses: ["{token.address}"]}}}}\n'
    (folder / "deployment.yaml").write_text(overlay)
    registry = load_registry([SHIPPED, folder], chain_id=CHAIN_ID)
    return Narrator(node=stage.node, registry=registry, addresses=(token.address,))


def held(books: Balances, stage: Stage, token: Contract) -> int:
    return books.get((f"assets:treasury:onchain:{stage.ann}:-", asset_id(CHAIN_ID, token.address)), 0)


def test_wrapped_coins_are_held_without_a_transfer(stage: Stage, tmp_path: Path) -> None:
    weth = stage.deploy("WETH9")
    teller = narrator(stage, weth, tmp_path, wrapper=True)

    def wrap_by_sending() -> None:
        stage.node.send_native(weth.address, 30, sender=stage.ann)

    deeds = [
        lambda: weth.send("deposit", sender=stage.ann, value=1_000),
        wrap_by_sending,
        lambda: weth.send("deposit", sender=stage.bob, value=500),
        lambda: weth.send("transfer", stage.bob, 7, sender=stage.ann),
        lambda: weth.send("transfer", stage.ann, 90, sender=stage.bob),
        lambda: weth.send("withdraw", 13, sender=stage.ann),
        lambda: weth.send("withdraw", 100, sender=stage.bob),
        lambda: weth.send("deposit", sender=stage.ann, value=0),
        lambda: weth.send("withdraw", 1_100, sender=stage.ann),
    ]
    seen = []
    for deed in deeds:
        deed()
        books = folded(teller)
        seen.append(weth.call("balanceOf", stage.ann))
        assert held(books, stage, weth) == seen[-1]
    assert seen == [1_000, 1_030, 1_030, 1_023, 1_113, 1_100, 1_100, 1_100, 0]


def test_the_twin_of_link_is_never_posted(stage: Stage, tmp_path: Path) -> None:
    """A transferAndCall leaves an ERC-20 Transfer and an ERC-677 one, in both directions from and to a wallet."""
    teller = narrator(stage, stage.link, tmp_path)
    start = stage.link.call("balanceOf", stage.ann)
    before = held(folded(teller), stage, stage.link)
    assert before == start  # minting is a Transfer
    logs = stage.link.send("transferAndCall", stage.bob, 25, b"", sender=stage.ann)
    assert [log.name for log in logs] == ["Transfer", "Transfer"]
    assert held(folded(teller), stage, stage.link) == start - 25
    stage.link.send("transferAndCall", stage.ann, 5, b"\1", sender=stage.bob)
    assert held(folded(teller), stage, stage.link) == start - 20 == stage.link.call("balanceOf", stage.ann)


def test_a_wrapped_coin_that_is_not_listed_is_refused(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "treasury.yaml").write_text(WALLET.format(chain=CHAIN_ID, address=stage.ann))
    (tmp_path / "deployment.yaml").write_text(
        f'kind: deployment\nchain: {CHAIN_ID}\ncontracts: {{weth9: {{addresses: ["{stage.link.address}"]}}}}\n'
    )
    with pytest.raises(RegistryError, match="is not on the allow-list; add it to the tokens of this chain"):
        load_registry([SHIPPED, tmp_path], chain_id=CHAIN_ID)
