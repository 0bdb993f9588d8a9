"""ABIs from event and function signatures as DOMAIN writes them, ``!`` for indexed, so that tests need no compiler."""

from __future__ import annotations

import re
from typing import Any

GATEWAY = """
AccountOpened(bytes32! accountId, address! owner, uint8 kind, bytes32 externalRef)
Deposited(bytes32! accountId, address! asset, address! payer, uint256 received, uint256 balanceAfter, bytes32 ref, uint64 seq)
InvoicePaid(bytes32! invoiceId, bytes32! merchantId, address! asset, address payer, uint256 gross, uint256 fee, uint256 merchantBalanceAfter, bytes32 feeAccount, uint64 seq)
PaymentAuthorized(bytes32! paymentId, bytes32! merchantId, address! asset, address payer, uint256 amount, uint64 expiry, uint64 seq)
PaymentCaptured(bytes32! paymentId, bytes32! merchantId, address! asset, uint256 amount, uint256 fee, bytes32 feeAccount, uint256 remainingHold, uint64 seq)
PaymentVoided(bytes32! paymentId, address! asset, address payer, uint256 amount, uint64 seq)
SubscriptionCharged(bytes32! subscriptionId, bytes32! customerId, bytes32! merchantId, address asset, uint256 gross, uint256 fee, bytes32 feeAccount, uint64 periodStart, uint64 seq)
Refunded(bytes32! paymentId, bytes32! merchantId, address! asset, address to, uint256 amount, uint256 feeReturned, bytes32 feeAccount, uint256 refundedTotal, uint64 seq)
InternalTransfer(bytes32! from, bytes32! to, address! asset, uint256 amount, bytes32 ref, uint64 seq)
Withdrawn(bytes32! accountId, address! asset, address! to, uint256 amount, uint256 balanceAfter, bytes32 ref, uint64 seq)
Adjusted(bytes32! accountId, address! asset, int256 delta, bytes32 reason, uint64 seq)
UnattributedSwept(address! asset, address! to, uint256 amount, uint64 seq)
PayoutFailed(bytes32! paymentId, address! asset, address! to, uint256 amount)
FeeScheduleSet(bytes32! merchantId, uint16 basisPoints, bytes32 feeAccount, bool returnedOnRefund)
AssetListed(address! asset, uint8 decimals)
AssetDelisted(address! asset)
Paused(address account)
Unpaused(address account)
RoleGranted(bytes32! role, address! account, address! sender)
RoleRevoked(bytes32! role, address! account, address! sender)
RoleAdminChanged(bytes32! role, bytes32! previousAdminRole, bytes32! newAdminRole)
"""  # noqa: E501  # copied from DOMAIN as it stands

TRANSFER = "Transfer(address! from, address! to, uint256 value)"

_ARGUMENT = re.compile(r"(?P<type>[^ !]+)(?P<indexed>!?)(?: (?P<name>\w+))?\Z")


def event(signature: str) -> dict[str, Any]:
    """``Name(type! name, …)`` as a JSON ABI item; elementary types and arrays of them."""
    name, _, rest = signature.strip().partition("(")
    inputs = []
    for part in filter(None, (text.strip() for text in rest.rstrip(")").split(","))):
        match = _ARGUMENT.match(part)
        assert match is not None, part
        inputs.append({"name": match["name"] or "", "type": match["type"], "indexed": bool(match["indexed"])})
    return {"type": "event", "name": name, "inputs": inputs, "anonymous": False}


def events(text: str) -> list[dict[str, Any]]:
    return [event(line) for line in text.strip().splitlines()]


def function(name: str, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    def named(types: list[str]) -> list[dict[str, str]]:
        return [{"name": "", "type": text} for text in types]

    return {
        "type": "function",
        "name": name,
        "inputs": named(inputs),
        "outputs": named(outputs),
        "stateMutability": "view",
    }


GATEWAY_ABI = [
    *events(GATEWAY),
    function("balanceOf", ["bytes32", "address"], ["uint256"]),
    function("totalLiabilities", ["address"], ["uint256"]),
    function("unattributed", ["address"], ["uint256"]),
    function("escrow", ["bytes32"], ["uint256"]),
    function("eventSeq", [], ["uint64"]),
]

VAULT_ABI = [
    event("Deposited(address! account, address! asset, uint256 amount)"),
    event("Withdrawn(address! account, address! asset, address to, uint256 amount)"),
    function("balanceOf", ["address", "address"], ["uint256"]),
    function("totalDeposits", ["address"], ["uint256"]),
]
