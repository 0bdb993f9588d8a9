"""Chainlink's contracts, compiled once per machine, and a stage for each test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from contracts.solidity import chainlink
from contracts.solidity.artifacts import Artifact
from contracts.solidity.build import node_folder
from tests.integration.chainlink.audit import Audit, audit
from tests.integration.chainlink.stage import Stage, build
from tests.integration.ledger.conftest import database, ledger_template
from tests.integration.solidity.chain import Node
from tests.services import AnvilFactory

__all__ = ["database", "ledger_template"]  # fixtures of the ledger's tests


@pytest.fixture(scope="session")
def chainlink_contracts() -> Mapping[str, Artifact]:
    """Without the package this fails and says what to do: it is never skipped."""
    return chainlink.compiled(node_folder())


@pytest.fixture(scope="session")
def chainlink_node(anvil_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    factory = AnvilFactory(binary=Path(anvil_path), folder=tmp_path_factory.mktemp("anvil"))
    try:
        with closing(Node(asyncio.run(factory()).http_url)) as node:
            yield node
    finally:
        factory.stop_all()


@pytest.fixture
def stage(chainlink_node: Node, chainlink_contracts: Mapping[str, Artifact]) -> Iterator[Stage]:
    with chainlink_node.undone():
        yield build(chainlink_node, chainlink_contracts)


@pytest.fixture
def books(stage: Stage, tmp_path: Path) -> Audit:
    return audit(stage, tmp_path)
