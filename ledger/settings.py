"""Settings of chainbooks-ledger: the shared sections and its own ``[ledger]``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deploy.runtime.settings import (
    ChainSettings,
    KafkaSettings,
    PostgresSettings,
    RegistrySettings,
    Section,
    ServiceSettings,
    TelemetrySettings,
)


class FoldSettings(Section):
    """[ledger]: how topics are folded into the books."""

    # Who holds a partition. A fixed name, one per instance, lets a killed instance come back at once; without one (the
    # default is host, process and a random part) Kafka waits for session_timeout_s before it gives partitions away.
    instance_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    session_timeout_s: Annotated[float, Field(ge=6, le=300)] = 45.0  # Kafka takes an instance for dead after this
    batch_records_max: Annotated[int, Field(ge=1, le=100_000)] = 4_000  # records of one db_tx
    fetch_bytes_max: Annotated[int, Field(ge=1_048_588, le=64_000_000)] = 4_194_304  # per partition and fetch
    promotion_entries_max: Annotated[int, Field(ge=1, le=1_000_000)] = 5_000  # entries of one promotion step, about
    start_timeout_s: Annotated[float, Field(gt=0)] = 120.0  # how long Kafka and Postgres may be away at the start
    outage_max_s: Annotated[float, Field(gt=0)] = 3_600.0  # how long they may be away later, before exit code 3
    lag_max_s: Annotated[float, Field(gt=0)] = 10.0  # not ready when a partition was behind for this long
    stall_max_s: Annotated[float, Field(gt=0)] = 60.0  # a partition that is behind and does not move: join again


class LedgerSettings(ServiceSettings):
    """Everything that chainbooks-ledger reads."""

    chain: ChainSettings
    kafka: KafkaSettings
    postgres: PostgresSettings
    registry: RegistrySettings = RegistrySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    ledger: FoldSettings = FoldSettings()
