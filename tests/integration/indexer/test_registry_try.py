"""``registry try`` on a real node: what a range of blocks would post, and what stays in clearing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from indexer.registry_commands import commands
from tests.integration.solidity.chain import Node
from tests.services import AnvilFactory

REGISTRY = Path(__file__).parents[3] / "contracts" / "registry"


@pytest.fixture
def vault(anvil: AnvilFactory, tmp_path: Path) -> tuple[str, Path]:
    """A node with a vault: two deposits, one withdrawal with an event, one without; and the deployment file."""
    url = asyncio.run(anvil()).http_url
    node = Node(url)
    admin, ann = (address.lower() for address in node.accounts[:2])
    token = node.deploy("DemoToken", "Demo Dollar", "dUSD", 6)
    legacy = node.deploy("LegacyVault")
    token.send("mint", ann, 10**12, sender=admin)
    token.send("approve", legacy.address, 10**12, sender=ann)
    legacy.send("deposit", token.address, 700, sender=ann)
    legacy.send("deposit", "0x" + "00" * 20, 5, sender=ann, value=5)
    legacy.send("withdraw", token.address, ann, 200, sender=ann)
    legacy.send("withdrawQuietly", token.address, ann, 50, sender=ann)
    node.close()
    overlay = tmp_path / "deployment.yaml"
    overlay.write_text(
        f'kind: deployment\nchain: 31337\ncontracts:\n  legacy-vault: {{addresses: ["{legacy.address}"]}}\n'
        f'tokens:\n  - {{address: "{token.address}", symbol: dUSD, decimals: 6}}\n'
    )
    return url, overlay


def attempt(*args: object, code: int) -> str:
    result = CliRunner().invoke(commands, ["try", *map(str, args)])
    assert result.exit_code == code, result.output
    return result.output


def test_a_range_is_posted_in_memory_and_the_silent_withdrawal_stays_in_clearing(vault: tuple[str, Path]) -> None:
    url, overlay = vault
    options = ["--with", REGISTRY, "--rpc", url, "--from", 0]
    found = json.loads(attempt(overlay, *options, "--json", code=1))
    posted = [(event["contract"], event["event"], len(event["postings"])) for event in found["events"]]
    assert sorted(posted) == sorted(
        [
            ("erc20", "Transfer", 1),
            ("legacy-vault", "Deposited", 1),
            ("legacy-vault", "Deposited", 1),
            ("erc20", "Transfer", 1),
            ("legacy-vault", "Withdrawn", 1),
            ("erc20", "Transfer", 1),
        ]
    )
    (left,) = found["clearing"]
    assert (left["base_units"], left["goes_to"]) == ("-50", None)
    assert (found["quarantined"], found["rejected"]) == (0, [])
    said = attempt(overlay, *options, code=1)
    assert "outflow that nobody claims, 50" in said
    assert "is a break" in said
    last = int(left["block"]) - 1
    assert "clearing stays open 0 times" in attempt(overlay, *options, "--to", last, code=0)


def test_a_wrong_range_file_or_node_is_a_sentence(vault: tuple[str, Path], tmp_path: Path) -> None:
    url, overlay = vault
    options = ["--with", REGISTRY, "--rpc", url]
    assert "the node's head is block" in attempt(overlay, *options, "--from", 0, "--to", 10**6, code=2)
    assert "no range" in attempt(overlay, *options, "--from", 5, "--to", 4, code=2)
    (tmp_path / "wrong.yaml").write_text("kind: contrcat\n")
    assert "use one of" in attempt(tmp_path / "wrong.yaml", *options, "--from", 0, code=2)
    away = ["--with", REGISTRY, "--rpc", "http://127.0.0.1:1", "--from", 0]
    assert "the node is away" in attempt(overlay, *away, code=3)
