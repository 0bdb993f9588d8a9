"""The shape of the YAML files in a registry folder, and of the canonical document that a version of one is.

Pydantic checks structure here; what names mean against the ABI is checked in ``typed``. Nothing here reads files.

Kinds of file: ``contract`` (a payment contract: its events move claims), ``custody`` (a token standard: its Transfers
move what our contracts hold), ``assets`` (the allow-list and native source of each chain) and ``deployment`` (an
overlay that sets addresses, start blocks and assets of one chain).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from eth_hash.auto import keccak
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

ASSETS_MAX = 2000


def _address(text: str) -> str:
    """Lower-case hex of an address; a mixed-case one must carry a right EIP-55 checksum, so that a typo is seen."""
    digits = text[2:]
    if len(text) != 42 or not text.startswith("0x") or not all(c in "0123456789abcdefABCDEF" for c in digits):
        raise ValueError(f"{text!r} is not an address of the form 0x and 40 hex digits")
    lower = digits.lower()
    if digits not in (lower, digits.upper()):
        nibbles = keccak(lower.encode()).hex()
        if digits != "".join(c.upper() if int(n, 16) >= 8 else c for c, n in zip(lower, nibbles[:40], strict=True)):
            raise ValueError(f"{text!r} has a wrong checksum; copy the address again, or write it in lower case")
    return "0x" + lower


Address = Annotated[str, AfterValidator(_address), Field(json_schema_extra={"pattern": "^0x[0-9a-fA-F]{40}$"})]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="lower case, digits and hyphens")]
AbiName = Annotated[str, Field(min_length=1, max_length=1000)]
AccountId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,128}$", description="as it stands in the account's code")]
BlockNumber = Annotated[int, Field(ge=0, lt=2**63)]
ChainId = Annotated[int, Field(ge=1, lt=2**63)]
EventKind = Literal["money", "state", "info"]


class Model(BaseModel):
    """Strict, closed and unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AmountEntry(Model):
    """An amount that the message of the event shows."""

    arg: AbiName = Field(description="the argument that carries the amount in base units")
    asset: AbiName = Field(description="an address argument, `native`, `emitter` or an address")


class JoinEntry(Model):
    """An earlier event of the same description, found by a key: the latest one that still stands."""

    name: AbiName = Field(description="what the postings call it: `name.argument`")
    event: AbiName = Field(description="an event of this description")
    key: AbiName = Field(description="the argument of the earlier event that is looked for")
    equals: AbiName | None = Field(
        default=None, description="the value of this event that it equals; by default the argument of the same name"
    )


class PostingEntry(Model):
    """One transfer: one debit account, one credit account, one asset, one amount."""

    for_: dict[AbiName, AbiName] = Field(
        default={},
        alias="for",
        description="one transfer for each item: variable → array argument; several arrays go together, item by item",
    )
    debit: str = Field(description="account: class:{book}:kind:subject:state, or `clearing`, `unattributed`")
    credit: str = Field(description="account: class:{book}:kind:subject:state, or `clearing`, `unattributed`")
    asset: AbiName = Field(description="an address argument, `native`, `emitter`, a constant or an address")
    amount: str | int = Field(
        description="an argument, the difference of two (`gross - fee`), a number of base units, or `remaining`:"
        " what the debit account still owes"
    )
    signed: bool = Field(default=False, description="the amount may be negative: then debit and credit change places")
    native_source: Literal["events", "traces"] | None = Field(
        default=None,
        description="only on chains where movements of the native coin are seen so; by default on all",
    )
    when: str | list[str] = Field(
        default=[], description="post only when all hold: `arg == value`, `arg != value`, `arg != zero`"
    )


