"""A gateway with everything that a test needs around it: tokens, accounts, people with money and allowances."""

from __future__ import annotations

from dataclasses import dataclass

from tests.integration.solidity.books import Books, check_identities
from tests.integration.solidity.chain import NATIVE, Contract, Node, id_of

CUSTOMER, MERCHANT, FEES = 1, 2, 3
FEE_BASIS_POINTS = 250
ETHER = 10**18
USD = 10**6
RICH = 10**30  # base units of each token that people start with
FOR_EVER = 2**256 - 1
NOTE = b"note".ljust(32, b"\0")

ANN, BOB = id_of("customer ann"), id_of("customer bob")
SHOP, CAFE = id_of("merchant shop"), id_of("merchant cafe")
HOUSE = id_of("fees of the house")


@dataclass(kw_only=True)
class World:
    """``admin`` deployed everything; the other people own the accounts of their names, ``stranger`` none."""

    node: Node
    admin: str
    ann: str
    bob: str
    shop: str
    cafe: str
    house: str
    stranger: str
    gateway: Contract
    usd: Contract  # 6 decimals
    link: Contract  # 18 decimals
    plain_native: int = 0  # what tests sent to the gateway without a call

    @property
    def assets(self) -> tuple[str, str, str]:
        return (NATIVE, self.usd.address, self.link.address)

    def check(self) -> Books:
        """All identities, for the honest assets. What a failed test shows when the books do not agree."""
        return check_identities(self.node, self.gateway, [self.usd, self.link], plain_native=self.plain_native)

    def send_plain(self, amount: int, *, sender: str) -> None:
        """Native money without a call."""
        self.node.send_native(self.gateway.address, amount, sender=sender)
        self.plain_native += amount

    def balance(self, account: bytes, asset: str) -> int:
        balance: int = self.gateway.call("balanceOf", account, asset)
        return balance

    def deposit(self, account: bytes, asset: str, amount: int, *, sender: str) -> None:
        value = amount if asset == NATIVE else 0
        self.gateway.send("deposit", account, asset, amount, NOTE, sender=sender, value=value)

    def list_hostile(self, name: str, *, fee_on_transfer: bool = False) -> Contract:
        """A token from ``hostile/``, listed, with money and allowances for ann."""
        token = self.node.deploy(name)
        self.gateway.send("listAsset", token.address, fee_on_transfer, sender=self.admin)
        token.send("mint", self.ann, RICH, sender=self.admin)
        token.send("approve", self.gateway.address, FOR_EVER, sender=self.ann)
        return token


def build(node: Node) -> World:
    admin, ann, bob, shop, cafe, house, stranger = (address.lower() for address in node.accounts[:7])
    gateway = node.deploy("PaymentGateway", admin)
    usd = node.deploy("DemoToken", "Demo Dollar", "dUSD", 6)
    link = node.deploy("DemoToken", "Demo Link", "dLINK", 18)
    for asset in (NATIVE, usd.address, link.address):
        gateway.send("listAsset", asset, False, sender=admin)
    owners = [(ANN, ann, CUSTOMER), (BOB, bob, CUSTOMER), (SHOP, shop, MERCHANT), (CAFE, cafe, MERCHANT)]
    for account, owner, kind in [*owners, (HOUSE, house, FEES)]:
        gateway.send("openAccount", account, owner, kind, NOTE, sender=admin)
    gateway.send("setFeeSchedule", bytes(32), FEE_BASIS_POINTS, HOUSE, True, sender=admin)
    for token in (usd, link):
        for person in (ann, bob, shop, cafe):
            token.send("mint", person, RICH, sender=admin)
            token.send("approve", gateway.address, FOR_EVER, sender=person)
    return World(
        node=node,
        admin=admin,
        ann=ann,
        bob=bob,
        shop=shop,
        cafe=cafe,
        house=house,
        stranger=stranger,
        gateway=gateway,
        usd=usd,
        link=link,
    )
