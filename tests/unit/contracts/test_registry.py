# ruff: noqa: E501  # tables of cases, one case a line
"""Loading descriptions, dispatching logs, and what is said about descriptions that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts.abi import parse_abi
from contracts.document import document_version
from contracts.messages import decode_registry_record, encode
from contracts.posting import PostingRules
from contracts.problems import RegistryError
from contracts.registry import load_registry
from tests.unit.contracts.build import (
    CHAIN_ID,
    DEPLOYMENT,
    GATEWAY,
    SHIPPED,
    STRANGER,
    TOKEN,
    VAULT,
    registry_folder,
    shipped_registry,
    word,
)
from tests.unit.contracts.signatures import GATEWAY_ABI, VAULT_ABI


def raw(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def problems(folder: Path, files: dict[str, str], *, deployment: str = DEPLOYMENT) -> list[str]:
    """What is said about these files: the shipped ones with some replaced or added."""
    shipped = {path.name: path.read_text() for path in SHIPPED.glob("*.yaml")}
    registry = registry_folder(folder, shipped | files)
    overlay = folder / "deployment.yaml"
    overlay.write_text(deployment)
    with pytest.raises(RegistryError) as caught:
        load_registry([registry, overlay], chain_id=CHAIN_ID)
    return [str(problem).replace(str(folder) + "/", "") for problem in caught.value.problems]


def edited(name: str, old: str, new: str) -> dict[str, str]:
    text = (SHIPPED / name).read_text()
    assert old in text
    return {name: text.replace(old, new, 1)}


def line_of(name: str, text: str) -> int:
    lines = (SHIPPED / name).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_shipped_descriptions_load_and_know_their_addresses(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path)
    assert [contract.name for contract in registry.contracts] == ["legacy-vault", "payment-gateway", "erc20"]
    assert registry.contract("payment-gateway").addresses == (GATEWAY,)
    assert registry.contract("payment-gateway").book == "gateway"
    assert registry.start_block == 3
    addresses, topics = registry.watched()
    assert {raw(GATEWAY), raw(VAULT), raw(TOKEN)} < addresses
    assert all(len(topic) == 32 for topic in topics)


def test_version_is_the_hash_of_the_document_and_survives_the_wire(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path)
    for contract, record in zip(registry.contracts, registry.records(), strict=True):
        received = decode_registry_record(encode(record))
        assert received.version == contract.version == document_version(received.document)
        assert PostingRules.from_document(received.document).version == contract.version


def test_version_does_not_depend_on_where_files_stand_or_on_comments(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = shipped_registry(tmp_path / "a")
    registry = registry_folder(tmp_path / "b")
    gateway = registry / "payment-gateway.yaml"
    gateway.write_text("# another comment\n" + gateway.read_text())
    overlay = tmp_path / "b" / "z.yaml"
    overlay.write_text(DEPLOYMENT)
    assert load_registry([overlay, registry], chain_id=CHAIN_ID).version == first.version


def test_adding_a_wallet_is_a_new_version_of_custody_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = shipped_registry(tmp_path / "a")
    second = shipped_registry(tmp_path / "b", DEPLOYMENT.replace(f'["{VAULT}"]', f'["{VAULT}", "{STRANGER}"]'))
    assert first.contract("erc20").version != second.contract("erc20").version
    assert first.contract("payment-gateway").version == second.contract("payment-gateway").version
    assert first.version != second.version


def test_a_contract_without_address_on_the_chain_is_left_out(tmp_path: Path) -> None:
    deployment = "\n".join(line for line in DEPLOYMENT.splitlines() if "legacy-vault" not in line)
    registry = shipped_registry(tmp_path, deployment)
    assert [contract.name for contract in registry.contracts] == ["payment-gateway", "erc20"]


def test_dispatch_needs_address_block_and_topic(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path)
    deposited = registry.contract("payment-gateway").codecs["Deposited"].abi
    topics = [deposited.topic0, word(1), word(2), word(3)]
    codec = registry.dispatch(raw(GATEWAY), topics, 3)
    assert codec is not None
    assert (codec.contract, codec.event, codec.kind, codec.book) == ("payment-gateway", "Deposited", "money", "gateway")
    assert registry.dispatch(raw(GATEWAY), topics, 2) is None, "before the start block"
    assert registry.dispatch(raw(STRANGER), topics, 3) is None, "somebody else's contract"
    assert registry.dispatch(raw(VAULT), topics, 4) is None, "the vault has another event of this name"
    assert registry.dispatch(raw(GATEWAY), [word(7)], 3) is None, "an event that we do not know"
    assert registry.dispatch(raw(GATEWAY), [], 3) is None, "an anonymous log"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_known_topic0_with_another_topic_count_is_refused_not_ignored(tmp_path: Path, count: int) -> None:
    registry = shipped_registry(tmp_path)
    topic0 = registry.contract("payment-gateway").codecs["Deposited"].abi.topic0
    topics = [topic0, *[word(1)] * (count - 1)]
    codec = registry.dispatch(raw(GATEWAY), topics, 3)
    assert codec is not None
    decoded = codec.decode(topics, b"\0" * 128)
    assert getattr(decoded, "code", None) == "topic_count"


def test_two_events_of_one_topic0_are_told_apart_by_topic_count(tmp_path: Path) -> None:
    transfer = """
      - type: event
        name: Transfer
        inputs: [{{name: from, type: address, indexed: true}}, {{name: to, type: address, indexed: true}},
                 {{name: value, type: uint256, indexed: {indexed}}}]
    """
    text = "kind: contract\ncontract: {name}\nbook: b\nabi:{abi}\nevents:\n  Transfer: {{kind: info}}\n"
    files = {
        "assets.yaml": "kind: assets\nchains: {31337: {native: {symbol: ETH}}}\n",
        "a.yaml": text.format(name="a", abi=transfer.format(indexed="false"))
        + f"chains: {{31337: {{addresses: [{GATEWAY}]}}}}\n",
    }
    registry = load_registry([registry_folder(tmp_path, files)], chain_id=CHAIN_ID)
    topic0 = registry.contracts[0].codecs["Transfer"].abi.topic0
    three, four = [topic0, word(1), word(2)], [topic0, word(1), word(2), word(3)]
    fungible, other = registry.dispatch(raw(GATEWAY), three, 0), registry.dispatch(raw(GATEWAY), four, 0)
    assert fungible is not None
    assert other is not None
    assert getattr(fungible.decode(three, word(5)), "args", None) is not None
    assert getattr(other.decode(four, b""), "code", None) == "topic_count"


def test_overlay_replaces_assets_and_addresses(tmp_path: Path) -> None:
    registry = registry_folder(tmp_path)
    for number, symbol in ((1, "OLD"), (2, "NEW")):
        (tmp_path / f"{number}.yaml").write_text(
            DEPLOYMENT.replace("USDX", symbol).replace("start_block: 3", f"start_block: {number}")
        )
    loaded = load_registry([registry, tmp_path / "1.yaml", tmp_path / "2.yaml"], chain_id=CHAIN_ID)
    assets = {asset["address"]: asset["symbol"] for asset in loaded.contract("erc20").document["assets"]}
    assert assets[TOKEN] == "NEW"
    assert loaded.contract("payment-gateway").start_block == 2


def test_a_deployment_of_another_chain_is_not_applied(tmp_path: Path) -> None:
    registry = registry_folder(tmp_path)
    (tmp_path / "main.yaml").write_text(DEPLOYMENT.replace("31337", "1"))
    with pytest.raises(RegistryError) as caught:
        load_registry([registry, tmp_path / "main.yaml"], chain_id=CHAIN_ID)
    assert "no contract has an address on chain 31337" in str(caught.value)
    assert load_registry([registry, tmp_path / "main.yaml"], chain_id=1).contract("erc20").addresses


@pytest.mark.parametrize(
    ("old", "new", "field", "says"),
    [
        ("amount: received}", "amount: recieved}", "Deposited.postings[0].amount", "did you mean 'received'?"),
        ("subject: invoiceId", "subject: invoice", "InvoicePaid.subject", "did you mean 'invoiceId'?"),
        ("- {arg: received, asset: asset}", "- {arg: received, asset: received}", "Deposited.amounts[0].asset", "cannot be an asset"),
        ("{arg: received,", "{arg: ref,", "Deposited.amounts[0].arg", "is bytes32, which cannot be an amount"),
        ('"liabilities:{book}:account:{accountId}:available"', '"liabilities:{book}:account:{acountId}:available"', "Deposited.postings[0].credit", "'accountId'"),
        ('"liabilities:{book}:account:{accountId}:available"', '"liabilities:{book}:account:{accountId}"', "Deposited.postings[0].credit", "4 segments, not 5"),
        ("liabilities:{book}:account:{accountId}:available\n", "liabilitys:{book}:account:{accountId}:available\n", "reconcile[0]", "five segments"),
        ("credit: \"liabilities:{book}:account:{accountId}", "credit: \"liabilities:vault:account:{accountId}", "Deposited.postings[0].credit", "rules stay in one book"),
        ("amount: gross - fee", "amount: gross-fee", "InvoicePaid.postings[0].amount", "with spaces around it"),
        ("amount: gross - fee", "amount: gross - gross", "InvoicePaid.postings[0].amount", "always zero"),
        ("amount: gross - fee", "amount: gross * 2", "InvoicePaid.postings[0].amount", "not understood"),
        ("        signed: true\n", "", "Adjusted.postings[0].amount", "add `signed: true`"),
        ("debit: unattributed", "debit: assets:{book}:onchain:{address}:-", "Adjusted.postings[0].debit", "belongs to custody"),
        ("debit: clearing", 'debit: "clearing:{book}:other:{address}:-"', "Deposited.postings[0].debit", "write `clearing`"),
        ("    kind: state\n", "    kind: money\n", "AccountOpened", "has no postings"),
        ("sequence: seq", "sequence: sequence", "Deposited", "has no argument 'sequence'"),
        ("  Paused: {kind: info}\n", "", "events", "Paused(address), which is not described"),
        ("  Paused: {kind: info}\n", "  Pausd: {kind: info}\n", "Pausd", "did you mean 'Paused'?"),
        ("getter: eventSeq", "getter: eventSec", "reconcile[4]", "did you mean 'eventSeq'?"),
        ('args: ["{paymentId}"]', 'args: ["{payment}"]', "reconcile[1]", "did you mean 'paymentId'?"),
        ("custody: true", "custody: maybe", "custody", "correct it"),
        ("custody: true", "custdy: true", "custdy", "did you mean 'custody'?"),
        ("book: gateway", "book: Gateway", "book", "'Gateway'"),
        ("abi: ../abi/PaymentGateway.json", "abi: ../abi/Gateway.json", "abi", "cannot be read (No such file or directory)"),
        ("default_inflow: unattributed", "default_inflow: assets:{book}:x:-:-", "default_inflow", "liabilities, income or equity"),
        ("asset: asset, amount: received}", "asset: asset, amount: received, when: ref = 1}", "Deposited.postings[0].when", "not understood"),
        ("asset: asset, amount: received}", "asset: asset, amount: received, when: ref == 1}", "Deposited.postings[0].when", "64 lower-case"),
        ("asset: asset, amount: received}", "asset: asset, amount: received, when: seq == -1}", "Deposited.postings[0].when", "never true"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_refused_with_file_line_field_and_advice(
    tmp_path: Path, old: str, new: str, field: str, says: str
) -> None:
    found = problems(tmp_path, edited("payment-gateway.yaml", old, new))
    matching = [text for text in found if f" {field}: " in text]
    assert matching, found
    assert any(says in text for text in matching), found
    place = matching[0].split(": ")[0]
    file, _, line = place.partition(":")
    assert file == "registry/payment-gateway.yaml"
    assert int(line) > 0


def test_the_line_is_that_of_the_wrong_field(tmp_path: Path) -> None:
    found = problems(tmp_path, edited("payment-gateway.yaml", "subject: subscriptionId", "subject: subscription"))
    line = line_of("payment-gateway.yaml", "subject: subscriptionId")
    assert [text.split(": ")[0] for text in found] == [f"registry/payment-gateway.yaml:{line}"]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = (SHIPPED / "payment-gateway.yaml").read_text()
    text = text.replace("amount: received}", "amount: recieved}").replace("subject: invoiceId", "subject: invoice")
    found = problems(tmp_path, {"payment-gateway.yaml": text})
    assert [text.split(": ")[1] for text in found] == ["Deposited.postings[0].amount", "InvoicePaid.subject"]


def test_files_that_cannot_be_parsed_are_all_named(tmp_path: Path) -> None:
    found = problems(tmp_path, {"bad.yaml": "kind: contrct\n", "worse.yaml": "a: [1\n", "list.yaml": "- 1\n"})
    assert [text.split(": ")[0] for text in found] == [
        "registry/bad.yaml:1",
        "registry/list.yaml:1",
        "registry/worse.yaml:2",
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (GATEWAY, "0x1234", "not an address"),
        (GATEWAY, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD".replace("5aAe", "5aae"), "wrong checksum"),
        ("payment-gateway:", "payment-gatway:", "did you mean 'payment-gateway'?"),
        ("start_block: 3", "start_block: -3", "greater than or equal to 0"),
        ("start_block: 3", "start_block: 3.5", "valid integer"),
        ("decimals: 6", "decimals: 90", "less than or equal to 77"),
        (TOKEN, "0x" + "00" * 20, "zero address is the native coin"),
        ("a2" * 20, "a1" * 20, "listed twice"),
    ],
)  # fmt: skip
def test_a_wrong_deployment_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    found = problems(tmp_path, {}, deployment=DEPLOYMENT.replace(old, new))
    assert any(text.startswith("deployment.yaml:") and says in text for text in found), found


def test_one_address_in_two_books_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, {}, deployment=DEPLOYMENT.replace(VAULT, GATEWAY))
    assert any("an address has one book" in text for text in found), found


def test_two_descriptions_of_one_name_are_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, {"z.yaml": (SHIPPED / "erc20.yaml").read_text()})
    assert any("also described in" in text for text in found), found


def test_a_missing_path_is_a_problem_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        load_registry([tmp_path / "nowhere.yaml"], chain_id=CHAIN_ID)
    assert "cannot be read" in str(caught.value)


def test_two_contracts_that_claim_one_log_are_refused(tmp_path: Path) -> None:
    text = (SHIPPED / "legacy-vault.yaml").read_text().replace("contract: legacy-vault", "contract: other-vault")
    deployment = DEPLOYMENT.replace("tokens:", f'  other-vault: {{addresses: ["{VAULT}"]}}\ntokens:')
    found = problems(tmp_path, {"other.yaml": text}, deployment=deployment)
    assert any("is also described by 'legacy-vault'" in text for text in found), found


def test_documents_are_json_and_hold_only_what_is_described(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path)
    document = registry.contract("payment-gateway").document
    assert json.loads(json.dumps(document)) == document
    functions = [item["name"] for item in document["abi"] if item["type"] == "function"]
    assert functions == ["balanceOf", "escrow", "eventSeq", "totalLiabilities", "unattributed"]
    assert document["addresses"] == [GATEWAY]


def test_the_abis_of_the_tests_are_those_of_the_contracts() -> None:
    """The tests write signatures as the domain's catalogue does; what the compiler wrote must agree, event by event."""
    for name, ours in (("PaymentGateway", GATEWAY_ABI), ("LegacyVault", VAULT_ABI)):
        compiled = parse_abi(json.loads((SHIPPED.parent / "abi" / f"{name}.json").read_text()))
        written = parse_abi(ours)
        shapes = [
            {(e.signature, tuple((i.name, i.indexed) for i in e.inputs)) for e in abi.events}
            for abi in (compiled, written)
        ]
        assert shapes[0] == shapes[1]
        assert {f.signature for f in written.functions} <= {f.signature for f in compiled.functions}


