"""Who and what takes part: people and their anvil accounts, accounts in the gateway, assets, contracts. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GENESIS_TIMESTAMP: Final = 1_793_490_600  # 2026-10-31T23:50:00Z: the business runs over the end of a month
BLOCK_INTERVAL_S: Final = 12
CHAIN_ID: Final = 31_337
NATIVE: Final = "0x" + "00" * 20

CUSTOMERS: Final = ("anna", "bruno", "chloe", "david", "elif", "farid", "greta", "hugo")
MERCHANTS: Final = ("bakery", "bookshop", "cinema", "garage")
FEES: Final = "fees"  # owns the fee account
ADMIN: Final = "admin"  # deploys, operates, adjusts and sweeps
VAULT_USERS: Final = ("ines", "jonas")  # keep money in the legacy vault
STRANGER: Final = "stranger"  # sends tokens to the gateway without saying why

PEOPLE: Final = (ADMIN, FEES, *MERCHANTS, *CUSTOMERS, *VAULT_USERS, STRANGER)
"""Each has the anvil account of the same index."""

KINDS: Final = {**dict.fromkeys(CUSTOMERS, 1), **dict.fromkeys(MERCHANTS, 2), FEES: 3}
"""Accounts of the gateway and their kind in the contract: 1 customer, 2 merchant, 3 fees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """An asset of the demo; ``name`` is None for the native coin, which nobody deploys."""

    symbol: str
    decimals: int
    name: str | None = None


ETH: Final = Asset(symbol="ETH", decimals=18)
USDX: Final = Asset(symbol="USDX", decimals=6, name="Demo Dollar")
EURX: Final = Asset(symbol="EURX", decimals=18, name="Demo Euro")
ASSETS: Final = (ETH, USDX, EURX)
TOKENS: Final = (USDX, EURX)

GATEWAY: Final = "gateway"
VAULT: Final = "vault"


def account_id(name: str) -> bytes:
    """The gateway's bytes32 id of a person's account: its name in ASCII, so that it can be read in a dump."""
    return name.encode("ascii").ljust(32, b"\0")


def account_name(identifier: str) -> str | None:
    """The name behind a 0x hex bytes32 made by ``account_id``; None for any other id."""
    try:
        name = bytes.fromhex(identifier.removeprefix("0x")).rstrip(b"\0").decode("ascii")
    except ValueError:
        return None
    return name if name in KINDS else None
