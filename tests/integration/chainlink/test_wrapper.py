"""VRFV2PlusWrapper on its real bytecode, before the real coordinator: what it sells is income, in LINK at once."""

from __future__ import annotations

import pytest

from contracts.registry import load_registry
from tests.integration.chainlink.audit import NATIVE, Audit, folded
from tests.integration.chainlink.stage import CALLBACK_GAS, KEY_HASH, WEI_PER_LINK
from tests.integration.ledger.onchain import Narrator
from tests.integration.solidity.chain import Contract
from tests.unit.ledger.story import CHAIN_ID, SHIPPED

LINK = 10**18
INCOME, OWNER = "income:vrf:fees:-:-", "equity:vrf:owner:-:-"


class Shop:
    """A wrapper with its subscription and a customer; the books of it and of the coordinator together."""

    def __init__(self, books: Audit) -> None:
        stage = self.stage = books.stage
        self.audit = books
        self.subscription = stage.subscribe(stage.owner)
        stage.fund(self.subscription, 50 * LINK, sender=stage.ann)
        stage.fund_native(self.subscription, 10**18, sender=stage.ann)
        coordinator = stage.coordinator.address
        terms = (13_400, 90_000, 112_000, 435, 24, 20, KEY_HASH, 10, 0, WEI_PER_LINK, 500, 100)
        self.wrapper = stage.deploy(
            "VRFV2PlusWrapper", stage.link.address, stage.feed.address, coordinator, self.subscription
        )
        self.wrapper.send("setConfig", *terms, sender=stage.owner)
        stage.coordinator.send("addConsumer", self.subscription, self.wrapper.address, sender=stage.owner)
        self.customer: Contract = stage.deploy("VRFV2PlusWrapperConsumerExample", self.wrapper.address)
        stage.link.send("transfer", self.customer.address, 20 * LINK, sender=stage.ann)
        stage.node.send_native(self.customer.address, 10**18, sender=stage.ann)
        self.narrator = self._narrator()

    def _narrator(self) -> Narrator:
        stage, overlay = self.stage, self.audit.folder / "deployment.yaml"
        shared = f'constants: {{LINK: "{stage.link.address}"}}}}'
        wrapper = f'  vrf-v2-5-wrapper: {{addresses: ["{self.wrapper.address}"], {shared}\n'
        overlay.write_text(overlay.read_text().replace("contracts:\n", f"contracts:\n{wrapper}"))
        registry = load_registry([SHIPPED, overlay], chain_id=CHAIN_ID)
        addresses = (self.wrapper.address, stage.coordinator.address, stage.link.address)
        return Narrator(node=stage.node, registry=registry, addresses=addresses)

    def sell(self, *, native: bool) -> int:
        """A request, paid and fulfilled; what it cost."""
        function = "makeRequestNative" if native else "makeRequest"
        logs = self.customer.send(function, CALLBACK_GAS, 0, 1, sender=self.stage.owner)
        (made,) = (log for log in logs if log.name == "WrapperRequestMade")
        assert self.stage.fulfil(self.stage.requested(logs)).args["success"] is True
        assert self.customer.call("getRequestStatus", made.args["requestId"])[1] is True
        return int(made.args["paid"])

    def differences(self) -> dict[str, int]:
        """Books minus chain: custody of the wrapper, its subscription, and what is left on clearing."""
        books, stage, here = folded(self.narrator), self.stage, self.wrapper.address
        owned = stage.coordinator.call("getSubscription", self.subscription)
        held = (stage.link.call("balanceOf", here), stage.node.native_balance(here))
        account = f"liabilities:vrf:account:{self.subscription}:available"
        found: dict[str, int] = {}
        for i, (asset, name) in enumerate(((self.audit.link, "LINK"), (NATIVE, "native"))):
            net = {code: amount for (code, held_in), amount in books.items() if held_in == asset}
            found |= {
                f"custody {name}": net.get(f"assets:vrf:onchain:{here}:-", 0) - held[i],
                f"subscription {name}": -net.get(account, 0) - owned[i],
                f"clearing {name}": sum(amount for code, amount in net.items() if code.startswith("clearing:")),
            }
        return {what: difference for what, difference in found.items() if difference}

    def income(self, asset: str) -> int:
        return -folded(self.narrator).get((INCOME, asset), 0)


@pytest.fixture
def shop(books: Audit) -> Shop:
    return Shop(books)


def test_what_is_paid_in_link_is_income_at_once(shop: Shop) -> None:
    paid = shop.sell(native=False)
    assert shop.differences() == {}
    paid += shop.sell(native=False)
    assert shop.differences() == {}
    assert (shop.income(shop.audit.link), paid > 0) == (paid, True)
    shop.wrapper.send("withdraw", shop.stage.bob, sender=shop.stage.owner)
    assert shop.differences() == {}
    assert folded(shop.narrator)[OWNER, shop.audit.link] == paid
    shop.wrapper.send("withdraw", shop.stage.bob, sender=shop.stage.owner)  # nothing is left: an event of zero
    assert shop.differences() == {}


def test_native_payments_are_a_difference_until_they_are_withdrawn(shop: Shop) -> None:
    paid = shop.sell(native=True)
    assert shop.differences() == {"custody native": -paid}
    paid += shop.sell(native=True)
    assert shop.differences() == {"custody native": -paid}
    shop.wrapper.send("withdrawNative", shop.stage.bob, sender=shop.stage.owner)
    assert shop.differences() == {}
    assert (shop.income(NATIVE), folded(shop.narrator)[OWNER, NATIVE]) == (paid, paid)
