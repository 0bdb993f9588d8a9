"""Wires the indexer: settings in, a running service out. The only place that knows every adapter."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka.partitioner import murmur2

from contracts.messages import Topics
from contracts.registry import Registry, load_registry
from deploy.runtime import exit_codes, telemetry
from deploy.runtime.health import HealthServer
from deploy.runtime.rpc import Rpc, connect
from indexer.adapters.clock import SystemClock
from indexer.adapters.failover import FailoverNode
from indexer.adapters.heads import Heads
from indexer.adapters.kafka_publisher import KafkaPublisher
from indexer.adapters.kafka_state import KafkaStateReader
from indexer.adapters.kafka_streams import KafkaStreamsReader
from indexer.adapters.kafka_topics import KafkaTopics, plans
from indexer.adapters.node import Node
from indexer.core.assemble import Assembler
from indexer.core.state import LoadedState
from indexer.durable import read_state
from indexer.errors import (
    ConfigurationRefused,
    DependencyAway,
    Fenced,
    Latched,
    PublishingRefused,
    RetryableError,
    StateRefused,
    Superseded,
)
from indexer.fetch import Fetcher
from indexer.observe import Observer
from indexer.patience import Patience
from indexer.pipeline import Limits, Pipeline
from indexer.resolve import Outcome, Resolver
from indexer.session import ChainPlan, ContractStart, judge_fencing
from indexer.settings import IndexerSettings

STOP_S: Final = 4.0  # SIGTERM to the end of everything but the health server
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStatus:
    """What the state topic and the node say now."""

    topics: Topics
    state: LoadedState
    node_head: int | None
    node_error: str | None


def topics_of(settings: IndexerSettings) -> Topics:
    return Topics(chain=settings.chain.name, prefix=settings.kafka.topic_prefix)


def registry_of(settings: IndexerSettings) -> Registry:
    """Loads the descriptions. Raises contracts.registry.RegistryError."""
    return load_registry(settings.registry.paths, chain_id=settings.chain.id)


def partitioner(partitions: int) -> Callable[[str], int]:
    """Kafka's default partitioner (murmur2 of the key), cached per book."""
    known: dict[str, int] = {}

    def partition_of(book: str) -> int:
        if book not in known:
            known[book] = (murmur2(book.encode()) & 0x7FFFFFFF) % partitions
        return known[book]

    return partition_of


async def ensure_topics(settings: IndexerSettings) -> list[str]:
    """Makes missing topics and returns their names. Raises ConfigurationRefused, BrokerUnavailable."""
    return await _admin(settings).ensure(plans(topics_of(settings), partitions=settings.kafka.partitions))


async def read_status(settings: IndexerSettings) -> ChainStatus:
    """Reads the state topic without a producer, and asks the node for its head. Raises BrokerUnavailable."""
    topics = topics_of(settings)
    await _admin(settings).check(plans(topics, partitions=settings.kafka.partitions))
    reader = KafkaStateReader(bootstrap_servers=settings.kafka.bootstrap_servers)
    state = await read_state(reader, topics.state, to_the_very_end=False, parts_bytes_max=0)
    node_head, node_error = None, None
    async with AsyncExitStack() as stack:
        node = FailoverNode([Node(rpc) for rpc in await _rpcs(settings, stack)], chain_id=settings.chain.id)
        try:
            latest = await node.header_by_tag("latest")
            node_head = latest.number if latest else None
        except RetryableError as exc:
            node_error = str(exc)
    return ChainStatus(topics=topics, state=state, node_head=node_head, node_error=node_error)


