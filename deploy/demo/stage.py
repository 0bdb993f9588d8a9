"""Where a run takes place: services, a database and topics of its own, settings and the registry overlay.

Nothing of the user's stack is touched but its Kafka and PostgreSQL: own database, own topic prefix, own chain. What an
earlier run of the same name left there is removed first; what this one leaves stays for looking at.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.messages import Topics
from deploy.demo.actors import CHAIN_ID, GATEWAY, TOKENS, VAULT
from deploy.demo.business import DEPLOYED_IN_BLOCK
from deploy.demo.failure import DemoFailure
from deploy.local import configuration, stack
from deploy.local.failure import LocalError
from deploy.local.native import postgres
from deploy.local.native.anvil import find_binary, native_binary
from deploy.local.paths import REPOSITORY, layout

CHAIN_NAME: Final = "local"
PARTITIONS: Final = 4
WRITER: Final = "chainbooks_writer"
READER: Final = "chainbooks_reader"
ADMIN_TIMEOUT_S: Final = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a run needs from outside."""

    kafka: str  # bootstrap servers
    postgres: str  # a superuser's DSN
    anvil: Path  # the binary
    from_stack: bool  # the local stack's, not given by the caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One run's places."""

    services: Services
    name: str  # of the demo: runs of one name replace each other
    folder: Path
    topic_prefix: str
    node_url: str
    indexer_port: int
    ledger_port: int

    @property
    def database(self) -> str:
        return database_of(self.name)

    @property
    def topics(self) -> Topics:
        return Topics(chain=CHAIN_NAME, prefix=self.topic_prefix)

    @property
    def owner_dsn(self) -> str:
        return _dsn(self.services.postgres, database=self.database)

    @property
    def writer_dsn(self) -> str:
        return _dsn(self.services.postgres, database=self.database, user=WRITER)

    @property
    def reader_dsn(self) -> str:
        return _dsn(self.services.postgres, database=self.database, user=READER)

    @property
    def config(self) -> Path:
        return self.folder / "chainbooks.toml"

    @property
    def psql(self) -> Path:
        """A program that opens the books as finance reads them."""
        return self.folder / "psql"

    @property
    def overlay(self) -> Path:
        return self.folder / "deployment.yaml"

    @property
    def deployment(self) -> Path:
        """The same addresses for the checker."""
        return self.folder / "deployment.json"


def database_of(name: str) -> str:
    """What the database of the runs of this name is called."""
    return f"chainbooks_{name.replace('-', '_')}"


def find_services(*, kafka: str, postgres: str, anvil: str, say: Say) -> Services:
    """The services that were named; for those that were not, the local stack, which is started unless it runs.

    Raises deploy.local.failure.LocalError.
    """
    place = layout()
    binary = native_binary(Path(anvil)) if anvil else find_binary(place.node_modules)
    if kafka and postgres:
        return Services(kafka=kafka, postgres=postgres, anvil=binary, from_stack=False)
    known = configuration.remembered(place)
    running = stack.up(place, known.settings if known else configuration.local_settings(), say)
    return Services(
        kafka=kafka or running.kafka,
        postgres=postgres or running.dsn("postgres"),
        anvil=binary,
        from_stack=True,
    )


def new_prefix(name: str) -> str:
    """A topic prefix that no run had before."""
    return f"{name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() // 1_000_000 % 1000:03d}."


