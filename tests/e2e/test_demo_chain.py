"""The demo's chain repeats: the same seed gives the same blocks, through the reorg, whatever the clock says."""

from __future__ import annotations

from rich.console import Console

from deploy.demo.actors import GENESIS_TIMESTAMP, PEOPLE
from deploy.demo.business import make_plan
from deploy.demo.chain import Chain, DoneReorg
from deploy.demo.performance import Performance
from deploy.demo.view import PlainView, Progress
from tests.services import AnvilFactory


async def _play(anvil: AnvilFactory, seed: int) -> tuple[str, DoneReorg]:
    node = await anvil(
        slots_in_an_epoch=4,
        no_mining=True,
        order="fifo",
        accounts=len(PEOPLE),
        timestamp=GENESIS_TIMESTAMP,
        gas_limit=200_000_000,
    )
    progress = Progress(seed=seed)
    async with Chain(node.http_url) as chain:
        performance = Performance(make_plan(seed), chain, progress, block_period_s=0)
        await performance.set_up()
        reorg = await performance.do_business(PlainView(progress, Console(quiet=True)), _nobody_books)
        await performance.settle()
        assert await chain.rpc("eth_getTransactionReceipt", reorg.dropped_tx) is None
        receipt = await chain.rpc("eth_getTransactionReceipt", reorg.moved_tx)
        assert int(receipt["blockNumber"], 16) == reorg.moved_to_block > reorg.moved_from_block
        return chain.head.hash, reorg


async def _nobody_books(block: int) -> None:
    """Nobody follows this chain."""


async def test_a_seed_gives_the_same_head_and_another_one_another(anvil: AnvilFactory) -> None:
    head, reorg = await _play(anvil, 11)
    assert await _play(anvil, 11) == (head, reorg)
    assert (await _play(anvil, 12))[0] != head
