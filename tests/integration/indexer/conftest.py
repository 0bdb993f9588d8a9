"""The rig: a manual-mining anvil with small epochs, own topics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.indexer.rig import Rig, rig_on
from tests.services import AnvilFactory


@pytest.fixture
async def rig(anvil: AnvilFactory, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Blocks are mined on demand; safe = head − 4, finalized = head − 8."""
    node = await anvil(slots_in_an_epoch=4, no_mining=True)
    async with rig_on(node, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path) as rig:
        yield rig
