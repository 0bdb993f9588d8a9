"""What to compare with the chain: the getters of a description's ``reconcile`` list, ready to be called. Pure.

One ``Check`` is one comparison of ledger balances with one view function at one block:

``each``   one call for every ledger account (and asset) whose code has the form ``accounts[0]``; names captured in the
           code are arguments of the call. The account's balance on its normal side must equal the answer. Where the
           check speaks of one asset, accounts in other assets are not asked about.
``sum``    one call per asset; the sum of the balances of all accounts that have one of the forms must equal the answer.
``count``  one call; the last ``contract_seq`` of the contract's events must equal the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode

from contracts.abi import Abi, AbiFunction, AbiInput
from contracts.accounts import ACCOUNT_CLASSES
from contracts.description import ReconcileEntry
from contracts.messages import NATIVE_ADDRESS
from contracts.problems import suggestion
from contracts.references import RuleError

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")
_ADDRESS = re.compile(r"0x[0-9a-f]{40}\Z")
_CALLABLE = ("uint", "int", "address", "fixed_bytes", "bool")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPattern:
    """A form of account codes: literals, ``*``, and names that capture a segment.

    ``{address}`` stands for the contract's.
    """

    text: str  # as in the description, {book} filled in

    def match(self, code: str, *, address: str) -> dict[str, str] | None:
        """The captured names, or None when the code has another form."""
        captured: dict[str, str] = {}
        parts, segments = self.text.split(":"), code.split(":")
        if len(parts) != len(segments):
            return None
        for part, segment in zip(parts, segments, strict=True):
            name = _NAME.match(part)
            if part == "*":
                continue
            if name is not None and name.group(1) != "address":
                captured[name.group(1)] = segment
            elif segment != (address if name is not None else part):
                return None
        return captured


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison. ``args`` are names in braces or constants; see ``call_data``."""

    name: str  # for reports: balanceOf(bytes32,address)
    function: AbiFunction
    args: tuple[str, ...]
    output: int  # which output holds the answer
    compare: Literal["each", "sum", "count"]
    accounts: tuple[AccountPattern, ...] = field(default=())
    asset: str | None = (
        None  # lower-case address of the one asset that is spoken of; the zero address is the native coin
    )
    asset_function: AbiFunction | None = None  # or the function that returns it
    refused_is_zero: bool = False  # whether a call that the contract refuses counts as 0

    @property
    def per_asset(self) -> bool:
        """Whether the call is made for each asset: it has ``{asset}`` among its arguments."""
        return "{asset}" in self.args

    def call_data(self, values: Mapping[str, str]) -> bytes:
        """Selector and arguments for ``eth_call``. Values by name:

        ``asset`` and ``address`` (0x hex), and what the pattern captured.
        """
        texts = [values[arg[1:-1]] if _NAME.match(arg) else arg for arg in self.args]
        typed = [_from_text(item, text) for item, text in zip(self.function.inputs, texts, strict=True)]
        return self.function.selector + abi_encode([item.type.canonical for item in self.function.inputs], typed)

    def answer(self, returned: bytes) -> int:
        """The number that the call returned. ValueError when the bytes are not what the function returns."""
        try:
            values = abi_decode([item.type.canonical for item in self.function.outputs], returned)
        except (
            Exception
        ) as exc:  # eth-abi raises several unrelated classes (DecodingError, OverflowError, UnicodeDecodeError)
            raise ValueError(f"{self.name} returned {returned[:64].hex() or 'nothing'}: {type(exc).__name__}") from exc
        return int(values[self.output])


def _from_text(item: AbiInput, text: str) -> int | bool | str | bytes:
    match item.type.kind:
        case "uint" | "int":
            return int(text)
        case "bool":
            return text == "true"
        case "address":
            return text
        case _:
            return bytes.fromhex(text.removeprefix("0x"))


