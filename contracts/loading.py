"""Reads description files and makes the canonical documents of one chain.

The only module of ``contracts`` that reads files.

Every problem of every file is collected, with file, line, event and field, before anything is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from contracts.abi import Abi, AbiError, parse_abi
from contracts.description import (
    FILE_KINDS,
    Asset,
    AssetsFile,
    ChainDeployment,
    ContractDescription,
    ContractDocument,
    CustodyDescription,
    CustodyDocument,
    DeploymentFile,
    NativeAsset,
    Wallet,
)
from contracts.messages import NATIVE_ADDRESS
from contracts.problems import Problem, RegistryError, suggestion
from contracts.typed import DocumentError, TypedContract, TypedCustody, type_contract, type_custody
from contracts.yaml_source import YamlSource, read_yaml

ABI_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A parsed file with its positions."""

    source: YamlSource
    content: ContractDescription | CustodyDescription | AssetsFile | DeploymentFile

    def problem(self, path: Sequence[str | int], what: str, do: str) -> Problem:
        return Problem(file=self.source.file, line=self.source.line(path), field=field_name(path), what=what, do=do)


@dataclass(slots=True)
class Loaded:
    """All files of a registry, sorted by kind, and the problems so far."""

    chain_id: int
    contracts: dict[str, tuple[File, ContractDescription]] = field(default_factory=dict)
    custodies: dict[str, tuple[File, CustodyDescription]] = field(default_factory=dict)
    assets: list[tuple[File, AssetsFile]] = field(default_factory=list)
    deployments: list[tuple[File, DeploymentFile]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def finish(self) -> None:
        if self.problems:
            raise RegistryError(self.problems)


def field_name(path: Sequence[str | int]) -> str:
    """``("events", "Deposited", "postings", 0, "amount")`` is ``Deposited.postings[0].amount``."""
    parts = path[1:] if len(path) > 1 and path[0] == "events" else path
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) and text else f".{part}" if text else str(part)
    return text


def load_documents(paths: Sequence[Path], *, chain_id: int) -> list[TypedContract | TypedCustody]:
    """Everything that is on this chain, typed; contracts first, each kind by name.

    Raises RegistryError with all problems.
    """
    loaded = Loaded(chain_id=chain_id)
    for path in paths:
        for file in _files(path, loaded):
            _read(file, loaded)
    loaded.finish()
    native, assets = _assets(loaded)
    typed = _contracts(loaded, native, assets)
    loaded.finish()
    wallets = _wallets(loaded, typed)
    custody = _custodies(loaded, assets, wallets, typed)
    loaded.finish()
    return [*typed, *custody]


def load_described(paths: Sequence[Path]) -> list[TypedContract | TypedCustody]:
    """All descriptions, typed, on no chain: without addresses, assets and wallets. Raises RegistryError."""
    loaded = Loaded(chain_id=1)
    for path in paths:
        for file in _files(path, loaded):
            _read(file, loaded)
    loaded.finish()
    nowhere = ChainDeployment(addresses=[])
    native = NativeAsset(symbol="ETH")
    found: list[TypedContract | TypedCustody | None] = []
    found += [
        _contract(file, description, nowhere, native, [], loaded) for file, description in loaded.contracts.values()
    ]
    found += [_custody(file, description, [], {}, 0, loaded) for file, description in loaded.custodies.values()]
    loaded.finish()
    return [typed for typed in found if typed is not None]


def _files(path: Path, loaded: Loaded) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        if not files:
            loaded.problems.append(_whole(path, "has no .yaml file", "name the folder that holds the descriptions"))
        return files
    return [path]


def _whole(path: Path, what: str, do: str) -> Problem:
    return Problem(file=str(path), line=0, field="", what=what, do=do)


def _read(path: Path, loaded: Loaded) -> None:
    try:
        source = read_yaml(path)
    except RegistryError as exc:
        loaded.problems += exc.problems
        return
    kind = source.value.get("kind") if isinstance(source.value, dict) else None
    model = FILE_KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        problem = Problem(
            file=source.file,
            line=source.line(("kind",)),
            field="kind",
            what="is missing" if kind is None else f"is {kind!r}",
            do=f"use one of: {', '.join(FILE_KINDS)}",
        )
        loaded.problems.append(problem)
        return
    try:
        content = model.model_validate(source.value)
    except ValidationError as exc:
        loaded.problems += [_structure_problem(source, model, error) for error in exc.errors()]
        return
    _add(File(source=source, content=content), loaded)


def _add(file: File, loaded: Loaded) -> None:
    match file.content:
        case ContractDescription() | CustodyDescription() as description:
            earlier = loaded.contracts.get(description.contract) or loaded.custodies.get(description.contract)
            if earlier is not None:
                what = f"{description.contract!r} is also described in {earlier[0].source.file}"
                loaded.problems.append(file.problem(("contract",), what, "give each description its own name"))
            elif isinstance(description, ContractDescription):
                loaded.contracts[description.contract] = (file, description)
            else:
                loaded.custodies[description.contract] = (file, description)
        case AssetsFile() as assets:
            loaded.assets.append((file, assets))
        case DeploymentFile() as deployment:
            if deployment.chain == loaded.chain_id:
                loaded.deployments.append((file, deployment))


