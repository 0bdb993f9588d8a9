"""The oracle of hashes and roots, held against blocks that anvil made, and against every way to falsify one."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from eth_account import Account

from deploy.runtime.rpc import connect
from tests.fakes.rpc_node import Chain, Log, consensus
from tests.fakes.rpc_node.answers import block_object
from tests.integration.indexer.rig import PAID, Till
from tests.services import AnvilFactory

Json = dict[str, Any]
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # anvil's first account, known to everybody
GWEI = 10**9


@pytest.fixture(params=["london", "shanghai", "cancun", "prague"])
async def till(anvil: AnvilFactory, request: pytest.FixtureRequest) -> AsyncIterator[Till]:
    """A chain of one fork, and a contract that emits any log."""
    node = await anvil(hardfork=request.param, no_mining=True)
    async with connect(node.http_url) as rpc:
        till = Till(rpc)
        await till.deploy()
        yield till


async def mined(till: Till) -> tuple[Json, list[Json], list[Json]]:
    """A block of everything that waits, its txs and its receipts."""
    await till.mine()
    block = await till.call("eth_getBlockByNumber", "latest", True)
    return block, block["transactions"], await till.call("eth_getBlockReceipts", "latest")


async def test_a_block_of_anvil_has_the_hash_bloom_and_roots_that_the_oracle_computes(till: Till) -> None:
    for extra in (
        {"gasPrice": hex(5 * GWEI)},
        {"gasPrice": hex(5 * GWEI), "accessList": [{"address": till.address, "storageKeys": ["0x" + "11" * 32]}]},
        {"maxFeePerGas": hex(5 * GWEI), "maxPriorityFeePerGas": "0x1"},
    ):
        call = {"from": till.sender, "to": till.sender, "value": hex(10**18), **extra}
        await till.call("eth_sendTransaction", call)
    for amount in range(140):  # more than 127: keys of the trie of two lengths
        await till.pay(amount=amount + 1)
    block, txs, receipts = await mined(till)
    assert len(txs) == 143
    assert {tx["type"] for tx in txs} == {"0x0", "0x1", "0x2"}
    assert sum(len(receipt["logs"]) for receipt in receipts) == 140
    assert consensus.faults_of(block, txs, receipts) == []


async def test_an_empty_block_of_anvil_too(till: Till) -> None:
    block, txs, receipts = await mined(till)
    assert txs == []
    assert consensus.faults_of(block, txs, receipts) == []
    if "withdrawalsRoot" in block:
        assert consensus.withdrawals_root(block["withdrawals"]) == block["withdrawalsRoot"]


async def test_blob_and_set_code_txs_too(anvil: AnvilFactory) -> None:
    node = await anvil(hardfork="prague", no_mining=True)
    account = Account.from_key(KEY)
    basic = {"chainId": 31337, "gas": 200_000, "maxFeePerGas": 5 * GWEI, "maxPriorityFeePerGas": 1, "value": 1}
    basic |= {"to": account.address}
    delegation = {"chainId": 31337, "address": "0x" + "11" * 20, "nonce": 2}
    async with connect(node.http_url) as rpc:
        till = Till(rpc)
        code = basic | {"nonce": 0, "type": 4, "authorizationList": [account.sign_authorization(delegation)]}
        await till.call("eth_sendRawTransaction", raw(account.sign_transaction(code)))
        block, txs, receipts = await mined(till)
        assert [tx["type"] for tx in txs] == ["0x4"]
        assert consensus.faults_of(block, txs, receipts) == []
        blob = basic | {"nonce": int(await till.call("eth_getTransactionCount", account.address, "latest"), 16)}
        signed = account.sign_transaction(blob | {"type": 3, "maxFeePerBlobGas": GWEI}, blobs=[b"\x00" * 131_072])
        await till.call("eth_sendRawTransaction", raw(signed))
        block, txs, receipts = await mined(till)
        assert [tx["type"] for tx in txs] == ["0x3"]
        # anvil 1.7.1 puts the form of the mempool, blobs included, into the trie; EIP-4844 says without them
        assert consensus.faults_of(block, txs, receipts) == ["transactionsRoot"]
        assert consensus.ordered_root([bytes(signed.raw_transaction)]) == block["transactionsRoot"]


def raw(signed: Any) -> str:
    return "0x" + bytes(signed.raw_transaction).hex()


def scripted() -> tuple[Json, list[Json], list[Json]]:
    """A block of the scripted chain with several txs and logs."""
    paid = Log(address="0x" + "cc" * 20, topics=("0x" + PAID.hex(), "0x" + "01" * 32), data="0x" + "05" * 64)
    chain = Chain()
    block = chain.mine([paid], [], [paid, paid])
    found = block_object(block, full=True)
    assert found is not None
    return copy.deepcopy(found), copy.deepcopy(list(block.txs)), copy.deepcopy(list(block.receipts))


@pytest.mark.parametrize("fork", ["Frontier", "London", "Shanghai", "Cancun", "Prague"])
def test_the_scripted_chain_is_honest_in_every_fork(fork: str) -> None:
    chain = Chain(fork=fork)
    block = chain.mine([Log(address="0x" + "cc" * 20, topics=())])
    assert consensus.fork_of(block.header) == fork
    assert consensus.faults_of(block.header, block.txs, block.receipts) == []


def test_a_header_with_a_gap_between_forks_is_refused() -> None:
    block, _, _ = scripted()
    del block["withdrawalsRoot"]
    with pytest.raises(ValueError, match="lacks fields of Shanghai"):
        consensus.header_hash(block)


def first_log(receipts: list[Json]) -> Json:
    log: Json = receipts[0]["logs"][0]
    return log


@pytest.mark.parametrize(
    ("what", "falsify", "seen"),
    [
        ("another amount", lambda b, t, r: first_log(r).update(data="0x" + "06" * 64), {"receiptsRoot"}),
        ("a hidden log", lambda b, t, r: r[2]["logs"].pop(), {"receiptsRoot"}),
        ("a hidden receipt", lambda b, t, r: r.pop(1), {"receiptsRoot"}),
        ("logs in another order", lambda b, t, r: r.reverse(), {"receiptsRoot"}),
        ("another status", lambda b, t, r: r[1].update(status="0x0"), {"receiptsRoot"}),
        (
            "another address",
            lambda b, t, r: first_log(r).update(address="0x" + "dd" * 20),
            {"receiptsRoot", "logsBloom", "bloom of receipt 0"},
        ),
        ("another tx", lambda b, t, r: t[0].update(value="0x1"), {"transactionsRoot", "hash of tx 0"}),
        ("another time", lambda b, t, r: b.update(timestamp="0x1"), {"hash"}),
        ("another parent", lambda b, t, r: b.update(parentHash="0x" + "12" * 32), {"hash"}),
        ("an empty bloom", lambda b, t, r: b.update(logsBloom="0x" + "00" * 256), {"hash", "logsBloom"}),
        ("another receipts root", lambda b, t, r: b.update(receiptsRoot="0x" + "12" * 32), {"hash", "receiptsRoot"}),
    ],
)
def test_the_oracle_sees_what_was_falsified(
    what: str, falsify: Callable[[Json, list[Json], list[Json]], object], seen: set[str]
) -> None:
    block, txs, receipts = scripted()
    assert consensus.faults_of(block, txs, receipts) == []
    falsify(block, txs, receipts)
    assert set(consensus.faults_of(block, txs, receipts)) == seen
