"""Settings: file below environment, every problem with its place and field, and never a secret in what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from deploy.runtime.settings import (
    ChainSettings,
    KafkaSettings,
    PostgresSettings,
    ServiceSettings,
    SettingsError,
    TelemetrySettings,
    effective,
    load,
    redacted,
)

FILE = """
[chain]
name = "local"
id = 31337
rpc_http = ["https://user:s3cret@node.example/v2/s3cret?key=s3cret"]

[kafka]
bootstrap_servers = "127.0.0.1:9092"

[postgres]
dsn = "postgresql://writer:s3cret@db.example:5433/books?password=s3cret"

[ledger]
unknown_to_this_service = true
"""


class Settings(ServiceSettings):
    chain: ChainSettings
    kafka: KafkaSettings
    postgres: PostgresSettings
    telemetry: TelemetrySettings = TelemetrySettings()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "chainbooks.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def problems_of(path: Path | None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Settings, path)
    return list(caught.value.problems)


def test_a_file_is_enough(config: Path) -> None:
    settings = load(Settings, config)
    assert settings.chain.id == 31337
    assert settings.chain.finality == "tags"
    assert settings.telemetry.host == "127.0.0.1"


def test_the_environment_wins_over_the_file_field_by_field(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINBOOKS_CHAIN__FINALITY", "12")
    monkeypatch.setenv("CHAINBOOKS_TELEMETRY__LOG_FORMAT", "json")
    settings = load(Settings, config)
    assert settings.chain.finality == 12
    assert settings.chain.name == "local"
    assert settings.telemetry.log_format == "json"


@pytest.mark.parametrize("written", ["http://a,http://b", " http://a , http://b,", '["http://a", "http://b"]'])
def test_a_list_in_the_environment_is_comma_separated_or_json(
    config: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("CHAINBOOKS_CHAIN__RPC_HTTP", written)
    assert [url.get_secret_value() for url in load(Settings, config).chain.rpc_http] == ["http://a", "http://b"]


def test_the_variable_names_the_file_when_the_option_does_not(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINBOOKS_CONFIG", str(config))
    assert load(Settings).chain.name == "local"


def test_the_file_in_the_working_folder_is_the_default(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAINBOOKS_CONFIG", raising=False)
    monkeypatch.chdir(config.parent)
    assert load(Settings).chain.name == "local"


def test_all_problems_are_told_at_once_each_with_file_field_and_reason(config: Path) -> None:
    text = (
        FILE.replace('"local"', '"Not A Slug"').replace("31337", '"x"').replace("bootstrap_servers", "bootstrap_server")
    )
    config.write_text(text, encoding="utf-8")
    problems = problems_of(config)
    assert any(line.startswith(f"{config}: chain.name: ") for line in problems)
    assert any(line.startswith(f"{config}: chain.id: ") for line in problems)
    assert f"{config}: kafka.bootstrap_server: no such field; did you mean 'bootstrap_servers'?" in problems
    assert any(line.startswith(f"{config}: kafka.bootstrap_servers: is missing") for line in problems)


def test_a_bad_variable_is_named_instead_of_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINBOOKS_TELEMETRY__PORT", "http")
    monkeypatch.setenv("CHAINBOOKS_KAFKA__PARTITION", "3")
    problems = problems_of(config)
    assert any(line.startswith("CHAINBOOKS_TELEMETRY__PORT: telemetry.port: ") for line in problems)
    assert "CHAINBOOKS_KAFKA__PARTITION: kafka.partition: no such field; did you mean 'partitions'?" in problems


def test_missing_settings_say_where_they_may_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHAINBOOKS_CONFIG", raising=False)
    assert any("chain: is missing" in line and "CHAINBOOKS_CHAIN__" in line for line in problems_of(None))


def test_an_unknown_section_is_an_error_and_the_other_services_section_is_not(config: Path) -> None:
    config.write_text(FILE + "\n[leger]\n", encoding="utf-8")
    assert problems_of(config) == [f"{config}: [leger]: no such section; did you mean 'ledger'?"]


def test_a_variable_that_names_no_section_is_an_error(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINBOOKS_KAKFA__PARTITIONS", "3")
    (problem,) = problems_of(config)
    assert problem.startswith("CHAINBOOKS_KAKFA__PARTITIONS: names no section; there are: chain, kafka")


def test_toml_that_does_not_parse_names_the_line(config: Path) -> None:
    config.write_text("[chain]\nname = \n", encoding="utf-8")
    (problem,) = problems_of(config)
    assert problem.startswith(f"{config}: not valid TOML: ")
    assert "line 2" in problem


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "absent.toml")
    assert "no such file (--config)" in problem


def test_what_is_shown_has_places_and_no_secrets(config: Path) -> None:
    shown = json.dumps(effective(load(Settings, config)), ensure_ascii=False)
    assert "s3cret" not in shown
    assert "https://node.example/…" in shown
    assert "postgresql://writer@db.example:5433/books" in shown


@given(
    secret=st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=20),
    scheme=st.sampled_from(["ftp://", "", "http:"]),
)
def test_a_refused_url_stays_out_of_the_message(secret: str, scheme: str) -> None:
    with pytest.raises(ValueError, match="rpc_http") as caught:
        ChainSettings(name="local", id=1, rpc_http=(SecretStr(f"{scheme}{secret}"),))
    assert secret not in str(caught.value)


def test_settings_cannot_be_changed(config: Path) -> None:
    settings = load(Settings, config)
    with pytest.raises(ValueError, match="frozen"):
        settings.chain.id = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@node.example:8545/v2/key?x=y", "https://node.example:8545/…"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("postgresql://writer:pw@db.example:5433/books?sslmode=require", "postgresql://writer@db.example:5433/books"),
        ("postgresql:///books?host=/run/postgresql&password=pw", "postgresql:///run/postgresql/books"),
        ("http://[broken", "an unreadable URL"),
        ("hunter2", "an unreadable URL"),
    ],
)
def test_a_redacted_url_keeps_what_tells_the_place_and_nothing_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown
