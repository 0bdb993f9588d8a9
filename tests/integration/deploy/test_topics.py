"""Looking into Kafka: which topics there are, and the events of one description as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from typer.testing import CliRunner

from contracts import messages
from contracts.messages import Topics
from deploy.demo.tail import app as demo_tail
from deploy.local import topics as local_topics
from deploy.local.failure import LocalError

EXAMPLES = Path(messages.__file__).parent / "examples"
EVENT = messages.decode_event((EXAMPLES / "payment-event.applied.v1.json").read_bytes())
DESCRIPTION = json.loads((EXAMPLES / "registry-record.v1.json").read_text())


@pytest.fixture
async def topics(kafka_bootstrap: str, kafka_prefix: str) -> AsyncIterator[Topics]:
    """An events topic of two partitions and a registry, both empty."""
    topics = Topics(chain="local", prefix=kafka_prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_topics(
            [
                NewTopic(name=topics.events, num_partitions=2, replication_factor=1),
                NewTopic(name=topics.registry, num_partitions=1, replication_factor=1),
            ]
        )
        yield topics
    finally:
        await admin.delete_topics([topics.events, topics.registry])
        await admin.close()


async def publish(bootstrap: str, topics: Topics) -> None:
    """One event and one description, in one kafka_tx."""
    position = messages.StreamPosition(stream_id="s", stream_seq=1)
    headers = messages.record_headers(EVENT, position, partition=1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topics.prefix}tail")
    await producer.start()
    try:
        async with producer.transaction():
            await asyncio.gather(
                await producer.send(topics.events, messages.encode(EVENT), partition=1, headers=headers),
                await producer.send(topics.registry, json.dumps(DESCRIPTION).encode(), key=b"v"),
                await producer.send(topics.registry, None, key=b"gone"),
            )
    finally:
        await producer.stop()


async def tailed(bootstrap: str, topics: Topics, **options: str | int) -> list[str]:
    async with asyncio.timeout(30):
        return [line async for line in local_topics.tail(bootstrap, topics, follow=False, **options)]  # type: ignore[arg-type]  # options by name


async def test_events_are_shown_and_those_of_another_description_are_not(kafka_bootstrap: str, topics: Topics) -> None:
    await publish(kafka_bootstrap, topics)
    (line,) = await tailed(kafka_bootstrap, topics)
    assert line == local_topics.format_event(EVENT)
    assert await tailed(kafka_bootstrap, topics, contract="legacy-vault") == []


async def test_a_name_that_no_description_has_is_refused_with_the_names_that_there_are(
    kafka_bootstrap: str, topics: Topics
) -> None:
    with pytest.raises(LocalError, match="none is published yet"):
        await tailed(kafka_bootstrap, topics, contract="legacy-vault")
    await publish(kafka_bootstrap, topics)
    with pytest.raises(LocalError) as caught:
        await tailed(kafka_bootstrap, topics, contract="legacyvault")
    assert str(caught.value).splitlines()[:2] == [
        "no description is called 'legacyvault'",
        "  there are: legacy-vault",
    ]


async def test_a_topic_that_is_not_there_is_an_error(kafka_bootstrap: str, kafka_prefix: str) -> None:
    with pytest.raises(LocalError, match=r"there is no topic \S+\s+yet\s+→ chainbooks-indexer topics ensure"):
        await tailed(kafka_bootstrap, Topics(chain="nowhere", prefix=kafka_prefix))


async def test_the_demo_shows_the_same_lines_from_its_own_settings(
    kafka_bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    await publish(kafka_bootstrap, topics)
    config = tmp_path / "chainbooks.toml"
    config.write_text(
        f'[chain]\nname = "local"\n[kafka]\nbootstrap_servers = "{kafka_bootstrap}"\ntopic_prefix = "{topics.prefix}"\n'
    )
    shown = await asyncio.to_thread(CliRunner().invoke, demo_tail, ["--config", str(config)])
    assert (shown.exit_code, shown.output) == (0, local_topics.format_event(EVENT) + "\n")
    missing = await asyncio.to_thread(CliRunner().invoke, demo_tail, ["--config", str(tmp_path / "no.toml")])
    assert missing.exit_code == 2
    assert "no.toml cannot be read: No such file or directory" in missing.output


async def test_offsets_count_commit_markers_too_and_are_called_so(kafka_bootstrap: str, topics: Topics) -> None:
    await publish(kafka_bootstrap, topics)
    lines = await local_topics.list_topics(kafka_bootstrap, prefix=topics.prefix)
    counted = {line.name: (line.partitions, line.offsets) for line in lines}
    assert counted == {topics.events: (2, 2), topics.registry: (1, 3)}