class EventDescription(Model):
    """What one event of the ABI means."""

    kind: EventKind = Field(description="money posts; state and info do not")
    subject: AbiName | None = Field(
        default=None, description="what the event is about: an argument; the emitter when absent"
    )
    correlation: dict[Name, AbiName] = Field(default={}, description="named ids that survive a reorg: name → argument")
    amounts: list[AmountEntry] = []
    joins: list[JoinEntry] = Field(
        default=[], description="earlier events whose arguments the postings use; a later join may use an earlier one"
    )
    postings: list[PostingEntry] = []
    withdraws: bool = Field(
        default=False,
        description="what it takes from one of our own accounts is paid out to the company, not lost as income",
    )


class MovementDescription(Model):
    """A custody event: value of the emitting token moved from one address to another, was made or was destroyed."""

    from_: AbiName | None = Field(
        default=None, alias="from", description="address argument that is debited; none when the event makes tokens"
    )
    to: AbiName | None = Field(
        default=None, description="address argument that is credited; none when the event destroys tokens"
    )
    amount: AbiName = Field(description="argument with the amount in base units")

    @model_validator(mode="after")
    def _somebody_has_it(self) -> MovementDescription:
        if self.from_ is None and self.to is None:
            raise ValueError("names neither from nor to; name the address argument whose balance changes")
        return self


class ChainDeployment(Model):
    """Where a contract is on one chain."""

    addresses: Annotated[list[Address], Field(max_length=100_000)]
    start_block: BlockNumber = Field(
        default=0, description="first block that is read; the first block with a log, or earlier"
    )
    constants: dict[AbiName, Address] = Field(
        default={}, description="addresses on this chain of the names under `constants`"
    )
    own_accounts: list[AccountId] = Field(
        default=[], max_length=1000, description="ids of accounts that belong to the company (fee accounts, treasuries)"
    )


