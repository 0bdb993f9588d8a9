"""The end of a history: faults off, everything comes to rest, and then the books must equal the chain exactly.

The independent fold adds up the effects of the canonical chain's payments. Nothing of the ledger's code is used for it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any, Final

from tests.simulation.actors import IndexerProcess, LedgerProcess
from tests.simulation.chain import PARTITIONS, Block
from tests.simulation.checks import demand
from tests.simulation.kafka import committed
from tests.simulation.world import World

ROUNDS_MAX: Final = 3_000

BALANCES: Final = """
SELECT a.code, encode(s.address, 'hex') AS token, (b.debits - b.credits)::TEXT AS latest,
    (b.final_debits - b.final_credits)::TEXT AS final
FROM ledger.balance AS b
INNER JOIN ledger.account AS a ON b.account_id = a.account_id
INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
WHERE s.chain_id = $1
"""
JOURNAL: Final = """
SELECT e.stream_no, e.entry_id, encode(e.event_id, 'hex') AS event_id, e.ordinal, e.block_number,
    encode(e.block_hash, 'hex') AS block_hash, extract(EPOCH FROM e.event_at)::BIGINT AS event_at,
    encode(e.tx_hash, 'hex') AS tx_hash, e.log_index, encode(e.address, 'hex') AS address, e.contract, e.event, e.book,
    e.subject, encode(e.description_version, 'hex') AS version,
    array_agg(d.code ORDER BY t.line) AS debits, array_agg(c.code ORDER BY t.line) AS credits,
    array_agg(s.code ORDER BY t.line) AS assets, array_agg(t.amount::TEXT ORDER BY t.line) AS amounts