def make_check(abi: Abi, entry: ReconcileEntry, *, book: str, constants: Mapping[str, str] | None = None) -> Check:
    """A Check from its entry. ``constants``: addresses by name, on this chain. Raises RuleError."""
    function = _function(abi, entry.getter)
    patterns = tuple(_pattern(text, book) for text in ([entry.each] if entry.each is not None else entry.sum or []))
    captured = {name for pattern in patterns for name in re.findall(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", pattern.text)} - {
        "address"
    }
    if captured and entry.each is None:
        raise RuleError(f"a sum captures {', '.join(sorted(captured))}", "write * for any segment")
    _check_args(function, entry.args, {"asset", "address", *captured})
    if entry.sum is not None and "{asset}" not in entry.args and entry.asset is None and entry.asset_getter is None:
        raise RuleError(
            f"{function.name} does not say which asset it speaks of", "give it {asset}, or add asset or asset_getter"
        )
    asset_function = None if entry.asset_getter is None else _function(abi, entry.asset_getter)
    if asset_function is not None and (
        asset_function.inputs or [o.type.canonical for o in asset_function.outputs] != ["address"]
    ):
        raise RuleError(
            f"{asset_function.signature} is no getter of an address", "name a view function () returns (address)"
        )
    return Check(
        name=function.signature,
        function=function,
        args=tuple(entry.args),
        output=_output(function, entry.returns),
        compare="each" if entry.each is not None else "sum" if entry.sum is not None else "count",
        accounts=patterns,
        asset=_asset(entry.asset, constants or {}),
        asset_function=asset_function,
        refused_is_zero=entry.refused_is_zero,
    )


def _asset(text: str | None, constants: Mapping[str, str]) -> str | None:
    if text is None or _ADDRESS.match(text):
        return text
    known = {"native": NATIVE_ADDRESS, **constants}
    if text not in known:
        raise RuleError(f"asset {text!r} is no lower-case address and no constant", suggestion(text, known))
    return known[text]


def _function(abi: Abi, name: str) -> AbiFunction:
    found = abi.find_functions(name)
    if not found:
        raise RuleError(
            f"{name!r} is no function of the ABI", suggestion(name, (function.name for function in abi.functions))
        )
    if len(found) > 1:
        raise RuleError(
            f"{name!r} is the name of several functions", f"write one of: {', '.join(f.signature for f in found)}"
        )
    return found[0]


def _pattern(text: str, book: str) -> AccountPattern:
    parts = text.split(":")
    if len(parts) != 5 or parts[0] not in ACCOUNT_CLASSES:
        raise RuleError(
            f"account form {text!r} is not class:{{book}}:kind:subject:state", "write five segments; * is any segment"
        )
    if parts[1] not in ("{book}", book):
        raise RuleError(f"account form {text!r} is of another book than {book!r}", "write {book}")
    return AccountPattern(text=":".join([parts[0], book, *parts[2:]]))


def _check_args(function: AbiFunction, args: Sequence[str], names: set[str]) -> None:
    if len(args) != len(function.inputs):
        raise RuleError(
            f"{function.signature} takes {len(function.inputs)} arguments, {len(args)} are given", "give one for each"
        )
    for item, arg in zip(function.inputs, args, strict=True):
        if item.type.kind not in _CALLABLE:
            raise RuleError(
                f"argument {item.name!r} is {item.type.canonical}", "use a getter with arguments of one word"
            )
        name = _NAME.match(arg)
        if name is not None:
            if name.group(1) not in names:
                raise RuleError(f"{arg} is not captured by the account form", suggestion(name.group(1), names))
            continue
        try:
            abi_encode([item.type.canonical], [_from_text(item, arg)])
        except Exception as exc:  # whatever eth-abi raises, the constant does not fit
            raise RuleError(
                f"{arg!r} is no {item.type.canonical}", "correct the constant, or write a name in braces"
            ) from exc


def _output(function: AbiFunction, name: str | None) -> int:
    numbers = [index for index, item in enumerate(function.outputs) if item.type.kind in ("uint", "int")]
    if name is not None:
        for index, item in enumerate(function.outputs):
            if item.name == name and index in numbers:
                return index
        raise RuleError(
            f"{function.signature} has no integer output {name!r}", suggestion(name, (o.name for o in function.outputs))
        )
    if len(function.outputs) != 1 or not numbers:
        raise RuleError(f"{function.signature} does not return one integer", "name the output with `returns`")
    return numbers[0]
