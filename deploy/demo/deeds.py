"""One method per kind of deed: picks who and how much, keeps the claims, and returns the call, or None when there is
nothing to do it with. Deterministic: everything comes from the random generator that it is given.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from deploy.demo.actors import (
    ADMIN,
    ASSETS,
    CUSTOMERS,
    ETH,
    FEES,
    GATEWAY,
    MERCHANTS,
    STRANGER,
    TOKENS,
    VAULT,
    Asset,
    account_id,
)
from deploy.demo.claims import Claims, Payment
from deploy.demo.plan import Call, Ref

FEE_BASIS_POINTS: Final = {"cinema": 400}  # others as DEFAULT_FEE_BASIS_POINTS; cinema keeps fees on refunds
DEFAULT_FEE_BASIS_POINTS: Final = 250
HOLD_S: Final = 120
PERIODS_BEGIN_BEFORE_S: Final = 86_400  # a period that is charged began about a day ago


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A price that the operator charges every period."""

    subscription_id: bytes
    customer: str
    merchant: str
    asset: Asset
    price: int  # base units


class Deeds:
    """The business so far. ``busy`` people pay nothing for the moment."""

    def __init__(self, rng: random.Random) -> None:
        self.claims = Claims()
        self.now = 0  # Unix seconds of the block that is being filled
        self.busy: frozenset[str] = frozenset()
        self._rng = rng
        self._charges = 0
        self._subscriptions = [self._subscription(customer) for customer in CUSTOMERS]
        self._by_kind: dict[str, Callable[[], Call | None]] = {
            "deposit": self.deposit,
            "invoice": self.invoice,
            "authorize": self.authorize,
            "capture": self.capture,
            "void": self.void,
            "charge": self.charge,
            "refund": self.refund,
            "transfer": self.transfer,
            "withdraw": self.withdraw,
            "stray": self.stray,
            "give": self.give,
            "take_back": self.take_back,
            "sweep": self.sweep,
        }

    def do(self, kind: str) -> Call | None:
        """A deed by the name of its kind; None when there is nothing to do it with."""
        return self._by_kind[kind]()

    def money(self, asset: Asset, low: int, high: int) -> int:
        """Base units worth ``low`` to ``high`` currency units (an ETH counts 1,000), sometimes to the last digit."""
        unit: int = 10**asset.decimals // (1_000 if asset is ETH else 1)
        cents = self._rng.randrange(low * 100, high * 100)
        dust = self._rng.randrange(unit // 100) if self._rng.random() < 0.3 else 0
        return cents * unit // 100 + dust

    def deposit(self) -> Call:
        customer, asset = self._payer(), self._rng.choice(ASSETS)
        amount = self.money(asset, 40, 400)
        self.claims.add(customer, asset, amount)
        return _gateway(
            customer,
            "deposit",
            (account_id(customer), Ref(asset.symbol), amount, self._id()),
            value_wei=amount if asset is ETH else 0,
            about=f"{customer} tops up {asset.symbol}",
        )

    def invoice(self) -> Call:
        return self.pay_invoice(self._payer())[0]

    def pay_invoice(self, payer: str) -> tuple[Call, Payment]:
        """A payment from outside, by a certain payer."""
        asset = self._rng.choice(ASSETS)
        payment = self._payment(payer, asset)
        gross = self.money(asset, 3, 250)
        self.claims.take_in(payment, gross)
        call = _gateway(
            payer,
            "payInvoice",
            (account_id(payment.merchant), payment.payment_id, Ref(asset.symbol), gross),
            value_wei=gross if asset is ETH else 0,
            about=f"{payer} pays {payment.merchant} in {asset.symbol}",
        )
        return call, payment

    def authorize(self) -> Call:
        payer, asset = self._payer(), self._rng.choice(ASSETS)
        payment = self._payment(payer, asset)
        payment.held = self.money(asset, 20, 300)
        payment.expiry = self.now + HOLD_S
        self.claims.payments.append(payment)
        return _gateway(
            payer,
            "authorize",
            (account_id(payment.merchant), payment.payment_id, Ref(asset.symbol), payment.held, payment.expiry),
            value_wei=payment.held if asset is ETH else 0,
            about=f"{payer} reserves {asset.symbol} for {payment.merchant}",
        )

    def capture(self) -> Call | None:
        open_holds = [p for p in self.claims.payments if p.held and p.expiry >= self.now]
        if not open_holds:
            return None
        payment = self._rng.choice(open_holds)
        whole = payment.held == 1 or self._rng.random() < 0.5
        amount = payment.held if whole else self._rng.randrange(1, payment.held)
        self.claims.capture(payment, amount)
        who = payment.merchant if self._rng.random() < 0.7 else ADMIN
        return _gateway(who, "capture", (payment.payment_id, amount), about=f"{payment.merchant} captures")

    def void(self) -> Call | None:
        holds = [p for p in self.claims.payments if p.held]
        if not holds:
            return None
        payment = self._rng.choice(holds)
        payment.held = 0
        who = STRANGER if payment.expiry < self.now else payment.merchant  # after expiry anyone may
        return _gateway(who, "voidPayment", (payment.payment_id,), about=f"the rest goes back to {payment.payer}")

    def charge(self) -> Call | None:
        due = [s for s in self._subscriptions if self.claims.of(s.customer, s.asset) >= s.price]
        if not due:
            return None
        subscription = self._rng.choice(due)
        payment = self._payment(subscription.customer, subscription.asset, merchant=subscription.merchant)
        self.claims.add(subscription.customer, subscription.asset, -subscription.price)
        self.claims.take_in(payment, subscription.price)
        self.claims.payments.remove(payment)  # a charge cannot be refunded as a payment
        return _gateway(
            ADMIN,
            "chargeSubscription",
            (
                subscription.subscription_id,
                account_id(subscription.customer),
                account_id(subscription.merchant),
                Ref(subscription.asset.symbol),
                subscription.price,
                self._next_period(),
            ),
            about=f"{subscription.merchant} charges {subscription.customer}",
        )

    def refund(self) -> Call | None:
        candidates = [
            p
            for p in self.claims.payments
            if p.refundable > 1 and self.claims.of(p.merchant, p.asset) >= p.refundable and p.payer not in self.busy
        ]
        if not candidates:
            return None
        payment = self._rng.choice(candidates)
        amount = payment.refundable if self._rng.random() < 0.4 else self._rng.randrange(1, payment.refundable)
        self.claims.refund(payment, amount)
        return _gateway(
            payment.merchant,
            "refund",
            (account_id(payment.merchant), payment.payment_id, Ref(payment.payer), amount),
            about=f"{payment.merchant} refunds {payment.payer}",
        )

    def transfer(self) -> Call | None:
        found = self._holding(CUSTOMERS)
        if found is None:
            return None
        giver, asset, balance = found
        receiver = self._rng.choice([name for name in (*CUSTOMERS, *MERCHANTS) if name != giver])
        amount = self._rng.randrange(1, balance)
        self.claims.add(giver, asset, -amount)
        self.claims.add(receiver, asset, amount)
        return _gateway(
            giver,
            "internalTransfer",
            (account_id(giver), account_id(receiver), Ref(asset.symbol), amount, self._id()),
            about=f"{giver} passes {asset.symbol} on to {receiver}",
        )

    def withdraw(self) -> Call | None:
        found = self._holding((*MERCHANTS, *MERCHANTS, FEES, *CUSTOMERS))
        if found is None:
            return None
        owner, asset, balance = found
        amount = balance if self._rng.random() < 0.1 else self._rng.randrange(1, balance)
        self.claims.add(owner, asset, -amount)
        return _gateway(
            owner,
            "withdraw",
            (account_id(owner), Ref(asset.symbol), Ref(owner), amount, self._id()),
            about=f"{owner} withdraws {asset.symbol}",
        )

    def stray(self) -> Call:
        """Tokens arrive by a plain transfer: nobody claims them."""
        asset = self._rng.choice(TOKENS)
        amount = self.money(asset, 10, 60)
        self.claims.unattributed[asset.symbol] = self.claims.unattributed.get(asset.symbol, 0) + amount
        return Call(
            sender=STRANGER,
            contract=asset.symbol,
            function="transfer",
            args=(Ref(GATEWAY), amount),
            about=f"{asset.symbol} arrives without a claim",
        )

    def give(self) -> Call | None:
        """An adjustment: unattributed money turns out to be a customer's."""
        found = self._unattributed()
        if found is None:
            return None
        asset, free = found
        customer = self._rng.choice(CUSTOMERS)
        amount = self._rng.randrange(1, free)
        self.claims.unattributed[asset.symbol] -= amount
        key = (customer, asset.symbol)
        self.claims.given[key] = self.claims.given.get(key, 0) + amount
        self.claims.add(customer, asset, amount)
        return self._adjust(customer, asset, amount)

    def take_back(self) -> Call | None:
        """An adjustment that was a mistake, in part."""
        for (customer, symbol), given in sorted(self.claims.given.items()):
            asset = next(asset for asset in ASSETS if asset.symbol == symbol)
            limit = min(given, self.claims.of(customer, asset))
            if limit > 1 and customer not in self.busy:
                amount = self._rng.randrange(1, limit)
                self.claims.given[customer, symbol] -= amount
                self.claims.unattributed[symbol] += amount
                self.claims.add(customer, asset, -amount)
                return self._adjust(customer, asset, -amount)
        return None

    def sweep(self) -> Call | None:
        found = self._unattributed()
        if found is None:
            return None
        asset, free = found
        amount = self._rng.randrange(1, free)
        self.claims.unattributed[asset.symbol] -= amount
        return _gateway(
            ADMIN, "sweepUnattributed", (Ref(asset.symbol), Ref(ADMIN), amount), about=f"{asset.symbol} is swept"
        )

    def vault_deposit(self, user: str, asset: Asset) -> Call:
        amount = self.money(asset, 500, 900)
        return Call(
            sender=user,
            contract=VAULT,
            function="deposit",
            args=(Ref(asset.symbol), amount),
            value_wei=amount if asset is ETH else 0,
            about=f"{user} puts {asset.symbol} into the vault",
        )

    def vault_withdrawal(self, function: str, user: str, asset: Asset) -> Call:
        quietly = " without an event" if function == "withdrawQuietly" else ""
        return Call(
            sender=user,
            contract=VAULT,
            function=function,
            args=(Ref(asset.symbol), Ref(user), self.money(asset, 100, 300)),
            about=f"{user} takes {asset.symbol} out of the vault{quietly}",
        )

    def _subscription(self, customer: str) -> Subscription:
        asset = self._rng.choice(TOKENS)
        return Subscription(
            subscription_id=self._id(),
            customer=customer,
            merchant=self._rng.choice(MERCHANTS),
            asset=asset,
            price=self.money(asset, 5, 25),
        )

    def _payer(self) -> str:
        return self._rng.choice([name for name in CUSTOMERS if name not in self.busy])

    def _payment(self, payer: str, asset: Asset, *, merchant: str | None = None) -> Payment:
        merchant = merchant or self._rng.choice(MERCHANTS)
        return Payment(
            payment_id=self._id(),
            merchant=merchant,
            payer=payer,
            asset=asset,
            fee_basis_points=FEE_BASIS_POINTS.get(merchant, DEFAULT_FEE_BASIS_POINTS),
            fee_returnable=merchant not in FEE_BASIS_POINTS,
        )

    def _holding(self, names: tuple[str, ...]) -> tuple[str, Asset, int] | None:
        """Somebody who has at least two base units of something: account, asset, balance."""
        holders = [
            (name, asset, self.claims.of(name, asset))
            for name in names
            if name not in self.busy
            for asset in ASSETS
            if self.claims.of(name, asset) > 1
        ]
        return self._rng.choice(holders) if holders else None

    def _unattributed(self) -> tuple[Asset, int] | None:
        found = [(asset, free) for asset in TOKENS if (free := self.claims.unattributed.get(asset.symbol, 0)) > 1]
        return self._rng.choice(found) if found else None

    def _adjust(self, customer: str, asset: Asset, delta: int) -> Call:
        return _gateway(
            ADMIN,
            "adjust",
            (account_id(customer), Ref(asset.symbol), delta, b"demo".ljust(32, b"\0")),
            about=f"{customer}'s {asset.symbol} is adjusted",
        )

    def _next_period(self) -> int:
        """Begins of periods increase with every charge and never lie ahead."""
        self._charges += 1
        return self.now - PERIODS_BEGIN_BEFORE_S + self._charges

    def _id(self) -> bytes:
        return self._rng.randbytes(32)


def _gateway(sender: str, function: str, args: tuple[object, ...], *, value_wei: int = 0, about: str) -> Call:
    return Call(sender=sender, contract=GATEWAY, function=function, args=args, value_wei=value_wei, about=about)
