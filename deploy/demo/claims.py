"""What the gateway owes, as far as the demo needs it to make only calls that succeed. Pure; amounts in base units.

This is the demo's own arithmetic and no judge of anything: the books are checked against the chain (``check.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from deploy.demo.actors import FEES, Asset

BASIS_POINTS = 10_000


@dataclass(slots=True, kw_only=True)
class Payment:
    """A paid invoice or an authorization."""

    payment_id: bytes
    merchant: str
    payer: str
    asset: Asset
    fee_basis_points: int
    fee_returnable: bool
    held: int = 0
    captured: int = 0
    fee: int = 0
    refunded: int = 0
    fee_returned: int = 0
    expiry: int = 0  # Unix seconds

    @property
    def refundable(self) -> int:
        return self.captured - self.refunded


@dataclass(slots=True)
class Claims:
    """Balances per account and asset, payments, unattributed money."""

    available: dict[tuple[str, str], int] = field(default_factory=dict)  # (account, symbol)
    unattributed: dict[str, int] = field(default_factory=dict)  # symbol
    given: dict[tuple[str, str], int] = field(default_factory=dict)  # by adjustments
    payments: list[Payment] = field(default_factory=list)

    def of(self, account: str, asset: Asset) -> int:
        return self.available.get((account, asset.symbol), 0)

    def add(self, account: str, asset: Asset, amount: int) -> None:
        """Credits (or with a negative amount debits) an account."""
        self.available[account, asset.symbol] = self.of(account, asset) + amount
        if self.available[account, asset.symbol] < 0:
            raise ValueError(f"the plan overdraws {account} in {asset.symbol}")

    def take_in(self, payment: Payment, gross: int) -> None:
        """An invoice is paid."""
        payment.captured = gross
        payment.fee = gross * payment.fee_basis_points // BASIS_POINTS
        self._net(payment, gross, payment.fee, sign=1)
        self.payments.append(payment)

    def undo(self, payment: Payment) -> None:
        """An invoice was never paid."""
        self._net(payment, payment.captured, payment.fee, sign=-1)
        self.payments.remove(payment)

    def capture(self, payment: Payment, amount: int) -> None:
        fee = amount * payment.fee_basis_points // BASIS_POINTS
        payment.held -= amount
        payment.captured += amount
        payment.fee += fee
        self._net(payment, amount, fee, sign=1)

    def refund(self, payment: Payment, amount: int) -> None:
        returned = self.fee_to_return(payment, amount)
        payment.refunded += amount
        payment.fee_returned += returned
        self.add(FEES, payment.asset, -returned)
        self.add(payment.merchant, payment.asset, returned - amount)

    def fee_to_return(self, payment: Payment, amount: int) -> int:
        """The fee account's part of a refund, as the contract reckons it."""
        if not payment.fee_returnable or payment.fee == 0:
            return 0
        due = payment.fee * (payment.refunded + amount) // payment.captured - payment.fee_returned
        return max(min(due, amount, self.of(FEES, payment.asset)), 0)

    def _net(self, payment: Payment, gross: int, fee: int, *, sign: int) -> None:
        self.add(payment.merchant, payment.asset, sign * (gross - fee))
        self.add(FEES, payment.asset, sign * fee)
