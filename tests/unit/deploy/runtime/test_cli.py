"""What both command lines share: tables that cut nothing."""

from __future__ import annotations

import pytest
from rich.table import Table

from deploy.runtime import cli

LONG = "liabilities:gateway:account:0x" + "4d" * 32 + ":available"


@pytest.mark.parametrize("width", ["60", "120"])
def test_a_long_name_goes_on_in_the_next_line(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    table = Table("account", "asset", "balance", "side")
    table.add_row(LONG, "USDX", "1" * 78, "credit")
    cli.print_table(table)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= int(width)
    cells = [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]
    assert "".join(cells) == LONG


def test_a_pipe_gets_the_name_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("account", "balance")
    table.add_row(LONG, "5")
    cli.print_table(table)
    assert LONG in capsys.readouterr().out
