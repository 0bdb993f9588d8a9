"""Asking a node for reconciliation: what is said when it is away."""

from __future__ import annotations

import pytest

from ledger.adapters import node
from ledger.errors import NodeUnavailable


async def test_a_node_that_is_away_is_named_once_and_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "TRIES_MAX", 1)
    async with node.Node(["http://127.0.0.1:9/v2/key"], timeout_s=2) as asked:
        with pytest.raises(NodeUnavailable) as caught:
            await asked.check_chain(31337)
    assert str(caught.value).count("http://127.0.0.1:9/…") == 1
    assert "key" not in str(caught.value)
