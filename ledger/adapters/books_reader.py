"""Reads whole books in one snapshot, as streams: the journal, and balances in order of codes, at any cut. Never writes.

A cut is a position of every stream (the last ``stream_seq`` that counts), and a block for final balances. Stored
balances are taken back to it by the postings beyond it, so that what is compared is what is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from contracts.posting import Posting
from ledger.adapters.postgres import close, connect, translated
from ledger.adapters.rendering import LIVE
from ledger.adapters.statements import statements
from ledger.core.journal import AccountAt, JournalEntry
from ledger.core.records import SEQ_BITS
from ledger.ports import Partition

BOOKS: Final = statements("books")
STREAMS: Final = statements("streams")
ROWS_AT_ONCE: Final = 1_000
STATEMENT_TIMEOUT_S: Final = 6 * 3600.0
NOTHING_FINAL: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAt:
    """How far a stream is folded."""

    stream_no: int
    partition: Partition
    kind: str
    stream_id: str | None
    stream_seq: int
    next_offset: int
    entries: int
    record_chain: bytes
    stopped_reason: str | None
    stopped_offset: int | None


class BooksReader:
    """One chain's books in one schema, as they were at one moment."""

    def __init__(self, connection: asyncpg.Connection, *, chain_id: int) -> None:
        self.connection = connection
        self.chain_id = chain_id

    async def streams(self) -> dict[Partition, StreamAt]:
        """Every stream, events before rejected, in order of partitions."""
        with translated("streams cannot be read"):
            rows = await self.connection.fetch(STREAMS["streams"], self.chain_id)
        found = [_stream(row) for row in rows]
        return {stream.partition: stream for stream in found}

    async def final_number(self) -> int | None:
        """The block that final balances go through."""
        with translated("the chain's head cannot be read"):
            row = await self.connection.fetchrow(BOOKS["chain_head"], self.chain_id)
        return None if row is None else row["final_number"]

    async def journal(self, stream: StreamAt, *, through: int) -> AsyncIterator[JournalEntry]:
        """The stream's entries in order, up to a ``stream_seq``."""
        first = stream.stream_no << SEQ_BITS
        with translated("the journal cannot be read"):
            rows = self.connection.cursor(BOOKS["journal"], first, first | through, prefetch=ROWS_AT_ONCE)
            async for row in rows:
                yield _entry(row)

    async def balances(self, cut: Mapping[Partition, int], *, final: int | None) -> AsyncIterator[AccountAt]:
        """Every account in order of code and asset, at a cut; final balances through block ``final``."""
        streams = (await self.streams()).values()
        beyond = [(s.stream_no << SEQ_BITS | cut[s.partition], s.stream_no << SEQ_BITS | s.stream_seq) for s in streams]
        own = await self.final_number()
        with translated("balances cannot be read"):
            rows = self.connection.cursor(
                BOOKS["balances_at"],
                self.chain_id,
                [after for after, _ in beyond],
                [through for _, through in beyond],
                NOTHING_FINAL if own is None else own,
                NOTHING_FINAL if final is None else final,
                prefetch=ROWS_AT_ONCE,
            )
            async for row in rows:
                yield AccountAt(
                    code=row["code"],
                    asset=row["asset"],
                    debits=int(row["debits"]),
                    credits=int(row["credits"]),
                    final_debits=int(row["final_debits"]),
                    final_credits=int(row["final_credits"]),
                )


@asynccontextmanager
async def reading(dsn: str, *, chain_id: int, schema: str = LIVE) -> AsyncIterator[BooksReader]:
    """The books as they are now, until the block ends. Raises DatabaseUnavailable, ConfigurationRefused."""
    connection = await connect(
        dsn, name="chainbooks-ledger proof", schema=schema, command_timeout_s=STATEMENT_TIMEOUT_S
    )
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield BooksReader(connection, chain_id=chain_id)
    finally:
        await close(connection)


def _stream(row: Any) -> StreamAt:
    return StreamAt(
        stream_no=row["stream_no"],
        partition=Partition(row["topic"], row["partition"]),
        kind=row["kind"],
        stream_id=row["stream_id"],
        stream_seq=row["stream_seq"],
        next_offset=row["next_offset"],
        entries=row["entries"],
        record_chain=row["record_chain"],
        stopped_reason=row["stopped_reason"],
        stopped_offset=row["stopped_offset"],
    )


def _entry(row: Any) -> JournalEntry:
    (entry_id, event_id, ordinal, chain_id, block_number, block_hash, block_timestamp, tx_hash, tx_index, log_index,
     address, contract, event, book, subject, version, contract_seq, args, correlation, late, accounting_date,
     incident_id, debits, credits_, assets, amounts) = row  # fmt: skip
    return JournalEntry(
        seq=entry_id & (1 << SEQ_BITS) - 1,
        event_id="0x" + event_id.hex(),
        revision=ordinal,
        chain_id=chain_id,
        block_number=block_number,
        block_hash="0x" + block_hash.hex(),
        block_timestamp=block_timestamp,
        tx_hash="0x" + tx_hash.hex(),
        tx_index=tx_index,
        log_index=log_index,
        address="0x" + address.hex(),
        contract=contract,
        event=event,
        book=book,
        subject=subject,
        description_version="0x" + version.hex(),
        contract_seq=contract_seq,
        args=args,
        correlation=correlation,
        late=late,
        accounting_date=accounting_date,
        incident_id=incident_id,
        lines=()
        if debits is None
        else tuple(
            Posting(debit or "?", credit or "?", asset or "?", int(amount))
            for debit, credit, asset, amount in zip(debits, credits_, assets, amounts, strict=True)
        ),
    )