FROM ledger.entry AS e
LEFT JOIN ledger.transfer AS t ON e.entry_id = t.entry_id AND e.event_at = t.event_at
LEFT JOIN ledger.account AS d ON t.debit_account_id = d.account_id
LEFT JOIN ledger.account AS c ON t.credit_account_id = c.account_id
LEFT JOIN ledger.asset AS s ON t.asset_id = s.asset_id
WHERE e.chain_id = $1
GROUP BY e.entry_id, e.event_at
ORDER BY e.stream_no, e.entry_id
"""
STREAMS: Final = """
SELECT s.stream_no, s.kind, s.partition, s.next_offset, s.stream_seq, s.record_chain, s.stopped_reason, h.final_number
FROM ledger.stream AS s INNER JOIN ledger.chain_head AS h ON s.chain_id = h.chain_id
WHERE s.chain_id = $1 ORDER BY s.stream_no
"""
QUARANTINE: Final = """
SELECT encode(event_id, 'hex') AS event_id FROM ledger.quarantine
WHERE chain_id = $1 AND closed_at IS NULL ORDER BY 1
"""
BREAKS: Final = """
SELECT a.code, encode(s.address, 'hex') AS token, k.difference::TEXT AS difference
FROM ledger.break AS k
INNER JOIN ledger.account AS a ON k.account_id = a.account_id
INNER JOIN ledger.asset AS s ON a.asset_id = s.asset_id
WHERE k.chain_id = $1 AND k.kind = 'clearing' AND k.resolved_at IS NULL
"""

Net = dict[tuple[str, str], int]


async def settle(world: World) -> None:
    """Faults off, all nodes honest; returns when indexer and ledger have nothing left to do."""
    world.faults.on = False
    chain = world.chain
    for node in world.nodes:
        node.away = node.silent = 0
        node.range_blocks_max = 1_000
        node.sync()
    for process in world.processes:
        process.paused = 0
        if isinstance(process, LedgerProcess):
            process.trouble.kind = ""
    world.broker.finish()
    idle_rounds = 0
    for _ in range(ROUNDS_MAX):
        await world.quiet()
        _keep_alive(world)
        moved = False
        for process in list(world.processes):
            while world.release(process):
                moved = True
                await world.quiet()
        if not moved:
            world.broker.finish()
            idle_rounds += 1
            if idle_rounds % 4 == 0 and await _at_rest(world):
                break
            world.loop.jump(60.0)
    else:
        cursor = world.published()
        raise AssertionError(
            f"it never settles: chain {chain.head.label} final {chain.finalized.label}, published "
            f"{cursor and (cursor.head.number, cursor.finalized.number)}, streams {await _rows(world, STREAMS)}, "
            f"waiting {[(p.name, p.gate.waiting) for p in world.processes]}"
        )
    world.observer.look()
    world.check()


def _keep_alive(world: World) -> None:
    """One of each at least; a ledger with a stopped partition is restarted, as an operator would."""
    for process in list(world.processes):
        if process.over:
            world._reap(process)
        elif isinstance(process, LedgerProcess) and process.observer.has_stopped and not process.stop_event.is_set():
            process.stop()
    for make in (IndexerProcess, LedgerProcess):
        if not any(isinstance(p, make) for p in world.processes):
            world._start(make)


def _all_up(world: World) -> bool:
    """An indexer holds the chain, and every partition is claimed by a ledger."""
    follows = any(p.follows for p in world.processes if isinstance(p, IndexerProcess))
    claimed = {c for p in world.processes if isinstance(p, LedgerProcess) for c in p.claimed}
    return follows and len(claimed) == 2 * PARTITIONS


async def _at_rest(world: World) -> bool:
    if not _all_up(world):
        return False
    cursor, chain = world.published(), world.chain
    if cursor is None or cursor.head.hash != chain.head.hash or cursor.finalized.hash != chain.finalized.hash:
        return False
    rows = await _rows(world, STREAMS)
    topics = {"events": world.topics.events, "rejected": world.topics.rejected}
    for row in rows:
        last = [e.offset for e in committed(world.broker.log(topics[row["kind"]], row["partition"]))][-1:]
        if last and row["next_offset"] != last[0] + 1:
            return False
    return bool(rows) and (rows[0]["final_number"] or 0) == chain.finalized.number


async def _rows(world: World, sql: str) -> list[Any]:
    rows: list[Any] = await world.database.ask("fetch", sql, world.chain.chain_id)
    return rows


def fold(head: Block) -> Net:
    """What the payments of a branch add up to."""
    net: Counter[tuple[str, str]] = Counter()
    for block in head.blocks():
        for tx in block.txs:
            for key, amount in tx.effects:
                net[key] += amount
    return {key: amount for key, amount in net.items() if amount}


async def check_books(world: World) -> str:
    """Exact equality of everything. Raises Inconsistent. Returns a digest of the books."""
    chain = world.chain
    rows = await _rows(world, BALANCES)
    latest = {(r["code"], "0x" + r["token"]): int(r["latest"]) for r in rows if int(r["latest"])}
    final = {(r["code"], "0x" + r["token"]): int(r["final"]) for r in rows if int(r["final"])}
    _equal("latest balances", latest, fold(chain.head))
    _equal("final balances", final, fold(chain.finalized))
    breaks = {(r["code"], "0x" + r["token"]): int(r["difference"]) for r in await _rows(world, BREAKS)}
    _equal("breaks", breaks, {key: net for key, net in fold(chain.finalized).items() if key[0].startswith("clearing:")})
    wanted = sorted(identity[2:] for block in chain.head.blocks() for identity, _ in block.rejected)
    demand([r["event_id"] for r in await _rows(world, QUARANTINE)] == wanted, "quarantine differs from the chain")
    for partition in range(PARTITIONS):
        finals, events = world.observer.finals[partition], world.observer.events[partition]
        demand(finals.digest == chain.finalized.digests[partition], f"finals of {partition} differ from final events")
        digest = events.standing[-1].digest if events.standing else bytes(32)
        demand(digest == chain.head.digests[partition], f"what stands on {partition} differs from the chain")
    journal = await _rows(world, JOURNAL)
    await _check_streams(world, journal)
    return hashlib.sha256(repr([sorted(latest.items()), sorted(final.items()), len(journal)]).encode()).hexdigest()


def _equal(what: str, found: Net, wanted: Net) -> None:
    odd = {key: (found.get(key, 0), wanted.get(key, 0)) for key in found | wanted if found.get(key) != wanted.get(key)}
    demand(not odd, f"{what} (found, wanted): {odd}")


async def _check_streams(world: World, journal: list[Any]) -> None:
    """No stream stands still, numbers reach the end, and the record chain is what its entries hash to."""
    chains: dict[int, bytes] = {}
    for row in journal:
        chains[row["stream_no"]] = hashlib.sha256(
            chains.get(row["stream_no"], bytes(32)) + _canonical(world, row)
        ).digest()
    for row in await _rows(world, STREAMS):
        streams = world.observer.events if row["kind"] == "events" else world.observer.rejected
        seq = streams[row["partition"]].seq
        demand(row["stream_seq"] == seq, f"{row['kind']} {row['partition']}: folded {row['stream_seq']} of {seq}")
        wanted = chains.get(row["stream_no"], bytes(32))
        demand(row["record_chain"] == wanted, f"record chain of {row['kind']} {row['partition']} does not hash")


def _canonical(world: World, row: Any) -> bytes:
    """DESIGN's record chain, written again: codes and amounts, no ids of ours."""
    lines = [
        list(line)
        for line in zip(row["debits"], row["credits"], row["assets"], row["amounts"], strict=True)
        if line[0] is not None
    ]
    entry = [
        "0x" + row["event_id"],
        row["ordinal"],
        world.chain.chain_id,
        row["block_number"],
        "0x" + row["block_hash"],
        row["event_at"],
        "0x" + row["tx_hash"],
        row["log_index"],
        "0x" + row["address"],
        row["contract"],
        row["event"],
        row["book"],
        row["subject"],
        "0x" + row["version"],
        lines,
    ]
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()


async def settle_twice(world: World) -> None:
    """Comes to rest and equals the chain; restarted, with everything delivered again, nothing changes."""
    world.chain.mine(1)  # a head that went back is no evidence of a reorg; the block on top of it is
    await settle(world)
    before = await check_books(world)
    entries = len(await _rows(world, JOURNAL))
    for process in list(world.processes):
        await world.kill(process)
    world.group.members.clear()
    world.group.rebalancing = False
    await settle(world)
    for process in world.processes:
        if isinstance(process, LedgerProcess):
            process.consumers[-1].rewind(0)
    await settle(world)
    demand(await check_books(world) == before, "the books changed though nothing happened")
    demand(len(await _rows(world, JOURNAL)) == entries, "entries were added though nothing happened")
