"""The checker's own reading of logs: signatures written by hand, decoded with eth-abi. Part of ``check.py``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eth_abi.abi import decode
from eth_utils.crypto import keccak

NATIVE: Final = "0x" + "00" * 20
SIGNATURES: Final = {
    "gateway": """
        Deposited(bytes32! accountId, address! asset, address! payer, uint256 received, uint256 balanceAfter,
            bytes32 ref, uint64 seq)
        InvoicePaid(bytes32! invoiceId, bytes32! merchantId, address! asset, address payer, uint256 gross,
            uint256 fee, uint256 merchantBalanceAfter, bytes32 feeAccount, uint64 seq)
        PaymentAuthorized(bytes32! paymentId, bytes32! merchantId, address! asset, address payer, uint256
            amount, uint64 expiry, uint64 seq)
        PaymentCaptured(bytes32! paymentId, bytes32! merchantId, address! asset, uint256 amount, uint256 fee,
            bytes32 feeAccount, uint256 remainingHold, uint64 seq)
        PaymentVoided(bytes32! paymentId, address! asset, address payer, uint256 amount, uint64 seq)
        SubscriptionCharged(bytes32! subscriptionId, bytes32! customerId, bytes32! merchantId, address asset,
            uint256 gross, uint256 fee, bytes32 feeAccount, uint64 periodStart, uint64 seq)
        Refunded(bytes32! paymentId, bytes32! merchantId, address! asset, address to, uint256 amount, uint256
            feeReturned, bytes32 feeAccount, uint256 refundedTotal, uint64 seq)
        InternalTransfer(bytes32! from, bytes32! to, address! asset, uint256 amount, bytes32 ref, uint64 seq)
        Withdrawn(bytes32! accountId, address! asset, address! to, uint256 amount, uint256 balanceAfter, bytes32
            ref, uint64 seq)
        Adjusted(bytes32! accountId, address! asset, int256 delta, bytes32 reason, uint64 seq)
        UnattributedSwept(address! asset, address! to, uint256 amount, uint64 seq)
        AccountOpened(bytes32! accountId, address! owner, uint8 kind, bytes32 externalRef)
        RoleGranted(bytes32! role, address! account, address! sender)
        FeeScheduleSet(bytes32! merchantId, uint16 basisPoints, bytes32 feeAccount, bool returnedOnRefund)
        AssetListed(address! asset, uint8 decimals)
    """,
    "vault": """
        Deposited(address! account, address! asset, uint256 amount)
        Withdrawn(address! account, address! asset, address to, uint256 amount)
    """,
    "token": """
        Transfer(address! from, address! to, uint256 value)
    """,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where things are; the only thing that the checker is told."""

    chain_id: int
    gateway: str
    vault: str
    tokens: tuple[str, ...]

    @property
    def books(self) -> dict[str, str]:
        """address → book, of the contracts that hold money."""
        return {self.gateway: "gateway", self.vault: "vault"}

    @classmethod
    def read(cls, path: Path) -> Deployment:
        given = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            chain_id=given["chain_id"],
            gateway=given["gateway"],
            vault=given["vault"],
            tokens=tuple(token["address"] for token in given["tokens"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One log of ours, decoded. ``source`` is gateway, vault or token."""

    source: str
    name: str
    args: Mapping[str, Any]
    address: str
    block_number: int
    block_hash: str
    tx_hash: str
    log_index: int


@dataclass(frozen=True, slots=True)
class _Shape:
    name: str
    inputs: tuple[tuple[str, str, bool], ...]  # (type, name, indexed)


def _shapes(text: str) -> dict[bytes, _Shape]:
    shapes = {}
    for name, body in re.findall(r"(\w+)\(([^)]*)\)", text):
        inputs = tuple(
            (kind.removesuffix("!"), argument, kind.endswith("!"))
            for kind, argument in (part.split() for part in body.split(","))
        )
        topic0 = keccak(text=f"{name}({','.join(kind for kind, _, _ in inputs)})")
        shapes[topic0] = _Shape(name, inputs)
    return shapes


_SHAPES: Final = {source: _shapes(text) for source, text in SIGNATURES.items()}


def read_event(log: Mapping[str, Any], deployment: Deployment) -> Event | None:
    """The event of a log in JSON-RPC form; None when it is none of ours."""
    address = log["address"].lower()
    if address == deployment.gateway:
        source = "gateway"
    elif address == deployment.vault:
        source = "vault"
    elif address in deployment.tokens:
        source = "token"
    else:
        return None
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    shape = _SHAPES[source].get(topics[0]) if topics else None
    if shape is None:
        return None
    args: dict[str, Any] = {}
    indexed = iter(topics[1:])
    plain = [(kind, name) for kind, name, is_indexed in shape.inputs if not is_indexed]
    values = dict(
        zip(
            [name for _, name in plain],
            decode([kind for kind, _ in plain], bytes.fromhex(log["data"][2:])),
            strict=True,
        )
    )
    for kind, name, is_indexed in shape.inputs:
        value = decode([kind], next(indexed))[0] if is_indexed else values[name]
        args[name] = "0x" + value.hex() if isinstance(value, bytes) else value.lower() if kind == "address" else value
    return Event(
        source=source,
        name=shape.name,
        args=args,
        address=address,
        block_number=int(log["blockNumber"], 16),
        block_hash=log["blockHash"],
        tx_hash=log["transactionHash"],
        log_index=int(log["logIndex"], 16),
    )


def event_id(event: Event, chain_id: int) -> str:
    """``sha256(u64be chain id ‖ block hash ‖ u32be log index ‖ 0)``."""
    block_hash = bytes.fromhex(event.block_hash[2:])
    preimage = chain_id.to_bytes(8, "big") + block_hash + event.log_index.to_bytes(4, "big") + b"\0"
    return "0x" + hashlib.sha256(preimage).hexdigest()
