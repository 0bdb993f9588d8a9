"""The conformance fixture: it is what the indexer would publish, a correct consumer passes it, wrong ones do not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from contracts import messages
from contracts.examples import check
from contracts.examples.consumer import Consumer, Consumers, from_file
from contracts.schemas import FOLDER
from tests.unit.contracts.json_schema import SchemaChecker
from tests.unit.contracts.wrong_consumers import MISTAKES

EXAMPLES = FOLDER.parent / "examples"
FIXTURE = EXAMPLES / "reorg.ndjson"
EXPECTED = json.loads((EXAMPLES / "reorg.state.json").read_text())

Record = dict[str, Any]


def deliveries() -> list[Record]:
    """The lines of the fixture, in the order in which a broker delivers them."""
    return [json.loads(line) for line in FIXTURE.read_text().splitlines()]


def logs() -> dict[tuple[str, int], list[Record]]:
    """What each partition holds: every record once, by offset."""
    found: dict[tuple[str, int], dict[int, Record]] = defaultdict(dict)
    for record in deliveries():
        held = found[record["topic"], record["partition"]].setdefault(record["offset"], record)
        assert held == record, "a record that comes again is the same record"
    return {place: [records[offset] for offset in sorted(records)] for place, records in found.items()}


def run(kind: type[Consumer]) -> dict[str, Any]:
    consumers = Consumers(kind)
    from_file(FIXTURE, consumers)
    state: dict[str, Any] = json.loads(json.dumps(consumers.state()))
    return state


def differing(state: dict[str, Any]) -> set[str]:
    lines = check.differences(state, EXPECTED)
    return {".".join(line.split(":")[0].split(".")[:2]) for line in lines}


def test_the_reference_consumer_passes() -> None:
    assert list(check.differences(run(Consumer), EXPECTED)) == []


def test_both_commands_run_as_the_readme_says(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    consumer = subprocess.run(
        [sys.executable, EXAMPLES / "consumer.py", FIXTURE], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    state.write_text(consumer.stdout)
    judged = subprocess.run([sys.executable, EXAMPLES / "check.py", state], capture_output=True, text=True, check=False)
    assert (judged.returncode, judged.stdout) == (0, "the state is right\n")


@pytest.mark.parametrize("kind", MISTAKES, ids=lambda kind: kind.__name__)
def test_a_wrong_consumer_does_not_pass(kind: type[Consumer]) -> None:
    assert MISTAKES[kind] <= differing(run(kind))


def test_what_counts_at_the_end_follows_from_the_order_of_each_partition_alone() -> None:
    """Independent of any consumer and of revisions: an event counts when the last record about it applies it."""
    last = {r["value"].get("event_id"): r for (topic, _), records in logs().items() for r in records if ".ev" in topic}
    counted = {event_id for event_id, record in last.items() if record["headers"]["op"] == "applied"}
    assert set(EXPECTED["events"]["counted"]) == set(EXPECTED["final"]["counted"]) == counted
    gross = {r["value"]["subject"]: r["value"]["args"].get("gross") for r in last.values() if r["value"].get("args")}
    assert EXPECTED["events"]["paid"].items() <= gross.items()
    assert EXPECTED["events"]["complete_through"]["0"]["number"] == 110


def test_records_have_gap_free_numbers_and_the_headers_of_their_body() -> None:
    for (topic, partition), records in logs().items():
        assert [int(record["headers"]["stream_seq"]) for record in records] == list(range(1, len(records) + 1))
        assert [r["offset"] for r in records] != list(range(len(records))), "commit markers take offsets too"
        for record in records:
            body = json.dumps(record["value"]).encode()
            mark = record["headers"]["op"] == "watermark"
            message = messages.decode_watermark(body) if mark else messages.decode_event(body)
            position = messages.StreamPosition(
                stream_id=record["headers"]["stream_id"], stream_seq=int(record["headers"]["stream_seq"])
            )
            made = messages.record_headers(message, position, partition=partition)
            assert record["headers"].items() >= {name: raw.decode() for name, raw in made}.items(), topic
            assert record["key"] == ("" if mark else record["value"]["book"])


def test_bodies_fit_their_schemas() -> None:
    files = [json.loads(file.read_text()) for file in FOLDER.rglob("*.json") if file.name != "asyncapi.json"]
    checker = SchemaChecker(files)
    for record in deliveries():
        value = record["value"]
        schema = record["headers"]["ce_dataschema"]
        if value["op"] != "watermark":
            schema = f"urn:chainbooks:schema:event:{value['contract']}:{value['event']}:v1"
        assert checker.problems(schema, value) == []


def test_revisions_take_turns_and_only_odd_ones_become_final() -> None:
    revisions: dict[tuple[str, str], list[int]] = defaultdict(list)
    ops: dict[str, set[str]] = defaultdict(set)
    for (topic, _), records in logs().items():
        for record in records:
            value = record["value"]
            if value["op"] != "watermark":
                kind = topic.split(".")[-2]
                revisions[kind, value["event_id"]].append(value["revision"])
                ops[kind].add(value["op"])
                assert (value["revision"] % 2 == 1) == (value["op"] in ("applied", "finalized"))
                incident = value["incident_id"] is not None
                assert incident or value["op"] != "revoked"
                assert not incident or value["op"] == "revoked" or value["late"]
    for (kind, event_id), found in revisions.items():
        if kind == "events":
            assert found == list(range(1, len(found) + 1))
        else:
            assert found[0] in revisions["events", event_id]
            assert found[1:] in ([], [found[0] + 1])
    assert ops == {"events": {"applied", "retracted", "revoked"}, "final": {"finalized", "revoked"}}
    assert {len(found) for (kind, _), found in revisions.items() if kind == "events"} == {1, 2, 3, 4}


def test_retractions_come_newest_first_and_before_the_new_branch() -> None:
    for (topic, _), records in logs().items():
        if topic != messages.Topics(chain="local").events:
            continue
        places: list[tuple[int, int]] = []
        for record in records:
            value = record["value"]
            if value["op"] in ("retracted", "revoked"):
                places.append((value["block_number"], value["log_index"]))
                continue
            assert places == sorted(places, reverse=True)
            places = []


def test_the_fixture_has_what_goes_wrong_in_practice() -> None:
    lines = deliveries()
    blocks: dict[str, set[str]] = defaultdict(set)
    for record in lines:
        if record["value"]["op"] == "applied":
            blocks[record["value"]["tx_hash"]].add(record["value"]["block_hash"])
    heads = [r["value"]["latest"]["number"] for r in logs()[lines[0]["topic"], 0] if r["headers"]["op"] == "watermark"]
    assert max(map(len, blocks.values())) >= 2, "the same tx in another block"
    assert len(lines) > sum(map(len, logs().values())), "records that come again"
    assert heads != sorted(heads), "a new branch that ends lower"
    assert any(record["value"].get("late") for record in lines)
    assert any(record["value"].get("incomplete") for record in lines)
    assert any("a_later_field" in record["value"] and "x_later_header" in record["headers"] for record in lines)


def test_the_reference_consumer_stops_at_a_gap_another_stream_and_an_unknown_operation() -> None:
    first, _, third = logs()[messages.Topics(chain="local").events, 0][:3]
    consumer = Consumer(3)
    consumer.take(0, first["headers"], json.dumps(first["value"]).encode())
    with pytest.raises(SystemExit, match="stop, commit nothing"):
        consumer.take(0, third["headers"], json.dumps(third["value"]).encode())
    with pytest.raises(SystemExit, match="stop, commit nothing"):
        consumer.take(0, first["headers"] | {"stream_id": "begun-anew"}, json.dumps(first["value"]).encode())
    with pytest.raises(SystemExit, match="teleported"):
        Consumer(3).take(0, first["headers"] | {"op": "teleported"}, b"{}")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"events": []}', '{"events": {"counted": 7}}'])
def test_the_checker_says_when_it_gets_no_state(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state.json").write_text(text)
    assert check.main([str(tmp_path / "state.json")]) == 2
    assert "cannot be judged" in capsys.readouterr().err


def test_the_checker_says_what_differs_and_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = json.loads(json.dumps(EXPECTED))
    event_id, revision = state["events"]["counted"].popitem()
    state["final"]["actions"].append({"did": "act"})
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert check.main([str(tmp_path / "state.json")]) == 1
    said = capsys.readouterr().out
    assert f"events.counted.{event_id}: is absent, must be {revision}" in said
    assert 'final.actions: must not have {"did": "act"}' in said
    assert "→ counted: events that count" in said
    assert "2 differences" in said
