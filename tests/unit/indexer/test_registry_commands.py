"""The tools for authors that need no node: new, check, list, explain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contracts.abi import parse_abi
from contracts.loading import load_described
from contracts.skeleton import skeleton
from contracts.typed import TypedContract
from indexer.registry_commands import commands
from tests.unit.contracts.signatures import GATEWAY_ABI, event

SHIPPED = Path(__file__).parents[3] / "contracts"
ODD_ABI = [
    event("Moved(uint256! id, uint256 oldBalance, uint256 newBalance)"),
    event("Moved(address! to, uint256 amount)"),
    event("Nothing()"),
    event("Text(string name, bytes data)"),
    {
        "type": "event",
        "name": "Split",
        "inputs": [
            {
                "name": "parts",
                "type": "tuple[]",
                "indexed": False,
                "components": [{"name": "to", "type": "address"}, {"name": "share", "type": "uint96"}],
            }
        ],
    },
]


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(commands, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("abi", [GATEWAY_ABI, ODD_ABI])
def test_a_skeleton_loads_as_it_is_and_posts_nothing(tmp_path: Path, abi: list[dict[str, object]]) -> None:
    (tmp_path / "abi.json").write_text(json.dumps(abi))
    text = skeleton(parse_abi(abi), contract="odd", book="odd", abi_path="abi.json", chain_id=1, addresses=[])
    (tmp_path / "odd.yaml").write_text(text)
    (typed,) = load_described([tmp_path / "odd.yaml"])
    assert isinstance(typed, TypedContract)
    assert len(typed.events) == len([item for item in abi if item["type"] == "event"])
    assert {described.kind for described in typed.events.values()} == {"info"}


@pytest.mark.parametrize("abi", [GATEWAY_ABI, ODD_ABI])
def test_what_a_skeleton_proposes_can_be_meant(tmp_path: Path, abi: list[dict[str, object]]) -> None:
    """With its comments taken as proposals, and every such event called money, it still loads."""
    (tmp_path / "abi.json").write_text(json.dumps(abi))
    text = skeleton(parse_abi(abi), contract="odd", book="odd", abi_path="abi.json", chain_id=1, addresses=[])
    lines = []
    for block in text.split("\n\n"):
        proposed = block.replace("    # amounts:", "    amounts:").replace("    # postings:", "    postings:")
        proposed = proposed.replace("    #   ", "      ")
        lines.append(proposed.replace("kind: info", "kind: money") if "    postings:" in proposed else proposed)
    (tmp_path / "odd.yaml").write_text("\n\n".join(lines))
    (typed,) = load_described([tmp_path / "odd.yaml"])
    assert isinstance(typed, TypedContract)
    assert any(described.postings for described in typed.events.values())


def test_new_writes_a_file_that_check_takes(tmp_path: Path) -> None:
    (tmp_path / "abi").mkdir()
    (tmp_path / "registry").mkdir()
    abi, out = tmp_path / "abi" / "MyVault.json", tmp_path / "registry" / "my-vault.yaml"
    abi.write_text(json.dumps({"abi": ODD_ABI}))
    address = "0x" + "AB" * 20
    said = run("new", "--abi", abi.absolute(), "--address", address, "--chain", 31337, "--out", out)
    assert "registry check" in said
    assert "contract: my-vault" in out.read_text()
    assert address.lower() in out.read_text()
    assert "my-vault: 5 events" in run("check", out)
    assert "exists" in run("new", "--abi", abi, "--out", out, code=2)


def test_new_refuses_what_is_no_abi(tmp_path: Path) -> None:
    (tmp_path / "abi.json").write_text("{}")
    assert "not a list" in run("new", "--abi", tmp_path / "abi.json", code=2)


def test_check_names_every_problem_with_its_place(tmp_path: Path) -> None:
    for name in ("erc20.yaml", "assets.yaml"):
        (tmp_path / name).write_text((SHIPPED / "registry" / name).read_text())
    vault = (SHIPPED / "registry" / "legacy-vault.yaml").read_text().replace("amount: amount}", "amount: amuont}")
    (tmp_path / "legacy-vault.yaml").write_text(vault.replace("../abi", str(SHIPPED / "abi")))
    said = run("check", tmp_path, code=2)
    assert said.count("did you mean 'amount'?") == 2
    assert "legacy-vault.yaml:" in said
    problems = json.loads(run("check", tmp_path, "--json", code=2))["problems"]
    assert [problem["field"] for problem in problems] == [
        "Deposited.postings[0].amount",
        "Withdrawn.postings[0].amount",
    ]
    assert run("check", SHIPPED / "registry").endswith("can be used\n")


def test_list_counts_events_by_kind_and_names_what_is_experimental(tmp_path: Path) -> None:
    rows = {row["contract"]: row for row in json.loads(run("list", SHIPPED / "registry", "--json"))}
    assert (rows["payment-gateway"]["money"], rows["payment-gateway"]["experimental"]) == (11, False)
    assert rows["erc20"]["kind"] == "custody"
    (tmp_path / "abi.json").write_text(json.dumps(ODD_ABI))
    text = skeleton(parse_abi(ODD_ABI), contract="odd", book="odd", abi_path="abi.json", chain_id=1, addresses=[])
    (tmp_path / "odd.yaml").write_text(text.replace("custody: true", "experimental: true\ncustody: true"))
    assert "experimental" in run("list", tmp_path / "odd.yaml")


def test_explain_says_what_an_event_posts() -> None:
    said = run("explain", "payment-gateway.InvoicePaid", "--path", SHIPPED / "registry")
    assert "InvoicePaid(bytes32,bytes32,address,address,uint256,uint256,uint256,bytes32,uint64)" in said
    assert "gross - fee of the asset asset" in said
    assert run("explain", "Withdrawn", "--path", SHIPPED / "registry").count("signature") == 3
    assert "payment-gateway.InvoicePaid" in run("explain", "InvoicePayd", "--path", SHIPPED / "registry", code=2)
