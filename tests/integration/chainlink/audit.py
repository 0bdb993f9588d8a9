"""The books of everything that happened on a chain, folded by the ledger's own worker, against the chain itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.messages import NATIVE_ADDRESS, asset_id
from contracts.posting import PostingRules
from contracts.registry import Registry, load_registry
from tests.integration.chainlink.stage import Stage
from tests.integration.ledger.onchain import Narrator
from tests.unit.ledger.fake_store import Shelf
from tests.unit.ledger.folding import StaticRegistry, fold_into
from tests.unit.ledger.story import CHAIN_ID, SHIPPED

NATIVE: Final = asset_id(CHAIN_ID, NATIVE_ADDRESS)

Balances = dict[tuple[str, str], int]
"""(account, asset) → debits minus credits."""


def folded(narrator: Narrator) -> Balances:
    """The ledger's books of everything. Nothing may have been quarantined, and nothing have stopped it."""
    rules = {c.version: PostingRules.from_document(c.document) for c in narrator.registry.contracts}
    shelf = Shelf()
    asyncio.run(fold_into(shelf, [narrator.story().records], registry=StaticRegistry(rules)))
    assert shelf.stopped is None
    assert shelf.quarantine == {}
    return shelf.balances()


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Folds from the first block each time: nothing is carried over."""

    stage: Stage
    registry: Registry
    folder: Path

    @property
    def link(self) -> str:
        return asset_id(CHAIN_ID, self.stage.link.address)

    @property
    def narrator(self) -> Narrator:
        addresses = (self.stage.coordinator.address, self.stage.link.address)
        return Narrator(node=self.stage.node, registry=self.registry, addresses=addresses)

    def balances(self) -> Balances:
        return folded(self.narrator)

    def differences(self, subscriptions: Sequence[int]) -> dict[str, int]:
        """Books minus chain, where they differ; what is left on clearing; whatever is owed without being expected."""
        books = self.balances()
        found: dict[str, int] = {}
        for asset, name in ((self.link, "LINK"), (NATIVE, "native")):
            for what, (ledger, chain) in self._compared(books, asset, subscriptions).items():
                if ledger != chain:
                    found[f"{what} {name}"] = ledger - chain
        return found

    def _compared(self, books: Balances, asset: str, subscriptions: Sequence[int]) -> dict[str, tuple[int, int]]:
        """Both sides of each comparison, asked from the contracts by hand and not from the description."""
        coordinator, here = self.stage.coordinator, self.stage.coordinator.address
        is_link = asset == self.link
        owed = {code: -net for (code, held), net in books.items() if held == asset and code.startswith("liabilities:")}
        unattributed = owed.pop(f"liabilities:vrf:unattributed:{here}:-", 0)
        total = coordinator.call("s_totalBalance" if is_link else "s_totalNativeBalance")
        held = self.stage.link.call("balanceOf", here) if is_link else self.stage.node.native_balance(here)
        compared = {
            "custody": (books.get((f"assets:vrf:onchain:{here}:-", asset), 0), held),
            "total": (sum(owed.values()), total),
            "unattributed": (unattributed, held - total),
            "clearing": (books.get((f"clearing:vrf:contract:{here}:-", asset), 0), 0),
        }
        for subscription in subscriptions:
            balance = coordinator.call("getSubscription", subscription)[0 if is_link else 1]
            compared[f"subscription {subscription}"] = (self._available(owed, subscription), balance)
        withdrawable = owed.pop(f"liabilities:vrf:withdrawable:{here}:-", 0)
        known = sum(self._available(owed, subscription) for subscription in subscriptions)
        compared["of closed subscriptions"] = (sum(owed.values()), known)
        return compared | {"withdrawable": (withdrawable, total - known)}

    @staticmethod
    def _available(owed: dict[str, int], subscription: int) -> int:
        return owed.get(f"liabilities:vrf:account:{subscription}:available", 0)


def audit(stage: Stage, folder: Path) -> Audit:
    """With the shipped descriptions and the deployment that an operator would write."""
    overlay = folder / "deployment.yaml"
    overlay.write_text(
        f"kind: deployment\nchain: {CHAIN_ID}\ncontracts:\n"
        f'  vrf-v2-5: {{addresses: ["{stage.coordinator.address}"], constants: {{LINK: "{stage.link.address}"}}}}\n'
        f'tokens:\n  - {{address: "{stage.link.address}", symbol: LINK, decimals: 18}}\n'
    )
    return Audit(stage=stage, registry=load_registry([SHIPPED, overlay], chain_id=CHAIN_ID), folder=folder)
