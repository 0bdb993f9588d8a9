"""Account codes and unit formatting."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.accounts import parse_account
from contracts.units import format_units


@pytest.mark.parametrize(
    ("code", "side"),
    [
        ("assets:gateway:onchain:0xab:-", "debit"),
        ("expenses:gateway:operator:-:-", "debit"),
        ("liabilities:gateway:account:0x01:available", "credit"),
        ("income:gateway:fees:-:-", "credit"),
        ("equity:gateway:opening:-:-", "credit"),
        ("clearing:gateway:contract:0xab:-", "zero"),
    ],
)
def test_a_code_is_its_segments_and_knows_its_side(code: str, side: str) -> None:
    account = parse_account(code)
    assert str(account) == code
    assert account.normal_side == side


@pytest.mark.parametrize(
    "code",
    [
        "",
        "assets:b:c:d",
        "assets:b:c:d:e:f",
        "asset:b:c:d:e",
        "assets::c:d:e",
        "assets:b:c:d e:-",
        "assets:-:c:d:e",
        "assets:b:-:d:e",
    ],
)
def test_what_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=r"account"):
        parse_account(code)


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (1_500_000, 6, "1.5"),
        (0, 18, "0"),
        (-1, 18, "-0." + "0" * 17 + "1"),
        (7, 0, "7"),
        (10**18, 18, "1"),
        (2**256 - 1, 0, str(2**256 - 1)),
    ],
)
def test_amounts_are_shown_exactly(amount: int, decimals: int, text: str) -> None:
    assert format_units(amount, decimals) == text


@given(st.integers(-(2**300), 2**300), st.integers(0, 77))
def test_formatting_loses_nothing(amount: int, decimals: int) -> None:
    assert Fraction(format_units(amount, decimals)) * 10**decimals == amount


@pytest.mark.parametrize("decimals", [-1, 78])
def test_decimals_that_no_amount_can_have_are_refused(decimals: int) -> None:
    with pytest.raises(ValueError, match="outside 0…77"):
        format_units(1, decimals)
