"""Wires the proofs: the books against the topics that they came from (``rebuild``), and against themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from deploy.runtime import telemetry
from ledger.adapters import books
from ledger.adapters.batch_store import BatchStore
from ledger.adapters.books_reader import reading
from ledger.adapters.kafka_reader import KafkaReader
from ledger.adapters.kafka_topics import check_topics
from ledger.adapters.postgres import close, connect, translated
from ledger.adapters.promotion_store import PromotionStore
from ledger.adapters.rebuilt_schema import Begun, rebuilt_schema
from ledger.adapters.registry import Registry
from ledger.adapters.statements import statements
from ledger.adapters.verification import verify_books
from ledger.app import topics_of
from ledger.comparison import Comparison, compare
from ledger.core.verification import Result
from ledger.errors import ConfigurationRefused
from ledger.observe import Observer
from ledger.ports import Partition
from ledger.rebuild import Progress, Rebuild
from ledger.settings import LedgerSettings

INCIDENTS: Final = statements("incidents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild found, and what became of its schema."""

    schema: str
    begun: Begun
    records: int  # folded by this run
    comparison: Comparison
    kept: bool


async def rebuild(
    settings: LedgerSettings,
    schema: str,
    *,
    batch_records_max: int | None,
    replace: bool,
    keep: bool,
    tell: Callable[[Progress], None],
) -> Rebuilt:
    """Folds the chain's topics from offset 0 into a schema beside the live one and compares both.

    The schema is dropped when both are equal, unless ``keep``. A rebuild that was cut off goes on where it stopped.
    Raises BrokerUnavailable, DatabaseUnavailable, ConfigurationRefused.
    """
    owner_dsn = settings.postgres.owner_dsn
    if owner_dsn is None:
        raise ConfigurationRefused("[postgres] owner_dsn is missing: rebuild makes a schema with it")
    chain_id = settings.chain.id
    async with AsyncExitStack() as stack:
        space = await stack.enter_async_context(rebuilt_schema(owner_dsn.get_secret_value(), schema, chain_id=chain_id))
        await check_topics(settings.kafka.bootstrap_servers, topics_of(settings), partitions=settings.kafka.partitions)
        folded_before = await _live_positions(settings)
        begun = await space.begin(replace=replace)
        last = Progress(stage="")

        def told(progress: Progress) -> None:
            nonlocal last
            last = progress
            tell(progress)

        not_promoted = await _fold(settings, schema, sorted(folded_before), batch_records_max, told)
        tell(Progress(stage="comparing"))
        comparison = await _compare(settings, schema, folded_before)
        if not_promoted is not None:
            comparison.notes.append(f"final balances of the rebuild could not be moved on: {not_promoted}")
        kept = keep or not comparison.equal
        if not kept:
            await space.drop()
    return Rebuilt(schema=schema, begun=begun, records=last.records, comparison=comparison, kept=kept)


async def _live_positions(settings: LedgerSettings) -> dict[Partition, int]:
    """Where the live streams stand. Raises ConfigurationRefused when they are not of these topics."""
    topics, dsn = topics_of(settings), settings.postgres.dsn.get_secret_value()
    await _check_schema(dsn)
    async with reading(dsn, chain_id=settings.chain.id) as live:
        streams = await live.streams()
    wanted = {Partition(t, n) for t in (topics.events, topics.rejected) for n in range(settings.kafka.partitions)}
    if streams.keys() != wanted:
        raise ConfigurationRefused(
            f"the books of chain {settings.chain.name} have {len(streams)} streams, not those of {topics.events} and "
            f"{topics.rejected} with {settings.kafka.partitions} partitions; was the ledger ever run here?"
        )
    return {partition: stream.stream_seq for partition, stream in streams.items()}


async def _fold(
    settings: LedgerSettings,
    schema: str,
    partitions: list[Partition],
    batch_records_max: int | None,
    tell: Callable[[Progress], None],
) -> str | None:
    """Folds everything; returns why final balances could not be moved on."""
    chain_id, dsn = settings.chain.id, settings.postgres.dsn.get_secret_value()
    topics, kafka = topics_of(settings), settings.kafka
    connection = await connect(dsn, name="chainbooks-ledger rebuild", schema=schema)
    try:
        await books.add_chain(
            connection, chain_id=chain_id, name=settings.chain.name, topics=topics, partitions=kafka.partitions
        )
    finally:
        await close(connection)
    registry = Registry(
        bootstrap_servers=kafka.bootstrap_servers, topic=topics.registry, dsn=dsn, chain_id=chain_id, schema=schema
    )
    await registry.refresh()
    await _take_over_incidents(settings, schema)
    reader = KafkaReader(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=f"chainbooks-ledger-rebuild-{schema}",
        fetch_bytes_max=settings.ledger.fetch_bytes_max,
    )
    ends = await reader.ends(partitions)
    measures = telemetry.start(service="chainbooks-ledger", instance=f"rebuild-{schema}", chain=settings.chain.name)
    try:
        work = Rebuild(
            chain_id=chain_id,
            reader=reader,
            open_store=lambda: BatchStore.open(dsn, chain_id=chain_id, schema=schema),
            open_promoter=lambda: PromotionStore.open(
                dsn, chain_id=chain_id, entries_max=settings.ledger.promotion_entries_max, schema=schema
            ),
            registry=registry,
            observer=Observer(measures, chain=settings.chain.name, lag_max_s=settings.ledger.lag_max_s),
            batch_records_max=batch_records_max or settings.ledger.batch_records_max,
            tell=tell,
        )
        await work.run(partitions, ends)
        while await _take_over_incidents(settings, schema):  # accepted meanwhile: what stopped there goes on
            await work.run(partitions, ends)
    finally:
        measures.shutdown()
    return work.not_promoted


async def _take_over_incidents(settings: LedgerSettings, schema: str) -> int:
    """Acceptances of the live books are an input of the fold. Returns how many were new."""
    dsn, chain_id = settings.postgres.dsn.get_secret_value(), settings.chain.id
    live = await connect(dsn, name="chainbooks-ledger rebuild")
    rebuilt = await connect(dsn, name="chainbooks-ledger rebuild", schema=schema)
    try:
        with translated("accepted incidents cannot be taken over"):
            rows = await live.fetch(INCIDENTS["all_accepted"], chain_id)
            added = [await rebuilt.fetchval(INCIDENTS["take_over"], chain_id, *row) for row in rows]
    finally:
        await close(live)
        await close(rebuilt)
    return sum(1 for each in added if each is not None)


async def _compare(settings: LedgerSettings, schema: str, folded_before: dict[Partition, int]) -> Comparison:
    dsn, chain_id = settings.postgres.dsn.get_secret_value(), settings.chain.id
    async with (
        reading(dsn, chain_id=chain_id) as live,
        reading(dsn, chain_id=chain_id, schema=schema) as rebuilt,
    ):
        return await compare(live, rebuilt, folded_before=folded_before)


async def verify(settings: LedgerSettings) -> list[Result]:
    """Checks the live books against themselves, in one snapshot, beside whoever writes. Never writes.

    Raises DatabaseUnavailable, ConfigurationRefused.
    """
    dsn = settings.postgres.dsn.get_secret_value()
    await _check_schema(dsn)
    async with reading(dsn, chain_id=settings.chain.id) as live:
        if not await live.streams():
            raise ConfigurationRefused(f"there are no books of chain {settings.chain.name}: was the ledger ever run?")
        return await verify_books(live)


async def _check_schema(dsn: str) -> None:
    connection = await connect(dsn, name="chainbooks-ledger proof")
    try:
        await books.check_schema(connection)
    finally:
        await close(connection)
