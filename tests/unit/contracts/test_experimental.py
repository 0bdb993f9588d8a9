"""Descriptions that were never run on real bytecode: they say so, and their sums come out on events made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.loading import load_described
from contracts.messages import PaymentEvent, asset_id
from contracts.posting import PostingRules, Rejection
from contracts.registry import load_registry
from contracts.trial import Trial
from contracts.typed import TypedContract
from tests.unit.contracts.build import CHAIN_ID, SHIPPED, TOKEN, VAULT

LINK = asset_id(CHAIN_ID, TOKEN)


class Told:
    """The books of one description, told event by event."""

    def __init__(self, contract: str, folder: Path) -> None:
        (folder / "deployment.yaml").write_text(
            f"kind: deployment\nchain: {CHAIN_ID}\n"
            f'contracts: {{{contract}: {{addresses: ["{VAULT}"], constants: {{LINK: "{TOKEN}"}}}}}}\n'
            f'tokens: [{{address: "{TOKEN}", symbol: LINK, decimals: 18}}]\n'
        )
        self.described = load_registry([SHIPPED, folder], chain_id=CHAIN_ID).contract(contract)
        self.trial = Trial({self.described.version: PostingRules.from_document(self.described.document)})

    def tell(self, event: str, **args: Any) -> object:
        message = PaymentEvent(
            op="applied",
            event_id="0x" + "01" * 32,
            revision=1,
            chain_id=CHAIN_ID,
            block_number=7,
            block_hash="0x" + "02" * 32,
            block_timestamp=1_700_000_000,
            tx_hash="0x" + "03" * 32,
            tx_index=0,
            log_index=0,
            address=VAULT,
            contract=self.described.name,
            event=event,
            book=self.described.book,
            subject="",
            args=args,
            amounts=[],
            correlation={},
            description_version=self.described.version,
        )
        return self.trial.take(message).outcome

    def owed(self) -> dict[str, int]:
        """Liabilities in LINK: kind, subject and state → amount."""
        return {
            ":".join(code.split(":")[2:]): -net
            for (code, asset), net in self.trial.balances.items()
            if code.startswith("liabilities:") and asset == LINK and net
        }


def test_they_are_labelled() -> None:
    typed = [found for found in load_described([SHIPPED]) if isinstance(found, TypedContract)]
    assert {found.document.contract for found in typed if found.experimental} == {"vrf-v2", "chainlink-functions"}


def test_a_fulfilment_of_vrf_v2_is_charged_to_the_requests_subscription(tmp_path: Path) -> None:
    books = Told("vrf-v2", tmp_path)
    books.tell("SubscriptionFunded", subId="5", oldBalance="100", newBalance="1100")
    books.tell("RandomWordsRequested", requestId="77", subId="5")
    books.tell("RandomWordsFulfilled", requestId="77", payment="40", success=False)
    assert books.owed() == {"account:5:available": 960, f"withdrawable:{VAULT}:-": 40}
    missing = books.tell("RandomWordsFulfilled", requestId="78", payment="40", success=True)
    assert isinstance(missing, Rejection)
    assert missing.code == "join_missing"
    books.tell("SubscriptionCanceled", subId="5", to=VAULT, amount="960")
    assert books.owed() == {f"withdrawable:{VAULT}:-": 40}


@pytest.mark.parametrize("forfeited", [0, 30])
def test_functions_hold_release_charge_and_time_out(tmp_path: Path, forfeited: int) -> None:
    books = Told("chainlink-functions", tmp_path)
    books.tell("SubscriptionFunded", subscriptionId="9", oldBalance="0", newBalance="1000")
    first, second, third = (f"0x{number:064x}" for number in (1, 2, 3))
    for request in (first, second, third):
        books.tell("RequestStart", requestId=request, subscriptionId="9", estimatedTotalCostJuels="100")
    assert books.owed() == {"account:9:available": 700, "account:9:held": 300}
    books.tell("RequestProcessed", requestId=first, subscriptionId="9", totalCostJuels="60")
    assert books.owed() == {"account:9:available": 740, "account:9:held": 200, f"withdrawable:{VAULT}:-": 60}
    books.tell("RequestTimedOut", requestId=second)
    assert books.owed() == {"account:9:available": 840, "account:9:held": 100, f"withdrawable:{VAULT}:-": 60}
    books.tell("SubscriptionCanceled", subscriptionId="9", fundsAmount=str(940 - forfeited))
    assert books.owed() == {f"withdrawable:{VAULT}:-": 60 + forfeited}
