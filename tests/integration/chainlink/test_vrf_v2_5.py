"""VRF v2.5 on its real bytecode: VRFCoordinatorV2_5 itself, no mock and no test helper of it, with real VRF proofs.

After every block the books, folded from the first block by the ledger's worker from nothing but logs, must equal what
the contract says: each subscription in both assets, s_totalBalance, s_totalNativeBalance, and what the address holds.
"""

from __future__ import annotations

import pytest

from tests.integration.chainlink.audit import NATIVE, Audit
from tests.integration.chainlink.stage import CALLBACK_GAS, KEY_HASH, Stage
from tests.integration.solidity.chain import Reverted

LINK = 10**18


def agree(books: Audit, *subscriptions: int) -> None:
    assert books.differences(subscriptions) == {}


def test_a_subscription_from_its_creation_to_its_end(stage: Stage, books: Audit) -> None:
    ann, bob, coordinator = stage.ann, stage.bob, stage.coordinator
    first = stage.subscribe(ann)
    agree(books, first)
    names = [log.name for log in stage.fund(first, 40 * LINK, sender=ann)]
    assert names == ["Transfer", "Transfer", "SubscriptionFunded"]  # ERC-20, ERC-677, and the claim: one movement
    agree(books, first)
    stage.fund_native(first, 3 * 10**17, sender=bob)
    agree(books, first)
    stage.fund_native(first, 0, sender=bob)
    agree(books, first)
    second = stage.subscribe(bob)
    stage.fund(second, 7 * LINK, sender=ann)
    stage.fund(second, 5, sender=bob)
    agree(books, first, second)

    consumer = stage.consumer("VRFV2PlusConsumerExample", first, sender=ann)
    charged = []
    for native, only_premium in ((False, False), (True, False), (False, True), (True, True)):
        asked = stage.request(consumer, first, native=native)
        agree(books, first, second)
        fulfilled = stage.fulfil(asked, only_premium=only_premium)
        assert (fulfilled.args["success"], fulfilled.args["nativePayment"]) == (True, native)
        charged.append(fulfilled.args["payment"])
        agree(books, first, second)
    assert min(charged) > 0
    owed = {asset: -net for (code, asset), net in books.balances().items() if ":withdrawable:" in code}
    assert owed == {books.link: charged[0] + charged[2], NATIVE: charged[1] + charged[3]}

    coordinator.send("removeConsumer", first, consumer.address, sender=ann)
    coordinator.send("requestSubscriptionOwnerTransfer", first, bob, sender=ann)
    coordinator.send("acceptSubscriptionOwnerTransfer", first, sender=bob)
    agree(books, first, second)
    coordinator.send("cancelSubscription", first, bob, sender=bob)  # both assets go out
    agree(books, second)
    coordinator.send("ownerCancelSubscription", second, sender=stage.owner)
    agree(books)


def test_a_fulfilment_is_charged_when_the_callback_fails(stage: Stage, books: Audit) -> None:
    subscription = stage.subscribe(stage.ann)
    stage.fund(subscription, 10 * LINK, sender=stage.ann)
    consumer = stage.consumer("VRFV2PlusRevertingExample", subscription, sender=stage.ann)
    logs = consumer.send("requestRandomness", KEY_HASH, subscription, 0, CALLBACK_GAS, 1, sender=stage.ann)
    fulfilled = stage.fulfil(stage.requested(logs))
    assert fulfilled.args["success"] is False
    assert fulfilled.args["payment"] > 0
    agree(books, subscription)
    assert stage.coordinator.call("getSubscription", subscription)[0] == 10 * LINK - fulfilled.args["payment"]


def test_a_wrong_proof_is_refused_by_the_contract(stage: Stage) -> None:
    """Else the proofs above would show nothing of the verifying code."""
    subscription = stage.subscribe(stage.ann)
    stage.fund(subscription, 10 * LINK, sender=stage.ann)
    consumer = stage.consumer("VRFV2PlusConsumerExample", subscription, sender=stage.ann)
    asked = stage.request(consumer, subscription, native=False)
    pre_seed, commitment = stage.requests[asked]
    stage.requests[asked] = (pre_seed ^ 1, commitment)
    with pytest.raises(Reverted):
        stage.fulfil(asked)


def test_link_that_nobody_claims_is_unattributed_until_it_is_recovered(stage: Stage, books: Audit) -> None:
    subscription = stage.subscribe(stage.ann)
    stage.fund(subscription, 2 * LINK, sender=stage.ann)
    stage.link.send("transfer", stage.coordinator.address, 11, sender=stage.bob)
    agree(books, subscription)
    assert books.balances()[f"liabilities:vrf:unattributed:{stage.coordinator.address}:-", books.link] == -11
    stage.coordinator.send("recoverFunds", stage.bob, sender=stage.owner)
    agree(books, subscription)


def test_native_money_that_came_without_a_call_is_seen_only_against_the_chain(stage: Stage, books: Audit) -> None:
    subscription = stage.subscribe(stage.ann)
    stage.fund_native(subscription, 100, sender=stage.ann)
    stage.force_native(stage.coordinator.address, 9)
    assert books.differences([subscription]) == {"custody native": -9, "unattributed native": -9}
    stage.coordinator.send("recoverNativeFunds", stage.bob, sender=stage.owner)
    agree(books, subscription)


def test_a_migration_takes_the_whole_balance_of_both_assets(stage: Stage, books: Audit) -> None:
    subscription, other = stage.subscribe(stage.ann), stage.subscribe(stage.bob)
    stage.fund(subscription, 4 * LINK, sender=stage.ann)
    stage.fund(other, LINK, sender=stage.bob)
    stage.fund_native(subscription, 77, sender=stage.ann)
    stage.consumer("VRFV2PlusConsumerExample", subscription, sender=stage.ann)
    target = stage.deploy("VRFCoordinatorV2Plus_V2Example", stage.link.address, stage.coordinator.address)
    stage.coordinator.send("registerMigratableCoordinator", target.address, sender=stage.owner)
    agree(books, subscription, other)
    stage.coordinator.send("migrate", subscription, target.address, sender=stage.ann)
    assert (stage.link.call("balanceOf", target.address), stage.node.native_balance(target.address)) == (4 * LINK, 77)
    agree(books, other)
    empty = stage.subscribe(stage.ann)
    stage.coordinator.send("migrate", empty, target.address, sender=stage.ann)
    agree(books, other)


def test_silent_withdrawals_are_a_break_in_link_and_a_difference_in_native(stage: Stage, books: Audit) -> None:
    subscription = stage.subscribe(stage.ann)
    stage.fund(subscription, 20 * LINK, sender=stage.ann)
    stage.fund_native(subscription, 10**18, sender=stage.ann)
    consumer = stage.consumer("VRFV2PlusConsumerExample", subscription, sender=stage.ann)
    in_link = stage.fulfil(stage.request(consumer, subscription, native=False)).args["payment"]
    in_native = stage.fulfil(stage.request(consumer, subscription, native=True)).args["payment"]
    agree(books, subscription)
    stage.coordinator.send("withdraw", stage.bob, sender=stage.owner)
    link_break = {
        "clearing LINK": in_link,  # outflow that nobody claims: LINK's Transfer is all that there is
        "total LINK": in_link,
        "withdrawable LINK": in_link,
    }
    assert books.differences([subscription]) == link_break
    stage.coordinator.send("withdrawNative", stage.bob, sender=stage.owner)
    assert books.differences([subscription]) == link_break | {
        "custody native": in_native,  # no log at all, and clearing is at zero: only the chain tells
        "total native": in_native,
        "withdrawable native": in_native,
    }
