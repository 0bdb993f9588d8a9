"""What is compared with the chain: account forms, calls and answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_abi.abi import encode as abi_encode

from contracts.abi import parse_abi
from contracts.description import ReconcileEntry
from contracts.reconcile import AccountPattern, make_check
from contracts.rules import RuleError
from tests.unit.contracts.build import GATEWAY, TOKEN, shipped_registry
from tests.unit.contracts.signatures import function

ID = "0x" + "07" * 32


def test_checks_of_the_gateway_call_its_getters(tmp_path: Path) -> None:
    checks = {check.function.name: check for check in shipped_registry(tmp_path).contract("payment-gateway").checks}
    balance = checks["balanceOf"]
    captured = balance.accounts[0].match(f"liabilities:gateway:account:{ID}:available", address=GATEWAY)
    assert captured == {"accountId": ID}
    data = balance.call_data({"asset": TOKEN, "address": GATEWAY} | captured)
    assert data == balance.function.selector + abi_encode(["bytes32", "address"], [bytes.fromhex(ID[2:]), TOKEN])
    assert balance.answer(abi_encode(["uint256"], [7])) == 7
    assert (balance.compare, balance.per_asset) == ("each", True)
    assert (checks["totalLiabilities"].compare, len(checks["totalLiabilities"].accounts)) == ("sum", 2)
    assert (checks["eventSeq"].compare, checks["eventSeq"].call_data({})) == (
        "count",
        checks["eventSeq"].function.selector,
    )
    assert checks["escrow"].per_asset is False


@pytest.mark.parametrize("returned", [b"", b"\0" * 31])
def test_an_answer_that_is_none_is_an_error(tmp_path: Path, returned: bytes) -> None:
    check = shipped_registry(tmp_path).contract("payment-gateway").checks[0]
    with pytest.raises(ValueError, match="returned"):
        check.answer(returned)


@pytest.mark.parametrize(
    ("pattern", "code", "expected"),
    [
        ("liabilities:b:account:{id}:available", "liabilities:b:account:x:available", {"id": "x"}),
        ("liabilities:b:account:{id}:available", "liabilities:b:account:x:held", None),
        ("liabilities:b:account:*:*", "liabilities:b:account:x:held", {}),
        ("liabilities:b:unattributed:{address}:-", f"liabilities:b:unattributed:{GATEWAY}:-", {}),
        ("liabilities:b:unattributed:{address}:-", "liabilities:b:unattributed:other:-", None),
        ("liabilities:b:account:{id}:available", "liabilities:c:account:x:available", None),
        ("liabilities:b:account:{id}:available", "liabilities:b:account", None),
    ],
)
def test_an_account_form_matches_whole_segments(pattern: str, code: str, expected: dict[str, str] | None) -> None:
    assert AccountPattern(text=pattern).match(code, address=GATEWAY) == expected


ABI = parse_abi(
    [
        function("one", ["address"], ["uint256"]),
        function("two", [], ["uint256", "bool"]),
        function("none", [], []),
        function("list", ["uint256[]"], ["uint256"]),
        function("token", [], ["address"]),
    ]
)
EACH = "liabilities:{book}:account:{id}:available"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"getter": "onee", "each": EACH}, "did you mean 'one'?"),
        ({"getter": "one", "args": [], "each": EACH}, "takes 1 arguments"),
        ({"getter": "one", "args": ["{idd}"], "each": EACH}, "did you mean 'id'?"),
        ({"getter": "one", "args": ["0x12"], "each": EACH}, "is no address"),
        ({"getter": "two", "each": EACH}, "name the output"),
        ({"getter": "two", "returns": "arg1", "each": EACH}, "no integer output"),
        ({"getter": "none", "each": EACH}, "name the output"),
        ({"getter": "list", "args": ["{id}"], "each": EACH}, "arguments of one word"),
        ({"getter": "one", "args": ["{address}"], "sum": ["assets:{book}:x:*:-"]}, "which asset"),
        ({"getter": "one", "args": ["{asset}"], "sum": ["assets:other:x:*:-"]}, "another book"),
        ({"getter": "one", "args": ["{asset}"], "sum": ["assets:{book}:x:{id}:-"]}, "write * for any segment"),
        (
            {"getter": "one", "args": ["{address}"], "sum": ["assets:{book}:x:*:-"], "asset_getter": "two"},
            "getter of an address",
        ),
    ],
)
def test_a_wrong_comparison_is_refused(entry: dict[str, object], says: str) -> None:
    with pytest.raises(RuleError) as caught:
        make_check(ABI, ReconcileEntry.model_validate(entry), book="b")
    assert says in str(caught.value)


def test_an_asset_may_come_from_a_getter_or_a_constant() -> None:
    entry = {"getter": "two", "returns": "arg0", "sum": ["assets:{book}:x:*:-"]}
    check = make_check(ABI, ReconcileEntry.model_validate(entry | {"asset_getter": "token"}), book="b")
    assert check.asset_function is not None
    assert check.asset_function.name == "token"
    assert (
        make_check(ABI, ReconcileEntry.model_validate(entry | {"asset": "native"}), book="b").asset == "0x" + "00" * 20
    )


def test_a_refused_call_counts_as_zero_for_single_accounts_only() -> None:
    with pytest.raises(ValueError, match="refused_is_zero without each"):
        ReconcileEntry(getter="total", asset="native", sum=["liabilities:b:account:*:-"], refused_is_zero=True)


def test_an_asset_may_be_a_constant_and_must_be_known() -> None:
    entry = ReconcileEntry(getter="one", args=["{id}"], each=EACH, asset="LINK")
    assert make_check(ABI, entry, book="b", constants={"LINK": TOKEN}).asset == TOKEN
    with pytest.raises(RuleError, match="'LINK' is no lower-case address and no constant"):
        make_check(ABI, entry, book="b")
