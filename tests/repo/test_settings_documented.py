"""Every setting there is stands in .env.example, with the default that the code has, and nothing else stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from deploy.local.compose import IMAGES
from deploy.local.configuration import PREFIX, LocalSettings
from deploy.runtime.settings import ENV_DELIMITER, ENV_PREFIX
from indexer.settings import IndexerSettings
from ledger.settings import LedgerSettings
from tests.repo.tracked import ROOT

SERVICES: list[type[BaseSettings]] = [IndexerSettings, LedgerSettings]
WITHOUT_MODEL = {
    *(
        "CHAINBOOKS_CONFIG",
        "CHAINBOOKS_LOCAL_DIR",
        "CHAINBOOKS_LOCAL_POSTGRES_BIN",
        "CHAINBOOKS_NO_DOCKER",
        "NO_INSTALL",
    ),
    *("CHAINBOOKS_TEST_KAFKA", "CHAINBOOKS_TEST_POSTGRES", "CHAINBOOKS_TEST_ANVIL"),
    *("CHAINBOOKS_TEST_KAFKA_IMAGE", "CHAINBOOKS_TEST_POSTGRES_IMAGE"),
    *("CHAINBOOKS_IMAGE", "CHAINBOOKS_DEPLOYMENT", "CHAINBOOKS_LOCAL_INDEXER_PORT", "CHAINBOOKS_LOCAL_LEDGER_PORT"),
}


def _documented() -> dict[str, str]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", text, flags=re.MULTILINE))


def _sections(service: type[BaseSettings]) -> dict[str, type[BaseModel]]:
    found = {name: field.annotation for name, field in service.model_fields.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _defaults() -> dict[str, Any]:
    defaults: dict[str, Any] = dict(IMAGES)
    defaults |= {PREFIX + name.upper(): field.default for name, field in LocalSettings.model_fields.items()}
    for service in SERVICES:
        for section, model in _sections(service).items():
            for name, field in model.model_fields.items():
                defaults[f"{ENV_PREFIX}{section}{ENV_DELIMITER}{name}".upper()] = field.default
    return defaults


def test_the_images_of_the_compose_file_are_the_ones_that_are_pulled() -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    assert {f"${{{name}:-{image}}}" for name, image in IMAGES.items()} <= set(re.findall(r"image: (\S+)", text))


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    assert set(_documented()) == set(_defaults()) | WITHOUT_MODEL


def test_the_meaning_of_a_services_own_setting_stands_above_it() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    own = [number for number, line in enumerate(lines) if re.match(r"#?CHAINBOOKS_(INDEXER|LEDGER)__", line)]
    assert own
    assert not [lines[number] for number in own if not re.match(r"# [^\[]", lines[number - 1])]


@pytest.mark.parametrize(("variable", "default"), sorted(_defaults().items()))
def test_a_documented_default_is_the_real_one(variable: str, default: Any) -> None:
    line = f"#{variable}={_written(default)}"
    commented = f"#{variable}=" in (ROOT / ".env.example").read_text(encoding="utf-8")
    assert not commented or line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()


def _written(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, tuple | list):
        return ",".join(str(item) for item in default)
    return default if isinstance(default, str) else str(default) if isinstance(default, Path) else json.dumps(default)
