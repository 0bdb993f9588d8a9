"""The real coordinator with LINK, a price feed and consumers on a node, and an oracle that fulfils with real proofs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.solidity.artifacts import Artifact
from tests.integration.chainlink import proof
from tests.integration.solidity.chain import Contract, Log, Node

SECRET: Final = 0xC0FFEE
KEY_HASH: Final = proof.key_hash(proof.public_key(SECRET))
GAS_PRICE_MAX_WEI: Final = 10**12
WEI_PER_LINK: Final = 5 * 10**15
CALLBACK_GAS: Final = 200_000
NOBODY: Final = "0x" + "00" * 20
RICH: Final = 10**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """``owner`` owns the coordinator and fulfils; ann and bob have LINK and subscriptions."""

    node: Node
    artifacts: Mapping[str, Artifact]
    link: Contract
    feed: Contract
    coordinator: Contract
    owner: str
    ann: str
    bob: str
    requests: dict[int, tuple[Any, ...]] = field(
        default_factory=dict
    )  # by request id: the commitment, and the pre-seed

    def deploy(self, name: str, *args: Any) -> Contract:
        return self.node.deploy(self.artifacts[name], *args)

    def subscribe(self, who: str) -> int:
        (created,) = self.coordinator.send("createSubscription", sender=who)
        return int(created.args["subId"])

    def fund(self, subscription: int, juels: int, *, sender: str) -> list[Log]:
        data = subscription.to_bytes(32, "big")
        return self.link.send("transferAndCall", self.coordinator.address, juels, data, sender=sender)

    def fund_native(self, subscription: int, wei: int, *, sender: str) -> None:
        self.coordinator.send("fundSubscriptionWithNative", subscription, sender=sender, value=wei)

    def consumer(self, name: str, subscription: int, *, sender: str) -> Contract:
        """A consumer of the subscription."""
        consumer = self.deploy(name, self.coordinator.address, self.link.address)
        self.coordinator.send("addConsumer", subscription, consumer.address, sender=sender)
        return consumer

    def request(self, consumer: Contract, subscription: int, *, native: bool) -> int:
        """The id of a request by the package's VRFV2PlusConsumerExample."""
        consumer.send("setSubId", subscription, sender=self.ann)
        return self.requested(
            consumer.send("requestRandomWords", CALLBACK_GAS, 0, 2, KEY_HASH, native, sender=self.ann)
        )

    def requested(self, logs: list[Log]) -> int:
        """The id of the request in these logs; it can be fulfilled from now on."""
        (log,) = (log for log in logs if log.name == "RandomWordsRequested")
        args = log.args
        block = int(self.node.rpc("eth_blockNumber"), 16)
        commitment = (
            block,
            args["subId"],
            args["callbackGasLimit"],
            args["numWords"],
            args["sender"],
            args["extraArgs"],
        )
        self.requests[args["requestId"]] = (args["preSeed"], commitment)
        return int(args["requestId"])

    def fulfil(self, request: int, *, only_premium: bool = False) -> Log:
        """Fulfils with a proof that the contract verifies; the event that says what was charged."""
        pre_seed, commitment = self.requests.pop(request)
        block = self.node.rpc("eth_getBlockByNumber", hex(commitment[0]), False)
        made = proof.prove(SECRET, pre_seed, bytes.fromhex(block["hash"][2:]))
        logs = self.coordinator.send("fulfillRandomWords", made, commitment, only_premium, sender=self.owner)
        (fulfilled,) = (log for log in logs if log.name == "RandomWordsFulfilled")
        return fulfilled

    def force_native(self, address: str, wei: int) -> None:
        """Native money that comes without a call: a contract that gives itself up while it is made."""
        self.node.transact({"from": self.ann, "value": hex(wei), "data": f"0x73{address[2:]}ff"})


def build(node: Node, artifacts: Mapping[str, Artifact]) -> Stage:
    """Deploys and configures: fees as on the first network, no confirmations, LINK at 0.005 native."""
    owner, ann, bob = (address.lower() for address in node.accounts[:3])
    link = node.deploy(artifacts["LinkToken"])
    link.send("grantMintRole", owner, sender=owner)
    for holder in (ann, bob):
        link.send("mint", holder, RICH, sender=owner)
    feed = node.deploy(artifacts["MockV3Aggregator"], 18, WEI_PER_LINK)
    coordinator = node.deploy(artifacts["VRFCoordinatorV2_5"], NOBODY)
    coordinator.send("setLINKAndLINKNativeFeed", link.address, feed.address, sender=owner)
    coordinator.send("setConfig", 0, 2_500_000, 0, 33_285, WEI_PER_LINK, 500, 100, 24, 20, sender=owner)
    coordinator.send("registerProvingKey", proof.public_key(SECRET), GAS_PRICE_MAX_WEI, sender=owner)
    return Stage(
        node=node, artifacts=artifacts, link=link, feed=feed, coordinator=coordinator, owner=owner, ann=ann, bob=bob
    )
