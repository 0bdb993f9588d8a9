"""The laws of the fold, over stories from seeds, with books in memory."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ledger.fake_store import Shelf
from tests.unit.ledger.folding import fold_into
from tests.unit.ledger.random_story import random_story, random_txs
from tests.unit.ledger.story import Story, splits

SEEDS = st.integers(min_value=0, max_value=10_000)
SIZES = st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=6)


async def folded(story: Story, sizes: list[int]) -> Shelf:
    shelf = Shelf(accepted=story.incidents)
    worker = await fold_into(shelf, list(splits(story.records, sizes)))
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    return shelf


@given(seed=SEEDS, sizes=SIZES)
@settings(deadline=None, max_examples=60)
async def test_any_split_into_batches_gives_the_same_books(seed: int, sizes: list[int]) -> None:
    story = random_story(seed, incidents=True)
    assert (await folded(story, sizes)).digest() == (await folded(story, [10**6])).digest()


@given(seed=SEEDS, sizes=SIZES, restarts=st.lists(st.integers(min_value=0, max_value=200), max_size=5))
@settings(deadline=None, max_examples=40)
async def test_restarting_and_delivering_any_part_again_changes_nothing(
    seed: int, sizes: list[int], restarts: list[int]
) -> None:
    story = random_story(seed, incidents=True)
    shelf = Shelf(accepted=story.incidents)
    for upto in sorted(restarts):
        again = random.Random(seed).randrange(upto + 1)
        await fold_into(shelf, list(splits(story.records[:upto], sizes)))
        await fold_into(shelf, list(splits(story.records[again:upto], sizes)))
    await fold_into(shelf, list(splits(story.records, sizes)))
    assert shelf.digest() == (await folded(story, [10**6])).digest()


@given(seed=SEEDS)
@settings(deadline=None, max_examples=60)
async def test_debits_equal_credits_and_clearing_never_keeps_an_inflow(seed: int) -> None:
    shelf = await folded(random_story(seed, incidents=True), [10**6])
    by_asset: dict[str, int] = {}
    for (_, asset), net in shelf.balances().items():
        by_asset[asset] = by_asset.get(asset, 0) + net
    assert set(by_asset.values()) <= {0}


@given(seed=SEEDS, depth=st.integers(min_value=1, max_value=6), sizes=SIZES)
@settings(deadline=None, max_examples=40)
async def test_branch_a_then_a_reorg_to_b_equals_b_alone(seed: int, depth: int, sizes: list[int]) -> None:
    def told(*, reorg: bool) -> Story:
        rng = random.Random(seed)
        story = Story()
        for _ in range(6):
            story.block(*random_txs(rng), branch="common")
        dropped = [random_txs(rng) for _ in range(depth)]
        if reorg:
            for txs in dropped:
                story.block(*txs, branch="a")
            story.retract(depth)
        for _ in range(depth + 1):
            story.block(*random_txs(rng), branch="b")
        return story

    with_reorg, alone = await folded(told(reorg=True), sizes), await folded(told(reorg=False), sizes)
    assert with_reorg.balances() == alone.balances()
    assert len(with_reorg.entries) >= len(alone.entries)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=60)
async def test_whatever_incidents_there_were_the_balances_are_those_of_the_chain_that_stands(seed: int) -> None:
    story = random_story(seed, incidents=True)
    alone = Story()
    for block in story.chain:
        block.revision = 0
        alone.apply(block)
    assert (await folded(story, [10**6])).balances() == (await folded(alone, [10**6])).balances()


@given(seed=SEEDS, sizes=SIZES)
@settings(deadline=None, max_examples=40)
async def test_an_incident_that_is_accepted_while_the_partition_waits_gives_the_same_books(
    seed: int, sizes: list[int]
) -> None:
    story = random_story(seed, incidents=True)
    shelf = Shelf()
    for incident in sorted(story.incidents, key=lambda name: int(name.rpartition("-")[2])):
        worker = await fold_into(shelf, list(splits(story.records, sizes)))
        assert worker.ended is not None
        assert (worker.ended.how, worker.ended.incident) == ("stopped", incident)
        shelf.accepted.add(incident)
    await fold_into(shelf, list(splits(story.records, sizes)))
    assert shelf.digest() == (await folded(story, [10**6])).digest()


@given(seed=SEEDS)
@settings(deadline=None, max_examples=30)
async def test_taking_everything_back_leaves_nothing(seed: int) -> None:
    rng = random.Random(seed)
    story = Story()
    for _ in range(8):
        story.block(*random_txs(rng))
    blocks = story.retract(8)
    story.block(branch="empty")
    shelf = await folded(story, [7])
    assert shelf.balances() == {}
    for block in blocks:
        assert block.revision == 2
