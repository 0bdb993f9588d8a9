"""The first text of a description, written from an ABI: it loads as it is, and says what to change. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from contracts.abi import Abi, AbiEvent, AbiInput

_MONEY_WORDS = ("amount", "value", "balance", "payment", "fee", "sum", "received", "gross", "wad", "cost", "total")


def skeleton(abi: Abi, *, contract: str, book: str, abi_path: str, chain_id: int, addresses: Sequence[str]) -> str:
    """A commented description. Every event begins as ``info``, so nothing is posted that nobody has thought about."""
    places = ", ".join(f'"{address}"' for address in addresses)
    if addresses:
        chains = [
            "chains: # start_block: the block in which it was deployed, or the first with a log",
            f"  {chain_id}: {{addresses: [{places}], start_block: 0}}",
        ]
    else:
        chains = ["chains: {} # chain id: {addresses, start_block}, here or in a file of kind: deployment"]
    lines = [
        "# yaml-language-server: $schema=../schema/description.json",
        f"# {contract}: say here what this contract holds and whom it owes, and what it does without an event.",
        "kind: contract",
        f"contract: {contract}",
        f"book: {book} # contracts that share accounts share a book",
        f"abi: {abi_path} # as seen from this file",
        "custody: true # false when its addresses hold no money",
        "default_inflow: unattributed # who is credited with inflow that no event claims",
        "# sequence: seq # an argument that numbers every money event without a gap, if there is one",
        *chains,
        *_getters(abi),
        "",
        "events:",
    ]
    for event in abi.events:
        lines += [*_event(abi, event), ""]
    return "\n".join(lines).rstrip() + "\n"


def _getters(abi: Abi) -> list[str]:
    views = [function for function in abi.functions if len(function.outputs) == 1 and "int" in _type(function.outputs)]
    if not views:
        return []
    names = ", ".join(function.signature for function in views[:8])
    return [
        "",
        "# reconcile: # getters to compare with the books at a final block; there are, for example:",
        f"#   {names}",
        f"#   - {{getter: {views[0].name}, sum: ['liabilities:{{book}}:account:*:available']}}",
    ]


def _event(abi: Abi, event: AbiEvent) -> list[str]:
    overloaded = sum(1 for other in abi.events if other.name == event.name) > 1
    name = f'"{event.signature}"' if overloaded else event.name
    arguments = ", ".join(f"{_declared(item)} {item.name}" for item in event.inputs)
    lines = [f"  # {arguments or 'no arguments'}", f"  {name}:", "    kind: info # money, when it moves what is owed"]
    subject = _subject(event)
    if subject is not None:
        lines.append(f"    subject: {subject}")
    amounts = _amounts(event.inputs)
    if amounts:
        asset = _asset(event)
        account = subject or "-"
        lines += [
            "    # amounts:",
            *(f"    #   - {{arg: {amount}, asset: {asset}}}" for amount in amounts),
            "    # postings: # what comes in is credited to whom it belongs, against clearing; out: the other way",
            "    #   - debit: clearing",
            f"    #     credit: liabilities:{{book}}:account:{{{account}}}:available"
            if subject
            else "    #     credit: income:{book}:fees:-:-",
            f"    #     asset: {asset}",
            f"    #     amount: {_difference(amounts) or amounts[0]}",
        ]
    return lines


def _declared(item: AbiInput) -> str:
    return f"{item.type.canonical} indexed" if item.indexed else item.type.canonical


def _subject(event: AbiEvent) -> str | None:
    """The first indexed argument that may stand in an account code, else the first such argument."""
    usable = [item for item in event.inputs if item.type.kind in ("uint", "address", "fixed_bytes")]
    indexed = [item for item in usable if item.indexed]
    named = [item.name for item in (*indexed, *usable) if not _is_amount(item)]
    return named[0] if named else None


def _amounts(inputs: Iterable[AbiInput]) -> list[str]:
    return [item.name for item in inputs if _is_amount(item)]


def _is_amount(item: AbiInput) -> bool:
    wide = item.type.kind in ("uint", "int") and item.type.bits >= 64
    return wide and any(word in item.name.lower() for word in _MONEY_WORDS)


def _difference(amounts: Sequence[str]) -> str | None:
    """``newBalance - oldBalance``, where an event has such a pair."""
    old = next((name for name in amounts if name.lower().startswith("old")), None)
    new = next((name for name in amounts if name.lower().startswith("new")), None)
    return f"{new} - {old}" if old and new else None


def _asset(event: AbiEvent) -> str:
    named = [item.name for item in event.inputs if item.type.kind == "address"]
    return next((name for name in named if name.lower() in ("asset", "token", "currency")), "native")


def _type(outputs: Sequence[AbiInput]) -> str:
    return outputs[0].type.canonical