def test_the_shipped_folder_loads_as_it_stands(tmp_path: Path) -> None:
    overlay = tmp_path / "deployment.yaml"
    overlay.write_text(DEPLOYMENT)
    registry = load_registry([SHIPPED, overlay], chain_id=CHAIN_ID)
    assert [check.name for check in registry.contract("payment-gateway").checks] == [
        "balanceOf(bytes32,address)",
        "escrow(bytes32)",
        "totalLiabilities(address)",
        "unattributed(address)",
        "eventSeq()",
    ]


def test_many_addresses_share_their_codecs_and_are_told_apart(tmp_path: Path) -> None:
    """Dispatch is two look-ups whatever the number of contracts; an address costs no decoder of its own."""
    addresses = ["0x" + f"{number:040x}" for number in range(1, 2001)]
    deployment = (
        f"kind: deployment\nchain: {CHAIN_ID}\ncontracts:\n  legacy-vault: {{addresses: {json.dumps(addresses)}}}\n"
    )
    registry = shipped_registry(tmp_path, deployment)
    topics = [registry.contract("legacy-vault").codecs["Deposited"].abi.topic0, word(1), word(2)]
    found = {id(registry.dispatch(raw(address), topics, 0)) for address in addresses}
    assert len(found) == 1
    assert registry.dispatch(raw(STRANGER), topics, 0) is None


def test_an_event_without_subject_is_about_its_emitter(tmp_path: Path) -> None:
    deployment = DEPLOYMENT.replace(f'["{GATEWAY}"]', f'["{GATEWAY}", "{STRANGER}"]')
    registry = shipped_registry(tmp_path, deployment)
    paused = registry.contract("payment-gateway").codecs["Paused"].abi
    for address in (GATEWAY, STRANGER):
        codec = registry.dispatch(raw(address), [paused.topic0], 3)
        assert codec is not None
        assert getattr(codec.decode([paused.topic0], word(1)), "subject", None) == address


def test_a_document_that_no_record_can_hold_is_refused(tmp_path: Path) -> None:
    addresses = json.dumps(["0x" + f"{number:040x}" for number in range(1, 6001)])
    deployment = DEPLOYMENT.replace(f'["{VAULT}"]', addresses)
    with pytest.raises(RegistryError) as caught:
        shipped_registry(tmp_path, deployment)
    assert "more than one record may have" in str(caught.value)
