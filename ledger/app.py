"""Wires the ledger: settings in, a running service or a command's result out. Only this place knows every adapter."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from pydantic import SecretStr

from contracts.messages import Topics
from deploy.runtime import exit_codes, telemetry
from deploy.runtime.health import HealthServer
from ledger.adapters import books
from ledger.adapters.batch_store import BatchStore
from ledger.adapters.kafka_consumer import KafkaConsumer
from ledger.adapters.kafka_topics import check_topics
from ledger.adapters.migrations import migrate as migrate_database
from ledger.adapters.postgres import close, connect
from ledger.adapters.promotion_store import PromotionStore
from ledger.adapters.reconciliation_store import Finding, read_books_side, write_result
from ledger.adapters.registry import Registry
from ledger.core.compare import Item, Question, asset_calls, questions, word
from ledger.errors import CallFailed, ConfigurationRefused, FatalError, RetryableError, Superseded, operating_error
from ledger.observe import Observer
from ledger.pipeline import Limits, Pipeline
from ledger.settings import LedgerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from ledger.adapters.node import Node

_log = structlog.get_logger(__name__)

STOP_WITHIN_S: Final = 4.0
GC_THRESHOLD: Final = (50_000, 20, 50)
"""A batch makes many objects and drops them all, without cycles: looking for those took a sixth of the time."""


def topics_of(settings: LedgerSettings) -> Topics:
    return Topics(chain=settings.chain.name, prefix=settings.kafka.topic_prefix)


def migrate(settings: LedgerSettings) -> list[str]:
    """Roles, schemas, tables, views. Returns what was applied. Raises DatabaseUnavailable, ConfigurationRefused."""
    postgres = settings.postgres
    if postgres.owner_dsn is None:
        raise ConfigurationRefused(
            "[postgres] owner_dsn is missing: migrate needs it (a superuser, or the owner's role)"
        )
    return migrate_database(
        _secret(postgres.owner_dsn),
        writer_dsn=_secret(postgres.dsn),
        reader_dsn=_secret(postgres.reader_dsn) if postgres.reader_dsn else None,
    )


async def read_status(settings: LedgerSettings) -> dict[str, Any]:
    """How the chain's books are. Raises DatabaseUnavailable, ConfigurationRefused."""
    async with _connection(_secret(settings.postgres.dsn)) as connection:
        await books.check_schema(connection)
        return await books.read_status(connection, chain_id=settings.chain.id)


async def read_balances(
    settings: LedgerSettings, *, basis: str, book: str | None, like: str | None, zeros: bool, limit: int
) -> list[dict[str, Any]]:
    """Balances, with the reader's role where there is one. Raises DatabaseUnavailable, ConfigurationRefused."""
    async with _reading(settings) as connection:
        return await books.read_balances(
            connection, chain=settings.chain.name, basis=basis, book=book, like=like, zeros=zeros, limit=limit
        )


