"""Writes the schemas of what crosses Kafka, and of description files: ``python -m contracts.schemas [--check]``.

Into ``contracts/schema``: one JSON Schema per message, one per contract and event, the schema of description YAML (for
completion in editors), and an AsyncAPI 3 document. ``--check`` writes nothing and exits 1 when a file differs.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from pydantic import Field, TypeAdapter

from contracts import messages
from contracts.abi import AbiEvent, AbiType
from contracts.asyncapi import asyncapi
from contracts.description import AssetsFile, ContractDescription, CustodyDescription, DeploymentFile
from contracts.loading import load_described
from contracts.problems import RegistryError
from contracts.typed import TypedCustody
from contracts.values import JSON_NUMBER_BITS_MAX

FOLDER: Final = Path(__file__).parent / "schema"
DESCRIPTIONS: Final = Path(__file__).parent / "registry"
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

MESSAGES: Final[dict[str, type[msgspec.Struct]]] = {
    "payment-event": messages.PaymentEvent,
    "watermark": messages.Watermark,
    "rejected": messages.Rejected,
    "registry-record": messages.RegistryRecord,
}

_FIELD_COMMENT = re.compile(r"^    (\w+): [^#\n]*?  # (.+)$", re.MULTILINE)
_HEX_FIELDS: Final = {
    "event_id": 32,
    "block_hash": 32,
    "tx_hash": 32,
    "hash": 32,
    "data_sha256": 32,
    "version": 32,
    "description_version": 32,
    "address": 20,
}
_HEX = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}
_DIGEST = {
    "type": "object",
    "description": "a value over 64 kB",
    "properties": {"sha256": {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}, "length": {"type": "integer"}},
    "required": ["sha256", "length"],
}


def main() -> int:
    """0 fine, 1 a committed file differs (``--check``), 2 a description is wrong."""
    parser = argparse.ArgumentParser(prog="python -m contracts.schemas", description="Write the schemas of messages.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a committed file differs")
    check = parser.parse_args().check
    try:
        wanted = documents()
    except RegistryError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    differing = drift(wanted)
    if check:
        for name in differing:
            sys.stderr.write(f"contracts/schema/{name} differs from the code; run `python -m contracts.schemas`\n")
        return 1 if differing else 0
    for name in differing:
        file = FOLDER / name
        if name in wanted:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(wanted[name], encoding="utf-8")
        else:
            file.unlink()
    return 0


def drift(wanted: Mapping[str, str]) -> list[str]:
    """Names of files that are missing, different, or there without being wanted."""
    present = {str(file.relative_to(FOLDER)): file for file in FOLDER.rglob("*.json")}
    differing = [name for name, text in wanted.items() if name not in present or present[name].read_text() != text]
    return sorted([*differing, *(name for name in present if name not in wanted)])


def documents() -> dict[str, str]:
    """Every file of the schema folder by name. Raises RegistryError when a shipped description is wrong."""
    found = {f"{name}.v1.json": message_schema(name, kind) for name, kind in MESSAGES.items()}
    events: list[str] = []
    for typed in load_described([DESCRIPTIONS]):
        contract = typed.document.contract
        for name, event in typed.events.items():
            file = f"events/{contract}/{name}.v1.json"
            kind = "money" if isinstance(typed, TypedCustody) else typed.events[name].kind
            found[file] = event_schema(contract, name, kind, event.abi)
            events.append(file)
    found["description.json"] = description_schema()
    found["asyncapi.json"] = asyncapi(events)
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in found.items()}


def message_schema(name: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a message; descriptions are the comments beside the fields."""
    schemas, definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    for definition_name, definition in definitions.items():
        comments = dict(_FIELD_COMMENT.findall(inspect.getsource(getattr(messages, definition_name))))
        definition["description"] = inspect.cleandoc(definition["description"])
        for field, schema in definition["properties"].items():
            if field in comments:
                schema["description"] = comments[field]
            if field in _HEX_FIELDS:
                schema["pattern"] = _hex(_HEX_FIELDS[field])["pattern"]
    return {"$schema": DRAFT, "$id": f"urn:chainbooks:schema:{name}:v1", **schemas[0], "$defs": definitions}


def event_schema(contract: str, name: str, kind: str, event: AbiEvent) -> dict[str, Any]:
    """The JSON Schema of a PaymentEvent of one contract and event: the message, with its arguments typed."""
    properties = {
        item.name: {"type": "object", "properties": {"keccak256": _hex(32)}, "required": ["keccak256"]}
        if item.indexed and not item.type.is_elementary
        else value_schema(item.type)
        for item in event.inputs
    }
    return {
        "$schema": DRAFT,
        "$id": f"urn:chainbooks:schema:event:{contract}:{name}:v1",
        "title": f"{contract} {name}",
        "description": f"{event.signature}; kind: {kind}",
        "allOf": [{"$ref": "urn:chainbooks:schema:payment-event:v1"}],
        "type": "object",
        "properties": {
            "contract": {"const": contract},
            "event": {"const": name},
            "args": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
        "required": ["contract", "event", "args"],
    }


def value_schema(abi_type: AbiType) -> dict[str, Any]:
    """The JSON Schema of a value of an ABI type, as ``contracts.values`` writes it."""
    match abi_type.kind:
        case "uint" | "int":
            return _integer(abi_type)
        case "bool":
            return {"type": "boolean"}
        case "address":
            return _hex(20)
        case "fixed_bytes":
            return _hex(abi_type.size)
        case "bytes":
            return {"anyOf": [_HEX, _DIGEST]}
        case "string":
            escaped = {
                "type": "object",
                "description": "text with U+0000",
                "properties": {"hex": _HEX},
                "required": ["hex"],
            }
            return {"anyOf": [{"type": "string"}, _DIGEST, escaped]}
        case "array":
            length = {} if abi_type.length is None else {"minItems": abi_type.length, "maxItems": abi_type.length}
            return {"type": "array", "items": value_schema(abi_type.item_type), **length}
        case "tuple":
            parts = {part.name: value_schema(part.type) for part in abi_type.components}
            return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


def _integer(abi_type: AbiType) -> dict[str, Any]:
    unsigned = abi_type.kind == "uint"
    if abi_type.bits > JSON_NUMBER_BITS_MAX:
        sign = "" if unsigned else "-?"
        return {"type": "string", "pattern": f"^{sign}(0|[1-9][0-9]{{0,77}})$", "description": abi_type.canonical}
    half = 2 ** (abi_type.bits - 1)
    low, high = (0, 2 * half - 1) if unsigned else (-half, half - 1)
    return {"type": "integer", "minimum": low, "maximum": high, "description": abi_type.canonical}


def _hex(size: int) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^0x[0-9a-f]{{{2 * size}}}$"}


def description_schema() -> dict[str, Any]:
    """The JSON Schema of a description file of any kind."""
    files = ContractDescription | CustodyDescription | AssetsFile | DeploymentFile
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[files, Field(discriminator="kind")])
    schema = adapter.json_schema(by_alias=True)
    return {
        "$schema": DRAFT,
        "$id": "urn:chainbooks:schema:description:v1",
        "title": "chainbooks description",
        **schema,
    }


if __name__ == "__main__":
    sys.exit(main())