async def resolve(settings: IndexerSettings, block_hash: str, *, agreed: Callable[[Outcome], bool] | None) -> Outcome:
    """Resolves a latched chain. ``agreed`` is shown what would be done, and decides; None: it is done at once.

    Raises as Resolver.resolve; Superseded when another instance took the chain over meanwhile.
    """
    registry, instance_id = registry_of(settings), _instance_id(settings)
    chain = _chain_plan(settings, registry, instance_id=instance_id)
    kafka, own, clock = settings.kafka, settings.indexer, SystemClock()
    await _admin(settings).check(plans(topics_of(settings), partitions=kafka.partitions))
    state = KafkaStateReader(bootstrap_servers=kafka.bootstrap_servers, timeout_s=own.kafka_timeout_s)
    measures = telemetry.start(service="chainbooks-indexer", instance=instance_id, chain=settings.chain.name)
    async with AsyncExitStack() as stack:
        stack.callback(measures.shutdown)
        observer = Observer(measures, chain=settings.chain.name, head_lag_max_s=own.head_lag_max_s)
        nodes = [Node(rpc) for rpc in await _rpcs(settings, stack)]
        alone = [FailoverNode([node], chain_id=settings.chain.id) for node in nodes]
        resolver = Resolver(
            chain=chain,
            fetcher=_fetcher(settings, registry, FailoverNode(nodes, chain_id=settings.chain.id)),
            witnesses=[_fetcher(settings, registry, node) for node in alone],
            state=state,
            streams=KafkaStreamsReader(
                bootstrap_servers=kafka.bootstrap_servers, topics=topics_of(settings), timeout_s=own.kafka_timeout_s
            ),
            publisher=lambda: _publisher(settings),
            clock=clock,
            patience=Patience(clock=clock, observer=observer, chain=settings.chain.name),
            start_timeout_s=own.start_timeout_s,
            kafka_tx_bytes_max=own.kafka_tx_bytes_max,
        )
        shown = None if agreed is None else await resolver.look(block_hash)
        if agreed is not None and shown is not None and not agreed(shown):
            return shown
        try:
            return await resolver.resolve(block_hash, shown=shown.incident if shown else None)
        except Fenced:
            await judge_fencing(chain, state=state, clock=clock)
            raise


async def run(settings: IndexerSettings) -> int:
    """Follows the chain until SIGTERM or SIGINT. Returns the exit code."""
    registry = registry_of(settings)
    instance_id = _instance_id(settings)
    structlog.contextvars.bind_contextvars(chain=settings.chain.name)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    measures = telemetry.start(
        service="chainbooks-indexer",
        instance=instance_id,
        chain=settings.chain.name,
        trace_file=settings.telemetry.trace_file,
    )
    async with AsyncExitStack() as stack:
        stack.callback(measures.shutdown)
        observer = Observer(
            measures,
            chain=settings.chain.name,
            head_lag_max_s=settings.indexer.head_lag_max_s,
            head_age_max_s=settings.indexer.head_age_max_s,
        )
        await stack.enter_async_context(
            HealthServer(
                host=settings.telemetry.host,
                port=settings.telemetry.port,
                readiness=observer.readiness,
                exposition=measures.exposition,
            )
        )
        node = FailoverNode([Node(rpc) for rpc in await _rpcs(settings, stack)], chain_id=settings.chain.id)
        heads = Heads(settings.chain.rpc_ws.get_secret_value() if settings.chain.rpc_ws else None)
        pipeline = _pipeline(settings, registry, node, heads, observer, instance_id=instance_id)
        gc.collect()
        gc.freeze()  # what start-up made stays: else a full collection in the middle of a block takes 100 ms
        return await _serve(settings, pipeline, node, heads, observer, stop)


async def _serve(
    settings: IndexerSettings,
    pipeline: Pipeline,
    node: FailoverNode,
    heads: Heads,
    observer: Observer,
    stop: asyncio.Event,
) -> int:
    async def follow() -> None:
        await pipeline.until_up("node", node.check)
        wanted = plans(topics_of(settings), partitions=settings.kafka.partitions)
        await pipeline.until_up("kafka", lambda: _admin(settings).check(wanted))
        await pipeline.run()

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(heads.listen())
        following = asyncio.ensure_future(follow())
        stopping = group.create_task(stop.wait())
        await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
        code = exit_codes.OK
        if following.done():
            code = await _ended(following, observer, stop)
        try:
            async with asyncio.timeout(STOP_S):
                while not following.done():
                    following.cancel()
                    await asyncio.wait({following}, timeout=1.0)
                if code != exit_codes.SUPERSEDED:
                    await pipeline.release()
        except TimeoutError:
            _log.warning("not everything was closed in time; the lease and an open kafka_tx run out by themselves")
        listening.cancel()
        stopping.cancel()
    _log.info("stopped", exit_code=code)
    return code


