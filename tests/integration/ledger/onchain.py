"""A real chain with a vault and a token, and its logs as the events that the indexer would publish."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.codec import Decoded
from contracts.messages import BlockRef, PaymentEvent, Watermark, event_id
from contracts.registry import Registry, load_registry
from tests.integration.solidity.chain import Contract, Node
from tests.unit.ledger.story import CHAIN_ID, SHIPPED, Story

RICH = 10**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrator:
    """Tells what happened on a chain, as far as the registry knows these addresses."""

    node: Node
    registry: Registry
    addresses: tuple[str, ...]

    def story(self) -> Story:
        """Everything that ever happened, final at the head."""
        story = Story()
        logs = self.node.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": list(self.addresses)})
        decoded = [(log, *found) for log in logs if (found := self._decoded(log)) is not None]
        last = {(log["transactionHash"], value.book): i for i, (log, _, value) in enumerate(decoded)}
        for i, (log, codec, value) in enumerate(decoded):
            closes_tx = last[log["transactionHash"], value.book] == i
            story.put(self._event(log, codec, value, closes_tx=closes_tx))
        head = self.node.rpc("eth_getBlockByNumber", "latest", False)
        ref = BlockRef(number=int(head["number"], 16), hash=head["hash"])
        story.put(
            Watermark(
                chain_id=CHAIN_ID, latest=ref, safe=ref, finalized=ref, latest_timestamp=int(head["timestamp"], 16)
            )
        )
        return story

    def _decoded(self, log: dict[str, Any]) -> tuple[Any, Decoded] | None:
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        codec = self.registry.dispatch(bytes.fromhex(log["address"][2:]), topics, int(log["blockNumber"], 16))
        value = None if codec is None else codec.decode(topics, bytes.fromhex(log["data"][2:]))
        return (codec, value) if isinstance(value, Decoded) else None

    def _event(self, log: dict[str, Any], codec: Any, value: Decoded, *, closes_tx: bool) -> PaymentEvent:
        block = self.node.rpc("eth_getBlockByHash", log["blockHash"], False)
        position = int(log["logIndex"], 16)
        return PaymentEvent(
            op="applied",
            event_id=event_id(chain_id=CHAIN_ID, block_hash=bytes.fromhex(log["blockHash"][2:]), position=position),
            revision=1,
            chain_id=CHAIN_ID,
            block_number=int(log["blockNumber"], 16),
            block_hash=log["blockHash"],
            block_timestamp=int(block["timestamp"], 16),
            tx_hash=log["transactionHash"],
            tx_index=int(log["transactionIndex"], 16),
            log_index=position,
            address=log["address"].lower(),
            contract=codec.contract,
            event=codec.event,
            book=value.book,
            subject=value.subject,
            args=value.args,
            amounts=value.amounts,
            correlation=value.correlation,
            description_version=codec.version,
            contract_seq=value.contract_seq,
            closes_tx=closes_tx,
        )


@dataclass(slots=True)
class World:
    """``owner`` has money and an allowance for the vault."""

    node: Node
    vault: Contract
    token: Contract
    owner: str
    registry: Registry

    def story(self) -> Story:
        addresses = (self.vault.address, self.token.address)
        return Narrator(node=self.node, registry=self.registry, addresses=addresses).story()


def build(node: Node, folder: Path) -> World:
    owner = node.accounts[1].lower()
    vault = node.deploy("LegacyVault")
    token = node.deploy("DemoToken", "Demo Dollar", "dUSD", 6)
    token.send("mint", owner, RICH, sender=node.accounts[0])
    token.send("approve", vault.address, RICH, sender=owner)
    overlay = folder / "deployment.yaml"
    overlay.write_text(
        f"kind: deployment\nchain: {CHAIN_ID}\n"
        f'contracts:\n  legacy-vault: {{addresses: ["{vault.address}"]}}\n'
        f'tokens:\n  - {{address: "{token.address}", symbol: dUSD, decimals: 6}}\n'
    )
    registry = load_registry([SHIPPED, overlay], chain_id=CHAIN_ID)
    return World(node=node, vault=vault, token=token, owner=owner, registry=registry)