class ReconcileEntry(Model):
    """One comparison of the ledger with a getter, at a final block. Exactly one of each, sum, count."""

    getter: AbiName = Field(description="name or signature of a view function of the ABI")
    args: list[str] = Field(
        default=[], description="per argument: {asset}, {address}, a name captured in `each`, or a constant"
    )
    returns: AbiName | None = Field(default=None, description="which output, by name; needed when there are several")
    asset: str | None = Field(
        default=None,
        description="the asset spoken of when no argument is {asset}: native, a constant or an address;"
        " `each` skips other assets",
    )
    asset_getter: AbiName | None = Field(
        default=None, description="or the view function without arguments that returns its address"
    )
    each: str | None = Field(
        default=None, description="one comparison for each ledger account of this form; {names} are captured"
    )
    sum: list[str] | None = Field(
        default=None, description="the sum over all accounts of these forms; * is any segment"
    )
    count: Literal["contract_seq"] | None = Field(default=None, description="the last contract_seq that was folded")
    refused_is_zero: bool = Field(
        default=False,
        description="with `each`: a call that the contract refuses counts as 0 (it forgets accounts that are closed)",
    )

    @model_validator(mode="after")
    def _one_comparison(self) -> ReconcileEntry:
        given = [name for name in ("each", "sum", "count") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of each, sum, count; has {', '.join(given) or 'none'}")
        if self.asset is not None and self.asset_getter is not None:
            raise ValueError("needs one of asset, asset_getter; has both")
        if self.refused_is_zero and self.each is None:
            raise ValueError("has refused_is_zero without each; remove it")
        return self


class ContractDescription(Model):
    """A payment contract: its events, and the postings that each of them means."""

    kind: Literal["contract"]
    contract: Name
    book: Name = Field(description="contracts that share accounts; the Kafka key")
    abi: str | list[dict[str, Any]] = Field(description="path of the JSON ABI from this file, or the ABI itself")
    chains: dict[ChainId, ChainDeployment] = Field(default={}, description="chain id → where it is")
    custody: bool = Field(
        default=True, description="its addresses hold money: watch the tokens' Transfers from and to them"
    )
    default_inflow: str = Field(
        default="unattributed", description="account that is credited with inflow that nobody claims"
    )
    sequence: AbiName | None = Field(
        default=None, description="argument of every money event that numbers them without gaps"
    )
    constants: list[AbiName] = Field(
        default=[], description="names of addresses that differ from chain to chain; usable as an asset"
    )
    experimental: bool = Field(default=False, description="never run against the contract's real bytecode")
    reconcile: list[ReconcileEntry] = []
    events: dict[AbiName, EventDescription]
    ignored_events: list[AbiName] = Field(default=[], description="events of the ABI that are not read, on purpose")


class CustodyEvent(Model):
    """An event of a token standard that moves custody."""

    movement: MovementDescription


class CustodyDescription(Model):
    """A token standard, or one token. It watches tokens for movements from and to our contracts' addresses."""

    kind: Literal["custody"]
    contract: Name
    book: Name = Field(description="book of what cannot be decoded; events themselves go to the book of the wallet")
    abi: str | list[dict[str, Any]]
    tokens: Literal["listed", "named"] = Field(
        default="listed",
        description="listed: every token on the allow-list; named: of those only the ones under `chains`",
    )
    chains: dict[ChainId, ChainDeployment] = Field(default={}, description="with `tokens: named`: where they are")
    events: dict[AbiName, CustodyEvent]
    ignored_events: list[AbiName] = []

    @model_validator(mode="after")
    def _named_or_listed(self) -> CustodyDescription:
        if self.chains and self.tokens == "listed":
            raise ValueError("has chains, which tokens: listed does not read; write tokens: named")
        return self


class Asset(Model):
    """An asset on the allow-list."""

    address: Address
    symbol: str = Field(min_length=1, max_length=32)
    decimals: int = Field(ge=0, le=77)


class NativeAsset(Model):
    """The chain's own coin, and where its movements are seen."""

    symbol: str = Field(min_length=1, max_length=32)
    decimals: int = Field(default=18, ge=0, le=77)
    source: Literal["events", "none"] = Field(
        default="events",
        description="events: the contracts' own events post both legs; none: native amounts are refused",
    )


class ChainAssets(Model):
    """The assets of one chain."""

    native: NativeAsset
    tokens: list[Asset] = Field(default=[], max_length=ASSETS_MAX)


class AssetsFile(Model):
    """The allow-list."""

    kind: Literal["assets"]
    chains: dict[ChainId, ChainAssets]


class DeploymentFile(Model):
    """An overlay for one chain: it replaces addresses and start blocks of contracts, and adds or replaces assets."""

    kind: Literal["deployment"]
    chain: ChainId
    contracts: dict[Name, ChainDeployment] = {}
    native: NativeAsset | None = None
    tokens: list[Asset] = Field(default=[], max_length=ASSETS_MAX)


class Wallet(Model):
    """An address whose custody we keep."""

    book: Name
    contract: Name
    default_inflow: str


class ContractDocument(Model):
    """The canonical document of one version of a payment contract on one chain; its sha256 is the version."""

    format: Literal["chainbooks.contract.v1"]
    contract: Name
    book: Name
    chain_id: ChainId
    addresses: list[Address]
    start_block: BlockNumber
    native: Literal["events", "none"]
    assets: list[Asset]
    custody: bool
    default_inflow: str
    sequence: AbiName | None
    constants: dict[AbiName, Address] = {}
    own_accounts: list[AccountId] = []
    reconcile: list[ReconcileEntry]
    events: dict[AbiName, EventDescription]
    abi: list[dict[str, Any]]


class CustodyDocument(Model):
    """The canonical document of custody on one chain. ``wallets`` is all that posting needs: address → book."""

    format: Literal["chainbooks.custody.v1"]
    contract: Name
    book: Name
    chain_id: ChainId
    addresses: list[Address]
    start_block: BlockNumber
    assets: list[Asset]
    wallets: dict[Address, Wallet]
    events: dict[AbiName, CustodyEvent]
    abi: list[dict[str, Any]]


AnyFile = ContractDescription | CustodyDescription | AssetsFile | DeploymentFile
FILE_KINDS: dict[str, type[AnyFile]] = {
    "contract": ContractDescription,
    "custody": CustodyDescription,
    "assets": AssetsFile,
    "deployment": DeploymentFile,
}