def _structure_problem(source: YamlSource, model: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    path = tuple(error["loc"])
    kind, name = error["type"], str(path[-1]) if path else ""
    what, do = f"{error['msg']}", "correct it"
    if kind == "missing":
        what, do = "is missing", "add it"
    elif kind == "extra_forbidden":
        what, do = "is not a known field", suggestion(name, _field_names(model))
    elif kind == "value_error":
        what, _, rest = str(error["ctx"]["error"]).partition("; ")
        do = rest or do
    else:
        what = f"{what} (it is {error['input']!r:.60})"
    return Problem(file=source.file, line=source.line(path), field=field_name(path), what=what, do=do)


def _field_names(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema(by_alias=True)
    names = set(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        names |= set(definition.get("properties", {}))
    return names


def _assets(loaded: Loaded) -> tuple[NativeAsset, list[Asset]]:
    """The allow-list of the chain: its assets file, then overlays in the order of the paths."""
    native: NativeAsset | None = None
    tokens: dict[str, Asset] = {}
    seen: str | None = None
    for file, assets in loaded.assets:
        chain = assets.chains.get(loaded.chain_id)
        if chain is None:
            continue
        if seen is not None:
            what = f"the assets of chain {loaded.chain_id} are also in {seen}"
            loaded.problems.append(file.problem(("chains", loaded.chain_id), what, "keep them in one file"))
        seen, native = file.source.file, chain.native
        _add_tokens(file, ("chains", loaded.chain_id, "tokens"), chain.tokens, tokens, loaded)
    for file, deployment in loaded.deployments:
        native = deployment.native or native
        _add_tokens(file, ("tokens",), deployment.tokens, tokens, loaded)
    if native is None:
        what, do = (
            f"chain {loaded.chain_id} has no assets",
            f"add chains.{loaded.chain_id}.native to a file of kind: assets",
        )
        loaded.problems.append(Problem(file="registry", line=0, field="", what=what, do=do))
    loaded.finish()
    assert native is not None
    coin = Asset(address=NATIVE_ADDRESS, symbol=native.symbol, decimals=native.decimals)
    return native, [coin, *(tokens[address] for address in sorted(tokens))]


def _add_tokens(
    file: File, path: tuple[str | int, ...], listed: Iterable[Asset], tokens: dict[str, Asset], loaded: Loaded
) -> None:
    own: set[str] = set()
    for index, asset in enumerate(listed):
        where = (*path, index)
        if asset.address == NATIVE_ADDRESS:
            loaded.problems.append(
                file.problem(where, "the zero address is the native coin", "describe it under `native`")
            )
        if asset.address in own:
            loaded.problems.append(file.problem(where, f"{asset.address} is listed twice", "remove one of them"))
        own.add(asset.address)
        tokens[asset.address] = asset


def _contracts(loaded: Loaded, native: NativeAsset, assets: list[Asset]) -> list[TypedContract]:
    places: dict[str, tuple[File, tuple[str | int, ...], ChainDeployment]] = {}
    for name, (file, description) in loaded.contracts.items():
        if loaded.chain_id in description.chains:
            places[name] = (file, ("chains", loaded.chain_id), description.chains[loaded.chain_id])
    for file, deployment in loaded.deployments:
        for name, chain in deployment.contracts.items():
            if name not in loaded.contracts:
                do = suggestion(name, loaded.contracts)
                loaded.problems.append(file.problem(("contracts", name), "is not a described contract", do))
            else:
                places[name] = (file, ("contracts", name), chain)
    typed: list[TypedContract] = []
    for name in sorted(loaded.contracts):
        file, description = loaded.contracts[name]
        place = places.get(name)
        _check_addresses(place, loaded)
        chain = place[2] if place is not None else ChainDeployment(addresses=[], start_block=0)
        found = _contract(file, description, chain, native, assets, loaded)
        if found is not None and chain.addresses:
            typed.append(found)
    if not typed and not loaded.problems:
        what = f"no contract has an address on chain {loaded.chain_id}"
        do = f"add chains.{loaded.chain_id}.addresses to a description, or name a file of kind: deployment in the paths"
        loaded.problems.append(Problem(file="registry", line=0, field="", what=what, do=do))
    return typed


def _check_addresses(place: tuple[File, tuple[str | int, ...], ChainDeployment] | None, loaded: Loaded) -> None:
    if place is None:
        return
    file, path, chain = place
    seen: set[str] = set()
    for index, address in enumerate(chain.addresses):
        where = (*path, "addresses", index)
        if address == NATIVE_ADDRESS:
            loaded.problems.append(file.problem(where, "is the zero address", "write the contract's address"))
        if address in seen:
            loaded.problems.append(file.problem(where, f"{address} is listed twice", "remove one of them"))
        seen.add(address)


def _contract(
    file: File,
    description: ContractDescription,
    chain: ChainDeployment,
    native: NativeAsset,
    assets: list[Asset],
    loaded: Loaded,
) -> TypedContract | None:
    abi = _abi(file, description, loaded)
    if abi is None:
        return None
    document = ContractDocument(
        format="chainbooks.contract.v1",
        contract=description.contract,
        book=description.book,
        chain_id=loaded.chain_id,
        addresses=sorted(set(chain.addresses)),
        start_block=chain.start_block,
        native=native.source,
        assets=assets,
        custody=description.custody,
        default_inflow=description.default_inflow,
        sequence=description.sequence,
        reconcile=description.reconcile,
        events=description.events,
        abi=[*abi.event_items.values(), *abi.function_items.values()],
    )
    try:
        typed = type_contract(document)
    except DocumentError as exc:
        loaded.problems += [file.problem(issue.path, issue.what, issue.do) for issue in exc.issues]
        return None
    events = [abi.event_items[event.abi.signature] for event in typed.events.values()]
    getters = {f.signature for check in typed.checks for f in (check.function, check.asset_function) if f is not None}
    items = [*events, *(abi.function_items[signature] for signature in sorted(getters))]
    return dataclasses.replace(typed, document=document.model_copy(update={"abi": items}))


def _abi(file: File, description: ContractDescription | CustodyDescription, loaded: Loaded) -> Abi | None:
    """The ABI, and that each of its events is described or ignored on purpose."""
    items: Any = description.abi
    if isinstance(items, str):
        path = Path(file.source.file).parent / items
        try:
            content = path.read_bytes()
            if len(content) > ABI_BYTES_MAX:
                raise ValueError(f"has {len(content)} bytes")
            items = json.loads(content)
        except OSError as exc:
            what = f"{items!r} cannot be read ({exc.strerror or type(exc).__name__})"
            loaded.problems.append(file.problem(("abi",), what, "write the path of the ABI as seen from this file"))
            return None
        except (ValueError, RecursionError) as exc:
            loaded.problems.append(
                file.problem(("abi",), f"{items!r} is not JSON ({exc})", "use the compiler's JSON ABI")
            )
            return None
    try:
        abi = parse_abi(items)
    except AbiError as exc:
        loaded.problems.append(file.problem(("abi",), str(exc), "use the JSON ABI that the compiler wrote"))
        return None
    for index, name in enumerate(description.ignored_events):
        if not abi.find_events(name):
            do = suggestion(name, (event.name for event in abi.events))
            loaded.problems.append(file.problem(("ignored_events", index), f"{name!r} is no event of the ABI", do))
    known = {event for name in (*description.events, *description.ignored_events) for event in abi.find_events(name)}
    for event in abi.events:
        if event not in known:
            do = f"describe {event.name} (kind: info if it moves nothing), or add it to ignored_events"
            loaded.problems.append(
                file.problem(("events",), f"the ABI has {event.signature}, which is not described", do)
            )
    return abi


def _wallets(loaded: Loaded, typed: Iterable[TypedContract]) -> dict[str, Wallet]:
    wallets: dict[str, Wallet] = {}
    for contract in typed:
        document = contract.document
        if not document.custody:
            continue
        for address in document.addresses:
            other = wallets.get(address)
            if other is not None and other.book != document.book:
                file = loaded.contracts[document.contract][0]
                what = f"{address} is also a wallet of {other.contract!r} in book {other.book!r}"
                loaded.problems.append(
                    file.problem(("book",), what, "an address has one book: use the same, or custody: false")
                )
            wallets[address] = Wallet(
                book=document.book,
                contract=document.contract,
                default_inflow=contract.default_inflow.for_emitter(address),
            )
    return wallets


def _custodies(
    loaded: Loaded, assets: list[Asset], wallets: dict[str, Wallet], contracts: Sequence[TypedContract]
) -> list[TypedCustody]:
    start_block = min((contract.document.start_block for contract in contracts), default=0)
    found = [
        _custody(file, description, assets, wallets, start_block, loaded)
        for _, (file, description) in sorted(loaded.custodies.items())
    ]
    return [typed for typed in found if typed is not None and typed.document.addresses and wallets]


def _custody(
    file: File,
    description: CustodyDescription,
    assets: list[Asset],
    wallets: dict[str, Wallet],
    start_block: int,
    loaded: Loaded,
) -> TypedCustody | None:
    abi = _abi(file, description, loaded)
    if abi is None:
        return None
    document = CustodyDocument(
        format="chainbooks.custody.v1",
        contract=description.contract,
        book=description.book,
        chain_id=loaded.chain_id,
        addresses=[asset.address for asset in assets if asset.address != NATIVE_ADDRESS],
        start_block=start_block,
        assets=assets,
        wallets=wallets,
        events=description.events,
        abi=list(abi.event_items.values()),
    )
    try:
        typed = type_custody(document)
    except DocumentError as exc:
        loaded.problems += [file.problem(issue.path, issue.what, issue.do) for issue in exc.issues]
        return None
    items = [abi.event_items[event.abi.signature] for event in typed.events.values()]
    return dataclasses.replace(typed, document=document.model_copy(update={"abi": items}))
