"""``python -m deploy.demo.tail``: prints the events of a demo's topic, one line each."""

from __future__ import annotations

import asyncio
import contextlib
import tomllib
from pathlib import Path
from typing import Annotated

import typer
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from contracts.messages import Topics, decode_event
from deploy.local.paths import layout
from deploy.local.topics import format_event


def tail(
    config: Annotated[Path | None, typer.Option(help="The run's chainbooks.toml; the last demo's.")] = None,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print what the events topic holds, retractions included."""
    settings = tomllib.loads((config or layout().root / "demo" / "chainbooks.toml").read_text(encoding="utf-8"))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_tail(settings["chain"]["name"], settings["kafka"], follow=follow))


async def _tail(chain: str, kafka: dict[str, str | int], *, follow: bool) -> None:
    topic = Topics(chain=chain, prefix=str(kafka["topic_prefix"])).events
    partitions = [TopicPartition(topic, number) for number in range(int(kafka["partitions"]))]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka["bootstrap_servers"],
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        while (batches := await consumer.getmany(timeout_ms=1_000)) or follow:
            for records in batches.values():
                for record in records:
                    if dict(record.headers).get("op") != b"watermark":
                        typer.echo(format_event(decode_event(record.value or b"")))
    finally:
        await consumer.stop()


if __name__ == "__main__":
    typer.run(tail)
