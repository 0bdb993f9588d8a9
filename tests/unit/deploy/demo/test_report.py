"""How amounts are shown."""

from __future__ import annotations

import pytest

from deploy.demo.actors import account_id, account_name
from deploy.demo.report import amount


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0.000000 "),
        ("1234567.5", "1,234,567.500000 "),
        ("-0.1234569", "-0.123456…"),
        ("1E-18", "0.000000…"),
        ("1.5000000000", "1.500000 "),
        ("12345678901234567890.123456", "12,345,678,901,234,567,890.123456 "),
        (None, "?"),
    ],
)
def test_amounts_are_cut_never_rounded(text: str | None, shown: str) -> None:
    assert amount(text) == shown


def test_account_ids_can_be_read_back() -> None:
    assert account_name("0x" + account_id("anna").hex()) == "anna"
    assert account_name("0x" + "ff" * 32) is None
    assert account_name("0x" + b"nobody".ljust(32, b"\0").hex()) is None
