"""The AsyncAPI 3 document of the topics: who sends what where, with which key and headers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

_HEADERS: Final[dict[str, str]] = {
    "ce_specversion": "CloudEvents: 1.0",
    "ce_id": "event_id:revision; of a watermark stream_id:partition:stream_seq",
    "ce_type": "chainbooks.<message>.<op>.v1",
    "ce_source": "/chains/<chain id>",
    "ce_subject": "subject of the event; emitter of a rejected log; empty for a watermark",
    "ce_time": "time of the block, RFC 3339, UTC",
    "ce_dataschema": "urn:chainbooks:schema:<message>:v1",
    "content-type": "application/json",
    "chain_id": "decimal",
    "stream_id": "identity of the stream; another id means that the stream was started anew",
    "stream_seq": "gap-free number of the record within (topic, partition), from 1, decimal",
    "op": "applied, retracted, finalized, revoked, watermark, rejected",
    "contract": "name of the description; empty for a watermark",
    "event": "name of the event; empty for a watermark and a rejected log",
    "traceparent": "W3C trace context of the block",
    "received_ms": "Unix ms at which the indexer heard of the newest block of the kafka_tx, decimal; live records only",
}
_OPTIONAL: Final = ("traceparent", "received_ms")

_CHAIN = {
    "chain": {"description": "slug of the chain, for example local"},
    "prefix": {"description": "empty, or ends with a dot"},
}

_CHANNELS: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "events": (
        "{prefix}payments.{chain}.events.v1",
        "Every change of an event as soon as its block is seen: applied, retracted by a reorg, revoked by an incident.",
        ("paymentEvent", "watermark"),
    ),
    "final": (
        "{prefix}payments.{chain}.final.v1",
        "Only events whose block is final, once each (finalized; revoked by an incident), and watermarks.",
        ("paymentEvent", "watermark"),
    ),
    "rejected": (
        "{prefix}payments.{chain}.rejected.v1",
        "Logs of watched contracts that could not be decoded, raw, with the reason.",
        ("rejected",),
    ),
    "registry": (
        "{prefix}payments.registry.v1",
        "Compacted: every version of every description with its ABI. Key: version.",
        ("registryRecord",),
    ),
}

_BOOK = "the book: all of one book is in one partition, in chain order"

_MESSAGES: Final[dict[str, tuple[str, str, str]]] = {
    "paymentEvent": ("payment-event.v1.json", _BOOK, "A decoded event of a payment contract, or its retraction"),
    "watermark": ("watermark.v1.json", "empty", "Everything of this partition up to `latest` came before this record"),
    "rejected": ("rejected.v1.json", _BOOK, "A log that could not be decoded"),
    "registryRecord": ("registry-record.v1.json", "the version", "One version of one description"),
}
"""File of the schema, what the Kafka key is, title."""


def asyncapi(event_schemas: Sequence[str]) -> dict[str, Any]:
    """The document; ``event_schemas`` are the files of the schemas per contract and event, relative to it."""
    headers = {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in _HEADERS.items()},
        "required": [name for name in _HEADERS if name not in _OPTIONAL],
    }
    described = ", ".join(sorted(event_schemas))
    messages: dict[str, Any] = {}
    for name, (file, key, summary) in _MESSAGES.items():
        message: dict[str, Any] = {
            "name": name,
            "title": summary,
            "contentType": "application/json",
            "payload": {"$ref": f"./{file}"},
            "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
        }
        if name != "registryRecord":
            message["headers"] = {"$ref": "#/components/schemas/headers"}
        messages[name] = message
    messages["paymentEvent"]["description"] = f"`args` by contract and event: {described}"
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "chainbooks topics",
            "version": "1.0.0",
            "description": "Consume with isolation.level=read_committed; dedupe on (event_id, revision); key = book.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name) for name in _CHANNELS},
        "operations": {
            f"send-{name}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{message}"} for message in kinds],
            }
            for name, (_, _, kinds) in _CHANNELS.items()
        },
        "components": {"messages": messages, "schemas": {"headers": headers}},
    }


def _channel(name: str) -> dict[str, Any]:
    address, description, kinds = _CHANNELS[name]
    parameters = {key: value for key, value in _CHAIN.items() if f"{{{key}}}" in address}
    return {
        "address": address,
        "description": description,
        "parameters": parameters,
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in kinds},
    }
