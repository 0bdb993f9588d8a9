"""Builds registries, logs and events for tests of the contracts package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eth_abi.abi import encode as abi_encode

from contracts.abi import AbiEvent, parse_abi
from contracts.codec import Decoded, EventCodec
from contracts.messages import PaymentEvent
from contracts.registry import Registry, load_registry
from tests.unit.contracts.signatures import GATEWAY_ABI, VAULT_ABI, event

CHAIN_ID = 31337
GATEWAY = "0x" + "11" * 20
VAULT = "0x" + "12" * 20
TOKEN = "0x" + "a1" * 20
OTHER_TOKEN = "0x" + "a2" * 20
STRANGER = "0x" + "99" * 20
NATIVE = "0x" + "00" * 20

SHIPPED = Path(__file__).parents[3] / "contracts" / "registry"

DEPLOYMENT = f"""\
kind: deployment
chain: {CHAIN_ID}
contracts:
  payment-gateway: {{addresses: ["{GATEWAY}"], start_block: 3}}
  legacy-vault: {{addresses: ["{VAULT}"], start_block: 4}}
tokens:
  - {{address: "{TOKEN}", symbol: USDX, decimals: 6}}
  - {{address: "{OTHER_TOKEN}", symbol: EURX, decimals: 18}}
"""


def registry_folder(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """A folder with ``abi/`` (ours from signatures) and ``registry/`` with these files; the shipped ones by default."""
    shutil.copytree(SHIPPED.parent / "abi", folder / "abi")
    (folder / "abi" / "PaymentGateway.json").write_text(json.dumps(GATEWAY_ABI))
    (folder / "abi" / "LegacyVault.json").write_text(json.dumps({"abi": VAULT_ABI}))
    registry = folder / "registry"
    registry.mkdir()
    if files is None:
        files = {path.name: path.read_text() for path in SHIPPED.glob("*.yaml")}
    for name, text in files.items():
        (registry / name).write_text(text)
    return registry


def shipped_registry(folder: Path, deployment: str = DEPLOYMENT) -> Registry:
    """The shipped descriptions with addresses from a deployment file."""
    registry = registry_folder(folder)
    overlay = folder / "deployment.yaml"
    overlay.write_text(deployment)
    return load_registry([registry, overlay], chain_id=CHAIN_ID)


def abi_event(signature: str) -> AbiEvent:
    return parse_abi([event(signature)]).events[0]


def word(value: int | str | bytes) -> bytes:
    """A 32-byte topic: an integer, an address (0x text) or bytes32."""
    if isinstance(value, int):
        return value.to_bytes(32, "big", signed=value < 0)
    if isinstance(value, str):
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    return value.ljust(32, b"\0")


def log(abi: AbiEvent, values: Mapping[str, Any]) -> tuple[list[bytes], bytes]:
    """Topics and data as the chain has them, encoded by eth-abi."""
    topics = [abi.topic0]
    types, data = [], []
    for item in abi.inputs:
        value = values[item.name]
        if item.indexed:
            topics.append(abi_encode([item.type.canonical], [value]))
        else:
            types.append(item.type.canonical)
            data.append(value)
    return topics, abi_encode(types, data)


def payment_event(codec: EventCodec, decoded: Decoded, *, address: str, **place: Any) -> PaymentEvent:
    """The message of a decoded log; ``place`` overrides where it stands."""
    fields: dict[str, Any] = {
        "op": "applied",
        "event_id": "0x" + "ee" * 32,
        "revision": 1,
        "chain_id": CHAIN_ID,
        "block_number": 10,
        "block_hash": "0x" + "bb" * 32,
        "block_timestamp": 1_700_000_000,
        "tx_hash": "0x" + "cc" * 32,
        "tx_index": 0,
        "log_index": 0,
        "address": address,
        "contract": codec.contract,
        "event": codec.event,
        "description_version": codec.version,
        "book": decoded.book,
        "subject": decoded.subject,
        "args": decoded.args,
        "amounts": decoded.amounts,
        "correlation": decoded.correlation,
        "contract_seq": decoded.contract_seq,
    }
    return PaymentEvent(**fields | place)
