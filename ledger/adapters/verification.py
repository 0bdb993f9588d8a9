"""Asks the books whether they agree with themselves: one snapshot, sums in the database, the record chain streamed."""

from __future__ import annotations

from typing import Any, Final

from ledger.adapters.books_reader import ROWS_AT_ONCE, BooksReader, StreamAt
from ledger.adapters.postgres import translated
from ledger.adapters.statements import statements
from ledger.core.record_chain import GENESIS, extended
from ledger.core.records import SEQ_BITS
from ledger.core.verification import CHECKS, Check, Result, compared

VERIFY: Final = {**statements("verify"), **statements("verify_control")}
FAILURES_SHOWN: Final = 20


async def verify_books(reader: BooksReader) -> list[Result]:
    """Every check, in order; never stops at a failure. Raises DatabaseUnavailable."""
    with translated("the books cannot be counted"):
        sizes = dict(await reader.connection.fetchrow(VERIFY["sizes"], reader.chain_id))
    results = []
    for check in CHECKS:
        failing, failures = await _ask(reader, check)
        results.append(Result(check=check, compared=compared(check, sizes), failing=failing, failures=tuple(failures)))
    return results


async def _ask(reader: BooksReader, check: Check) -> tuple[int, list[str]]:
    if check.statement is None:
        failures = [failure for stream in (await reader.streams()).values() for failure in await _chain(reader, stream)]
        return len(failures), failures[:FAILURES_SHOWN]
    with translated(f"{check.name} cannot be verified"):
        rows = await reader.connection.fetch(VERIFY[check.statement], reader.chain_id, FAILURES_SHOWN)
    return (rows[0]["failing"] if rows else 0), [f"{row['subject']}: {row['detail']}" for row in rows]


async def _chain(reader: BooksReader, stream: StreamAt) -> list[str]:
    """Hashes the stream's journal again, and compares after every batch: a failure names the batch's records.

    After a failure it goes on from the hash that is stored, so that the batches behind it are judged on their own.
    """
    failures: list[str] = []
    name = f"stream {stream.partition.topic}/{stream.partition.number}"
    hashed, posted_before = GENESIS, 0
    journal = reader.journal(stream, through=(1 << SEQ_BITS) - 1)
    entry = await anext(journal, None)
    with translated("the record chain cannot be verified"):
        batches: Any = reader.connection.cursor(VERIFY["batches"], stream.stream_no, prefetch=ROWS_AT_ONCE)
        async for batch in batches:
            entries, last_seq = 0, batch["last_seq"]
            while entry is not None and entry.seq <= last_seq:
                hashed = extended(hashed, entry, entry.lines)
                entries += 1
                entry = await anext(journal, None)
            if hashed != batch["record_chain"] or entries != batch["entries"]:
                failures.append(
                    f"{name}: the {entries} entries of records {posted_before + 1} to {last_seq} are not the "
                    f"{batch['entries']} that were posted (batch {batch['batch_id']})"
                )
                hashed = batch["record_chain"]
            posted_before = last_seq
    if entry is not None:
        failures.append(f"{name}: entries from record {entry.seq} on are of no batch")
        while entry is not None:
            hashed = extended(hashed, entry, entry.lines)
            entry = await anext(journal, None)
    if hashed != stream.record_chain:
        failures.append(f"{name}: its record chain is not the one of its last batch, through record {posted_before}")
    return failures
