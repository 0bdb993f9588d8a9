"""The registry of one chain: which logs are ours, who decodes them, and the documents that say what they mean.

``load_registry`` reads the description files; afterwards nothing touches a file. A log is recognised by (address,
block, topic0, number of topics): topic0 alone is no identity. The cost of ``dispatch`` does not depend on how many
contracts there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contracts.codec import EventCodec, contract_codecs, custody_codecs
from contracts.document import document_version
from contracts.loading import load_documents
from contracts.messages import EVENT_RECORD_BYTES_MAX, RegistryRecord, encode
from contracts.problems import Problem, RegistryError
from contracts.reconcile import Check
from contracts.typed import TypedContract, TypedCustody

__all__ = ["Contract", "Registry", "RegistryError", "load_registry"]

_TOPICS_MAX: Final = 4
_BLOCK_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One version of one description on this chain."""

    name: str
    book: str
    version: str  # 0x and the sha256 of the canonical JSON of ``document``
    addresses: tuple[str, ...]  # lower-case 0x hex, sorted; of a custody description the tokens
    start_block: int
    document: dict[str, Any]
    codecs: Mapping[str, EventCodec]  # by event name
    checks: tuple[Check, ...]  # what to reconcile

    @property
    def is_custody(self) -> bool:
        """Whether it describes a token standard, not a payment contract."""
        return bool(self.document["format"] == "chainbooks.custody.v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """The codecs of one topic0 at one address within a range of blocks, by number of topics."""

    from_block: int
    to_block: int
    codecs: tuple[EventCodec | None, ...]  # index: number of topics, 0…4


_Routes = dict[bytes, dict[bytes, tuple[_Route, ...]]]


class Registry:
    """All contracts of one chain. Immutable."""

    def __init__(self, contracts: Iterable[Contract], *, chain_id: int) -> None:
        """Raises RegistryError when two contracts claim the same log."""
        self.chain_id = chain_id
        self.contracts: tuple[Contract, ...] = tuple(contracts)
        self._routes = _routes(self.contracts)

    @property
    def version(self) -> str:
        """Changes when any contract's version does."""
        lines = sorted(f"{contract.name} {contract.version}\n" for contract in self.contracts)
        return "0x" + hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def start_block(self) -> int:
        """The first block that may have a log of ours."""
        return min((contract.start_block for contract in self.contracts), default=0)

    @property
    def books(self) -> tuple[str, ...]:
        """Books that events can have, and the books of what is refused."""
        return tuple(sorted({contract.book for contract in self.contracts}))

    def contract(self, name: str) -> Contract:
        """By name; KeyError when it is not on this chain."""
        for contract in self.contracts:
            if contract.name == name:
                return contract
        raise KeyError(name)

    def watched(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """Addresses (20 B) and topic0s (32 B) for log filters. A log that passes both may still not be ours:

        ask ``dispatch``.
        """
        topics = frozenset(topic for by_topic in self._routes.values() for topic in by_topic)
        return frozenset(self._routes), topics

    def dispatch(self, address: bytes, topics: Sequence[bytes], block_number: int) -> EventCodec | None:
        """Who decodes a log; None: not ours, ignore it.

        A known topic0 with another number of topics has a codec, which refuses it.
        """
        by_topic = self._routes.get(address)
        if by_topic is None or not topics:
            return None
        for route in by_topic.get(topics[0], ()):
            if route.from_block <= block_number <= route.to_block:
                return route.codecs[min(len(topics), _TOPICS_MAX)]
        return None

    def records(self) -> list[RegistryRecord]:
        """For the registry topic: every description version with its ABI."""
        return [RegistryRecord(version=c.version, contract=c.name, document=c.document) for c in self.contracts]


def load_registry(paths: Sequence[Path], *, chain_id: int) -> Registry:
    """The registry of a chain from YAML files, or folders of them, in order; later ``deployment`` files win.

    Raises RegistryError whose ``problems`` name file, line, event and field, and what to do.
    """
    return Registry([_contract(typed) for typed in load_documents(paths, chain_id=chain_id)], chain_id=chain_id)


def _contract(typed: TypedContract | TypedCustody) -> Contract:
    document = typed.document.model_dump(mode="json", by_alias=True)
    # Defaults are left out where people write: a new optional field must not make a new version of every description.
    dumped = typed.document.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, include={"events", "reconcile"}
    )
    document |= dumped
    for field in ("constants", "own_accounts"):
        if not document.get(field):
            document.pop(field, None)
    version = document_version(document)
    record = RegistryRecord(version=version, contract=typed.document.contract, document=document)
    size = len(encode(record))
    if size > EVENT_RECORD_BYTES_MAX:
        what = f"its canonical document has {size} bytes, more than one record may have ({EVENT_RECORD_BYTES_MAX})"
        raise RegistryError(
            [Problem(file=typed.document.contract, line=0, field="", what=what, do="split it into several")]
        )
    payment = typed if isinstance(typed, TypedContract) else None
    return Contract(
        name=typed.document.contract,
        book=typed.document.book,
        version=version,
        addresses=tuple(typed.document.addresses),
        start_block=typed.document.start_block,
        document=document,
        codecs=contract_codecs(typed, version) if isinstance(typed, TypedContract) else custody_codecs(typed, version),
        checks=() if payment is None else payment.checks,
    )


def _routes(contracts: Sequence[Contract]) -> _Routes:
    routes: _Routes = {}
    owners: dict[tuple[bytes, bytes], Contract] = {}
    for contract in contracts:
        shared = None if any(codec.uses_emitter for codec in contract.codecs.values()) else _by_topic(contract, None)
        for address in contract.addresses:
            key = bytes.fromhex(address[2:])
            by_topic = routes.setdefault(key, {})
            for topic0, route in (shared or _by_topic(contract, address)).items():
                if topic0 in by_topic:
                    raise RegistryError([_twice(contract, owners[key, topic0], address, topic0)])
                owners[key, topic0] = contract
                by_topic[topic0] = route
    return routes


def _twice(contract: Contract, other: Contract, address: str, topic0: bytes) -> Problem:
    event = next(codec.abi.signature for codec in contract.codecs.values() if codec.abi.topic0 == topic0)
    what = f"{event} at {address} is also described by {other.name!r}"
    return Problem(file=contract.name, line=0, field="", what=what, do="let one of them read it")


def _by_topic(contract: Contract, address: str | None) -> dict[bytes, tuple[_Route, ...]]:
    """Per topic0 a codec for each number of topics; a number that no event has goes to one that refuses it.

    Address None: for contracts whose codecs do not depend on the emitter.
    """
    grouped: dict[bytes, dict[int, EventCodec]] = {}
    for codec in contract.codecs.values():
        bound = codec if address is None else codec.at(address)
        grouped.setdefault(codec.abi.topic0, {})[codec.abi.topic_count] = bound
    table: dict[bytes, tuple[_Route, ...]] = {}
    for topic0, by_count in grouped.items():
        refusing = next(iter(by_count.values()))
        codecs = (None, *(by_count.get(count, refusing) for count in range(1, _TOPICS_MAX + 1)))
        table[topic0] = (_Route(from_block=contract.start_block, to_block=_BLOCK_MAX, codecs=codecs),)
    return table
