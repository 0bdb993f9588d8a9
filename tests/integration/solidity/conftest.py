"""One node and one deployment for all tests of this folder; each test starts from the same state."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.solidity import world as worlds
from tests.integration.solidity.chain import Node
from tests.services import AnvilFactory


@pytest.fixture(scope="session")
def built_world(anvil_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[worlds.World]:
    factory = AnvilFactory(binary=Path(anvil_path), folder=tmp_path_factory.mktemp("anvil"))
    try:
        with closing(Node(asyncio.run(factory()).http_url)) as node:
            yield worlds.build(node)
    finally:
        factory.stop_all()


@pytest.fixture
def world(built_world: worlds.World) -> Iterator[worlds.World]:
    """A fresh gateway. After the test its books must agree with the chain, whatever the test did."""
    with built_world.node.undone():
        fresh = dataclasses.replace(built_world)
        yield fresh
        fresh.check()
