"""The books as values that can be compared: entries, balances, and digests over both. Pure.

A digest is a sha256 over codes, amounts and places in canonical order. No surrogate ids, no times of ours: the same
books have the same digests, whatever the size of batches, the order of partitions or the schema that they are in.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec

from contracts.posting import Posting
from ledger.core.record_chain import GENESIS, canonical

_encode = msgspec.json.Encoder().encode


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry as the journal has it, hashes as 0x text."""

    seq: int  # place in its stream
    event_id: str
    revision: int
    chain_id: int
    block_number: int
    block_hash: str
    block_timestamp: int
    tx_hash: str
    tx_index: int
    log_index: int
    address: str
    contract: str
    event: str
    book: str
    subject: str
    description_version: str
    contract_seq: str | None
    args: str  # jsonb as text
    correlation: str
    late: bool
    accounting_date: str
    incident_id: str | None
    lines: tuple[Posting, ...]


class AccountAt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account's sums at a cut, in base units."""

    code: str
    asset: str
    debits: int
    credits: int
    final_debits: int
    final_credits: int


class JournalDigest:
    """Digests of one stream's journal, entry by entry: the record chain, and one over every field."""

    def __init__(self) -> None:
        self.record_chain = GENESIS
        self.entries = 0
        self._all = sha256()

    def add(self, entry: JournalEntry) -> None:
        """The next entry of the stream."""
        said = canonical(entry, entry.lines)
        self.record_chain = sha256(self.record_chain + said).digest()
        self._all.update(said)
        self._all.update(
            _encode(
                [
                    entry.seq,
                    entry.tx_index,
                    entry.contract_seq,
                    entry.args,
                    entry.correlation,
                    entry.late,
                    entry.accounting_date,
                    entry.incident_id,
                ]
            )
        )
        self.entries += 1

    def hexdigest(self) -> str:
        """Over everything that was added."""
        return self._all.hexdigest()


class BalancesDigest:
    """Digests of balances and of final balances, in the order of codes. Accounts without movement are not there."""

    def __init__(self) -> None:
        self._latest = sha256()
        self._final = sha256()

    def add(self, account: AccountAt) -> None:
        """The next account, in order of code and asset."""
        if account.debits or account.credits:
            self._latest.update(_line(account, account.debits, account.credits))
        if account.final_debits or account.final_credits:
            self._final.update(_line(account, account.final_debits, account.final_credits))

    @property
    def latest(self) -> str:
        return self._latest.hexdigest()

    @property
    def final(self) -> str:
        return self._final.hexdigest()


def digest_of(parts: Iterator[str]) -> str:
    """One digest over named parts."""
    return sha256("\n".join(parts).encode()).hexdigest()


def changed_fields(one: JournalEntry, other: JournalEntry) -> dict[str, tuple[Any, Any]]:
    """Field → both values, where two entries differ."""
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in JournalEntry.__struct_fields__}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _line(account: AccountAt, *sums: int) -> bytes:
    return _encode([account.code, account.asset, *map(str, sums)])