async def _ended(following: asyncio.Future[None], observer: Observer, stop: asyncio.Event) -> int:
    """Why the pipeline ended, as an exit code. A latched chain keeps the health server up until it is stopped."""
    failure = following.exception()
    match failure:
        case Latched():
            observer.halted(str(failure))
            _log.error("latched: nothing is published until an operator resolves it", reason=str(failure))
            await stop.wait()
            return exit_codes.LATCHED
        case Superseded():
            _log.error("superseded", reason=str(failure))
            return exit_codes.SUPERSEDED
        case ConfigurationRefused() | StateRefused() | PublishingRefused():
            _log.error("refused", reason=str(failure))
            return exit_codes.USAGE
        case DependencyAway():
            _log.error("a dependency stayed away too long", reason=str(failure))
            return exit_codes.DEPENDENCY
        case None:
            return exit_codes.OK
        case _:
            raise failure


def _pipeline(
    settings: IndexerSettings,
    registry: Registry,
    node: FailoverNode,
    heads: Heads,
    observer: Observer,
    *,
    instance_id: str,
) -> Pipeline:
    kafka, own = settings.kafka, settings.indexer
    return Pipeline(
        chain=_chain_plan(settings, registry, instance_id=instance_id),
        limits=Limits(
            poll_s=own.poll_s,
            range_blocks_max=own.range_blocks_max,
            kafka_tx_bytes_max=own.kafka_tx_bytes_max,
            window_blocks_max=own.window_blocks_max,
            start_timeout_s=own.start_timeout_s,
            outage_max_s=own.outage_max_s,
        ),
        fetcher=_fetcher(settings, registry, node),
        state=KafkaStateReader(bootstrap_servers=kafka.bootstrap_servers, timeout_s=own.kafka_timeout_s),
        publisher=lambda: _publisher(settings),
        heads=heads,
        clock=SystemClock(),
        observer=observer,
    )


def _chain_plan(settings: IndexerSettings, registry: Registry, *, instance_id: str) -> ChainPlan:
    return ChainPlan(
        chain_id=settings.chain.id,
        partitions=settings.kafka.partitions,
        topics=topics_of(settings),
        instance_id=instance_id,
        lease_ms=int(settings.indexer.lease_s * 1000),
        registry=registry.records(),
        starts=[ContractStart(contract=c.name, start_block=c.start_block) for c in registry.contracts],
        unfinalized_bytes_max=settings.indexer.unfinalized_bytes_max,
    )


def _fetcher(settings: IndexerSettings, registry: Registry, node: FailoverNode) -> Fetcher:
    addresses, topic0s = registry.watched()
    assembler = Assembler(
        chain_id=settings.chain.id, dispatch=registry.dispatch, partition_of=partitioner(settings.kafka.partitions)
    )
    return Fetcher(node, assembler=assembler, addresses=addresses, topic0s=topic0s, finality=settings.chain.finality)


def _publisher(settings: IndexerSettings) -> KafkaPublisher:
    return KafkaPublisher(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        transactional_id=f"{settings.kafka.topic_prefix}indexer-{settings.chain.id}",
        topics=topics_of(settings),
        timeout_s=settings.indexer.kafka_timeout_s,
    )


def _instance_id(settings: IndexerSettings) -> str:
    """Two processes with one configured name are still two."""
    name = settings.indexer.instance_id or f"{socket.gethostname()}-{os.getpid()}"
    return f"{name}-{secrets.token_hex(4)}"


def _admin(settings: IndexerSettings) -> KafkaTopics:
    return KafkaTopics(
        bootstrap_servers=settings.kafka.bootstrap_servers, replication_factor=settings.kafka.replication_factor
    )


async def _rpcs(settings: IndexerSettings, stack: AsyncExitStack) -> list[Rpc]:
    urls = [url.get_secret_value() for url in settings.chain.rpc_http]
    return [await stack.enter_async_context(connect(url, timeout_s=settings.chain.rpc_timeout_s)) for url in urls]
