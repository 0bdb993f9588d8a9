"""What the running service refuses: it stops that partition and says what, where and what to do; nothing is skipped."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts.messages import Topics
from tests.integration.ledger.database import Books
from tests.integration.ledger.kafka import Publisher, drop_topics, make_topics
from tests.integration.ledger.service import Service
from tests.unit.ledger.story import CHAIN, PAYER, Raw, Story, deposit, internal, moved

FOLDED = 5  # records of ``told``


def told() -> Story:
    story = Story()
    story.block(deposit(1, 100))
    story.block([internal(1, 2, 30)])
    return story


def with_header(record: Raw, name: str, value: bytes) -> Raw:
    return dataclasses.replace(record, headers=tuple((k, value if k == name else v) for k, v in record.headers))


def gap(story: Story) -> None:
    del story.records[3]


def repeated(story: Story) -> None:
    story.records.insert(4, story.records[3])


def other_stream(story: Story) -> None:
    story.records[3] = with_header(story.records[3], "stream_id", b"another")


def other_chain(story: Story) -> None:
    story.records[3] = with_header(story.records[3], "chain_id", b"1")


def unknown_op(story: Story) -> None:
    story.records[3] = with_header(story.records[3], "op", b"invented")


async def stopped(service: Service, *texts: str) -> None:
    """The partition stops, with these texts, for whoever asks; the process lives."""
    books = Books(service.database)

    async def written_down() -> bool:
        rows = await books.rows("SELECT 1 FROM ledger.stream WHERE stopped_reason IS NOT NULL")
        return bool(rows)

    await service.until("stopped", written_down)
    code, out, _ = await service.command("status")
    assert code == 4
    assert f"STOPPED {Topics(chain=CHAIN, prefix=service.prefix).events}/0 at offset" in out
    for text in texts:
        assert text in out, out

    async def unready() -> bool:
        status, body = await service.ready(len(service.processes) - 1)
        return status == 503 and texts[0] in str(body)

    await service.until("not ready", unready)
    assert service.processes[-1].returncode is None


async def entries(service: Service) -> int:
    ((count,),) = await Books(service.database).rows("SELECT count(*)::INT FROM ledger.entry")
    return int(count)


async def folded(service: Service, seq: int) -> None:
    async def reached() -> bool:
        rows = await Books(service.database).rows("SELECT stream_seq::INT FROM ledger.stream WHERE kind = 'events'")
        return rows == [(seq,)]

    await service.until(f"{seq} records folded", reached)


@pytest.mark.parametrize(
    ("spoil", "what", "todo"),
    [
        (gap, "stream_seq is 5, expected 4: records are missing", "rebuild the books"),
        (repeated, "stream_seq is 4, expected 5: records are missing or were repeated", "rebuild the books"),
        (other_stream, "this record is of stream another", "restore the old topic"),
        (other_chain, "header chain_id is b'1'", "find who else writes"),
        (unknown_op, "op 'invented' is not one of", "find who else writes"),
    ],
)
async def test_a_record_that_cannot_be_the_next_one_stops_the_partition(
    service: Service, publisher: Publisher, spoil: Callable[[Story], None], what: str, todo: str
) -> None:
    story = told()
    spoil(story)
    await service.start()
    await publisher.publish(story)
    await stopped(service, what, todo)
    assert await entries(service) == (3 if spoil is repeated else 2)


async def test_a_bad_body_is_quarantined_its_retraction_closes_it_and_the_stream_goes_on(
    service: Service, publisher: Publisher
) -> None:
    story = told()
    story.records[3] = dataclasses.replace(story.records[3], value=b"{")
    story.retract(1)
    story.block([moved(PAYER, "0x" + "11" * 20, 5)], branch="b")
    await service.start()
    await publisher.publish(story)
    await folded(service, len(story.records))
    rows = await Books(service.database).rows("SELECT code, open, closed_reason FROM finance.quarantine")
    assert rows == [("malformed_body", False, "retracted")]
    assert (await service.command("status"))[0] == 0


async def test_a_truncated_topic_stops_the_partition(service: Service, publisher: Publisher) -> None:
    story = told()
    process = await service.start()
    await publisher.publish(story)
    await folded(service, FOLDED)
    await service.stop(process)
    story.block(deposit(1, 7))
    await publisher.publish(story)
    topic = Topics(chain=CHAIN, prefix=service.prefix).events
    admin = AIOKafkaAdminClient(bootstrap_servers=service.kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=8)})
    await admin.close()
    await service.start()
    await stopped(service, "the topic was truncated or made again", "rebuild the books")
    assert await entries(service) == 3


@pytest.mark.parametrize("longer", [False, True])
async def test_a_topic_that_was_made_again_stops_the_partition(
    service: Service, publisher: Publisher, *, longer: bool
) -> None:
    """Shorter than what was folded, the offset is not there; longer, the stream is another."""
    story = told()
    process = await service.start()
    await publisher.publish(story)
    await folded(service, FOLDED)
    await service.stop(process)
    topics = Topics(chain=CHAIN, prefix=service.prefix)
    await drop_topics(service.kafka, topics)
    await made_again(service, topics)
    again = Story(stream_id="6a" * 16)
    for _ in range(8 if longer else 1):
        again.block(deposit(1, 100))
    await publisher.descriptions()
    publisher.sent = 0
    await publisher.publish(again)
    await service.start()
    what = "this record is of stream 6a" if longer else "the topic was truncated or made again"
    await stopped(service, what, "restore")
    assert await entries(service) == 3


async def made_again(service: Service, topics: Topics) -> None:
    """Deleting ends a little later than it is answered."""

    async def names() -> set[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=service.kafka)
        await admin.start()
        try:
            return set(await admin.list_topics())
        finally:
            await admin.close()

    async with asyncio.timeout(20):
        while topics.events in await names():
            pass
    await make_topics(service.kafka, topics, partitions=1)