def write_settings(stage: Stage) -> None:
    """One settings file for both services."""
    sections: dict[str, dict[str, Any]] = {
        "chain": {
            "name": CHAIN_NAME,
            "id": CHAIN_ID,
            "rpc_http": [stage.node_url],
            "rpc_ws": stage.node_url.replace("http://", "ws://"),
        },
        "kafka": {
            "bootstrap_servers": stage.services.kafka,
            "topic_prefix": stage.topic_prefix,
            "partitions": PARTITIONS,
        },
        "postgres": {"dsn": stage.writer_dsn, "owner_dsn": stage.owner_dsn, "reader_dsn": stage.reader_dsn},
        "registry": {"paths": [str(REPOSITORY / "contracts" / "registry"), str(stage.overlay)]},
    }
    lines = ["# Written by the demo, for looking at its run: chainbooks-ledger … --config this file."]
    for section, fields in sections.items():
        lines.append(f"\n[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    stage.config.touch(mode=0o600)
    stage.config.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_psql(stage: Stage) -> None:
    """A program of one line: psql, wherever it is, as the reader."""
    try:
        program = postgres.find_programs() / "psql"
    except LocalError:
        program = Path("psql")
    command = shlex.join([str(program) if program.exists() else "psql", stage.reader_dsn])
    stage.psql.write_text(f'#!/bin/sh\n# Written by the demo.\nexec {command} "$@"\n', encoding="utf-8")
    stage.psql.chmod(0o700)


def write_deployment(stage: Stage, addresses: dict[str, str]) -> None:
    """The registry's overlay with the addresses and tokens of this chain, and the same for the checker."""
    tokens = [
        {"address": addresses[asset.symbol], "symbol": asset.symbol, "decimals": asset.decimals} for asset in TOKENS
    ]
    overlay = {
        "kind": "deployment",
        "chain": CHAIN_ID,
        "contracts": {
            "payment-gateway": {"addresses": [addresses[GATEWAY]], "start_block": DEPLOYED_IN_BLOCK},
            "legacy-vault": {"addresses": [addresses[VAULT]], "start_block": DEPLOYED_IN_BLOCK},
        },
        "tokens": tokens,
    }
    stage.overlay.write_text(yaml.safe_dump(overlay, sort_keys=False), encoding="utf-8")
    known = {"chain_id": CHAIN_ID, GATEWAY: addresses[GATEWAY], VAULT: addresses[VAULT], "tokens": tokens}
    stage.deployment.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


async def make_database(stage: Stage) -> None:
    """Drops the database of the last run and makes an empty one. Raises DemoFailure."""
    await drop_database(stage.services.postgres, stage.name)
    async with _connected(stage.services.postgres) as admin:
        await admin.execute(f'CREATE DATABASE "{stage.database}"', timeout=ADMIN_TIMEOUT_S)


async def drop_database(postgres: str, name: str) -> None:
    """Removes the database of the runs of this name, whoever is connected to it. Raises DemoFailure."""
    async with _connected(postgres) as admin:
        await admin.execute(f'DROP DATABASE IF EXISTS "{database_of(name)}" WITH (FORCE)', timeout=ADMIN_TIMEOUT_S)


@contextlib.asynccontextmanager
async def _connected(postgres: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        admin = await asyncpg.connect(postgres, timeout=ADMIN_TIMEOUT_S)
    except (OSError, asyncpg.PostgresError, TimeoutError) as exc:
        raise DemoFailure(f"PostgreSQL does not answer: {exc}", look="make status") from exc
    try:
        yield admin
    finally:
        await admin.close()


async def remove_topics(kafka: str, name: str) -> list[str]:
    """Removes the topics of earlier runs of this name; returns what they were called. Raises DemoFailure."""
    ours = re.compile(rf"{re.escape(name)}-\d{{8}}T\d{{6}}-\d{{3}}\.")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka, request_timeout_ms=int(ADMIN_TIMEOUT_S * 1000))
    try:
        await admin.start()
        old = sorted(topic for topic in await admin.list_topics() if ours.match(topic))
        if old:
            await admin.delete_topics(old)
        return old
    except (KafkaError, OSError, TimeoutError) as exc:
        raise DemoFailure(f"Kafka does not answer at {kafka}: {type(exc).__name__}", look="make status") from exc
    finally:
        with contextlib.suppress(KafkaError, OSError):
            await admin.close()


def _dsn(dsn: str, *, database: str, user: str | None = None) -> str:
    """The DSN for another database, and another user, who needs no password on loopback."""
    parts = urlsplit(dsn)
    place = parts.netloc
    if user is not None:
        place = f"{user}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=place, path=f"/{database}"))
