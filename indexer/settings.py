"""Settings of chainbooks-indexer: the shared sections and its own ``[indexer]``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deploy.runtime.settings import (
    ChainSettings,
    KafkaSettings,
    RegistrySettings,
    Section,
    ServiceSettings,
    TelemetrySettings,
)


class FollowSettings(Section):
    """[indexer]: how the chain is followed and published."""

    instance_id: Annotated[str, Field(max_length=100)] = ""  # begins the owner's name; a random part is added
    lease_s: Annotated[float, Field(ge=2, le=300)] = 10.0  # a standby waits this long after the owner's last sign
    poll_s: Annotated[float, Field(gt=0, le=60)] = 1.0  # longest time between two looks at the head
    range_blocks_max: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000  # blocks of one eth_getLogs below finality
    kafka_tx_bytes_max: Annotated[int, Field(ge=100_000, le=64_000_000)] = 8_000_000  # bytes of one kafka_tx, about
    window_blocks_max: Annotated[int, Field(ge=8, le=100_000)] = 4_096  # unfinalized blocks; beyond, publishing pauses
    unfinalized_bytes_max: Annotated[int, Field(ge=0, le=4_000_000_000)] = 64_000_000  # of their events in memory
    kafka_timeout_s: Annotated[float, Field(gt=0, le=300)] = 15.0  # deadline of every producer call
    start_timeout_s: Annotated[float, Field(gt=0)] = 120.0  # how long node and Kafka may be away at the start
    outage_max_s: Annotated[float, Field(gt=0)] = 3_600.0  # how long they may be away later, before exit code 3
    head_age_max_s: Annotated[float, Field(ge=0)] = 0.0  # not ready when the newest block is older; 0: not looked at
    head_lag_max_s: Annotated[float, Field(gt=0)] = 30.0  # not ready when the node has told nothing for this long


class IndexerSettings(ServiceSettings):
    """Everything that chainbooks-indexer reads."""

    chain: ChainSettings
    kafka: KafkaSettings
    registry: RegistrySettings = RegistrySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    indexer: FollowSettings = FollowSettings()
