"""A registry with one contract that announces payments."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.registry import Registry, load_registry
from tests.integration.indexer.rig import ASSETS, REGISTRY
from tests.unit.indexer.following import ADDRESS


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "assets.yaml").write_text(ASSETS)
    (tmp_path / "till.yaml").write_text(REGISTRY.format(address=ADDRESS, start_block=0))
    return load_registry([tmp_path], chain_id=31337)
