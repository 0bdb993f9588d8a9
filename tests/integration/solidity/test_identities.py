"""Any business at all: after every step the gateway's logs, getters and balances agree, and no number is missing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.integration.solidity.books import FLOWS, Books, check_identities
from tests.integration.solidity.chain import NATIVE, Contract, Reverted, id_of
from tests.integration.solidity.world import ANN, BOB, CAFE, HOUSE, NOTE, SHOP, World

EXAMPLES, STEPS = 20, 40

amounts = st.integers(1, 50) | st.integers(51, 5_000) | st.integers(5_001, 10**25)
merchants = st.sampled_from([SHOP, CAFE])
ACCOUNTS = (ANN, BOB, SHOP, CAFE, HOUSE)
accounts = st.sampled_from(ACCOUNTS)
parts = st.integers(1, 110)  # percent of what there is
assets = st.integers(0, 3)
ids = st.integers(1, 6).map(lambda number: id_of(f"payment {number}"))


class Business(RuleBasedStateMachine):
    """Random doings; each rule knows, where that is simple, whether its step must go through."""

    def __init__(self, world: World, charging: Contract, seen: Counter[str]) -> None:
        super().__init__()
        self.world = dataclasses.replace(world)
        self.gateway = world.gateway
        self.tokens = [world.usd, world.link, charging]
        self.assets = [NATIVE, *(token.address for token in self.tokens)]
        self.owners = {ANN: world.ann, BOB: world.bob, SHOP: world.shop, CAFE: world.cafe, HOUSE: world.house}
        self.seen = seen
        self.paused = False
        self.expiry: dict[bytes, int] = {}
        self.merchant_of: dict[bytes, bytes] = {}
        self.given: Counter[tuple[bytes, str]] = Counter()
        self.period = 0
        self.snapshot = world.node.rpc("evm_snapshot")
        self.books = self._check()

    def teardown(self) -> None:
        assert self.world.node.rpc("evm_revert", self.snapshot) is True

    def _check(self) -> Books:
        return check_identities(self.world.node, self.gateway, self.tokens, plain_native=self.world.plain_native)

    def _step(self, function: str, *args: Any, by: str, value: int = 0, expected: bool | None = None) -> bool:
        """Does it, sees whether it went through as expected, and checks all books."""
        refused, logs = None, []
        try:
            logs = self.gateway.send(function, *args, sender=by, value=value)
        except Reverted as reverted:
            refused = reverted
        assert expected in (None, refused is None), f"{function} {refused or 'should be refused'}"
        if refused:
            return False
        self.seen.update(log.name for log in logs)
        self.books = self._check()
        return True

    def _has(self, account: bytes, asset: str) -> int:
        return self.books.available.get((account, asset), 0)

    def _funded(self, *accounts_of: bytes) -> list[tuple[bytes, str]]:
        return sorted(key for key, amount in self.books.available.items() if amount and key[0] in accounts_of)

    def _part(self, account: bytes, asset: str, part: int) -> int:
        return max(self._has(account, asset) * part // 100, 1)

    @rule(account=accounts, number=assets, amount=amounts)
    def deposit(self, account: bytes, number: int, amount: int) -> None:
        value = amount if number == 0 else 0
        call = ("deposit", account, self.assets[number], amount, NOTE)
        self._step(*call, by=self.world.ann, value=value, expected=not self.paused)

    @rule(merchant=merchants, payment=ids, number=assets, amount=amounts)
    def pay_invoice(self, merchant: bytes, payment: bytes, number: int, amount: int) -> None:
        call = ("payInvoice", merchant, payment, self.assets[number], amount)
        fresh = (merchant, payment) not in self.books.captured
        self._step(*call, by=self.world.bob, value=amount if number == 0 else 0, expected=fresh and not self.paused)

    @rule(merchant=merchants, payment=ids, number=assets, amount=amounts, seconds=st.integers(50, 500))
    def authorize(self, merchant: bytes, payment: bytes, number: int, amount: int, seconds: int) -> None:
        expiry = self.world.node.now() + seconds
        fresh = payment not in self.books.authorized and (merchant, payment) not in self.books.captured
        call = ("authorize", merchant, payment, self.assets[number], amount, expiry)
        value = amount if number == 0 else 0
        if self._step(*call, by=self.world.ann, value=value, expected=fresh and not self.paused):
            self.expiry[payment], self.merchant_of[payment] = expiry, merchant

    @precondition(lambda self: self.expiry)
    @rule(data=st.data(), part=parts)
    def capture(self, data: st.DataObject, part: int) -> None:
        payment = data.draw(st.sampled_from(sorted(self.expiry)))
        held = self.books.escrow[payment]
        amount = max(held * part // 100, 1)
        in_time = self.world.node.now() + 5 <= self.expiry[payment]
        late = self.world.node.now() > self.expiry[payment]
        possible = not self.paused and amount <= held
        expected = None if possible and not in_time and not late else possible and in_time
        self._step("capture", payment, amount, by=self.owners[self.merchant_of[payment]], expected=expected)

    @precondition(lambda self: self.expiry)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        payment = data.draw(st.sampled_from(sorted(self.expiry)))
        held = self.books.escrow[payment]
        self._step("voidPayment", payment, by=self.owners[self.merchant_of[payment]], expected=held > 0)

    @precondition(lambda self: self.expiry)
    @rule()
    def void_expired(self) -> None:
        self._step("voidExpired", sorted(self.expiry), by=self.world.stranger, expected=True)

    @precondition(lambda self: self._funded(ANN, BOB))
    @rule(data=st.data(), merchant=merchants, part=parts, again=st.integers(0, 3))
    def charge(self, data: st.DataObject, merchant: bytes, part: int, again: int) -> None:
        customer, asset = data.draw(st.sampled_from(self._funded(ANN, BOB)))
        amount = self._part(customer, asset, part)
        subscription = id_of(f"{customer.hex()} {merchant.hex()} {asset}")
        self.period += 0 if again == 0 else 1
        possible = not self.paused and amount <= self._has(customer, asset)
        self._step(
            "chargeSubscription", subscription, customer, merchant, asset, amount, self.period,
            by=self.world.admin, expected=None if possible and again == 0 else possible,
        )  # fmt: skip

    @precondition(lambda self: any(self.books.captured.values()))
    @rule(data=st.data(), part=parts)
    def refund(self, data: st.DataObject, part: int) -> None:
        paid = sorted(key for key, amount in self.books.captured.items() if amount)
        merchant, payment = data.draw(st.sampled_from(paid))
        captured = self.books.captured[merchant, payment]
        amount = max(captured * part // 100, 1)
        possible = amount <= captured - self.books.refunded[merchant, payment]
        self._step(
            "refund", merchant, payment, self.world.bob, amount, by=self.owners[merchant],
            expected=None if possible else False,
        )  # fmt: skip

    @precondition(lambda self: self._funded(*ACCOUNTS))
    @rule(data=st.data(), receiver=accounts, part=parts)
    def transfer(self, data: st.DataObject, receiver: bytes, part: int) -> None:
        source, asset = data.draw(st.sampled_from(self._funded(*ACCOUNTS)))
        amount = self._part(source, asset, part)
        possible = not self.paused and source != receiver and amount <= self._has(source, asset)
        call = ("internalTransfer", source, receiver, asset, amount, NOTE)
        self._step(*call, by=self.owners[source], expected=possible)

    @precondition(lambda self: self._funded(*ACCOUNTS))
    @rule(data=st.data(), part=parts)
    def withdraw(self, data: st.DataObject, part: int) -> None:
        account, asset = data.draw(st.sampled_from(self._funded(*ACCOUNTS)))
        amount = self._part(account, asset, part)
        call = ("withdraw", account, asset, self.world.stranger, amount, NOTE)
        self._step(*call, by=self.owners[account], expected=amount <= self._has(account, asset))

    @rule(account=accounts, number=assets, part=parts)
    def adjust_up(self, account: bytes, number: int, part: int) -> None:
        asset = self.assets[number]
        limit = self.gateway.call("unattributed", asset)
        delta = max(limit * part // 100, 1)
        possible = not self.paused and delta <= limit
        if self._step("adjust", account, asset, delta, NOTE, by=self.world.admin, expected=possible):
            self.given[account, asset] += delta

    @precondition(lambda self: self.given)
    @rule(data=st.data(), part=parts)
    def adjust_down(self, data: st.DataObject, part: int) -> None:
        account, asset = data.draw(st.sampled_from(sorted(self.given)))
        given = self.given[account, asset]
        amount = max(given * part // 100, 1)
        possible = not self.paused and amount <= min(given, self._has(account, asset))
        if self._step("adjust", account, asset, -amount, NOTE, by=self.world.admin, expected=possible):
            self.given[account, asset] -= amount

    @rule(number=assets, part=parts)
    def sweep(self, number: int, part: int) -> None:
        asset = self.assets[number]
        limit = self.gateway.call("unattributed", asset)
        amount = max(limit * part // 100, 1)
        possible = not self.paused and amount <= limit
        self._step("sweepUnattributed", asset, self.world.house, amount, by=self.world.admin, expected=possible)

    @rule(number=assets, amount=amounts)
    def send_plain(self, number: int, amount: int) -> None:
        if number == 0:
            self.world.send_plain(amount, sender=self.world.bob)
        else:
            self.tokens[number - 1].send("transfer", self.gateway.address, amount, sender=self.world.bob)
        self.books = self._check()

    @rule(merchant=merchants, basis_points=st.integers(0, 2_000), returned=st.booleans())
    def set_fees(self, merchant: bytes, basis_points: int, returned: bool) -> None:
        self._step("setFeeSchedule", merchant, basis_points, HOUSE, returned, by=self.world.admin, expected=True)

    @rule(seconds=st.integers(10, 400))
    def pass_time(self, seconds: int) -> None:
        self.world.node.pass_time(seconds)

    @rule(chance=st.integers(0, 3))
    def pause_or_go_on(self, chance: int) -> None:
        if self.paused or chance == 0:
            self._step("unpause" if self.paused else "pause", by=self.world.admin, expected=True)
            self.paused = not self.paused


def test_identities_hold_after_every_step_of_any_business(world: World) -> None:
    charging = world.list_hostile("FeeOnTransferToken", fee_on_transfer=True)
    charging.send("mint", world.bob, 10**30, sender=world.admin)
    charging.send("approve", world.gateway.address, 2**256 - 1, sender=world.bob)
    seen: Counter[str] = Counter()
    run_state_machine_as_test(
        lambda: Business(world, charging, seen),  # type: ignore[arg-type]  # whatever makes one will do
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert set(FLOWS) <= set(seen), "every kind of money event must have happened"
