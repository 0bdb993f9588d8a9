"""The command line without anything running: help, settings that cannot be used, what is effective."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ledger.__main__ import commands
from tests.unit.ledger.story import SHIPPED

SETTINGS = {
    "CHAIN__NAME": "local",
    "CHAIN__ID": "31337",
    "CHAIN__RPC_HTTP": "http://127.0.0.1:9/key-in-the-path",
    "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "KAFKA__TOPIC_PREFIX": "x.",
    "POSTGRES__DSN": "postgresql://chainbooks_writer:hush@127.0.0.1:9/books",
}


def invoke(monkeypatch: pytest.MonkeyPatch, *arguments: str, settings: Mapping[str, str] | None = None) -> Result:
    for name, value in (SETTINGS | dict(settings or {})).items():
        monkeypatch.setenv(f"CHAINBOOKS_{name}", value)
    return CliRunner().invoke(commands, list(arguments))


@pytest.mark.parametrize(
    "command",
    ["", "run", "migrate", "status", "balances", "reconcile", "rebuild", "verify", "check-config", "incident accept"],
)
def test_help_teaches(command: str) -> None:
    result = CliRunner().invoke(commands, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert len(result.output) > 300
    assert "chainbooks" in result.output


@pytest.mark.parametrize(
    ("command", "settings", "text"),
    [
        ("run", {"KAFKA__PARTITIONS": "none"}, "CHAINBOOKS_KAFKA__PARTITIONS: kafka.partitions"),
        ("run", {"POSTGRES__DSN": "mysql://x:hush@y/z"}, "postgres.dsn: must start with postgresql://"),
        ("status", {"LEDGER__BATCH_SIZE": "5"}, "no such field; did you mean 'batch_records_max'?"),
        ("migrate", {"CHAIN__NAME": "No Slug"}, "chain.name"),
        ("reconcile", {"CHAIN__RPC_HTTP": "ftp://x"}, "chain.rpc_http"),
        ("balances", {"LEDGER__LAG_MAX_S": "0"}, "ledger.lag_max_s"),
        ("migrate", {}, "[postgres] owner_dsn is missing"),
    ],
)
def test_settings_that_cannot_be_used_are_named_with_place_and_reason(
    monkeypatch: pytest.MonkeyPatch, command: str, settings: dict[str, str], text: str
) -> None:
    result = invoke(monkeypatch, command, settings=settings)
    assert result.exit_code == 2
    assert text in result.output
    assert "hush" not in result.output
    assert "Traceback" not in result.output


def test_a_missing_file_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke(monkeypatch, "status", "--config", "/nowhere.toml")
    assert result.exit_code == 2
    assert "/nowhere.toml: no such file" in result.output


def test_check_config_shows_what_is_effective_without_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    overlay = tmp_path / "deployment.yaml"
    address = "0x" + "11" * 20
    overlay.write_text(f"kind: deployment\nchain: 31337\ncontracts:\n  payment-gateway: {{addresses: ['{address}']}}\n")
    settings = {"REGISTRY__PATHS": f"{SHIPPED},{overlay}"}
    result = invoke(monkeypatch, "check-config", settings=settings)
    assert result.exit_code == 0, result.output
    assert "hush" not in result.output
    assert "key-in-the-path" not in result.output
    assert "x.payments.local.events.v1" in result.output
    result = invoke(monkeypatch, "check-config", "--json", settings=settings)
    assert "payment-gateway" in {c["contract"] for c in json.loads(result.output)["contracts"]}


def test_a_registry_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = invoke(monkeypatch, "check-config", settings={"REGISTRY__PATHS": str(tmp_path / "no.yaml")})
    assert result.exit_code == 2
    assert "no.yaml" in result.output
