"""The comparison at the end: topics, books and chain have to say the same. Every difference is a line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from deploy.demo.books import Books, read_books
from deploy.demo.check import Node
from deploy.demo.check_events import Deployment, event_id
from deploy.demo.check_postings import is_ours
from deploy.demo.failure import DemoFailure
from deploy.demo.processes import command_result, module_result
from deploy.demo.stage import PARTITIONS, Stage
from deploy.runtime import exit_codes
from tests.e2e.chaos.streams import Stream, read_streams

SHOWN_MAX: Final = 10
REBUILD_BATCH_RECORDS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found."""

    differences: tuple[str, ...]
    standing: int  # events on the events topic that no retraction took back
    retracted: int
    final: int  # events on the final topic
    aborted: int  # records of kafka_txs that were cut off, on both topics


async def judge(stage: Stage, *, head: int, final: int) -> Verdict:
    """Asks everybody. The chain must not move meanwhile. Raises DemoFailure when a command does not end."""
    events, finals = await read_streams(stage.services.kafka, stage.topics, partitions=PARTITIONS)
    canonical = await asyncio.to_thread(_canonical, stage, head)
    books = await read_books(stage.reader_dsn)
    differences = [
        *events.problems,
        *finals.problems,
        *_against_chain(events, set(canonical)),
        *_against_chain(finals, {identifier for identifier, number in canonical.items() if number <= final}),
        *_finals_repeat_events(events, finals),
        *(f"final/{p} is at block {n}, not {final}" for p, n in finals.finalized.items() if n != final),
        *_books(books, events),
        *await _reconciled(stage),
        *await _verified(stage),
        *await _rebuilt(stage, entries=books.posted + books.reversed, final=final),
        *await _checked(stage),
    ]
    return Verdict(
        differences=tuple(differences),
        standing=len(events.standing),
        retracted=events.retracted,
        final=len(finals.standing),
        aborted=events.aborted + finals.aborted,
    )


def _canonical(stage: Stage, head: int) -> dict[str, int]:
    """event id → block, of all events in the receipts of the canonical chain."""
    deployment = Deployment.read(stage.deployment)
    found = Node(stage.node_url).events(deployment, to_block=head)
    return {event_id(e, deployment.chain_id): e.block_number for e in found if is_ours(e, deployment)}


def _against_chain(stream: Stream, canonical: set[str]) -> Iterator[str]:
    yield from _some(canonical - stream.standing.keys(), f"is on the chain, not on {stream.name}")
    yield from _some(stream.standing.keys() - canonical, f"is on {stream.name}, not on the chain")


def _finals_repeat_events(events: Stream, finals: Stream) -> Iterator[str]:
    """A final event is the applied one, word for word."""
    other = {
        identifier
        for identifier, event in finals.standing.items()
        if identifier in events.standing and msgspec.structs.replace(event, op="applied") != events.standing[identifier]
    }
    yield from _some(other, "is final with another content than it was applied with")


def _books(books: Books, events: Stream) -> Iterator[str]:
    """Each change was booked once, nothing was left aside."""
    applied = len(events.revisions) + sum(revision >= 3 for revision in events.revisions.values())
    for what, ours, theirs in (
        ("posting entries", books.posted, applied),
        ("contra entries", books.reversed, events.retracted),
    ):
        if ours != theirs:
            yield f"the journal has {ours} {what}, the topic says {theirs}"
    yield from _some({str(row) for row in books.breaks}, "is an open break")
    yield from _some({str(row) for row in books.quarantine}, "is in quarantine")
    yield from _some({str(row) for row in books.incomplete}, "is incomplete")


async def _reconciled(stage: Stage) -> list[str]:
    code, document = await _ledger_says(stage, "reconcile")
    lines = [f"reconcile: {item['subject']} {item['asset']}: {item}" for item in document["differences"]]
    if not document["compared"]:
        lines.append("reconcile compared nothing")
    return _with_code("reconcile", code, lines)


async def _verified(stage: Stage) -> list[str]:
    """The books against themselves."""
    code, document = await _ledger_says(stage, "verify")
    lines = [
        f"verify: {check['check']}: {failure}"
        for check in document["checks"]
        for failure in check["failures"] or [f"{check['failing']} failing"] * bool(check["failing"])
    ]
    if not document["checks"]:
        lines.append("verify checked nothing")
    return _with_code("verify", code, lines)


async def _rebuilt(stage: Stage, *, entries: int, final: int) -> list[str]:
    """The topics folded again from offset 0, in batches of another size, give the same books to the byte."""
    arguments = ("--into", "chaos_again", "--batch-records", str(REBUILD_BATCH_RECORDS))
    code, document = await _ledger_says(stage, "rebuild", *arguments)
    digests = document["digests"]
    lines = [f"rebuild: {each['of']} {each['live']} ≠ {each['rebuilt']}" for each in digests if not each["equal"]]
    lines += [f"rebuild: {problem}" for problem in document["problems"]]
    compared, final_block = document["entries_compared"], document["final_block"]
    if (compared, final_block) != (entries, final):
        lines.append(
            f"rebuild compared {compared} of {entries} entries, final ones to block {final_block}, not {final}"
        )
    return _with_code("rebuild", code, lines)


async def _ledger_says(stage: Stage, *arguments: str) -> tuple[int, dict[str, Any]]:
    """A command's exit code and its JSON. Raises DemoFailure when it could not do its work."""
    code, out, err = await command_result("ledger", *arguments, "--json", config=stage.config)
    if code not in (exit_codes.OK, exit_codes.DIFFERENCE):
        raise DemoFailure(f"chainbooks-ledger {arguments[0]} ended with {code}: {err or out}")
    document: dict[str, Any] = json.loads(out)
    return code, document


def _with_code(name: str, code: int, lines: list[str]) -> list[str]:
    """The exit code has to say the same as the document."""
    return lines if code == bool(lines) else [*lines, f"chainbooks-ledger {name} ended with {code}"]


async def _checked(stage: Stage) -> list[str]:
    """Every balance again from raw receipts, by code that knows nothing of ours."""
    arguments = ("--rpc", stage.node_url, "--dsn", stage.reader_dsn, "--deployment", str(stage.deployment))
    code, out, err = await module_result("deploy.demo.check", *arguments)
    if code not in (exit_codes.OK, exit_codes.DIFFERENCE):
        return [f"the independent check ended with {code}: {err or out}"]
    return [f"independent check: {line}" for line in json.loads(out)["differences"]]


def _some(subjects: set[str], predicate: str) -> Iterator[str]:
    shown = sorted(subjects)[:SHOWN_MAX]
    yield from (f"{subject} {predicate}" for subject in shown)
    if len(subjects) > len(shown):
        yield f"… and {len(subjects) - len(shown)} more"
