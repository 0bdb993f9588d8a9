"""Committed schemas equal the code; examples and what the decoders make fit them; examples keep their meaning."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts import messages
from contracts.codec import Decoded
from contracts.schemas import FOLDER, documents, drift
from contracts.yaml_source import read_yaml
from tests.unit.contracts.build import DEPLOYMENT, SHIPPED, STRANGER, TOKEN, log, payment_event, shipped_registry
from tests.unit.contracts.json_schema import SchemaChecker

EXAMPLES = FOLDER.parent / "examples"
DECODE = {
    "payment-event": messages.decode_event,
    "watermark": messages.decode_watermark,
    "rejected": messages.decode_rejected,
    "registry-record": messages.decode_registry_record,
}


@pytest.fixture(scope="module")
def checker() -> SchemaChecker:
    files = [json.loads(file.read_text()) for file in FOLDER.rglob("*.json") if file.name != "asyncapi.json"]
    return SchemaChecker(files)


def kind_of(file: Path) -> str:
    return file.name.split(".")[0]


def test_committed_schemas_equal_the_code() -> None:
    assert drift(documents()) == []


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.v1.json")), ids=lambda file: file.name)
def test_an_example_fits_its_schema_and_still_means_the_same(checker: SchemaChecker, file: Path) -> None:
    text = file.read_bytes()
    example = json.loads(text)
    assert checker.problems(f"urn:chainbooks:schema:{kind_of(file)}:v1", example) == []
    again = json.loads(messages.encode(DECODE[kind_of(file)](text)))
    assert {name: again[name] for name in example} == example, "messages only grow"


def test_every_message_and_every_operation_has_an_example() -> None:
    names = {file.name for file in EXAMPLES.glob("*.v1.json")}
    assert {name.split(".")[0] for name in names} == set(DECODE)
    operations = {json.loads(file.read_text())["op"] for file in EXAMPLES.glob("payment-event.*.json")}
    assert operations == {"applied", "retracted", "finalized", "revoked"}


def test_a_payment_event_example_fits_the_schema_of_its_event(checker: SchemaChecker) -> None:
    for file in EXAMPLES.glob("payment-event.*.json"):
        example = json.loads(file.read_text())
        schema = f"urn:chainbooks:schema:event:{example['contract']}:{example['event']}:v1"
        assert checker.problems(schema, example) == []
        example["args"]["surprise"] = 1
        assert checker.problems(schema, example) != []


def value_of(kind: str, bits: int, rng: random.Random) -> Any:
    match kind:
        case "uint":
            return rng.choice([0, 2**bits - 1, rng.getrandbits(bits)])
        case "int":
            return rng.choice([-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1])
        case "bool":
            return rng.random() < 0.5
        case "address":
            return rng.choice([TOKEN, STRANGER])
        case _:
            return rng.randbytes(32)


def test_what_the_decoders_make_fits_the_schemas(tmp_path: Path, checker: SchemaChecker) -> None:
    registry, rng = shipped_registry(tmp_path), random.Random(4)
    for contract in registry.contracts:
        for name, codec in contract.codecs.items():
            for _ in range(10):
                values = {i.name: value_of(i.type.kind, i.type.bits, rng) for i in codec.abi.inputs}
                if contract.is_custody:
                    values["to"] = registry.contract("payment-gateway").addresses[0]
                decoded = codec.decode(*log(codec.abi, values))
                assert isinstance(decoded, Decoded)
                message = json.loads(messages.encode(payment_event(codec, decoded, address=TOKEN)))
                assert checker.problems(f"urn:chainbooks:schema:event:{contract.name}:{name}:v1", message) == []


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.yaml")), ids=lambda file: file.name)
def test_shipped_descriptions_fit_the_schema_that_editors_use(checker: SchemaChecker, file: Path) -> None:
    assert checker.problems("urn:chainbooks:schema:description:v1", read_yaml(file).value) == []


def test_a_wrong_description_does_not_fit_the_schema(checker: SchemaChecker) -> None:
    value = yaml.safe_load(DEPLOYMENT)
    assert checker.problems("urn:chainbooks:schema:description:v1", value) == []
    value["contracts"]["payment-gateway"]["adresses"] = []
    assert checker.problems("urn:chainbooks:schema:description:v1", value) != []


def references(node: Any) -> Iterable[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_asyncapi_document_names_our_topics_and_points_to_what_exists() -> None:
    document = json.loads((FOLDER / "asyncapi.json").read_text())
    topics = messages.Topics(chain="{chain}", prefix="{prefix}")
    addresses = {name: channel["address"] for name, channel in document["channels"].items()}
    assert addresses == {
        "events": topics.events,
        "final": topics.final,
        "rejected": topics.rejected,
        "registry": topics.registry,
    }
    for reference in references(document):
        if reference.startswith("./"):
            assert (FOLDER / reference).is_file(), reference
            continue
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    headers = messages.record_headers(
        messages.decode_event((EXAMPLES / "payment-event.applied.v1.json").read_bytes()),
        messages.StreamPosition(stream_id="s", stream_seq=1),
        partition=0,
        traceparent="00-0-0-00",
    )
    described = document["components"]["schemas"]["headers"]
    names = {name for name, _ in headers} | {"received_ms"}  # this one is of the publisher, not of the message
    assert names == set(described["properties"])
    assert set(described["required"]) == names - {"traceparent", "received_ms"}


def test_the_asyncapi_document_has_the_parts_that_version_3_asks_for() -> None:
    document = json.loads((FOLDER / "asyncapi.json").read_text())
    assert document["asyncapi"].startswith("3.")
    assert document["info"].keys() >= {"title", "version"}
    for name, channel in document["channels"].items():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == channel["parameters"].keys(), name
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"]
        assert operation["action"] in ("send", "receive")
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
    for name, message in document["components"]["messages"].items():
        assert message["bindings"]["kafka"]["key"]["type"] == "string", name
    files = {reference[2:] for reference in references(document) if reference.startswith("./")}
    assert files == {f"{name}.v1.json" for name in DECODE}


class Consumer:
    """A correct backend consumer in a few lines: keep the highest revision of each event; odd ones count."""

    def __init__(self) -> None:
        self.events: dict[str, messages.PaymentEvent] = {}
        self.complete_through: messages.BlockRef | None = None

    def take(self, line: str) -> None:
        if json.loads(line)["op"] == "watermark":
            self.complete_through = messages.decode_watermark(line.encode()).latest
            return
        event = messages.decode_event(line.encode())
        known = self.events.get(event.event_id)
        if known is None or event.revision > known.revision:
            self.events[event.event_id] = event

    def state(self) -> dict[str, Any]:
        counted = [event for event in self.events.values() if event.revision % 2 == 1]
        assert self.complete_through is not None
        return {
            "events": {
                e.event_id: {
                    "event": e.event,
                    "revision": e.revision,
                    "block_number": e.block_number,
                    "block_hash": e.block_hash,
                }
                for e in counted
            },
            "paid_invoices": {
                e.correlation["invoice"]: {
                    "gross": e.args["gross"],
                    "tx_hash": e.tx_hash,
                    "block_number": e.block_number,
                }
                for e in counted
                if e.event == "InvoicePaid"
            },
            "complete_through": {"number": self.complete_through.number, "hash": self.complete_through.hash},
        }


@pytest.mark.parametrize("repeat", [1, 2])
def test_the_reorg_example_ends_in_its_state_also_when_records_come_twice(repeat: int) -> None:
    consumer = Consumer()
    for line in (EXAMPLES / "reorg.v1.ndjson").read_text().splitlines():
        for _ in range(repeat):
            consumer.take(line)
    assert consumer.state() == json.loads((EXAMPLES / "reorg.v1.state.json").read_text())


def test_the_reorg_example_retracts_newest_first_before_the_new_branch() -> None:
    lines = [json.loads(line) for line in (EXAMPLES / "reorg.v1.ndjson").read_text().splitlines()]
    events = [line for line in lines if line["op"] != "watermark"]
    retracted = [index for index, line in enumerate(events) if line["op"] == "retracted"]
    places = [(events[index]["block_number"], events[index]["log_index"]) for index in retracted]
    assert places == sorted(places, reverse=True)
    applied = {line["event_id"]: line for line in events[: retracted[0]]}
    assert {events[index]["event_id"] for index in retracted} == set(applied)
    assert all(
        line["block_hash"] not in {old["block_hash"] for old in applied.values()}
        for line in events[retracted[-1] + 1 :]
    )