async def read_book_names(settings: LedgerSettings) -> list[str]:
    """The books of the chain. Raises DatabaseUnavailable, ConfigurationRefused."""
    async with _reading(settings) as connection:
        return await books.read_book_names(connection, chain=settings.chain.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The books beside the chain, at one final block."""

    block_number: int
    block_hash: str
    findings: tuple[Finding, ...]

    @property
    def differing(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.item.equal)


async def reconcile(settings: LedgerSettings) -> Reconciliation:
    """Compares final balances with the chain at the last promoted block's hash, and stores the result.

    Raises NodeUnavailable, DatabaseUnavailable, ConfigurationRefused.
    """
    from ledger.adapters.node import Node  # web3 alone takes as long to import as all the rest: only here it is needed

    chain_id = settings.chain.id
    urls = [url.get_secret_value() for url in settings.chain.rpc_http]
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(_connection(_secret(settings.postgres.dsn)))
        await books.check_schema(connection)
        node = await stack.enter_async_context(Node(urls, timeout_s=settings.chain.rpc_timeout_s))
        await node.check_chain(chain_id)
        side = await read_books_side(connection, chain_id)
        block_hash = "0x" + side.block_hash.hex()
        named = {
            key: "0x" + (await node.call(call, block_hash))[-20:].hex()
            for key, call in asset_calls(side.contracts).items()
        }
        asked = questions(side.contracts, side.balances, side.counts, named, chain_id=chain_id)
        items = await _answers(node, asked, block_hash)
        findings = await write_result(connection, chain_id, side, items)
    return Reconciliation(block_number=side.block_number, block_hash=block_hash, findings=tuple(findings))


async def _answers(node: Node, asked: list[Question], block_hash: str) -> list[Item]:
    try:
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(_answer(node, question, block_hash)) for question in asked]
    except BaseExceptionGroup as failures:
        raise operating_error(failures) or failures from failures
    return [answer.result() for answer in answers]


async def _answer(node: Node, question: Question, block_hash: str) -> Item:
    total = 0
    try:
        for call in question.calls:
            try:
                returned = await node.call(call, block_hash)
            except CallFailed:
                if question.check is None or not question.check.refused_is_zero:
                    raise
                continue
            total += question.check.answer(returned) if question.check is not None else word(returned)
    except (CallFailed, ValueError) as exc:
        return Item(question=question, onchain=None, problem=str(exc)[:500])
    return Item(question=question, onchain=total)


async def run(settings: LedgerSettings) -> int:
    """Folds the chain's topics until SIGTERM or SIGINT. Returns the exit code."""
    gc.freeze()  # what is loaded now stays
    gc.set_threshold(*GC_THRESHOLD)
    chain = settings.chain.name
    instance_id = settings.ledger.instance_id or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    structlog.contextvars.bind_contextvars(chain=chain)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    measures = telemetry.start(
        service="chainbooks-ledger", instance=instance_id, chain=chain, trace_file=settings.telemetry.trace_file
    )
    async with AsyncExitStack() as stack:
        stack.callback(measures.shutdown)
        observer = Observer(measures, chain=chain, lag_max_s=settings.ledger.lag_max_s)
        await stack.enter_async_context(
            HealthServer(
                host=settings.telemetry.host,
                port=settings.telemetry.port,
                readiness=observer.readiness,
                exposition=measures.exposition,
            )
        )
        code = await _serve(settings, observer, stop, instance_id=instance_id)
    _log.info("stopped", exit_code=code)
    return code


async def _serve(settings: LedgerSettings, observer: Observer, stop: asyncio.Event, *, instance_id: str) -> int:
    registry = _registry(settings)
    pipeline = _pipeline(settings, registry, observer, instance_id=instance_id)
    work = asyncio.ensure_future(_work(settings, pipeline, registry, stop))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        await asyncio.wait({work}, timeout=STOP_WITHIN_S)
        work.cancel()  # nothing is lost: a db_tx that is cut off is rolled back and folded again
        await asyncio.wait({work})
    return _ended(work)


async def _work(settings: LedgerSettings, pipeline: Pipeline, registry: Registry, stop: asyncio.Event) -> None:
    """Waits until everything is there and fits, then folds."""
    start_s = settings.ledger.start_timeout_s
    topics = topics_of(settings)
    await pipeline.persistently("postgres", lambda: _set_up(settings), stop, patience_s=start_s)
    kafka = settings.kafka
    await pipeline.persistently(
        "kafka",
        lambda: check_topics(kafka.bootstrap_servers, topics, partitions=kafka.partitions),
        stop,
        patience_s=start_s,
    )
    await pipeline.persistently("registry", registry.refresh, stop, patience_s=start_s)
    if not stop.is_set():
        await pipeline.run(stop)


async def _set_up(settings: LedgerSettings) -> None:
    async with _connection(_secret(settings.postgres.dsn)) as connection:
        await books.check_schema(connection)
        await books.add_chain(
            connection,
            chain_id=settings.chain.id,
            name=settings.chain.name,
            topics=topics_of(settings),
            partitions=settings.kafka.partitions,
        )


def _ended(work: asyncio.Future[None]) -> int:
    """Why the work ended, as an exit code."""
    if work.cancelled():
        return exit_codes.OK
    failure = operating_error(work.exception())
    match failure:
        case None:
            return exit_codes.OK
        case Superseded():
            _log.error("superseded", reason=str(failure))
            return exit_codes.SUPERSEDED
        case FatalError():
            _log.error("refused", reason=str(failure))
            return exit_codes.USAGE
        case RetryableError():
            _log.error("a dependency stayed away too long", reason=str(failure))
            return exit_codes.DEPENDENCY
        case _:
            raise failure


def _registry(settings: LedgerSettings) -> Registry:
    return Registry(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        topic=topics_of(settings).registry,
        dsn=_secret(settings.postgres.dsn),
        chain_id=settings.chain.id,
    )


def _pipeline(settings: LedgerSettings, registry: Registry, observer: Observer, *, instance_id: str) -> Pipeline:
    own, chain_id = settings.ledger, settings.chain.id
    topics, dsn = topics_of(settings), _secret(settings.postgres.dsn)
    return Pipeline(
        chain_id=chain_id,
        instance_id=instance_id,
        limits=Limits(
            batch_records_max=own.batch_records_max, outage_max_s=own.outage_max_s, stall_max_s=own.stall_max_s
        ),
        make_consumer=lambda: KafkaConsumer(
            bootstrap_servers=settings.kafka.bootstrap_servers,
            group_id=f"{settings.kafka.topic_prefix}chainbooks-ledger.{settings.chain.name}",
            topics=(topics.events, topics.rejected),
            client_id=f"chainbooks-ledger-{instance_id}",
            instance_id=own.instance_id or None,
            session_timeout_s=own.session_timeout_s,
            fetch_bytes_max=own.fetch_bytes_max,
        ),
        open_store=lambda: BatchStore.open(dsn, chain_id=chain_id),
        open_promoter=lambda: PromotionStore.open(dsn, chain_id=chain_id, entries_max=own.promotion_entries_max),
        registry=registry,
        observer=observer,
    )


@asynccontextmanager
async def _reading(settings: LedgerSettings) -> AsyncIterator[asyncpg.Connection]:
    """With the reader's role where there is one."""
    postgres = settings.postgres
    dsn, setting = (postgres.reader_dsn, "reader_dsn") if postgres.reader_dsn else (postgres.dsn, "dsn")
    async with _connection(_secret(dsn), setting=setting) as connection:
        yield connection


@asynccontextmanager
async def _connection(dsn: str, *, setting: str = "dsn") -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(dsn, name="chainbooks-ledger command", setting=setting)
    try:
        yield connection
    finally:
        await close(connection)


def _secret(value: SecretStr) -> str:
    return value.get_secret_value()
