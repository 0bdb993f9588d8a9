"""The stack's settings, and the files that it writes for the services: readable by them, and by nobody else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.local import configuration, stack
from deploy.local.configuration import LocalSettings, Running
from deploy.local.failure import LocalError
from deploy.local.paths import Layout
from deploy.runtime.settings import (
    ChainSettings,
    KafkaSettings,
    PostgresSettings,
    RegistrySettings,
    ServiceSettings,
    load,
)


class Settings(ServiceSettings):
    chain: ChainSettings
    kafka: KafkaSettings
    postgres: PostgresSettings
    registry: RegistrySettings


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path / ".local")


@pytest.fixture
def running(layout: Layout) -> Running:
    return Running(mode="native", settings=LocalSettings(), password=configuration.superuser_password(layout))


def test_the_services_can_read_what_is_written(layout: Layout, running: Running) -> None:
    configuration.write(layout, running)
    settings = load(Settings, layout.config)
    assert settings.chain.id == 31337
    assert settings.kafka.bootstrap_servers == "127.0.0.1:21092"
    assert all(path.is_dir() for path in settings.registry.paths)


def test_file_and_variables_say_the_same(layout: Layout, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration.write(layout, running)
    from_file = load(Settings, layout.config)
    for line in layout.env.read_text(encoding="utf-8").splitlines()[1:]:
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value.strip("'"))
    monkeypatch.chdir(layout.root)
    layout.config.unlink()
    assert load(Settings) == from_file


def test_another_up_with_other_settings_names_the_ones_that_differ(layout: Layout, running: Running) -> None:
    configuration.remember(layout, running)
    with pytest.raises(LocalError) as caught:
        stack.up(layout, LocalSettings(kafka_heap_mb=300, anvil_port=22000), print)
    assert str(caught.value).splitlines()[1:] == [
        "  CHAINBOOKS_LOCAL_ANVIL_PORT was 21545, is 22000",
        "  CHAINBOOKS_LOCAL_KAFKA_HEAP_MB was 512, is 300",
        "  → make down first",
    ]


def test_files_with_a_password_are_for_us_only(layout: Layout, running: Running) -> None:
    configuration.write(layout, running)
    for path in (layout.config, layout.env, layout.data / "postgres.password"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_password_stays_the_one_that_opens_the_data(layout: Layout, running: Running) -> None:
    assert configuration.superuser_password(layout) == running.password
    assert running.password in running.dsn("postgres")
    assert running.password not in running.dsn("chainbooks_writer")
    assert running.password not in running.dsn("postgres", with_password=False)


def test_what_was_started_is_remembered(layout: Layout, running: Running) -> None:
    assert configuration.remembered(layout) is None
    configuration.remember(layout, running)
    assert configuration.remembered(layout) == running


def test_a_bad_setting_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINBOOKS_LOCAL_KAFKA_PORT", "80")
    monkeypatch.setenv("CHAINBOOKS_LOCAL_BLOCK_TIME_S", "sometimes")
    with pytest.raises(LocalError) as caught:
        configuration.local_settings()
    assert "CHAINBOOKS_LOCAL_KAFKA_PORT: " in str(caught.value)
    assert "CHAINBOOKS_LOCAL_BLOCK_TIME_S: " in str(caught.value)
