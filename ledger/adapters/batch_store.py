"""The database connection of one partition's worker: claim, read back, one db_tx per batch.

Plain values in, rows out. All SQL is in ``sql/statements``. Ids of accounts and assets are remembered only after the
db_tx that made them has committed.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import asyncpg
import msgspec

from contracts.messages import PaymentEvent, Rejected, asset_address
from contracts.posting import Posting
from ledger.adapters.join_store import note_join_keys, recalled
from ledger.adapters.postgres import close, connect, translated
from ledger.adapters.promotion_store import PROMOTION, write_breaks
from ledger.adapters.rendering import LIVE
from ledger.adapters.statements import statements
from ledger.core.fold import ClearingLine, Entry, Folded, Knowledge, Needs, StreamState
from ledger.core.promotion import BreakChange
from ledger.core.recall import Recalled, Unread
from ledger.core.records import Change, Mark, Position, Refused, Stop, entry_id
from ledger.errors import ConfigurationRefused, Fenced, Superseded
from ledger.ports import Claim, Partition, Staged

BATCH: Final = statements("batch")
STREAMS: Final = statements("streams")
INCIDENTS: Final = statements("incidents")
KNOWN_ACCOUNTS_MAX: Final = 500_000
NOTHING_FINAL: Final = -1

Pair = tuple[str, str]
"""Account code and asset."""

Ids = tuple[int, int]
"""account_id and asset_id."""

_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Payload:
    """What goes into the stage: rows for stage_entry, lines of text for stage_transfer (None: accounts are new)."""

    entries: list[tuple[Any, ...]]
    transfers: list[str] | None


class BatchStore:
    """Implements ``ledger.ports.StorePort`` on asyncpg."""

    def __init__(self, connection: asyncpg.Connection, *, chain_id: int) -> None:
        self._connection = connection
        self._chain_id = chain_id
        self._assets: dict[str, int] = {}
        self._accounts: dict[Pair, Ids] = {}
        self._months: set[date] = set()

    @classmethod
    async def open(cls, dsn: str, *, chain_id: int, schema: str = LIVE) -> BatchStore:
        """Connects and makes the stage. Raises DatabaseUnavailable, ConfigurationRefused."""
        connection = await connect(dsn, name="chainbooks-ledger fold", schema=schema)
        with translated("the stage cannot be made"):
            await connection.execute(BATCH["make_stage_entry"])
            await connection.execute(BATCH["make_stage_transfer"])
        return cls(connection, chain_id=chain_id)

    async def claim(self, partition: Partition, owner: str, *, held_before: bool) -> Claim:
        """See StorePort."""
        with translated("a partition cannot be claimed"):
            row = await self._connection.fetchrow(STREAMS["claim"], *partition, owner, held_before)
            other = None if row is not None else await self._connection.fetchval(STREAMS["owner"], *partition)
        name = f"{partition.topic}/{partition.number}"
        if other is not None:
            raise Superseded(
                f"another process runs as instance {owner.partition('#')[0]!r} and has {name} now; give each process "
                "its own [ledger] instance_id"
            )
        if row is None:
            raise ConfigurationRefused(f"{name} has no stream row: another P is another topic version")
        state = StreamState(
            position=Position(next_offset=row["next_offset"], stream_id=row["stream_id"], stream_seq=row["stream_seq"]),
            record_chain=row["record_chain"],
            latest=row["latest_number"],
            latest_at=None if row["latest_at"] is None else int(row["latest_at"].timestamp()),
            finalized=row["finalized_number"],
        )
        return Claim(
            partition=partition,
            stream_no=row["stream_no"],
            kind=row["kind"],
            epoch=row["epoch"],
            state=state,
        )

    async def read_back(self, claim: Claim, needs: Needs) -> Knowledge:
        """See StorePort. Most batches need nothing, and nothing is asked."""
        del claim
        with translated("earlier batches cannot be read"):
            return Knowledge(
                originals=await self._originals(needs.originals) if needs.originals else {},
                clearing=await self._clearing(needs) if needs.groups else (),
                posted=await self._posted(needs.posted) if needs.posted else None,
                quarantined=await self._quarantined(needs.withdrawn) if needs.withdrawn else {},
                withdrawn=await self._withdrawn(needs.posted) if needs.posted else frozenset(),
                accepted=await self.accepted(needs.incidents) if needs.incidents else frozenset(),
            )

    async def accepted(self, incidents: Collection[str]) -> frozenset[str]:
        """See StorePort."""
        with translated("incidents cannot be looked up"):
            rows = await self._connection.fetch(INCIDENTS["accepted"], self._chain_id, list(incidents))
        return frozenset(row["incident_id"] for row in rows)

    async def recall(self, claim: Claim, unread: Unread) -> Recalled:
        """See StorePort."""
        with translated("earlier events cannot be read"):
            return await recalled(self._connection, claim.stream_no, unread)

    def stage(self, claim: Claim, folded: Folded) -> Staged:
        """See StorePort. Transfers can be made only when every account is known already."""
        base = entry_id(claim.stream_no, 1) - 1
        entries = [_entry_row(base + entry.change.seq, entry) for entry in folded.entries]
        try:
            transfers: list[str] | None = _transfer_lines(base, folded, self._accounts)
        except KeyError:
            transfers = None
        return Staged(folded=folded, payload=_Payload(entries=entries, transfers=transfers))

    async def commit(self, claim: Claim, staged: Staged) -> None:
        """See StorePort."""
        folded, payload = staged.folded, staged.payload
        assert isinstance(payload, _Payload)
        if not folded.entries and not folded.refused and not folded.closings:
            with translated("a stream cannot be advanced"):
                await self._advance(claim, folded)
            return
        await self._ensure_partitions(folded)
        accounts: dict[Pair, Ids] = {}
        with translated("a batch cannot be committed"):
            async with self._connection.transaction():
                await self._commit(claim, folded, payload, accounts)
        if len(self._accounts) > KNOWN_ACCOUNTS_MAX:
            self._accounts.clear()
        self._accounts.update(accounts)

    async def stop(self, claim: Claim, stop: Stop) -> None:
        """See StorePort."""
        with translated("a stop cannot be written down"):
            stopped = await self._connection.fetchval(
                STREAMS["stop"], claim.stream_no, claim.epoch, stop.reason[:2000], stop.offset, stop.incident
            )
            if stopped is None:  # what it was judged by may be the work of whoever has the partition now
                raise await self._fenced(claim)

    async def maintain(self) -> None:
        """See StorePort."""
        with translated("the stage cannot be vacuumed"):
            await self._connection.execute(BATCH["vacuum_stage"])

    async def close(self) -> None:
        """See StorePort."""
        await close(self._connection)

    # the db_tx of a batch

    async def _commit(self, claim: Claim, folded: Folded, payload: _Payload, accounts: dict[Pair, Ids]) -> None:
        if folded.touches_final:
            await self._connection.execute(BATCH["lock_promotion_shared"], self._chain_id)
        transfers = await self._fill_stage(claim, folded, payload, accounts)
        await self._advance(claim, folded)
        first = entry_id(claim.stream_no, folded.before.position.stream_seq + 1)
        if folded.entries:
            await self._connection.execute(BATCH["post_entries"], claim.stream_no, first, self._chain_id)
            await note_join_keys(self._connection, claim.stream_no, folded)
        if transfers:
            await self._connection.execute(BATCH["post_transfers"])
            final = await self._final_number(folded)
            await self._connection.execute(BATCH["add_to_balances"], final)
            if final != NOTHING_FINAL:
                await self._judge_clearing(final)
        for refused in folded.refused:
            await self._connection.execute(BATCH["quarantine"], *self._quarantine_row(claim, refused))
        for closing in folded.closings:
            quarantine_id = closing.quarantine_id or entry_id(claim.stream_no, closing.refused_seq or 0)
            await self._connection.execute(
                BATCH["close_quarantine"], quarantine_id, entry_id(claim.stream_no, closing.seq)
            )
        await self._connection.execute(
            BATCH["add_batch"],
            first,
            claim.stream_no,
            claim.epoch,
            folded.before.position.next_offset,
            folded.after.position.next_offset,
            folded.after.position.stream_seq,
            len(folded.entries),
            transfers,
            folded.after.record_chain,
        )

    async def _advance(self, claim: Claim, folded: Folded) -> None:
        """Moves the stream's row if it is what we hold. Raises Fenced."""
        after, mark = folded.after, folded.mark
        moved = await self._connection.fetchval(
            STREAMS["advance"],
            claim.stream_no,
            claim.epoch,
            folded.before.position.next_offset,
            after.position.next_offset,
            after.position.stream_id,
            after.position.stream_seq,
            after.record_chain,
            len(folded.entries),
            *_mark_values(mark),
        )
        if moved is None:
            raise await self._fenced(claim)

    async def _fenced(self, claim: Claim) -> Fenced:
        """Why the stream's row is not what we hold."""
        row = await self._connection.fetchrow(STREAMS["epoch"], claim.stream_no)
        other = row is not None and row["epoch"] != claim.epoch
        by = (row["owner"] or "somebody else") if row is not None and other else None
        return Fenced(f"stream {claim.stream_no} is not where we left it" + (f": {by} has it" if by else ""), by=by)

    async def _final_number(self, folded: Folded) -> int:
        """Through which block entries count as final at once. Only a batch that holds the lock may ask."""
        if not folded.touches_final:
            return NOTHING_FINAL
        number = await self._connection.fetchval(BATCH["final_number"], self._chain_id)
        return NOTHING_FINAL if number is None else int(number)

    async def _judge_clearing(self, final: int) -> None:
        """Late entries may leave something on clearing, or clear what stood there."""
        rows = await self._connection.fetch(PROMOTION["clearing_after_late"], final)
        changes = []
        for row in rows:
            net = int(row["net"])
            changes.append(
                BreakChange(
                    account_id=row["account_id"],
                    block_number=row["block_number"],
                    net=net,
                    change="resolve" if net == 0 else "change" if row["is_open"] else "open",
                )
            )
        await write_breaks(self._connection, self._chain_id, changes)

    async def _find_accounts(self, claim: Claim, folded: Folded, accounts: dict[Pair, Ids]) -> None:
        """Ids of all accounts of the batch into ``accounts``; new ones are opened, sorted by code."""
        wanted = {
            pair
            for entry in folded.entries
            for line in entry.lines
            for pair in ((line.debit, line.asset), (line.credit, line.asset))
        }
        missing = sorted(wanted - self._accounts.keys())
        if not missing:
            return
        assets = await self._asset_ids({asset for _, asset in missing})
        codes = [code for code, _ in missing]
        ids = [assets[asset] for _, asset in missing]
        names = {number: asset for asset, number in assets.items()}
        found = await self._connection.fetch(BATCH["account_ids"], codes, ids)
        accounts.update(_by_pair(found, names))
        new = [(code, asset) for code, asset in missing if (code, asset) not in accounts]
        if not new:
            return
        codes, ids = [code for code, _ in new], [assets[asset] for _, asset in new]
        await self._connection.execute(BATCH["add_accounts"], codes, ids, claim.stream_no)
        rows = await self._connection.fetch(BATCH["account_ids"], codes, ids)
        accounts.update(_by_pair(rows, names))
        await self._connection.execute(BATCH["add_balances"], [row["account_id"] for row in rows])

    async def _asset_ids(self, wanted: set[str]) -> dict[str, int]:
        missing = sorted(wanted - self._assets.keys())
        if missing:
            addresses = [bytes.fromhex(asset_address(code)[1][2:]) for code in missing]
            await self._connection.execute(BATCH["add_assets"], self._chain_id, addresses, missing)
            rows = await self._connection.fetch(BATCH["asset_ids"], missing)
            return {code: self._assets[code] for code in wanted & self._assets.keys()} | {
                row["code"]: row["asset_id"] for row in rows
            }
        return {code: self._assets[code] for code in wanted}

    async def _fill_stage(self, claim: Claim, folded: Folded, payload: _Payload, accounts: dict[Pair, Ids]) -> int:
        """Opens accounts that are new, copies entries and transfers; returns the number of transfers."""
        transfers = payload.transfers
        if transfers is None:
            await self._find_accounts(claim, folded, accounts)
            base = entry_id(claim.stream_no, 1) - 1
            transfers = _transfer_lines(base, folded, ChainMap(accounts, self._accounts))
        if payload.entries:
            await self._connection.copy_records_to_table("stage_entry", records=payload.entries)
        if transfers:
            await self._connection.copy_to_table("stage_transfer", source=_chunks(transfers), format="text")
        return len(transfers)

    async def _ensure_partitions(self, folded: Folded) -> None:
        """Makes the months that the batch needs, and the one after the newest, before the batch begins."""
        wanted = {_month(time) for time in {entry.change.event.block_timestamp for entry in folded.entries}}
        if wanted <= self._months:
            return
        with translated("partitions cannot be made"):
            rows = await self._connection.fetch(BATCH["partition_months"])
            self._months = {row["month"] for row in rows}
            if not wanted <= self._months:
                ahead = _following(max(wanted))
                months = sorted(wanted | ({ahead} if ahead.year < 2200 else set()))
                await self._connection.execute(BATCH["ensure_partitions"], months)
                self._months |= set(months)

    # reading back

    async def _originals(self, retractions: Iterable[Change]) -> dict[tuple[bytes, int], tuple[Posting, ...]]:
        wanted = list(retractions)
        rows = await self._connection.fetch(
            BATCH["originals"],
            [change.event_id for change in wanted],
            [change.event.revision - 1 for change in wanted],
            [change.event.block_timestamp for change in wanted],
        )
        found: dict[tuple[bytes, int], tuple[Posting, ...]] = {}
        for row in rows:
            key = (row["event_id"], row["ordinal"])
            line = (
                () if row["line"] is None else (Posting(row["debit"], row["credit"], row["asset"], int(row["amount"])),)
            )
            found[key] = found.get(key, ()) + line
        return found

    async def _clearing(self, needs: Needs) -> tuple[ClearingLine, ...]:
        rows = await self._connection.fetch(
            BATCH["clearing_of_txs"],
            [group[0] for group, _ in needs.groups],
            [group[1] for group, _ in needs.groups],
            [event_at for _, event_at in needs.groups],
            [group[2] for group, _ in needs.groups],
        )
        return tuple(
            ClearingLine(
                group=(row["block_hash"], row["tx_hash"], row["book"]),
                account=row["code"],
                asset=row["asset"],
                inflow=int(row["inflow"]),
                version="0x" + row["description_version"].hex(),
            )
            for row in rows
        )

    async def _posted(self, changes: Iterable[Change]) -> frozenset[tuple[bytes, int]]:
        wanted = list(changes)
        rows = await self._connection.fetch(
            BATCH["posted_ordinals"],
            [change.event_id for change in wanted],
            [change.event.block_timestamp for change in wanted],
        )
        return frozenset((row["event_id"], row["ordinal"]) for row in rows)

    async def _quarantined(self, event_ids: Iterable[bytes]) -> dict[tuple[bytes, int], int]:
        rows = await self._connection.fetch(BATCH["open_quarantine"], list(event_ids))
        return {(row["event_id"], row["revision"]): row["quarantine_id"] for row in rows if row["revision"] is not None}

    async def _withdrawn(self, changes: Iterable[Change]) -> frozenset[tuple[bytes, int]]:
        again = [change.event_id for change in changes if change.event.revision > 1]
        rows = await self._connection.fetch(BATCH["withdrawn"], again) if again else []
        return frozenset((row["event_id"], row["revision"]) for row in rows if row["revision"] is not None)

    def _quarantine_row(self, claim: Claim, refused: Refused) -> tuple[Any, ...]:
        message: PaymentEvent | Rejected | None = refused.message
        record = refused.record
        headers = {name: value.decode("utf-8", "replace").replace("\0", "␀") for name, value in record.headers}
        place: tuple[Any, ...] = (None,) * 4
        names: tuple[Any, ...] = (None,) * 3
        if message is not None:
            place = (message.block_number, _raw(message.block_hash), _raw(message.tx_hash), message.log_index)
            names = (message.contract, message.event if isinstance(message, PaymentEvent) else None, message.book)
        return (
            entry_id(claim.stream_no, refused.seq),
            claim.stream_no,
            self._chain_id,
            refused.offset,
            refused.origin,
            refused.code,
            refused.reason,
            refused.event_id,
            refused.revision,
            *place,
            *names,
            record.key,
            record.value,
            json.dumps(headers),
        )


def _by_pair(rows: Iterable[Any], assets: dict[int, str]) -> dict[Pair, Ids]:
    return {(row["code"], assets[row["asset_id"]]): (row["account_id"], row["asset_id"]) for row in rows}


def _transfer_lines(base: int, folded: Folded, accounts: Mapping[Pair, Ids]) -> list[str]:
    """COPY's text format: only digits, tabs and newlines, so nothing needs escaping. KeyError: an account is new."""
    lines: list[str] = []
    for entry in folded.entries:
        event = entry.change.event
        head = f"{base + entry.change.seq}\t{event.block_timestamp}\t"
        for number, line in enumerate(entry.lines, 1):
            debit_id, asset_id = accounts[(line.debit, line.asset)]
            credit_id, _ = accounts[(line.credit, line.asset)]
            lines.append(f"{head}{number}\t{debit_id}\t{credit_id}\t{asset_id}\t{line.amount}\t{event.block_number}\n")
    return lines


def _entry_row(identity: int, entry: Entry) -> tuple[Any, ...]:
    """In the order of the columns of stage_entry."""
    change = entry.change
    event = change.event
    return (
        identity,
        event.block_timestamp,
        change.event_id,
        event.revision,
        len(entry.lines),
        event.block_number,
        change.block_hash,
        change.tx_hash,
        event.tx_index,
        event.log_index,
        change.address,
        event.contract,
        event.event,
        event.book,
        event.subject,
        _json(event.args).decode(),
        _json(event.correlation).decode(),
        event.contract_seq,
        change.version,
        entry.late,
        entry.counts_at,
        event.incident_id,
        entry.fresh,
    )


def _mark_values(mark: Mark | None) -> tuple[Any, ...]:
    """Parameters 9 to 16 of ``advance``; all NULL without a watermark."""
    if mark is None:
        return (None,) * 8
    watermark = mark.watermark
    return (
        watermark.latest.number,
        mark.latest_hash,
        watermark.latest_timestamp,
        watermark.safe.number,
        mark.safe_hash,
        watermark.finalized.number,
        mark.finalized_hash,
        list(watermark.incomplete),
    )


async def _chunks(lines: list[str]) -> Any:
    for start in range(0, len(lines), 10_000):
        yield "".join(lines[start : start + 10_000]).encode("ascii")


def _month(timestamp: int) -> date:
    return datetime.fromtimestamp(timestamp, UTC).date().replace(day=1)


def _following(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])
