"""The posting rules by description version: read from the registry topic, kept in ``ledger.registry``.

A version is the sha256 of its document; one that is not is refused. The allow-list of the documents becomes the listed
rows of ``ledger.asset``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts.document import document_version
from contracts.messages import RegistryRecord, asset_id, decode_registry_record
from contracts.posting import PostingRules
from ledger.adapters.postgres import close, connect, translated
from ledger.adapters.rendering import LIVE
from ledger.adapters.statements import statements
from ledger.core.fold import RuleBook
from ledger.errors import BrokerUnavailable, ConfigurationRefused

_log = structlog.get_logger(__name__)

STREAMS: Final = statements("streams")
READ_TIMEOUT_S: Final = 60.0
FETCH_WAIT_MS: Final = 250


class Registry:
    """Implements ``ledger.ports.RegistryPort``."""

    def __init__(self, *, bootstrap_servers: str, topic: str, dsn: str, chain_id: int, schema: str = LIVE) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._dsn = dsn
        self._chain_id = chain_id
        self._schema = schema
        self._rules: dict[str, PostingRules] = {}
        self._lock = asyncio.Lock()

    @property
    def rules(self) -> RuleBook:
        """See RegistryPort."""
        return self._rules

    async def refresh(self) -> None:
        """See RegistryPort."""
        async with self._lock:
            records = await read_topic(self._bootstrap_servers, self._topic)
            fresh = [record for record in records.values() if self._is_ours(record)]
            rules = {record.version: rules for record in fresh if (rules := _rules_of(record)) is not None}
            connection = await connect(self._dsn, name="chainbooks-ledger registry", schema=self._schema)
            try:
                if not self._rules:
                    self._rules |= await _stored(connection, self._chain_id)
                await store_descriptions(
                    connection, self._chain_id, [record for record in fresh if record.version in rules]
                )
            finally:
                await close(connection)
            self._rules |= rules

    def _is_ours(self, record: RegistryRecord) -> bool:
        return record.document.get("chain_id") == self._chain_id and record.version not in self._rules


async def read_topic(bootstrap_servers: str, topic: str) -> dict[str, RegistryRecord]:
    """Every version on the topic, up to its end as read_committed sees it. Raises BrokerUnavailable."""
    target = TopicPartition(topic, 0)
    found: dict[str, RegistryRecord] = {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            try:
                await consumer.start()
                consumer.assign([target])
                end = (await consumer.end_offsets([target]))[target]
                await consumer.seek_to_beginning(target)
                while await consumer.position(target) < end:
                    for batch in (await consumer.getmany(target, timeout_ms=FETCH_WAIT_MS)).values():
                        for record in batch:
                            _add(found, record)
            finally:
                await consumer.stop()
    except (KafkaError, TimeoutError, OSError) as exc:
        raise BrokerUnavailable(f"{topic} cannot be read to its end: {type(exc).__name__} {exc}") from exc
    return found


def _add(found: dict[str, RegistryRecord], record: Any) -> None:
    """A record that is no description, or not the one that its version says, is left out and told of."""
    if record.value is None:
        return
    try:
        message = decode_registry_record(record.value)
    except msgspec.MsgspecError as exc:
        _log.error("registry record cannot be read", offset=record.offset, reason=str(exc))
        return
    if document_version(message.document) != message.version:
        _log.error("registry record is not what its version says", offset=record.offset, version=message.version)
        return
    found[message.version] = message


def _rules_of(record: RegistryRecord) -> PostingRules | None:
    try:
        return PostingRules.from_document(record.document)
    except ValueError as exc:
        _log.error("description cannot be used", contract=record.contract, version=record.version, reason=str(exc))
        return None


async def _stored(connection: asyncpg.Connection, chain_id: int) -> dict[str, PostingRules]:
    """The rules of every version that was ever posted with."""
    with translated("descriptions cannot be read"):
        rows = await connection.fetch(STREAMS["registry"], chain_id)
    found: dict[str, PostingRules] = {}
    for row in rows:
        version = "0x" + row["version"].hex()
        record = RegistryRecord(version=version, contract=row["contract"], document=json.loads(row["document"]))
        rules = _rules_of(record)
        if rules is not None and rules.version == version:
            found[version] = rules
    return found


async def store_descriptions(connection: asyncpg.Connection, chain_id: int, records: Sequence[RegistryRecord]) -> None:
    """Writes versions and their allow-lists. Raises ConfigurationRefused when an asset's decimals would change."""
    with translated("descriptions cannot be stored"):
        async with connection.transaction():
            for record in sorted(records, key=lambda record: record.version):
                await connection.execute(
                    STREAMS["add_registry"],
                    bytes.fromhex(record.version[2:]),
                    record.contract,
                    chain_id,
                    json.dumps(record.document),
                )
            known = {row["code"]: row for row in await connection.fetch(STREAMS["assets"], chain_id)}
            listed = {
                asset_id(chain_id, asset["address"]): asset for r in records for asset in r.document.get("assets", [])
            }
            for code, asset in sorted(listed.items()):
                row = known.get(code)
                if row is not None and row["listed"] and row["decimals"] != asset["decimals"]:
                    raise ConfigurationRefused(
                        f"{code} is listed with {row['decimals']} decimals, a description says {asset['decimals']}: "
                        "amounts that were reported would change; correct the description"
                    )
                address = bytes.fromhex(asset["address"][2:])
                await connection.execute(
                    STREAMS["list_asset"], chain_id, address, code, asset["symbol"], asset["decimals"]
                )
