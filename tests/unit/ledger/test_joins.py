"""Rules that join earlier events and take whole balances: the same books for any batching, reorg or restart."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.messages import asset_id
from tests.unit.ledger.fake_store import Shelf
from tests.unit.ledger.folding import fold_into
from tests.unit.ledger.story import CHAIN_ID, COORDINATOR, TOKEN, Story, requests, splits
from tests.unit.ledger.subscription_story import subscription_story

SEEDS = st.integers(min_value=0, max_value=10_000)
SIZES = st.lists(st.integers(min_value=1, max_value=30), min_size=1, max_size=6)
USDX = asset_id(CHAIN_ID, TOKEN)


async def folded(story: Story, sizes: list[int]) -> Shelf:
    shelf = Shelf()
    worker = await fold_into(shelf, list(splits(story.records, sizes)))
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    return shelf


def owed(shelf: Shelf, code: str) -> int:
    return -shelf.balances().get((f"liabilities:requests:{code}", USDX), 0)


@given(seed=SEEDS, sizes=SIZES)
@settings(deadline=None, max_examples=80)
async def test_any_split_into_batches_gives_the_same_books(seed: int, sizes: list[int]) -> None:
    story = subscription_story(seed)
    assert (await folded(story, sizes)).digest() == (await folded(story, [10**6])).digest()


@given(seed=SEEDS, sizes=SIZES, restarts=st.lists(st.integers(min_value=0, max_value=80), max_size=4))
@settings(deadline=None, max_examples=40)
async def test_restarting_anywhere_changes_nothing(seed: int, sizes: list[int], restarts: list[int]) -> None:
    story = subscription_story(seed)
    shelf = Shelf()
    for upto in sorted(restarts):
        await fold_into(shelf, list(splits(story.records[:upto], sizes)))
    await fold_into(shelf, list(splits(story.records, sizes)))
    assert shelf.digest() == (await folded(story, [10**6])).digest()


@given(seed=SEEDS, sizes=SIZES)
@settings(deadline=None, max_examples=60)
async def test_the_books_equal_a_fold_of_the_standing_branch_alone(seed: int, sizes: list[int]) -> None:
    """An independent fold, by hand, of what stands in the end."""
    story = subscription_story(seed)
    available: dict[str, int] = {}
    held: dict[str, int] = {}
    asked: dict[str, tuple[str, int]] = {}
    withdrawable = 0
    for block in story.chain:
        for event in block.events:
            args = event.args
            match event.event:
                case "Funded":
                    available[args["subId"]] = available.get(args["subId"], 0) + int(args["amount"])
                case "Requested":
                    asked[args["requestId"]] = (args["subId"], int(args["hold"]))
                    available[args["subId"]] = available.get(args["subId"], 0) - int(args["hold"])
                    held[args["subId"]] = held.get(args["subId"], 0) + int(args["hold"])
                case "Fulfilled" if args["requestId"] in asked:
                    owner, hold = asked[args["requestId"]]
                    held[owner] = held.get(owner, 0) - hold
                    available[owner] = available.get(owner, 0) + hold - int(args["payment"])
                    withdrawable += int(args["payment"])
                case "Canceled" if available.get(args["subId"], 0) > 0:
                    available[args["subId"]] = 0
    shelf = await folded(story, sizes)
    for subscription in available.keys() | held.keys():
        assert owed(shelf, f"account:{subscription}:available") == available.get(subscription, 0)
        assert owed(shelf, f"account:{subscription}:held") == held.get(subscription, 0)
    assert owed(shelf, f"withdrawable:{COORDINATOR}:-") == withdrawable


async def test_both_events_in_one_batch_and_in_two() -> None:
    for sizes in ([100], [1]):
        story = Story()
        story.block([requests("Funded", subId="1", amount="100")])
        story.block([requests("Requested", requestId="7", subId="1", hold="30")])
        story.block([requests("Fulfilled", requestId="7", payment="20")])
        shelf = await folded(story, sizes)
        assert owed(shelf, "account:1:available") == 80
        assert owed(shelf, "account:1:held") == 0


async def test_a_retracted_event_is_joined_no_more() -> None:
    """The request moves to another block, for another subscription: the fulfilment follows it."""
    for sizes in ([100], [3], [1]):
        story = Story()
        story.block([requests("Requested", requestId="7", subId="1", hold="30")])
        story.block([requests("Fulfilled", requestId="7", payment="20")])
        story.retract(2)
        story.block([requests("Requested", requestId="7", subId="2", hold="30")], branch="b")
        story.block([requests("Fulfilled", requestId="7", payment="20")], branch="b")
        shelf = await folded(story, sizes)
        assert owed(shelf, "account:1:available") == 0
        assert owed(shelf, "account:2:available") == -20
        assert shelf.quarantine == {}


async def test_a_fulfilment_without_its_request_is_quarantined_and_the_stream_goes_on() -> None:
    story = Story()
    story.block([requests("Requested", requestId="7", subId="1", hold="30")])
    story.retract(1)
    story.block([requests("Fulfilled", requestId="7", payment="20")], branch="b")
    story.block([requests("Funded", subId="1", amount="5")], branch="b")
    shelf = await folded(story, [1])
    assert [row[2] for row in shelf.quarantine.values()] == ["join_missing"]
    assert owed(shelf, "account:1:available") == 5


async def test_an_event_that_was_quarantined_on_one_branch_is_posted_on_the_next() -> None:
    """The fulfilment comes back on top of another parent, which has the request: its first entry is revision 3."""
    for sizes in ([100], [2], [1]):
        story = Story()
        story.block(branch="a")
        fulfilled = story.block([requests("Fulfilled", requestId="7", payment="20")], branch="b")
        story.retract(2)
        story.block([requests("Requested", requestId="7", subId="1", hold="30")], branch="c")
        story.apply(fulfilled)
        story.mark()
        story.retract(1)
        story.apply(fulfilled)
        story.mark()
        shelf = await folded(story, sizes)
        assert [(e.change.event.event, e.change.event.revision, e.fresh) for e in shelf.entries] == [
            ("Requested", 1, False),
            ("Fulfilled", 3, True),
            ("Fulfilled", 4, False),
            ("Fulfilled", 5, False),
        ]
        assert owed(shelf, "account:1:available") == -20
        assert [row[3] is None for row in shelf.quarantine.values()] == [False]
