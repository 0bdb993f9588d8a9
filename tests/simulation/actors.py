"""The simulated processes: indexers and ledgers, the real pipelines on simulated ports.

A process is killed as ``kill -9`` would: from that moment nothing that it does reaches Kafka, a node or PostgreSQL; its
db_tx is rolled back by the server; its group membership and its kafka_tx are left to time out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from contracts.messages import RegistryRecord, decode_registry_record
from contracts.posting import PostingRules
from contracts.registry import Registry
from indexer.adapters.failover import FailoverNode
from indexer.core.assemble import Assembler
from indexer.errors import DependencyAway, Superseded
from indexer.fetch import Fetcher
from indexer.observe import Observer as IndexerObserver
from indexer.pipeline import Limits as IndexerLimits
from indexer.pipeline import Pipeline as IndexerPipeline
from indexer.session import ChainPlan, ContractStart
from ledger.adapters.batch_store import BATCH, BatchStore
from ledger.adapters.postgres import translated
from ledger.adapters.promotion_store import PromotionStore
from ledger.adapters.registry import store_descriptions
from ledger.core.fold import RuleBook
from ledger.errors import RetryableError as LedgerRetryable
from ledger.observe import Observer as LedgerObserver
from ledger.pipeline import Limits as LedgerLimits
from ledger.pipeline import Pipeline as LedgerPipeline
from ledger.ports import Claim, Partition, Staged
from tests.simulation.chain import PARTITION_OF, PARTITIONS
from tests.simulation.consumer import SimConsumer
from tests.simulation.database import Session, Trouble
from tests.simulation.kafka import committed
from tests.simulation.loop import Gate, LoopClock
from tests.simulation.nodes import NodeClient
from tests.simulation.producer import SimPublisher, SimStateReader

if TYPE_CHECKING:
    from tests.simulation.world import World

LEASE_MS: Final = 10_000
OUTAGE_MAX_S: Final = 120.0
STALL_MAX_S: Final = 60.0


class Process:
    """One life of a service, from its start to its end."""

    kind = ""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.gate = Gate()
        self.paused = 0  # steps in which it does nothing
        self.failure: BaseException | None = None
        self._task = asyncio.ensure_future(self._run())

    @property
    def over(self) -> bool:
        return self._task.done()

    async def _run(self) -> None:
        try:
            await self._serve()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self.failure = _first(exc)

    async def _serve(self) -> None:
        raise NotImplementedError

    async def kill(self) -> None:
        """At once, without any cleaning up."""
        self.gate.kill()
        self._task.cancel()
        await self._bury()

    async def _bury(self) -> None:
        """What the outside notices by itself."""


def _first(exc: BaseException) -> BaseException:
    """The first error inside groups that is not a cancellation."""
    while isinstance(exc, BaseExceptionGroup):
        exc = next((e for e in exc.exceptions if not isinstance(e, asyncio.CancelledError)), exc.exceptions[0])
    return exc


class _IndexerObserver(IndexerObserver):
    def __init__(self, world: World) -> None:
        super().__init__(world.telemetry, chain="sim", head_lag_max_s=10)
        self._faults = world.faults

    def standby(self, owner: str) -> None:
        super().standby(owner)
        self._faults.count("indexer stands by")


class _LedgerObserver(LedgerObserver):
    def __init__(self, world: World) -> None:
        super().__init__(world.telemetry, chain="sim", lag_max_s=10)
        self._world = world
        self.has_stopped = False

    def stopped(self, claim: Claim, reason: str) -> None:
        super().stopped(claim, reason)
        self.has_stopped = True
        self._world.stops.append(reason)
        self._world.trace(f"{claim.kind}/{claim.partition.number} stopped: {' '.join(reason.split(' ')[:4])}")


class NoHeads:
    """Heads are announced by nobody: the indexer polls."""

    async def wait(self, timeout_s: float) -> int | None:
        await asyncio.sleep(timeout_s)
        return None


class IndexerProcess(Process):
    """chainbooks-indexer."""

    kind = "indexer"
    expected = (Superseded, DependencyAway)

    def __init__(self, world: World, name: str) -> None:
        self.pipeline: IndexerPipeline | None = None
        self._stop = asyncio.Event()
        super().__init__(world, name)

    async def _serve(self) -> None:
        world = self.world
        node = FailoverNode([NodeClient(n, self.gate) for n in world.nodes], chain_id=world.chain.chain_id)
        self.pipeline = self._pipeline(node)
        await self.pipeline.until_up("node", node.check)
        running = asyncio.ensure_future(self.pipeline.run())
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            running.cancel()
            await asyncio.wait({running})
            await self.pipeline.release()
        finally:
            running.cancel()
            stopping.cancel()

    def stop(self) -> None:
        """SIGTERM."""
        self._stop.set()

    @property
    def follows(self) -> bool:
        """Whether it has taken the chain over."""
        return self.pipeline is not None and self.pipeline._session is not None

    def _pipeline(self, node: FailoverNode) -> IndexerPipeline:
        world, registry = self.world, self.world.registry
        addresses, topic0s = registry.watched()
        chain_id = world.chain.chain_id
        assembler = Assembler(
            chain_id=chain_id, dispatch=registry.dispatch, partition_of=lambda book: PARTITION_OF[book]
        )
        return IndexerPipeline(
            chain=ChainPlan(
                chain_id=chain_id,
                partitions=PARTITIONS,
                topics=world.topics,
                instance_id=self.name,
                lease_ms=LEASE_MS,
                registry=registry.records(),
                unfinalized_bytes_max=world.unfinalized_bytes_max,
                starts=[ContractStart(contract=c.name, start_block=c.start_block) for c in registry.contracts],
            ),
            limits=IndexerLimits(
                poll_s=1.0,
                range_blocks_max=8,
                kafka_tx_bytes_max=world.kafka_tx_bytes_max,
                window_blocks_max=500,
                start_timeout_s=OUTAGE_MAX_S,
                outage_max_s=OUTAGE_MAX_S,
            ),
            fetcher=Fetcher(node, assembler=assembler, addresses=addresses, topic0s=topic0s, finality="tags"),
            state=SimStateReader(world.broker, gate=self.gate, faults=world.faults, pick=world.pick),
            publisher=self._publisher,
            heads=NoHeads(),
            clock=LoopClock(world.loop),
            observer=_IndexerObserver(world),
        )

    def _publisher(self) -> SimPublisher:
        world = self.world
        return SimPublisher(
            world.broker,
            transactional_id=f"indexer-{world.chain.chain_id}",
            topics=world.topics,
            gate=self.gate,
            faults=world.faults,
            pick=world.pick,
        )


class LedgerProcess(Process):
    """chainbooks-ledger."""

    kind = "ledger"
    expected = (LedgerRetryable,)

    def __init__(self, world: World, name: str) -> None:
        self.stop_event = asyncio.Event()
        self.sessions: list[Session] = []
        self._numbers = 0
        self.consumers: list[SimConsumer] = []
        self.trouble = Trouble()
        self.observer = _LedgerObserver(world)
        super().__init__(world, name)

    async def _serve(self) -> None:
        world = self.world
        registry = _Rules(self)
        pipeline = LedgerPipeline(
            chain_id=world.chain.chain_id,
            instance_id=self.name,
            limits=LedgerLimits(
                batch_records_max=world.batch_records_max, outage_max_s=OUTAGE_MAX_S, stall_max_s=STALL_MAX_S
            ),
            make_consumer=self._consumer,
            open_store=self._store,
            open_promoter=self._promoter,
            registry=registry,
            observer=self.observer,
        )
        await pipeline.persistently("registry", registry.refresh, self.stop_event)
        await pipeline.run(self.stop_event)

    def stop(self) -> None:
        """SIGTERM."""
        self.stop_event.set()

    @property
    def claimed(self) -> set[Partition]:
        """Partitions that it has claimed and sought."""
        return set(self.consumers[-1].sought) if self.consumers else set()

    async def session(self) -> Session:
        """A connection to PostgreSQL."""
        world = self.world
        self._numbers += 1
        opened: Session = await Session.open(
            world.database, self.gate, world.faults, world.pick, self.trouble, self._numbers
        )
        self.sessions.append(opened)
        return opened

    async def _bury(self) -> None:
        for session in self.sessions:
            if session.physical.in_tx and not session.closed:
                self.world.faults.count("ledger killed inside a db_tx")
            await session.bury()

    async def _store(self) -> BatchStore:
        session = await self.session()
        with translated("the stage cannot be made"):
            await session.execute(BATCH["make_stage_entry"])
            await session.execute(BATCH["make_stage_transfer"])
        return _WatchedStore(session, self.world)

    async def _promoter(self) -> PromotionStore:
        return PromotionStore(await self.session(), chain_id=self.world.chain.chain_id, entries_max=20)

    def _trace(self, line: str) -> None:
        self.world.trace(f"{self.name} {line}")

    def _consumer(self) -> SimConsumer:
        world = self.world
        consumer = SimConsumer(
            world.broker, world.group, gate=self.gate, faults=world.faults, pick=world.pick, trace=self._trace
        )
        self.consumers.append(consumer)
        return consumer


class _WatchedStore(BatchStore):
    """The real store; whoever commits must be who claimed last."""

    def __init__(self, session: Session, world: World) -> None:
        super().__init__(session, chain_id=world.chain.chain_id)
        self._world = world

    async def claim(self, partition: Partition, owner: str, *, held_before: bool) -> Claim:
        claim = await super().claim(partition, owner, held_before=held_before)
        epochs = self._world.epochs
        epochs[partition] = max(claim.epoch, epochs.get(partition, 0))
        return claim

    async def _advance(self, claim: Claim, folded: Any) -> None:
        """The db_tx holds the stream's row from here on: nobody can claim before it is over."""
        await super()._advance(claim, folded)
        newest = self._world.epochs.get(claim.partition, 0)
        if claim.epoch < newest:
            self._world.faults.unexpected.append(f"a zombie of epoch {claim.epoch} advanced a stream of epoch {newest}")

    async def commit(self, claim: Claim, staged: Staged) -> None:
        from ledger.errors import Fenced

        try:
            await super().commit(claim, staged)
        except Fenced:
            self._world.faults.count("ledger: zombie writer fenced")
            raise


@dataclass(slots=True)
class _Rules:
    """Implements ledger.ports.RegistryPort on the simulated registry topic and the real tables."""

    process: LedgerProcess
    known: dict[str, PostingRules] | None = None

    @property
    def rules(self) -> RuleBook:
        return self.known or {}

    async def refresh(self) -> None:
        world = self.process.world
        await self.process.gate.wait("read registry")
        log = world.broker.log(world.topics.registry)
        records: list[RegistryRecord] = [decode_registry_record(e.value or b"") for e in committed(log)]
        session = await self.process.session()
        try:
            await store_descriptions(session, world.chain.chain_id, records)
        finally:
            await session.close()
        self.known = {r.version: world.rules[r.version] for r in records}


def rules_of(registry: Registry) -> dict[str, PostingRules]:
    return {c.version: PostingRules.from_document(c.document) for c in registry.contracts}


MakeProcess = Callable[["World", str], Process]
Pick = random.Random
