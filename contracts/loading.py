"""Makes the canonical documents of one chain from description files and the ABIs that they name.

Every problem of every file is collected, with file, line, event and field, before anything is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from contracts.abi import Abi, AbiError, parse_abi
from contracts.description import (
    Asset,
    ChainDeployment,
    ContractDescription,
    ContractDocument,
    CustodyDescription,
    CustodyDocument,
    NativeAsset,
    Wallet,
)
from contracts.files import File, Loaded, read_files
from contracts.messages import NATIVE_ADDRESS
from contracts.problems import Problem, suggestion
from contracts.typed import DocumentError, TypedContract, TypedCustody, type_contract, type_custody

ABI_BYTES_MAX = 16 * 1024 * 1024


def load_documents(paths: Sequence[Path], *, chain_id: int) -> list[TypedContract | TypedCustody]:
    """Everything that is on this chain, typed; contracts first, each kind by name.

    Raises RegistryError with all problems.
    """
    loaded = read_files(paths, chain_id=chain_id)
    native, assets = _assets(loaded)
    typed = _contracts(loaded, native, assets)
    loaded.finish()
    wallets = _wallets(loaded, typed)
    custody = _custodies(loaded, assets, wallets, typed)
    loaded.finish()
    return [*typed, *custody]


def load_described(paths: Sequence[Path]) -> list[TypedContract | TypedCustody]:
    """All descriptions, typed, on no chain: without addresses, assets and wallets. Raises RegistryError."""
    loaded = read_files(paths, chain_id=1)
    nowhere = ChainDeployment(addresses=[])
    native = NativeAsset(symbol="ETH")
    found: list[TypedContract | TypedCustody | None] = []
    found += [
        _contract(file, description, nowhere, native, [], loaded) for file, description in loaded.contracts.values()
    ]
    found += [_custody(file, description, [], {}, 0, loaded) for file, description in loaded.custodies.values()]
    loaded.finish()
    return [typed for typed in found if typed is not None]


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
            if _reads_named_tokens(loaded, name):
                continue
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
    constants = _constants(file, description, chain, loaded)
    if abi is None or constants is None:
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
        constants=constants,
        own_accounts=sorted(set(chain.own_accounts)),
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
    document = document.model_copy(update={"abi": items})
    return dataclasses.replace(typed, document=document, experimental=description.experimental)


def _constants(
    file: File, description: ContractDescription, chain: ChainDeployment, loaded: Loaded
) -> dict[str, str] | None:
    """The addresses of the description's constants on this chain; the zero address where the contract is not."""
    if not chain.addresses:
        return dict.fromkeys(description.constants, NATIVE_ADDRESS)
    for name in chain.constants.keys() - set(description.constants):
        do = suggestion(name, description.constants)
        loaded.problems.append(file.problem(("constants",), f"{name!r} is set, but is no constant", do))
    missing = [name for name in description.constants if name not in chain.constants]
    for name in missing:
        where = f"chains.{loaded.chain_id}.constants.{name}"
        loaded.problems.append(
            file.problem(("constants",), f"{name!r} has no address on chain {loaded.chain_id}", f"add {where}")
        )
    return None if missing else {name: chain.constants[name] for name in sorted(description.constants)}


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


def _reads_named_tokens(loaded: Loaded, name: str) -> bool:
    return name in loaded.custodies and loaded.custodies[name][1].tokens == "named"


def _tokens(file: File, description: CustodyDescription, assets: list[Asset], loaded: Loaded) -> list[str]:
    """The tokens that a custody description reads on this chain, each of them on the allow-list."""
    listed = [asset.address for asset in assets if asset.address != NATIVE_ADDRESS]
    if description.tokens == "listed":
        return listed
    place: tuple[File, tuple[str | int, ...], ChainDeployment | None]
    place = (file, ("chains", loaded.chain_id), description.chains.get(loaded.chain_id))
    for overlay, deployment in loaded.deployments:
        if description.contract in deployment.contracts:
            place = (overlay, ("contracts", description.contract), deployment.contracts[description.contract])
    where, path, chain = place
    named = sorted(set(chain.addresses)) if chain is not None else []
    for address in named:
        if address not in listed:
            what, do = f"{address} is not on the allow-list", "add it to the tokens of this chain, with its decimals"
            loaded.problems.append(where.problem((*path, "addresses"), what, do))
    return named


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
        addresses=_tokens(file, description, assets, loaded),
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
